"""Says what a trained network sees in images.

    python -m experiments.predict RUN photo.jpg folder/ --top 3
    find photos -name '*.jpg' | python -m experiments.predict RUN - --format csv
    curl -s https://... | python -m experiments.predict RUN -
    python -m experiments.predict RUN photo.jpg --masks pictures/

"-" is what comes from stdin: an image, or paths of images, one a line. --masks draws, for each image, the mask of every
attention module (its mean over the channels) and its product with the image.
"""

import argparse
import csv
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import after

if TYPE_CHECKING:
    from torch import Tensor

    from ran.trained import Trained

BATCH = 64  # images that are read, and lie in memory, at once
STDIN = "-"

Prediction = tuple[str, list[tuple[str, float]]]
"""(path, [(class, probability)], the most probable first)"""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 where --skip-damaged left images out. Raises UserError."""
    options = _parse(argv)
    trained = after.finished(options).trained
    predictions: list[Prediction] = []
    skipped = 0
    with tempfile.TemporaryDirectory(prefix="ran-") as folder:
        piped = Path(folder) / "stdin"
        paths = list(_paths(options.images, piped))
        for begin in range(0, len(paths), BATCH):
            read, images, damaged = _read(trained, paths[begin : begin + BATCH], skip=options.skip_damaged)
            skipped += damaged
            if read:
                found = _predict(trained, read, images, options.top)
                if options.masks is not None:
                    _draw(trained, images, found, options.masks, begin)
                predictions += [(STDIN if path == str(piped) else path, classes) for path, classes in found]
    if predictions:
        print(FORMATS[options.format](predictions))
    if options.masks is not None:
        print(f"wrote {len(predictions)} pictures into {options.masks}", file=sys.stderr)
    return 1 if skipped else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = after.parser("predict", __doc__)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, folders of them, or - for stdin")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="so many classes an image; default: 5")
    parser.add_argument("--format", choices=list(FORMATS), default="table", help="default: table")
    parser.add_argument("--masks", type=Path, metavar="OUT", help="folder for a picture of each image and its masks")
    parser.add_argument("--skip-damaged", action="store_true", help="leave out files that are no images, and name them")
    options = parser.parse_args(argv)
    if options.top < 1:
        parser.error(f"--top must be at least 1, got {options.top}")
    return options


def _paths(given: Sequence[str], piped: Path) -> Iterator[str]:
    """The image files that the arguments name; an image from stdin is kept as `piped`. Raises DataError."""
    from ran.data.folders import image_files
    from ran.errors import DataError

    for name in given:
        if name == STDIN:
            yield from _from_stdin(sys.stdin.buffer.read(), piped)
        elif Path(name).is_dir():
            found = image_files(Path(name))
            if not found:
                raise DataError(f"{name} holds no images")
            yield from map(str, found)
        elif Path(name).exists():
            yield name
        else:
            raise DataError(f"no file or folder {name}")


def _from_stdin(content: bytes, piped: Path) -> Iterator[str]:
    from PIL import Image

    from ran.errors import DataError

    try:
        with Image.open(io.BytesIO(content)):
            pass
    except Exception:  # no image: paths
        lines = [line for line in content.decode(errors="surrogateescape").splitlines() if line.strip()]
        if not lines:
            raise DataError("nothing came from stdin: neither an image nor paths of images") from None
        yield from _paths([line for line in lines if line != STDIN], piped)
        return
    piped.write_bytes(content)
    yield str(piped)


def _read(trained: "Trained", paths: Sequence[str], *, skip: bool) -> "tuple[list[str], Tensor, int]":
    """The paths that could be read, their images, and how many could not. Raises DataError for one, without `skip`."""
    import torch

    from ran.errors import DataError

    def read(path: str) -> "Tensor | DataError":
        try:
            return trained.interface.read(path)
        except DataError as error:
            if not skip:
                raise
            return error

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(read, paths))
    for one in found:
        if isinstance(one, DataError):
            print(f"left out: {one}", file=sys.stderr)
    good = [(path, one) for path, one in zip(paths, found, strict=True) if not isinstance(one, DataError)]
    images = torch.stack([one for _, one in good]) if good else torch.empty(0)
    return [path for path, _ in good], images, len(paths) - len(good)


def _predict(trained: "Trained", paths: Sequence[str], images: "Tensor", top: int) -> list[Prediction]:
    classes = trained.interface.classes
    best = trained.logits(images).double().softmax(1).topk(min(top, len(classes)))
    return [
        (path, [(classes[k], p) for k, p in zip(index, values, strict=True)])
        for path, values, index in zip(paths, best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def _draw(trained: "Trained", images: "Tensor", predictions: Sequence[Prediction], folder: Path, number: int) -> None:
    """Writes the pictures of a batch, numbered from `number`, for two files may have one name."""
    from experiments.overlays import draw, mean_masks, module_titles
    from ran.errors import UserError

    masks = mean_masks(trained, images)
    if not masks:
        raise UserError(f"--masks: {trained.config.model.name} has no masks to draw")
    titles = module_titles(trained.network)
    for i, (path, classes) in enumerate(predictions):
        target = folder / f"{number + i:04}-{Path(path).stem}.png"
        draw(images[i], {name: mask[i] for name, mask in masks.items()}, titles, classes, target)


def _table(predictions: Sequence[Prediction]) -> str:
    from ran.text import columns

    rows = [(path, *(f"{name} {100 * p:.1f} %" for name, p in classes)) for path, classes in predictions]
    return columns(("image", "class", *(f"{i}." for i in range(2, len(rows[0])))), rows)


def _csv(predictions: Sequence[Prediction]) -> str:
    """A line for each image and class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "rank", "class", "probability"))
    for path, classes in predictions:
        writer.writerows((path, rank, name, f"{p:.6f}") for rank, (name, p) in enumerate(classes, 1))
    return text.getvalue().rstrip("\n")


def _json(predictions: Sequence[Prediction]) -> str:
    return json.dumps([
        {"image": path, "classes": [{"class": name, "probability": round(p, 6)} for name, p in classes]}
        for path, classes in predictions
    ], indent=1)  # fmt: skip


FORMATS = {"table": _table, "csv": _csv, "json": _json}


if __name__ == "__main__":
    after.command("predict", main)
