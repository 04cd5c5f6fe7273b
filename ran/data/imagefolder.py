"""ImageNet, or any image folder: <root>/imagenet/{train,val}/<class>/<image>; val is the test set.

The images that a run uses are decoded once, into memory, from which each step takes a crop. So much for small folders:
nothing is read while a network trains, nor are there crops of any scale and shape, which need the files at each step.
"""

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from ran.data.augment import Pixels
from ran.data.source import DataError, Images, Official, Source
from ran.rng import stream

NAME = "imagenet"
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
USUAL_SIZE, USUAL_SIDE = 224, 256  # a crop, and the shorter side of the image that it is taken from
MEMORY_SHARE = 0.5  # of what is available now; the rest is the networks'


@dataclass(frozen=True)
class _Split:
    """The files of one split below its folder, sorted."""

    files: tuple[str, ...]  # <class>/<image>
    labels: tuple[int, ...]


@dataclass(frozen=True)
class _Folder:
    classes: tuple[str, ...]
    train: _Split
    val: _Split
    digest: str


@dataclass(frozen=True, eq=False)
class Files:
    """Labelled image files, decoded where they are picked."""

    paths: tuple[str, ...]
    labels: torch.Tensor  # int64 (N,)
    side: int  # of a decoded image in pixels
    share: float  # of an image's shorter side that is kept

    def __len__(self) -> int:
        return len(self.paths)

    def pick(self, positions: np.ndarray) -> Images:
        """Returns the images at int64 (M,) positions. Raises DataError for a damaged one, which it names."""
        images = torch.empty(len(positions), 3, self.side, self.side, dtype=torch.uint8)
        for i, position in enumerate(positions):
            images[i] = decode(self.paths[position], self.side, self.share)
        return Images(images, self.labels[torch.from_numpy(positions)])


def open_imagefolder(
    root: str,
    *,
    image_size: int | None = None,
    test_size: int | None = None,
    train_images: int | None = None,
    test_images: int | None = None,
) -> Source:
    """Returns the folder with the digest of its paths and sizes, nothing decoded.

    Training crops have the side `image_size` (None = 224), test images `test_size` (None = the same). Loading the
    Source raises DataError where `train_images` (validation included) and `test_images` (None = all) would take more
    than half of the memory that is available. Raises DataError for folders that are absent or do not agree.
    """
    crop = USUAL_SIZE if image_size is None else image_size
    tested = crop if test_size is None else test_size
    stored = _side(crop)
    folder = Path(root) / NAME
    found = _list(folder, _changes(folder))
    train, test = len(found.train.files), len(found.val.files)

    def load() -> tuple[Official, Official]:
        _check_memory(3 * (_limited(train, train_images) * stored**2 + _limited(test, test_images) * tested**2))
        # Deviation: section 4.2 leaves blacklisted validation images out of the test; all are tested here.
        # Shuffled, for the first so many test images must not be of the first classes alone.
        order = stream(0, "test_order", NAME).permutation(test)
        return (
            _files(folder / "train", found.train, np.arange(train), stored, share=1.0),
            _files(folder / "val", found.val, order, tested, share=tested / _side(tested)),
        )

    return Source(
        name=NAME,
        classes=found.classes,
        image_size=crop,
        train_images=train,
        test_images=test,
        digest=found.digest,
        load=load,
        pixels=lambda _: imagenet_pixels(trim=stored - crop),
        test_size=tested,
    )


def imagenet_pixels(trim: int) -> Pixels:
    """Returns section 4.2's: scaled to [0, 1], mean subtracted, divided by the standard deviation, by channel."""
    # Deviation: section 4.2 does not give mean and standard deviation; ImageNet's usual ones, by channel.
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return Pixels(mean, std, pad=0, trim=trim)


