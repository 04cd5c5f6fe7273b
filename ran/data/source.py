"""What a data set is: labelled images, and what is known of them before they are loaded."""

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
        """Returns the same, what of it lies in memory on a device."""
        return Images(self.images.to(device), self.labels.to(device))

    def check_classes(self, count: int) -> None:
        """Raises DataError where a label is not one of a network's `count` classes."""
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
    """What is known of a data set before it is loaded. Two sources of one digest and sizes are equal."""

    name: str
    classes: tuple[str, ...]
    image_size: int  # side in pixels of what a network is trained on
    train_images: int  # of the official training set
    test_images: int  # of the official test set
    digest: str  # at most 36 characters, MLflow's limit
    load: Callable[[], tuple[Images, Images]] = field(compare=False)  # official training set, official test set
    normalization: Callable[[Any], Normalization] = field(default=cifar_normalization, compare=False)
    """of the training images (N, 3, H, W), a Stack"""
    test_size: int | None = None  # side of a test image; None where a data set has one size only
    folder: Path | None = None  # that images are read from while a network trains: the same ones elsewhere are others

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.name):  # an experiment and a folder are named after it
            raise DataError(f"data set name {self.name!r}: letters, digits, '_' and '-' only")

    @property
    def num_classes(self) -> int:
        return len(self.classes)
