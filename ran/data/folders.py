"""Folders of images that are no data set to train on: to test on, or to ask about."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ran.data.files import Files
from ran.data.listing import SUFFIXES, list_images, read_exclusions, without
from ran.data.source import Images


def image_files(folder: Path) -> list[Path]:
    """Returns the image files below a folder, sorted, hidden ones left out."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def class_folders(
    folder: Path, classes: Sequence[str], *, side: int, share: float, exclude: str | None = None
) -> Images:
    """Returns the images of <folder>/<class>/<image> for a network that knows `classes`, read as they are used.

    Classes are matched by name, and not all need be there. Each image is the central square, `share` of the shorter
    side long, at `side` pixels. `exclude` is a text file with images to leave out (`read_exclusions`). Raises DataError
    for a class that is none of `classes`, and where there is no image.
    """
    listing = list_images(folder)
    if exclude is not None:
        listing = without(listing, read_exclusions(exclude, listing))
    listing = listing.matched(classes)
    return Images(Files(folder, listing.names, side, share), torch.tensor(listing.labels))