def decode(path: str, side: int, share: float) -> torch.Tensor:
    """Returns the central square of an image as uint8 (3, side, side), `share` of the shorter side long.

    Scaled bilinearly with antialiasing; greyscale, palette and CMYK images become RGB. Raises DataError.
    """
    # Deviation: section 4.2 draws training crops of any scale and aspect ratio and changes their colours; here training
    # images are scaled to a shorter side of 8/7 of the crop's, and a crop of their central square is drawn.
    # Deviation: section 4.2 does not say how a test image is cropped; the central 7/8 of its shorter side.
    try:
        with Image.open(path) as image:
            width, height = image.size
            kept = min(width, height) * share
            left, top = (width - kept) / 2, (height - kept) / 2
            box = (left, top, left + kept, top + kept)
            square = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR, box)
    except Exception as error:  # a damaged image can provoke nearly any exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not an image that can be read ({reason}); fetch it anew") from error
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def _side(size: int) -> int:
    """The shorter side of the image that a crop is taken from: 256 of 224."""
    return round(size * USUAL_SIDE / USUAL_SIZE)


def _files(folder: Path, split: _Split, order: np.ndarray, side: int, share: float) -> Files:
    paths = tuple(os.path.join(folder, split.files[i]) for i in order)
    return Files(paths, torch.tensor(split.labels)[torch.from_numpy(order)], side, share)


_Changes = tuple[tuple[str, int], ...]


def _changes(folder: Path) -> _Changes:
    """Every class's folder below `folder`, sorted, with the time of its last change."""
    found = []
    for split in ("train", "val"):
        try:
            with os.scandir(folder / split) as entries:
                inside = sorted((e.name, e.stat().st_mtime_ns) for e in entries if e.is_dir() and e.name[0] != ".")
        except OSError as error:
            raise DataError(
                f"{NAME}: no folder {folder / split} ({error.strerror}); put the images there, as "
                f"{folder}/train/<class>/<image> and {folder}/val/<class>/<image>, or name another --data.root"
            ) from error
        found += [(f"{split}/{name}", changed) for name, changed in inside]
    return tuple(found)


# Every run of a study asks; ImageNet takes seconds. A file that was written over while the process lives goes unseen.
@functools.lru_cache(maxsize=4)
def _list(folder: Path, changes: _Changes) -> _Folder:
    hashed = hashlib.sha256()
    classes: dict[str, list[str]] = {"train": [], "val": []}
    files: dict[str, list[str]] = {"train": [], "val": []}
    labels: dict[str, list[int]] = {"train": [], "val": []}
    for inside, _ in changes:
        split, name = inside.split("/")
        images = _images(folder / inside)
        hashed.update("".join(f"{inside}/{file} {size}\n" for file, size in images).encode())
        files[split] += [f"{name}/{file}" for file, _ in images]
        labels[split] += [len(classes[split])] * len(images)
        classes[split].append(name)
    for split in classes:
        if not classes[split]:
            raise DataError(f"{folder / split} holds no folders, one for each class; sort the images into them")
    for split, other in (("train", "val"), ("val", "train")):
        if lone := sorted(set(classes[split]) - set(classes[other])):
            raise DataError(f"{folder / split / lone[0]}: {folder / other} has no such class; both need the same")
    train, val = (_Split(tuple(files[split]), tuple(labels[split])) for split in ("train", "val"))
    return _Folder(tuple(classes["train"]), train, val, hashed.hexdigest()[:32])


def _images(folder: Path) -> list[tuple[str, int]]:
    """The names of a folder's images, sorted, with their sizes in bytes."""
    try:
        with os.scandir(folder) as entries:
            suffixed = [e for e in entries if e.name.lower().endswith(SUFFIXES) and e.name[0] != "."]
            found = sorted((e.name, e.stat().st_size) for e in suffixed)
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: cannot be read ({error.strerror}); mend the image folder"
        ) from error
    if not found:
        raise DataError(f"{folder} holds no images; a class needs at least one, with a suffix of {' '.join(SUFFIXES)}")
    return found


def _limited(count: int, limit: int | None) -> int:
    return count if limit is None else min(count, limit)


def _check_memory(need: int) -> None:
    available = psutil.virtual_memory().available
    if need > MEMORY_SHARE * available:
        raise DataError(
            f"{NAME}: {need / 2**30:.1f} GiB of decoded images in memory, of which {available / 2**30:.1f} GiB are "
            f"available and {MEMORY_SHARE:.0%} may be used; limit them with --data.train_images and --data.test_images "
            "(images that are read while a network trains are still to come)"
        )
