"""Any folder of images, a folder a class, as a test set for a network that knows these classes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ran.data.imagefolder import SUFFIXES
from ran.data.source import DataError, Images


def image_files(folder: Path) -> list[Path]:
    """Returns the image files below a folder, sorted, hidden ones left out."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def class_folders(folder: Path, classes: Sequence[str]) -> tuple[list[Path], list[int]]:
    """Returns the images of `folder`/<class>/ with their labels, the classes known by their folders' names.

    Not every class needs a folder. Raises DataError for a folder of no such class, and where there is no image.
    """
    paths: list[Path] = []
    labels: list[int] = []
    for inside in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        if inside.name not in classes:
            raise DataError(
                f"{inside}: the network has no class {inside.name!r}, but {len(classes)} such as "
                f"{', '.join(classes[:5])}; name the folders after them"
            )
        files = image_files(inside)
        paths += files
        labels += [classes.index(inside.name)] * len(files)
    if not paths:
        raise DataError(f"{folder} holds no images in folders named after classes such as {', '.join(classes[:3])}")
    return paths, labels


def read_class_folders(folder: Path, classes: Sequence[str], read: Callable[[str], Tensor]) -> Images:
    """Returns them, read by `read`: path -> uint8 (3, H, W). Raises DataError, for a damaged file too."""
    paths, labels = class_folders(folder, classes)
    return Images(torch.stack([read(str(path)) for path in paths]), torch.tensor(labels))
