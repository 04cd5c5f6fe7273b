"""Speed of a training step: images/s, achieved FLOP/s and share of the machine's limit, compared with other projects.

    python -m benchmarks.step --image-size 224 --batch 8
    python -m benchmarks.step --network attention92 --batch 32 --threads 1
    python -m benchmarks.step --image-size 224 --batch 32 --device cuda

A step is forward, loss, backward and SGD with momentum on one batch in memory. The variants are timed in interleaved
rounds and compared within a round. At 224 the peer is pytorchcv's resattnet, with equal parameters and multiply-adds
(pip install -e '.[benchmarks]').
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import report
from ran.config import ModelConfig
from ran.engine.device import Arithmetic, device_capabilities, keep_freed_memory, pick_device
from ran.engine.optim import sgd
from ran.models.cost import cost
from ran.models.zoo import config_spec, create_model
from records.command import entry
from records.errors import UserError


@dataclass(frozen=True)
class Variant:
    """Implementation and arithmetic of a training step."""

    channels_last: bool = False
    bf16: bool = False
    kernels: str = "eager"
    compiled: bool = False
    peer: bool = False
    """whether to use pytorchcv's network instead of ours"""

    @property
    def arithmetic(self) -> Arithmetic:
        return Arithmetic("bf16" if self.bf16 else "float32", self.kernels, self.channels_last)

    def __str__(self) -> str:
        words = ["pytorchcv" if self.peer else "ours", "NHWC" if self.channels_last else "NCHW"]
        words += ["bf16" if self.bf16 else "float32", *(["fused"] if self.kernels == "fused" else [])]
        return " ".join([*words, *(["compiled"] if self.compiled else [])])


PLAIN = Variant()


def variants(*, bf16: bool, fused: bool, peer: bool, compiled: bool) -> list[Variant]:
    """Returns the variants to compare, the common form first."""
    found = [PLAIN, Variant(channels_last=True)]
    if fused:
        found.append(Variant(channels_last=True, kernels="fused"))
    if bf16:
        found.append(Variant(channels_last=True, bf16=True))
        if fused:
            found.append(Variant(channels_last=True, bf16=True, kernels="fused"))
    if compiled:
        found.append(Variant(channels_last=True, bf16=bf16, compiled=True))
    if peer:
        found = [*(Variant(peer=True, channels_last=c, bf16=b) for c, b in _peers(bf16)), *found]
    return found


def _peers(bf16: bool) -> list[tuple[bool, bool]]:
    return [(False, False), (True, False), *([(True, True)] if bf16 else [])]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and writes it as JSON; returns 0."""
    parser = report.arguments("benchmarks.step", __doc__)
    parser.add_argument("--network", default="attention56", help="network (default: %(default)s)")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, help="use bfloat16 (default: if it is native)")
    parser.add_argument(
        "--keep-memory", action="store_true", help="reuse freed memory in all variants, as the training loop does"
    )
    parser.add_argument("--compile", action="store_true", help="also measure a compiled variant")
    parser.add_argument("--no-peer", action="store_true", help="do not measure pytorchcv at 224")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.keep_memory:
        keep_freed_memory()
    device, large = options.device, options.image_size >= 64
    capabilities = device_capabilities(pick_device(device))
    bf16 = capabilities.bf16 if options.bf16 is None else options.bf16
    name = options.network + ("_imagenet" if large and not options.network.endswith("_imagenet") else "")
    chosen = variants(
        bf16=bf16, fused=not capabilities.no_kernels, peer=large and not options.no_peer, compiled=options.compile
    )  # fmt: skip
    classes = 1000 if large else 10
    counted = cost(config_spec(ModelConfig(name=name)), num_classes=classes, image_size=options.image_size)
    steps = {
        str(v): step_of(v, name, classes, options.batch, options.image_size, device) for v in chosen
    }  # fmt: skip
    limit = {b: report.limits(torch.bfloat16 if b else torch.float32, device)[0] for b in {v.bf16 for v in chosen}}
    times = report.in_turns(steps, options.rounds, device)
    rows = []
    for v in chosen:
        seconds = statistics.median(times[str(v)])
        flops = 6 * counted.macs * options.batch / seconds  # the backward pass costs twice the forward pass
        speedups = [report.ratio(times[str(base)], times[str(v)]) for base in _bases(chosen)]
        rows.append([str(v), options.batch / seconds, flops / 1e9, flops / limit[v.bf16], *speedups])
    columns = ["variant", "images/s", "GFLOP/s", "of GEMM limit", *(f"times {base}" for base in _bases(chosen))]
    gemm = ", ".join(f"{'bf16' if b else 'float32'} {value / 1e9:,.0f}" for b, value in sorted(limit.items()))
    size = f"{counted.params / 1e6:.1f} M parameters, {counted.macs / 1e9:.3f} G multiply-adds an image"
    work = f"{options.batch} images of {options.image_size}x{options.image_size}, median of {options.rounds} rounds"
    notes = [f"GEMM limit in GFLOP/s: {gemm}."]
    if not capabilities.bf16:
        notes.append("bfloat16 is not native to this device.")
    if capabilities.no_kernels:
        notes.append(f"No fused variant: {capabilities.no_kernels}.")
    report.publish(
        "benchmarks.step", argv, options.out, report.torch_machine(device),
        f"Training step of {name} ({size}), {work}", columns, rows, [" ".join(notes)],
    )  # fmt: skip
    return 0


def _bases(chosen: Sequence[Variant]) -> list[Variant]:
    """Returns the reference variants: the plain form, or the peer plain and in our fastest layout and precision."""
    peers = [v for v in chosen if v.peer]
    return [peers[0], peers[-1]] if peers else [PLAIN]


def step_of(
    variant: Variant, name: str, classes: int, batch: int, size: int, device: str, width: float = 1.0
) -> Callable[[], None]:
    """Returns a function that trains one step. `width`: factor of the widths of our network."""
    torch.manual_seed(0)
    network = peer_network(name, classes) if variant.peer else create_model(name, num_classes=classes, width=width)
    layout = variant.arithmetic.memory_format
    network.to(device).to(memory_format=layout).train()
    forward = torch.compile(network) if variant.compiled else network
    optimizer = sgd(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=layout)
    labels = torch.randint(classes, (batch,), device=device)

    def step() -> None:
        with variant.arithmetic.on(torch.device(device)):
            logits = forward(images).float()
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def peer_network(name: str, classes: int) -> nn.Module:
    """Returns pytorchcv's network of the same architecture. Raises UserError without pytorchcv."""
    try:
        from pytorchcv.model_provider import get_model
    except ImportError:
        raise UserError("the peer needs pytorchcv: pip install -e '.[benchmarks]', or --no-peer") from None
    return get_model(f"resattnet{name.removeprefix('attention').removesuffix('_imagenet')}", num_classes=classes)


if __name__ == "__main__":
    entry("step", main)
