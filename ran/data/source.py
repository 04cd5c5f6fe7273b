"""What a data set is: labelled images, and what is known of them before they are loaded."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from ran.data.augment import Pixels, cifar_pixels
from ran.errors import UserError


class DataError(UserError):
    """A data set that is absent, damaged or too small; the message is one line and says what to do."""


@dataclass(frozen=True)
class Images:
    """Labelled images in memory."""

    images: torch.Tensor  # uint8 (N, 3, H, W), contiguous
    labels: torch.Tensor  # int64 (N,)

    def __len__(self) -> int:
        return len(self.labels)

    def pick(self, positions: np.ndarray) -> "Images":
        """Returns the images at int64 (M,) positions."""
        index = torch.from_numpy(positions)
        return Images(self.images[index], self.labels[index])


class Official(Protocol):
    """An official training or test set: Images, or what need not have all its images in memory."""

    @property
    def labels(self) -> torch.Tensor: ...

    def __len__(self) -> int: ...

    def pick(self, positions: np.ndarray) -> Images: ...


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
    load: Callable[[], tuple[Official, Official]] = field(compare=False)  # official training set, official test set
    pixels: Callable[[torch.Tensor], Pixels] = field(default=cifar_pixels, compare=False)
    """of the training images (N, 3, H, W)"""
    test_size: int | None = None  # side of a test image; None where a data set has one size only

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.name):  # an experiment and a folder are named after it
            raise DataError(f"data set name {self.name!r}: letters, digits, '_' and '-' only")

    @property
    def num_classes(self) -> int:
        return len(self.classes)
