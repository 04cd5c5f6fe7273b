"""A part of CIFAR-10 in sheets, for a borrowed machine that takes few megabytes and reaches no network.

    python -m benchmarks.sheets     # 24 training and 4 test sheets, 23 MB, from data/ to data/cifar10-sheets/

A sheet is a lossless WebP file of 500 images in one column, 32 wide and 16,000 high: train/007.webp has the training
images 3500 to 3999. train.tsv.gz has a line for each image of the whole set: its label, a tab, and anything. Any sheets
make a part. `python -m benchmarks.device` trains on the part that it finds; git ignores data/.
"""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from benchmarks import report
from ran.config import DataConfig
from ran.data.augment import cifar_normalization
from ran.data.cifar import open_cifar
from ran.data.datasets import Splits, split_indices
from ran.data.source import Images, as_images
from records.command import OneLineParser, entry
from records.errors import DataError

FOLDER = report.ROOT / "data" / "cifar10-sheets"
SIDE, ON_A_SHEET = 32, 500
CLASSES = 10
SPLITS = ("train", "test")


def main(argv: Sequence[str] | None = None) -> int:
    """Writes sheets of the CIFAR-10 under --root; returns 0. Raises DataError where there is none, or too little."""
    parser = OneLineParser("python -m benchmarks.sheets", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", default="data", help="folder that has cifar-10-batches-py (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the sheets (default: %(default)s)")
    parser.add_argument("--train", type=int, default=24, help="number of training sheets (default: %(default)s)")
    parser.add_argument("--test", type=int, default=4, help="number of test sheets (default: %(default)s)")
    options = parser.parse_args(argv)
    splits = open_cifar("cifar10", options.root, download=False).load()
    for name, images in zip(SPLITS, splits, strict=True):
        write(images, options.out, name, getattr(options, name))
    print(f"{options.train} training and {options.test} test sheets of {ON_A_SHEET} images in {options.out}")
    return 0


def write(images: Images, folder: Path, name: str, sheets: int) -> None:
    """Writes the first `sheets` sheets of a split, uint8 (N, 3, 32, 32), and all its labels.

    Raises DataError for a number of sheets that the split does not have.
    """
    if not 1 <= sheets <= len(images.images) // ON_A_SHEET:
        raise DataError(f"--{name} {sheets}: there are 1 to {len(images.images) // ON_A_SHEET} sheets")
    (folder / name).mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(images.images).transpose(0, 2, 3, 1)
    for sheet in range(sheets):
        column = pixels[sheet * ON_A_SHEET : (sheet + 1) * ON_A_SHEET].reshape(-1, SIDE, 3)
        Image.fromarray(column).save(folder / name / f"{sheet:03}.webp", lossless=True, quality=75)
    with gzip.open(folder / f"{name}.tsv.gz", "wt", encoding="ascii") as file:
        file.writelines(f"{label}\t\n" for label in images.labels.tolist())


def read(folder: Path, name: str, *, most: int | None = None) -> Images:
    """Returns the images of a split's sheets in their order, of the first `most` sheets if that is given.

    Raises DataError if there is no sheet, and for a file that is not what this module's page describes.
    """
    paths = sorted((folder / name).glob("[0-9][0-9][0-9].webp"))[:most]
    if not paths:
        raise DataError(f"{folder / name}: no sheets (000.webp, ...); make some with python -m benchmarks.sheets")
    labels = _labels(folder / f"{name}.tsv.gz")
    pixels, positions = [], []
    for path in paths:
        begin = int(path.stem) * ON_A_SHEET
        if begin + ON_A_SHEET > len(labels):
            raise DataError(f"{path}: {len(labels)} labels are too few for this sheet")
        pixels.append(_pixels(path))
        positions.append(np.arange(begin, begin + ON_A_SHEET))
    return as_images(np.concatenate(pixels).transpose(0, 3, 1, 2), labels[np.concatenate(positions)])


def _labels(path: Path) -> np.ndarray:
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            labels = np.array([int(line.partition("\t")[0]) for line in file], np.int64)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: no list of labels ({error})") from error
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= CLASSES:
        raise DataError(f"{path}: labels are not 0 to {CLASSES - 1}")
    return labels


def _pixels(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if pixels.shape != (SIDE * ON_A_SHEET, SIDE, 3):
        raise DataError(f"{path}: {pixels.shape[1]} x {pixels.shape[0]} pixels, not {SIDE} x {SIDE * ON_A_SHEET}")
    return pixels.reshape(ON_A_SHEET, SIDE, SIDE, 3)


def part(config: DataConfig, seed: int, *, folder: Path = FOLDER, most: int | None = None) -> Splits:
    """Returns the splits of a run on the part of CIFAR-10, as `ran.data.datasets.load_splits` does of the whole.

    Raises as `read` does, and DataError for more images than the part has.
    """
    official, test = (read(folder, name, most=most) for name in SPLITS)
    train, val = split_indices(
        "cifar10", len(official), train_images=config.train_images, val_images=config.val_images, seed=seed
    )  # fmt: skip
    if (config.test_images or 0) > len(test):
        raise DataError(f"data.test_images={config.test_images}, there are {len(test)}; ask for fewer")
    images = official.pick(train)
    return Splits(
        train=images, val=official.pick(val), test=test.pick(np.arange(len(test))[: config.test_images]),
        normalization=cifar_normalization(images.images),
    )  # fmt: skip


if __name__ == "__main__":
    entry("sheets", main)
