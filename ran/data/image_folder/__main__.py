"""Reads every image below a folder and prints the damaged ones, one per line.

python -m ran.data.image_folder FOLDER
"""

from collections.abc import Sequence
from pathlib import Path

from ran.data.image_folder.dataset import find_damaged
from ran.data.image_folder.listing import image_files
from records.command import OneLineParser, entry
from records.errors import DataError
from records.text import printable


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 if an image is damaged. Raises DataError for a folder without images."""
    parser = OneLineParser(
        "python -m ran.data.image_folder",
        description="Reads every image below a folder; prints the damaged ones, one per line, and their number.",
    )
    parser.add_argument("folder", type=Path, help="folder with images at any depth")
    folder = parser.parse_args(argv).folder
    names = image_files(folder)
    if not names:
        raise DataError(f"{folder}: no such folder, or no image in it")
    count = 0
    for name, reason in find_damaged(folder, names):
        print(f"{printable(folder / name)}: {reason}", flush=True)
        count += 1
    print(f"{count} of {len(names)} images are damaged")
    return 1 if count else 0


if __name__ == "__main__":
    entry("ran.data.image_folder", main)
