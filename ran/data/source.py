"""What a data set is: labelled images, and what is known of them before they are loaded."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

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


def as_images(pixels: np.ndarray, labels: np.ndarray) -> Images:
    """Returns uint8 (N, 3, H, W) and int64 (N,) as Images."""
    return Images(torch.from_numpy(pixels).contiguous(), torch.from_numpy(labels))


@dataclass(frozen=True)
class Source:
    """What is known of a data set before it is loaded. Two sources of one digest are equal."""

    name: str
    classes: tuple[str, ...]
    image_size: int  # side in pixels
    test_images: int  # of the official test set
    digest: str  # at most 36 characters, MLflow's limit
    load: Callable[[], tuple[Images, Images]] = field(compare=False)  # official training set, official test set

    @property
    def num_classes(self) -> int:
        return len(self.classes)
