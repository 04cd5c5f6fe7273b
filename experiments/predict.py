"""Classifies images with a trained network.

    python -m experiments.predict RUN photo.jpg folder/ --top 3
    find photos -name '*.jpg' | python -m experiments.predict RUN - --format csv
    curl -s https://... | python -m experiments.predict RUN -
    python -m experiments.predict RUN photo.jpg --masks pictures/

"-" reads stdin: one image, or paths of images, one per line. --masks draws, for each image and attention module, the
mask of the channel that varies most on a scale from 0 to 1, its product with the image, and the mean of the masks of
all channels stretched to its range.
"""

import argparse
import codecs
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.after_training.options import add_size, network_parser, resolve_network
from experiments.after_training.prediction_formats import FORMATS, Lines, Prediction
from records.command import entry
from records.streams import has_reader

if TYPE_CHECKING:
    from torch import Tensor

    from ran.trained import Trained

BATCH = 64  # images in memory at the same time
STDIN = "-"
MOST_BYTES = 2**28
LONGEST_NAME = 200  # bytes of the name of a picture; file systems allow 255
"""of stdin: an image of a hundred million pixels, or millions of paths"""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 if --skip-damaged left out images. Raises UserError."""
    options = _parse(argv)
    trained = resolve_network(options).trained.with_native_precision()
    if options.size is not None:
        trained = trained.with_test_size(options.size)
    with tempfile.TemporaryDirectory(prefix="ran-") as folder:
        predictor = _Predictor(trained, options, Path(folder) / "stdin")
        longest = max(len(predictor.shown(path)) for path in predictor.paths)
        widths = (longest, max(map(len, predictor.classes)))
        _print(FORMATS[options.format](predictor, widths, predictor.top), to_the_end=options.masks is not None)
    if options.masks is not None:
        pictures = "picture" if predictor.done == 1 else "pictures"
        print(f"wrote {predictor.done} {pictures} into {options.masks}", file=sys.stderr)
    return 1 if predictor.left_out else 0


def _print(lines: Lines, *, to_the_end: bool) -> None:
    """Prints each line immediately, so that an interruption loses nothing.

    If the reader of the output leaves, it stops, unless pictures are drawn `to_the_end`.
    """
    for line in lines:
        try:
            print(line, flush=True)
            if not has_reader(sys.stdout) and not to_the_end:
                return
        except KeyboardInterrupt as stop:
            print(lines.throw(stop))  # the last line of the format; raises it again if the format has none
            raise


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = network_parser("predict", __doc__)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, folders of them, or - for stdin")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="number of classes per image; default: 5")
    parser.add_argument("--format", choices=list(FORMATS), default="table", help="default: table")
    parser.add_argument("--masks", type=Path, metavar="OUT", help="folder for a picture of each image with its masks")
    parser.add_argument(
        "--names", type=Path, metavar="FILE",
        help="text file with a class and its displayed name per line, like ImageNet's LOC_synset_mapping.txt",
    )  # fmt: skip
    add_size(parser)
    parser.add_argument("--skip-damaged", action="store_true", help="leave out and list files that are not images")
    options = parser.parse_args(argv)
    if options.top < 1:
        parser.error(f"--top must be at least 1, got {options.top}")
    return options


class _Predictor:
    """Reads the images that the arguments name and classifies them, batch by batch."""

    def __init__(self, trained: "Trained", options: argparse.Namespace, piped: Path):
        """`piped`: path for an image from stdin. Raises DataError if a file or folder does not exist."""
        self.trained, self.options, self.piped = trained, options, str(piped)
        self.paths = list(_paths(options.images, piped))
        self.classes = _named(trained.interface.classes, options.names)
        self.top = min(options.top, len(self.classes))
        self.done = self.left_out = 0

    def shown(self, path: str) -> str:
        from records.text import printable

        return STDIN if path == self.piped else printable(path)

    def __iter__(self) -> Iterator[Prediction]:
        """Raises DataError for a damaged image, unless --skip-damaged leaves it out."""
        for begin in range(0, len(self.paths), BATCH):
            paths, images = self._read(self.paths[begin : begin + BATCH])
            if not paths:
                continue
            found = self._predict(paths, images)
            if self.options.masks is not None:
                _draw(self.trained, images, paths, found, self.options.masks, self.done)
            self.done += len(found)
            yield from found

    def _read(self, paths: Sequence[str]) -> "tuple[list[str], Tensor]":
        """The paths of the readable images, and the images."""
        import torch

        from ran.data.image_folder.pools import pool
        from records.errors import DataError

        def read(path: str) -> "Tensor | DataError":
            try:
                return self.trained.interface.read(path)
            except DataError as error:
                return error

        good, images = [], []
        for path, found in zip(paths, pool().map(read, paths), strict=True):
            if not isinstance(found, DataError):
                good.append(path)
                images.append(found)
            elif self.options.skip_damaged:
                print(f"left out: {str(found).replace(path, self.shown(path))}", file=sys.stderr)
                self.left_out += 1
            else:
                raise DataError(f"{str(found).replace(path, self.shown(path))} by --skip-damaged")
        return good, torch.stack(images) if images else torch.empty(0)

    def _predict(self, paths: Sequence[str], images: "Tensor") -> list[Prediction]:
        best = self.trained.logits(images).cpu().double().softmax(1).topk(self.top)
        return [
            Prediction(self.shown(path), [(self.classes[k], p) for k, p in zip(index, values, strict=True)])
            for path, values, index in zip(paths, best.values.tolist(), best.indices.tolist(), strict=True)
        ]


def _named(classes: Sequence[str], path: Path | None) -> list[str]:
    """The names of classes in a file with lines such as "n01440764 tench, Tinca tinca"; the first name is used."""
    from ran.data.image_folder.listing import read_lines
    from records.errors import DataError

    if path is None:
        return list(classes)
    lines = [line.split(maxsplit=1) for line in read_lines(path, "--names")]
    names = {words[0]: words[1].split(",")[0].strip() for words in lines if len(words) == 2}
    if unknown := [name for name in classes if name not in names]:
        raise DataError(f"--names: {path} has no name for {len(unknown)} of {len(classes)} classes ({unknown[0]}, ...)")
    return [names[name] for name in classes]


def _paths(given: Sequence[str], piped: Path) -> Iterator[str]:
    """The image files that the arguments name; an image from stdin is stored as `piped`. Raises DataError."""
    from ran.data.image_folder.listing import image_files, left_out
    from records.errors import DataError
    from records.text import printable

    for name in given:
        if name == STDIN:
            yield from _from_stdin(sys.stdin.buffer.read(MOST_BYTES + 1), piped)
        elif os.path.isdir(name):  # unlike Path.is_dir, also accepts a name that no file can have
            found = image_files(Path(name))
            if skipped := left_out(file for _, _, files in os.walk(name) for file in files):
                print(f"left out of {printable(name)}: {skipped}; name a file to have it read", file=sys.stderr)
            if not found:
                raise DataError(f"{printable(name)} holds no images")
            yield from (str(Path(name) / file) for file in found)
        elif os.path.exists(name):
            yield name
        else:
            raise DataError(f"no file or folder {printable(name)}")


def _from_stdin(content: bytes, piped: Path) -> Iterator[str]:
    from ran.data.image_folder.decode import is_image
    from records.errors import DataError

    if len(content) > MOST_BYTES:
        raise DataError(f"stdin holds more than {MOST_BYTES:,} bytes")
    if not is_image(content):  # but paths
        lines = content.removeprefix(codecs.BOM_UTF8).decode(errors="surrogateescape").splitlines()
        lines = [line for line in lines if line.strip() and line != STDIN]
        if not lines or b"\0" in content:
            raise DataError("stdin holds neither an image nor paths of images, one per line") from None
        yield from _paths(lines, piped)
        return
    piped.write_bytes(content)
    yield str(piped)


def _draw(
    trained: "Trained", images: "Tensor", paths: Sequence[str], predictions: Sequence[Prediction], folder: Path,
    number: int,
) -> None:  # fmt: skip
    """Writes the pictures of a batch, numbered from `number`, because two files may have the same name."""
    from experiments.after_training.mask_overlays import draw, module_titles, picture, shown_masks
    from records.errors import UserError

    masks = shown_masks(trained, images)
    if not masks[0]:
        raise UserError(f"--masks: {trained.config.model.name} has no masks to draw")
    titles = module_titles(trained.network)
    for i, (path, prediction) in enumerate(zip(paths, predictions, strict=True)):
        shown = os.path.join(*Path(prediction.image).parts[-2:])
        figure = picture(shown, images[i], masks[i], titles, prediction.classes)
        source = Path("stdin") if prediction.image == STDIN else Path(os.path.abspath(path))
        draw(figure, folder / f"{number + i:04}-{_picture_name(source)}.png")


def _picture_name(source: Path) -> str:
    """Returns the name of an image's folder, which often is its class, and its own: "circle-0" of circle/0.png.

    Without unprintable characters, and short enough for a file system.
    """
    name = f"{source.parent.name}-{source.stem}".removeprefix("-")
    printable = "".join(character if character.isprintable() else "_" for character in name)
    return printable.encode()[:LONGEST_NAME].decode(errors="ignore")


if __name__ == "__main__":
    entry("predict", main)
