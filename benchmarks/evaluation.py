"""Evaluation speed of Attention-56 by batch size.

    python -m benchmarks.evaluation --width 1 --batches 25 50 100 200 500 1000

With normalisation and channels_last, as in the training loop; float32, random images of 32x32.
"""

from collections.abc import Sequence
from unittest import mock

import torch

from benchmarks import report
from ran.data.augment import cifar_normalization
from ran.engine import evaluate
from ran.engine.device import Arithmetic, device_capabilities, keep_freed_memory
from ran.models.zoo import create_model
from records.command import entry

IMAGES = 1_000


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and writes it as JSON; returns 0."""
    parser = report.arguments("benchmarks.evaluation", __doc__)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batches", type=int, nargs="+", default=[50, 100, 200, 500, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    keep_freed_memory()
    network = create_model("attention56", num_classes=10, width=options.width).to(memory_format=torch.channels_last)
    images = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8)
    normalization = cifar_normalization(images)
    kinds = ["eager"] if device_capabilities(torch.device("cpu")).no_kernels else ["eager", "fused"]

    def see(batch: int, kernels: str) -> None:
        with mock.patch.object(evaluate, "BATCH", batch):
            evaluate.predict(network, images, normalization, Arithmetic(kernels=kernels))

    turns = {f"{n} {kind}": lambda n=n, kind=kind: see(n, kind) for n in options.batches for kind in kinds}
    times = report.in_turns(turns, options.rounds)
    rows = [[n, *(IMAGES / report.middle(times[f"{n} {kind}"]) for kind in kinds)] for n in options.batches]
    report.publish(
        "benchmarks.evaluation", argv, options.out, report.torch_machine(),
        f"Evaluation of {IMAGES:,} images by Attention-56, width {options.width:g}, median of {options.rounds} rounds",
        ["images at a time", *(f"images/s, {kind}" for kind in kinds)], rows,
        [f"The training loop takes {evaluate.BATCH} at a time."],
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    entry("evaluation", main)
