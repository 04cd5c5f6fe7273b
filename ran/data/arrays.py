"""Test sets that are published as NumPy arrays: CIFAR-10.1 (NAME_data.npy, NAME_labels.npy), CIFAR-10-C and -100-C
(gaussian_noise.npy, ..., and one labels.npy for all; Hendrycks and Dietterich, 2019)."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ran.data.source import Images, as_images
from records.arrays import read_npy
from records.errors import DataError
from records.reading import UnreadableError

SHARED_LABELS = "labels.npy"
"""labels of all image files in the folder that have none of their own"""
SEVERITIES = 5
"""number of severities in CIFAR-10-C: each file repeats the same images at each one, weakest first"""
EXTRA = ("gaussian_blur", "saturate", "spatter", "speckle_noise")
"""extra corruptions of CIFAR-10-C, meant for tuning, that are not part of the mean over its 15"""


def has_severities(file: Path, labels: Tensor) -> bool:
    """Returns whether the labels (N,) of a file are those of CIFAR-10-C: shared, and one test set's five times over.

    In labels of a single image file the classes may repeat too, as they do in cluttershapes.
    """
    if file.name != SHARED_LABELS:
        return False
    first, *others = labels.chunk(SEVERITIES)
    return len(others) == SEVERITIES - 1 and len(first.unique()) > 1 and all(torch.equal(first, o) for o in others)


def array_sets(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Returns the image file and label file of each set in a folder, by name; empty if there is none.

    Raises DataError for images without labels, and for a folder that also contains folders.
    """
    found = {}
    for path in sorted(folder.glob("*.npy")):
        if path.stem.endswith("labels"):
            continue
        own = path.with_name(f"{path.stem.removesuffix('_data')}_labels.npy")
        labels = own if own.exists() else folder / SHARED_LABELS
        if not labels.exists():
            raise DataError(f"{path} has no labels: put them beside it, as {labels.name}")
        found[path.stem.removesuffix("_data")] = (path, labels)
    if found and (inside := sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")):
        raise DataError(
            f"{folder} holds arrays ({', '.join(found)}) and folders ({', '.join(inside)}); test them apart"
        )
    return found


def read_arrays(images: Path, labels: Path, *, size: int, num_classes: int) -> Images:
    """Returns uint8 (N, size, size, 3) and integers (N,) as Images. Raises DataError for anything else."""
    pixels, classes = _array(images), _array(labels)
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3):
        raise DataError(f"{images} holds {pixels.dtype} {pixels.shape}; wanted is uint8 (N, {size}, {size}, 3)")
    if not np.issubdtype(classes.dtype, np.integer) or classes.shape != pixels.shape[:1] or not len(classes):
        raise DataError(f"{labels} holds {classes.dtype} {classes.shape}; wanted are {len(pixels)} integers")
    if classes.min() < 0 or classes.max() >= num_classes:
        raise DataError(
            f"{labels} holds labels from {classes.min()} to {classes.max()}; there are {num_classes} classes"
        )
    return as_images(pixels.transpose(0, 3, 1, 2), classes.astype(np.int64))


def _array(path: Path) -> np.ndarray:
    try:
        return read_npy(path)
    except (OSError, UnreadableError) as error:
        raise DataError(f"{path} is not a readable NumPy array ({error})") from None
