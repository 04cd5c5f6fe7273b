"""Time of the masks' interpolation in a training step, compared with PyTorch's F.interpolate.

    python -m benchmarks.interpolation --threads 1
    python -m benchmarks.interpolation --device cuda

All interpolations of a step, forward and backward, are timed alone, in interleaved rounds: in whole steps their
difference is lost in the noise. On the CPU the time is that of the processor, summed over threads, which leaves out
other processes.
"""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import report
from benchmarks.step import Variant, step_of
from ran.engine.device import device_capabilities, keep_freed_memory, pick_device
from ran.models import masks
from ran.models.interpolate import interpolate
from records.command import entry

CASES = (("attention56", 1.0, 32), ("attention56", 0.5, 32), ("attention92", 1.0, 32), ("attention92", 0.5, 32),
         ("attention56", 0.25, 16), ("attention92", 0.25, 16))  # fmt: skip
"""(network, width, side of an image in pixels)"""


def by_pytorch(x: Tensor, size: Sequence[int]) -> Tensor:
    """Returns F.interpolate's map and gradient."""
    return F.interpolate(x, list(size), mode="bilinear", align_corners=True)


FORMS = {"PyTorch's": by_pytorch, "ours": interpolate}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and writes it as JSON; returns 0."""
    parser = report.arguments("benchmarks.interpolation", __doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--steps", type=int, default=3, help="number of whole steps")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--networks", nargs="+", help="networks to measure (default: all)")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    keep_freed_memory()
    no_kernels = device_capabilities(pick_device(options.device)).no_kernels
    rows = [
        [name, width, f"{size}x{size}", kernels, *measure(step, options.rounds, options.steps, options.device)]
        for name, width, size in CASES
        if options.networks is None or name in options.networks
        for kernels in (["eager"] if no_kernels else ["eager", "fused"])
        for variant in [Variant(channels_last=True, kernels=kernels)]
        for step in [step_of(variant, name, 10, options.batch, size, options.device, width)]
    ]
    report.publish(
        "benchmarks.interpolation", argv, options.out, report.torch_machine(options.device),
        f"Interpolations of a training step, {options.batch} images, float32, channels_last, median of "
        f"{options.rounds} rounds",
        ["network", "width", "image", "kernels", "step: ms", "F.interpolate: ms", "ours: ms", "added to the step: %"],
        rows, [f"No fused kernels: {no_kernels}."] if no_kernels else [],
    )  # fmt: skip
    return 0


def measure(step: Callable[[], None], rounds: int, steps: int, device: str) -> list[float]:
    """Returns ms of a step, of its interpolations by PyTorch and by us, and what ours add to the step, in percent."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    calls = interpolations(step)
    (whole,) = report.in_turns({"step": step}, steps, device, clock).values()
    turns = {name: lambda form=form: [both_passes(form, *call) for call in calls] for name, form in FORMS.items()}
    pytorchs, ours = report.in_turns(turns, rounds, device, clock).values()
    added = report.middle([b - a for a, b in zip(pytorchs, ours, strict=True)])
    return [*(1e3 * report.middle(times) for times in (whole, pytorchs, ours)), 100 * added / report.middle(whole)]


def interpolations(step: Callable[[], None]) -> list[tuple[Tensor, Tensor]]:
    """Returns an input and a gradient of the output, both random, for each interpolation of a step."""
    calls = []

    def noted(x: Tensor, size: Sequence[int]) -> Tensor:
        y = interpolate(x, size)
        calls.append((torch.randn_like(x).requires_grad_(), torch.randn_like(y)))
        return y

    original, masks.interpolate = masks.interpolate, noted
    try:
        step()
    finally:
        masks.interpolate = original
    return calls


def both_passes(form: Callable[[Tensor, Sequence[int]], Tensor], x: Tensor, grad: Tensor) -> None:
    """Computes the output and the gradient."""
    torch.autograd.grad(form(x, grad.shape[-2:]), x, grad)


if __name__ == "__main__":
    entry("interpolation", main)
