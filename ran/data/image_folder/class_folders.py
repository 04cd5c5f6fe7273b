"""A folder of images that is no data set to train on, but to test on."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ran.data.image_folder.listing import list_images, read_exclusions, without
from ran.data.image_folder.reader import Files
from ran.data.source import Images
from records.errors import DataError


def class_folders(
    folder: Path, classes: Sequence[str], *, side: int, share: float, exclude: str | None = None
) -> Images:
    """Returns the images of <folder>/<class>/<image> for a network that knows `classes`, read as they are used.

    Classes are matched by name, and not all need be there or have images. Each image is the central square, `share` of
    the shorter side long, at `side` pixels. `exclude` is a text file with images to leave out (`read_exclusions`).
    Raises DataError for a class that is none of `classes`, and where there is no image.
    """
    inside = [split for split in ("test", "val") if (folder / split).is_dir() and split not in classes]
    if inside:
        raise DataError(f"{folder} holds {inside[0]}, which is no class; name {folder / inside[0]}")
    listing = list_images(folder, some_empty=True)
    if exclude is not None:
        listing = without(listing, read_exclusions(exclude, listing, "--exclude"))
    listing = listing.matched(classes)
    return Images(Files(folder=folder, names=listing.names, side=side, share=share), torch.tensor(listing.labels))
