"""An image folder for testing only."""

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
    """Returns the images <folder>/<class>/<image> for a network with `classes`, read when they are used.

    Classes are matched by name; some may be missing or empty. Each image is the central square, of `share` of the
    shorter side, scaled to `side` pixels. `exclude` is a text file that lists images to leave out (`read_exclusions`).
    Raises DataError for a class that is not one of `classes`, and for a folder without images.
    """
    inside = [split for split in ("test", "val") if (folder / split).is_dir() and split not in classes]
    if inside:
        raise DataError(f"{folder} holds {inside[0]}, which is no class; name {folder / inside[0]}")
    listing = list_images(folder, some_empty=True)
    if exclude is not None:
        listing = without(listing, read_exclusions(exclude, listing, "--exclude"))
    listing = listing.matched(classes)
    return Images(Files(folder=folder, names=listing.names, side=side, share=share), torch.tensor(listing.labels))
