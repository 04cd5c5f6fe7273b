"""Time of each part of a training step, compared with the machine's limit.

    python -m benchmarks.roofline
    python -m benchmarks.roofline --image-size 224 --batch 8

The limit of a convolution is a matrix product with as many multiply-adds; that of other operations is a copy of the
bytes that they must read and write. Times are self times from PyTorch's profiler.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import report
from benchmarks.step import Variant, step_of
from ran.engine.device import device_capabilities, keep_freed_memory, pick_device
from ran.kernels import ops
from records.command import entry

PARTS = {
    "convolution, forward": ("mkldnn_convolution", "cudnn_convolution", "slow_conv2d_forward"),
    "convolution, backward": ("convolution_backward",),
    "BatchNorm (and ReLU where fused), forward": ("native_batch_norm", "cudnn_batch_norm", "_TrainNormReLU"),
    "BatchNorm (and ReLU where fused), backward": ("native_batch_norm_backward", "cudnn_batch_norm_backward",
                                                   "_TrainNormReLUBackward"),
    "ReLU": ("clamp_min_", "relu_", "threshold_backward"),
    "sums and products": ("add", "add_", "mul", "addcmul", "sigmoid", "sigmoid_backward"),
    "max pool": ("max_pool2d_with_indices", "max_pool2d_with_indices_backward"),
    "interpolation": ("upsample_bilinear2d", "bmm"),
    "optimizer": ("_fused_sgd_",),
}  # fmt: skip
# Traffic of an operation in multiples of its largest input: the statistics need a whole map before its first value is
# normalised, so it is read twice.
PASSES = {
    "native_batch_norm": 3, "native_batch_norm_backward": 5, "_TrainNormReLU": 3, "_TrainNormReLUBackward": 5,
    "clamp_min_": 2, "relu_": 2, "threshold_backward": 3, "add": 3, "add_": 3, "mul": 3, "addcmul": 3, "sigmoid": 2,
    "sigmoid_backward": 3, "max_pool2d_with_indices": 1.75, "max_pool2d_with_indices_backward": 2,
    "upsample_bilinear2d": 5, "bmm": 1.5,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and writes it as JSON; returns 0."""
    parser = report.arguments("benchmarks.roofline", __doc__)
    parser.add_argument("--network", default="attention56")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds; each runs one step of each variant")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, help="use bfloat16 (default: if it is native)")
    options = parser.parse_args(argv)
    keep_freed_memory()
    device = options.device
    capabilities = device_capabilities(pick_device(device))
    bf16 = capabilities.bf16 if options.bf16 is None else options.bf16
    gemm, copy = report.limits(torch.bfloat16 if bf16 else torch.float32, device)
    large = options.image_size >= 64
    name, classes = (f"{options.network}_imagenet", 1000) if large else (options.network, 10)
    rows: dict[str, list[Any]] = {part: [part] for part in [*PARTS, "everything else", "all"]}
    variants = [
        Variant(channels_last=True, bf16=bf16, kernels=kernels)
        for kernels in (["eager"] if capabilities.no_kernels else ["eager", "fused"])
    ]
    steps = [step_of(v, name, classes, options.batch, options.image_size, device) for v in variants]
    for step in steps:
        step()
    found: list[list[tuple[dict[str, float], dict[str, float]]]] = [[] for _ in steps]
    for _ in range(options.rounds):
        for step, seen in zip(steps, found, strict=True):
            seen.append(measure(step, gemm, copy, 2 if bf16 else 4, device))
    for seen in found:
        total = report.middle([spent["all"] for spent, _ in seen])
        for part, row in rows.items():
            seconds = report.middle([spent[part] for spent, _ in seen])
            least = seen[0][1][part]
            row += [1e3 * seconds, 100 * seconds / total, least / seconds if seconds and least else None]
    columns = ["part", *(f"{v.kernels}: {what}" for v in variants for what in ("ms", "%", "of its limit"))]
    report.publish(
        "benchmarks.roofline", argv, options.out, report.torch_machine(device),
        f"A training step of {name}, {options.batch} images of {options.image_size}x{options.image_size}, "
        f"{'bf16' if bf16 else 'float32'}, channels_last, median of {options.rounds} rounds",
        columns, list(rows.values()),
        [f"Limits: a matrix product at {gemm / 1e9:,.0f} GFLOP/s, a copy at {copy / 1e9:.1f} GB/s (read and written). "
         "What lies in a cache is faster than a copy."],
    )  # fmt: skip
    return 0


def measure(
    step: Any, gemm: float, copy: float, size: int, device: str = "cpu"
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns time and least possible time of each part of a step in seconds; `size` is bytes per number."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    spent: dict[str, float] = defaultdict(float)
    least: dict[str, float] = defaultdict(float)
    traffic: list[tuple[str, float]] = []
    original = ops._call

    def noted(kernel: str, dtype: torch.dtype, first: torch.Tensor, *rest: Any) -> None:
        passes = {"forward": 3, "infer": 2, "backward": 5}[kernel]
        # In a backward pass the first map is followed by an optional further gradient and x.
        passes += kernel == "backward" and isinstance(rest[0], torch.Tensor)
        traffic.append((kernel, passes * first.nbytes))
        original(kernel, dtype, first, *rest)

    ops._call = noted
    try:
        with profile(activities=activities, record_shapes=True) as profiler:
            step()
    finally:
        ops._call = original
    part_of = {op: part for part, operations in PARTS.items() for op in operations}
    for event in profiler.key_averages(group_by_input_shape=True):
        op, shapes = event.key.removeprefix("aten::"), event.input_shapes
        part = part_of.get(op, "everything else")
        spent[part] += (event.self_device_time_total if device == "cuda" else event.self_cpu_time_total) / 1e6
        if op == "convolution_backward":  # its inputs include the output's size; those of the forward pass do not
            grad, _, weight, *_ = shapes
            product = 2 * grad[0] * grad[2] * grad[3] * math.prod(weight) / gemm
            least["convolution, forward"] += event.count * product
            least[part] += event.count * 2 * product
        elif not op.startswith("_TrainNormReLU"):  # counted by `noted`
            largest = max((math.prod(shape) for shape in _tensors(shapes)), default=0)
            least[part] += event.count * PASSES.get(op, 0) * size * largest / copy
    for kernel, nbytes in traffic:
        least[f"BatchNorm (and ReLU where fused), {kernel}"] += nbytes / copy
    spent["all"], least["all"] = sum(spent.values()), sum(least.values())
    return spent, least


def _tensors(shapes: Sequence[Any]) -> Iterator[Sequence[int]]:
    for shape in shapes:
        if shape and all(isinstance(n, int) for n in shape):
            yield shape


if __name__ == "__main__":
    entry("roofline", main)
