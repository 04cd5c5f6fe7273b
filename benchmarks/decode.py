"""Training batches of 224x224 crops of JPEG files: ours against torchvision's decoder and the DataLoader way.

    python -m benchmarks.decode
    python -m benchmarks.decode --width 2000 --height 1500

All decode, crop (8 to 100 %), scale, flip and normalise to float32. A round is one pass over the files, so that nothing
is read ahead outside of it. The photographs are generated: clouds with noise, as large in bytes as ImageNet's.
"""

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

from benchmarks import report
from ran.data.image_folder.dataset import MEAN, STD, imagenet_normalization
from ran.data.image_folder.pools import set_workers
from ran.data.image_folder.reader import Files
from ran.data.loader import FileBatches
from ran.engine.device import keep_freed_memory
from records.command import entry

SIDE = 224


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and writes it as JSON; returns 0."""
    parser = report.arguments("benchmarks.decode", __doc__)
    parser.add_argument(
        "--width", type=int, default=500, help="image width; 500x375 is typical of ImageNet (default: %(default)s)"
    )
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--images", type=int, default=128, help="number of files")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    keep_freed_memory()  # as in training; all pipelines benefit
    with tempfile.TemporaryDirectory() as folder:
        size = make_photographs(Path(folder), options.images, options.width, options.height)
        alone = f"{options.workers} workers"
        turns = {
            f"ours, {alone}": ours(Path(folder), options.batch, options.workers),
            f"ours without draft, {alone}": without_draft(ours(Path(folder), options.batch, options.workers)),
            f"torchvision.io and v2, {alone}": torchvisions(Path(folder), options.batch, options.workers),
            f"DataLoader of Pillow and v2, {alone}": loader(Path(folder), options.batch, options.workers),
            "ours, 1 worker": ours(Path(folder), options.batch, 1),
            "torchvision.io and v2, 1 worker": torchvisions(Path(folder), options.batch, 1),
        }
        times = report.in_turns(turns, options.rounds)
    base = next(found for name, found in times.items() if name.startswith("DataLoader"))
    rows = [
        [name, report.middle([options.images / t for t in found]), report.ratio(base, found)]
        for name, found in times.items()
    ]
    report.publish(
        "benchmarks.decode", argv, options.out, report.torch_machine(),
        f"Training batches of {options.batch} crops of {SIDE}x{SIDE} of JPEG files of {options.width}x"
        f"{options.height}, {size / 1000:.0f} kB each, median of {options.rounds} rounds",
        ["pipeline", "images/s", "times DataLoader"], rows,
    )  # fmt: skip
    return 0


def make_photographs(folder: Path, count: int, width: int, height: int) -> float:
    """Writes `count` JPEGs as <folder>/class/<i>.jpg; returns their mean size in bytes."""
    (folder / "class").mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        clouds = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height), 3)
        noise = rng.integers(-24, 25, (height, width, 1))
        pixels = (np.asarray(clouds) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "class" / f"{i}.jpg", quality=92)
    return sum(path.stat().st_size for path in (folder / "class").iterdir()) / count


def ours(folder: Path, batch: int, workers: int) -> Callable[[], object]:
    """The training loop's batches; drops what was read ahead after the last one."""
    names = tuple(f"class/{path.name}" for path in sorted((folder / "class").iterdir()))
    labels = torch.zeros(len(names), dtype=torch.int64)

    def turn() -> None:
        set_workers(workers)
        files = Files(folder=folder, names=names, side=SIDE, share=7 / 8)
        batches = FileBatches(files, labels, imagenet_normalization(), batch_size=batch, seed=0)
        for step in range(len(names) // batch):
            batches(step)

    return turn


def without_draft(turn: Callable[[], object]) -> Callable[[], object]:
    """The same, with every JPEG decoded at full size."""

    def whole() -> None:
        with mock.patch.object(JpegImageFile, "draft"):
            turn()

    return whole


def torchvisions(folder: Path, batch: int, workers: int) -> Callable[[], object]:
    """The same number of threads with torchvision's decoder and transforms; normalises whole batches."""
    paths = [str(path) for path in sorted((folder / "class").iterdir())]
    transform = v2.Compose([v2.RandomResizedCrop(SIDE, antialias=True), v2.RandomHorizontalFlip()])
    normalization = imagenet_normalization()

    def read(path: str) -> Tensor:
        return transform(decode_jpeg(read_file(path), mode=ImageReadMode.RGB))

    def turn() -> None:
        with ThreadPoolExecutor(workers) as pool:
            found = pool.map(read, paths)
            for _ in range(len(paths) // batch):
                normalization.normalize(torch.stack(list(islice(found, batch))))

    return turn


def loader(folder: Path, batch: int, workers: int) -> Callable[[], object]:
    """torchvision's reference training: one image at a time, in processes."""
    transform = v2.Compose([
        v2.RandomResizedCrop(SIDE), v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ])  # fmt: skip
    made = DataLoader(
        ImageFolder(folder, transform), batch, shuffle=True, num_workers=workers, persistent_workers=True
    )  # fmt: skip
    return lambda: list(made)


if __name__ == "__main__":
    entry("decode", main)
