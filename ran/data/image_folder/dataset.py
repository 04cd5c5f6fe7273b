"""ImageNet, or any image folder: <root>/imagenet/{train,val}/<class>/<image>; val is the test set.

Images are read during training and testing; they are never all in memory.
"""

import contextlib
import functools
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ran.data.augment import Normalization
from ran.data.image_folder import decode
from ran.data.image_folder.listing import Listing, digest, list_images, read_exclusions, without
from ran.data.image_folder.pools import pool
from ran.data.image_folder.reader import Files
from ran.data.source import Images, Source
from ran.rng import stream
from records.errors import DataError
from records.files import WriteError, write_whole
from records.text import printable

NAME = "imagenet"
# Part of the digest, and so of the identity of every run on an image folder. Raise it if batches or test images of the
# same files change; version 1 cropped images after decoding them at full size.
PIPELINE = 2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
USUAL_SIZE, USUAL_SIDE = 224, 256  # a crop, and the shorter side of the test image that it is taken from

logger = logging.getLogger(__name__)


def open_imagefolder(
    root: str,
    *,
    image_size: int | None = None,
    test_size: int | None = None,
    damaged: str = "refuse",
    exclude: str | None = None,
) -> Source:
    """Returns the folder with the digest of the paths and sizes of the images in use, without decoding any.

    Training crops have the side `image_size` (None = 224), test images `test_size` (None = the same). `damaged`: "skip"
    reads all images once per folder and leaves the unreadable ones out; "refuse" does not check them. `exclude` is a
    text file that lists test images to leave out (`read_exclusions`). Raises DataError for folders that are missing or
    have different classes.
    """
    crop = USUAL_SIZE if image_size is None else image_size
    tested = crop if test_size is None else test_size
    folder = Path(root) / NAME
    train, val = _list_both(folder)
    # Deviation: section 4.2 leaves blacklisted validation images out of the test; all are tested here but those of
    # `--data.exclude`.
    excluded = frozenset() if exclude is None else read_exclusions(exclude, val)
    if damaged == "skip":
        train, excluded = without(train, _damaged(train)), excluded | _damaged(val)
    val = without(val, excluded)

    def load() -> tuple[Images, Images]:
        # Shuffled, because the first test images must not come from the first classes only.
        order = stream(0, "test_order", NAME).permutation(len(val.names))
        return _centres(train, crop), _centres(val, tested).pick(order)

    return Source(
        name=NAME,
        classes=train.classes,
        image_size=crop,
        train_images=len(train.names),
        test_images=len(val.names),
        digest=digest(PIPELINE, train, val),
        load=load,
        normalization=lambda _: imagenet_normalization(),
        test_size=tested,
        folder=folder.absolute(),
    )


def imagenet_normalization() -> Normalization:
    """Returns section 4.2's normalization: by channel, mean subtracted and divided by the standard deviation."""
    # Deviation: section 4.2 does not give mean and standard deviation; ImageNet's usual ones, by channel.
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return Normalization(mean, std, pad=0)


def test_share(side: int) -> float:
    """Returns the share of an image's shorter side that a test crop of `side` pixels keeps: 224/256 for 224."""
    return side / round(side * USUAL_SIDE / USUAL_SIZE)


def _centres(listing: Listing, side: int) -> Images:
    """Returns the images of a listing for evaluation: the central crop, 224 of a shorter side of 256."""
    files = Files(folder=listing.folder, names=listing.names, side=side, share=test_share(side))
    return Images(files, torch.tensor(listing.labels))


def _list_both(folder: Path) -> tuple[Listing, Listing]:
    for split in ("train", "val"):
        if not (folder / split).is_dir():
            raise DataError(
                f"{NAME}: no folder {folder / split}; put the images there, as {folder}/train/<class>/<image> and "
                f"{folder}/val/<class>/<image>, or name another --data.root"
            )
    train, val = list_images(folder / "train"), list_images(folder / "val")
    for one, other in ((train, val), (val, train)):
        if lone := sorted(set(one.classes) - set(other.classes)):
            raise DataError(f"{one.folder / lone[0]}: {other.folder} has no such class; both need the same")
    return train, val


@functools.lru_cache(maxsize=8)
def _damaged(listing: Listing) -> frozenset[str]:
    """Returns the unreadable images of a listing; logs them once and records them next to the folder."""
    # Reading ImageNet takes 25 core-minutes, so all runs and workers share the record.
    record = listing.folder.with_name(f"damaged-{listing.folder.name}-{digest(0, listing)}.txt")
    try:
        recorded = record.read_bytes().decode(errors="surrogateescape").splitlines()
    except OSError:
        recorded = None
    # Recorded images are read again: they may have been repaired.
    suspects = listing.names if recorded is None or set(recorded) - set(listing.names) else recorded
    found = [name for name, _ in find_damaged(listing.folder, suspects)]
    if found != recorded:
        with contextlib.suppress(WriteError):  # with a read-only folder each process reads all images
            write_whole(record, "".join(f"{name}\n" for name in found).encode(errors="surrogateescape"))
    if found:
        first = ", ".join(map(printable, found[:5])) + (", ..." if len(found) > 5 else "")
        logger.warning("%s: damaged and left out: %d (%s)", listing.folder, len(found), first)
    return frozenset(found)


def find_damaged(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields (name, reason) of each image below a folder that cannot be read; reads with all cores."""
    paths = [os.path.join(folder, name) for name in names]
    for start in range(0, len(names), 4096):
        part = slice(start, start + 4096)
        for name, reason in zip(names[part], pool().map(decode.damage, paths[part]), strict=True):
            if reason is not None:
                yield name, reason
