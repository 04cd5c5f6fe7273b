"""Data types of a data set: labelled images, and its properties before they are loaded."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ran.data.augment import Normalization, cifar_normalization
from ran.data.image_folder.reader import Stack
from records.errors import DataError


@dataclass(frozen=True)
class Images:
    """Labelled images, in memory or in files."""

    images: Stack  # uint8 (N, 3, H, W)
    labels: torch.Tensor  # int64 (N,)

    def __len__(self) -> int:
        return len(self.labels)

    def pick(self, positions: np.ndarray) -> "Images":
        """Returns the images at int64 (M,) positions."""
        index = torch.from_numpy(positions)
        return Images(self.images[index], self.labels[index])

    def to(self, device: torch.device) -> "Images":
        """Returns a copy with everything that is in memory on a device."""
        return Images(self.images.to(device), self.labels.to(device))

    def check_classes(self, count: int) -> None:
        """Raises DataError if a label is not one of a network's `count` classes."""
        if len(self) and (last := int(self.labels.max())) >= count:
            raise DataError(
                f"a label of {last} needs {last + 1} classes or more and the network has {count}: these are not the "
                "images that it is for"
            )


def as_images(pixels: np.ndarray, labels: np.ndarray) -> Images:
    """Returns uint8 (N, 3, H, W) and int64 (N,) as Images."""
    return Images(torch.from_numpy(pixels).contiguous(), torch.from_numpy(labels))


@dataclass(frozen=True)
class Source:
    """Properties of a data set before it is loaded. Sources with equal digests and sizes are equal."""

    name: str
    classes: tuple[str, ...]
    image_size: int  # side of a training image in pixels
    train_images: int  # of the official training set
    test_images: int  # of the official test set
    digest: str  # at most 36 characters, MLflow's limit
    load: Callable[[], tuple[Images, Images]] = field(compare=False)  # official training set, official test set
    normalization: Callable[[Any], Normalization] = field(default=cifar_normalization, compare=False)
    """makes the normalization from the training images (N, 3, H, W), a Stack"""
    test_size: int | None = None  # side of a test image; None for a data set with a single size
    folder: Path | None = None  # images are read from it during training, so another folder is another source

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.name):  # it names an experiment and a folder
            raise DataError(f"data set name {self.name!r}: letters, digits, '_' and '-' only")

    @property
    def num_classes(self) -> int:
        return len(self.classes)
