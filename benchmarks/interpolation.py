"""Time of a training step by form of the masks' interpolation, compared with PyTorch's F.interpolate.

    python -m benchmarks.interpolation --threads 1
    python -m benchmarks.interpolation --device cuda

The forms are PyTorch's; ours, whose gradient is a product with two matrices; and such products in both passes. They are
timed in interleaved rounds on one network and compared within a round.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import report
from benchmarks.step import Variant, step_of
from ran.engine.device import device_capabilities, keep_freed_memory, pick_device
from ran.models import masks
from ran.models.interpolate import interpolate, separable, weights
from records.command import entry

CASES = (("attention56", 1.0, 32), ("attention56", 0.5, 32), ("attention92", 1.0, 32), ("attention92", 0.5, 32),
         ("attention56", 0.25, 16), ("attention92", 0.25, 16))  # fmt: skip
"""(network, width, side of an image in pixels)"""


def by_pytorch(x: Tensor, size: Sequence[int]) -> Tensor:
    """Returns F.interpolate's map and gradient."""
    return F.interpolate(x, list(size), mode="bilinear", align_corners=True)


def by_products(x: Tensor, size: Sequence[int]) -> Tensor:
    """Returns the same by matrix products, in both passes."""
    rows, columns = (weights(few, many, x) for few, many in zip(x.shape[-2:], size, strict=True))
    return separable(x, rows, columns)


FORMS = {"F.interpolate": by_pytorch, "ours": interpolate, "products in both passes": by_products}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and writes it as JSON; returns 0."""
    parser = report.arguments("benchmarks.interpolation", __doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--networks", nargs="+", help="networks to measure (default: all)")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    keep_freed_memory()
    no_kernels = device_capabilities(pick_device(options.device)).no_kernels
    rows = [
        measure(name, width, size, options.batch, kernels, options.rounds, options.device)
        for name, width, size in CASES
        if options.networks is None or name in options.networks
        for kernels in (["eager"] if no_kernels else ["eager", "fused"])
    ]
    _, *others = FORMS
    report.publish(
        "benchmarks.interpolation", argv, options.out, report.torch_machine(options.device),
        f"Training step by form of interpolation, {options.batch} images, float32, channels_last, median of "
        f"{options.rounds} rounds",
        ["network", "width", "image", "kernels", "F.interpolate: ms", *(f"{form}: times that" for form in others)],
        rows, [f"No fused kernels: {no_kernels}."] if no_kernels else [],
    )  # fmt: skip
    return 0


def measure(name: str, width: float, size: int, batch: int, kernels: str, rounds: int, device: str) -> list[object]:
    """Returns a row of the table: what was measured, ms of a step with F.interpolate, and ratios of the other forms."""
    variant = Variant(channels_last=True, kernels=kernels)
    step = step_of(variant, name, 10, batch, size, device, width)

    def step_with(form: Callable[[Tensor, Sequence[int]], Tensor]) -> Callable[[], None]:
        def one() -> None:
            masks.interpolate = form
            step()

        return one

    try:
        times = report.in_turns({label: step_with(form) for label, form in FORMS.items()}, rounds, device)
    finally:
        masks.interpolate = interpolate
    pytorchs, *others = times.values()
    return [name, width, f"{size}x{size}", kernels, 1e3 * report.middle(pytorchs),
            *(report.ratio(found, pytorchs) for found in others)]  # fmt: skip


if __name__ == "__main__":
    entry("interpolation", main)
