"""Training batches of 32x32 images: our batched pipeline against torchvision's transforms in a DataLoader.

    python -m benchmarks.data

Both pad by 4, crop and flip at random, subtract the mean, and make batches of 64 float32 images. Other projects use the
DataLoader: one image at a time with PIL, in this process or in workers. Generated images, one thread.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import report
from benchmarks.step import Variant, step_of
from ran.data.augment import cifar_normalization
from ran.data.loader import TrainBatches
from ran.engine.device import device_capabilities, keep_freed_memory
from records.command import entry

IMAGES = 10_000


class Pictures(Dataset):
    """Images as torchvision's CIFAR10 returns them."""

    def __init__(self, images: Tensor, labels: Tensor):
        self.arrays, self.labels = images.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist()
        self.transform = transforms.Compose([
            transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
            transforms.Normalize((0.4914, 0.4822, 0.4465), (1, 1, 1)),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.arrays[index])), self.labels[index]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and writes it as JSON; returns 0."""
    parser = report.arguments("benchmarks.data", __doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=50, help="number of batches per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="number of workers of the DataLoader with workers")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    keep_freed_memory()  # as in training; all pipelines benefit
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (IMAGES,), generator=generator)
    ours = TrainBatches(images, labels, cifar_normalization(images), batch_size=options.batch, seed=0)
    numbers = iter(range(10**9))
    kernels = "eager" if device_capabilities(torch.device("cpu")).no_kernels else "fused"
    model = step_of(Variant(channels_last=True, kernels=kernels), "attention56", 10, options.batch, 32, "cpu")
    alone, helped = (loader(images, labels, options.batch, workers) for workers in (0, options.workers))
    turns: dict[str, Callable[[], object]] = {
        "ours": lambda: [ours(next(numbers)) for _ in range(options.batches)],
        "DataLoader, no workers": lambda: list(islice(alone, options.batches)),
        f"DataLoader, {options.workers} workers": lambda: list(islice(helped, options.batches)),
        "what Attention-56 consumes": model,
    }
    times = report.in_turns(turns, options.rounds)
    counts = {name: options.batch * (1 if "consumes" in name else options.batches) for name in turns}
    per_image = {name: [seconds / counts[name] for seconds in found] for name, found in times.items()}
    bases = [per_image["DataLoader, no workers"], per_image["what Attention-56 consumes"]]
    rows = [
        [name, report.middle([1 / t for t in found]), *(report.ratio(base, found) for base in bases)]
        for name, found in per_image.items()
    ]
    report.publish(
        "benchmarks.data", argv, options.out, report.torch_machine(),
        f"Training batches of {options.batch} images of 32x32, median of {options.rounds} rounds",
        ["pipeline", "images/s", "times DataLoader, no workers", "times what the model consumes"], rows,
    )  # fmt: skip
    return 0


def loader(images: Tensor, labels: Tensor, batch: int, workers: int) -> Iterator[Any]:
    """Returns an endless iterator over a DataLoader's batches."""
    made = DataLoader(
        Pictures(images, labels), batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )  # fmt: skip
    return (batch for _ in cycle([None]) for batch in made)


if __name__ == "__main__":
    entry("data", main)
