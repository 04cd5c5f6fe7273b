"""Costs of a network: parameters and multiply-adds (the paper's "FLOPs"), in total and by stage and branch.

python -m ran.models.cost attention56 --size 64
"""

import dataclasses
import fnmatch
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ran.config import ModelConfig
from ran.kernels.ops import using
from ran.models.network import NetworkSpec, build
from ran.models.zoo import NETWORKS, config_spec, create_model
from records.command import OneLineParser, entry
from records.errors import UserError
from records.text import columns

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

# Number of classes and input size in pixels: CIFAR's, and the sizes that Table 7 tests at.
CIFAR = ((10, 32), (100, 32))
IMAGENET = ((1000, 224), (1000, 299), (1000, 320))

# Stages as our networks name them, and as torchvision's ResNets do.
_STAGE = re.compile(r"(?:^|\.)(?:stages\.|layer)\d+(?=\.|$)")
_MASK = re.compile(r"\.attention\.\d+\.mask(?:\.|$)")
_TRUNK = re.compile(r"\.attention\.\d+(?:\.|$)")


@dataclass(frozen=True)
class Cost:
    params: int
    """trainable parameters"""
    macs: int
    """multiply-adds of convolutions and classifier for one image, forward"""


@dataclass(frozen=True)
class Part:
    """One branch of one stage. `stage` counts from 1, as the paper does; None for stem and head."""

    stage: int | None
    branch: str
    """stem, units (before the attention modules), trunk (with the modules' p units), mask, or head (with its norm)"""
    params: int
    """trainable parameters"""
    params_with_bn: int
    """trainable parameters and BatchNorm's running means and variances"""
    macs: int
    """multiply-adds of convolutions and matrix products for one image, forward"""


def cost(spec: NetworkSpec, *, num_classes: int, image_size: int) -> Cost:
    """Returns parameters and MACs of a network for square RGB images."""
    network = _on_meta(spec, num_classes)
    params = sum(p.numel() for p in network.parameters())
    try:
        macs = _macs_of_known(network, image_size)
    except Exception:  # a user's mask or unit may call any function; torch's counter supports all
        macs = _count(_on_meta(spec, num_classes), image_size).get_total_flops() // 2
    return Cost(params, macs)


def model_cost(model: ModelConfig, *, num_classes: int, image_size: int) -> Cost:
    """Returns parameters and MACs of a configured network. ARL and NAL have the same weights and are counted once."""
    return _cost_of(dataclasses.replace(config_spec(model), learning="arl"), num_classes, image_size)


@functools.cache
def _cost_of(spec: NetworkSpec, num_classes: int, image_size: int) -> Cost:
    return cost(spec, num_classes=num_classes, image_size=image_size)


def _on_meta(spec: NetworkSpec, num_classes: int) -> nn.Module:
    with torch.device("meta"):
        return build(spec, num_classes=num_classes).eval()


_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d, F.linear)
_OTHERS = {
    *("add", "addcmul", "amax", "batch_norm", "cat", "expand_as", "instance_norm", "max_pool2d", "mean"),
    *("mul", "normalize", "relu", "sigmoid", "split", "stack", "sub", "sum", "transpose", "unsqueeze", "view", "dim"),
    *("size", "numel", "is_contiguous", "contiguous", "flatten", "softmax", "__get__", "__getitem__"),
    "upsample_bilinear2d.vec",
}
"""functions in our networks that have no multiply-adds of convolutions or matrix products"""


class _Known(TorchFunctionMode):
    """Adds up the multiply-adds of convolutions and linear layers."""

    macs = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in _CONVOLUTIONS:
            self.macs += out.numel() * args[1][0].numel()
        elif getattr(func, "__name__", "") not in _OTHERS:
            raise NotImplementedError(f"whether {func} multiplies matrices is not known")
        return out


def _macs_of_known(network: nn.Module, image_size: int) -> int:
    """Returns the MACs of one image by a forward pass with uninitialised weights; moves the network to the CPU.

    Takes a tenth of the time of torch's counter, which imports a compiler and decomposes each operation.
    """
    # Not to_empty, which calls a slow Python function for each meta tensor.
    network, image = network._apply(_unset), torch.zeros(1, 3, image_size, image_size)
    with _Known() as known, torch.inference_mode(), using(fused=False):
        network(image)
    return known.macs


def _unset(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype)


def stage_names(network: nn.Module) -> list[str]:
    """Returns the dotted names of a network's stages in order, e.g. ["stages.0", "stages.1"] or ["layer1", ...]."""
    found = (_stage_of(name) for name, _ in network.named_modules())
    return list(dict.fromkeys(name for name in found if name is not None))


def breakdown(network: nn.Module, *, image_size: int) -> list[Part]:
    """Returns the costs of a network by stage and branch, in the order of its modules, for square RGB images.

    Modules registered before the first stage are the stem, those after the last stage the head. On the meta device
    nothing is computed. The network keeps its mode.
    """
    stages = stage_names(network)
    macs = _macs_by_module(network, image_size)
    tally: dict[tuple[int | None, str], list[int]] = {}
    behind = False
    for name, module in network.named_modules():
        stage = _stage_of(name)
        behind = behind or stage is not None
        if stage is None:
            # Operations of the root module itself are in its forward, which turns features into logits.
            place: tuple[int | None, str] = (None, "head" if behind or not name else "stem")
        else:
            place = (stages.index(stage) + 1, _branch_of(name))
        params = sum(p.numel() for p in module.parameters(recurse=False) if p.requires_grad)
        statistics = sum(
            b.numel() for key, b in module.named_buffers(recurse=False) if key in ("running_mean", "running_var")
        )
        own = (params, params + statistics, macs.get(name, 0))
        if any(own):
            tally[place] = [a + b for a, b in zip(tally.get(place, (0, 0, 0)), own, strict=True)]
    return [
        Part(stage=place[0], branch=place[1], params=counts[0], params_with_bn=counts[1], macs=counts[2])
        for place, counts in tally.items()
    ]


def _stage_of(name: str) -> str | None:
    match = _STAGE.search(name)
    return name[: match.end()] if match else None


def _branch_of(name: str) -> str:
    if _MASK.search(name):
        return "mask"
    return "trunk" if _TRUNK.search(name) else "units"


def _count(network: nn.Module, image_size: int) -> "FlopCounterMode":
    """Runs one image through torch's counter, which counts only convolutions and matrix products, two per MAC."""
    from torch.utils.flop_counter import FlopCounterMode  # which imports a compiler

    image = torch.empty(1, 3, image_size, image_size, device=next(network.parameters()).device)
    # no_grad: in inference_mode the counter decomposes every operation in Python.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return counter


def _macs_by_module(network: nn.Module, image_size: int) -> dict[str, int]:
    """Returns the MACs of each module without its children, by dotted name ("" for the network)."""
    modes = {module: module.training for module in network.modules()}
    try:
        counts = {key: sum(ops.values()) for key, ops in _count(network.eval(), image_size).get_flop_counts().items()}
    finally:
        for module, mode in modes.items():
            module.training = mode
    counts.pop("Global", None)
    own = dict(counts)
    for key in counts:
        parent = key.rpartition(".")[0]
        while parent and parent not in counts:  # a ModuleList is never called and so not counted
            parent = parent.rpartition(".")[0]
        if parent:
            own[parent] -= counts[key]
    # The counter's names begin with the class.
    return {key.partition(".")[2]: flops // 2 for key, flops in own.items() if flops}


def describe(name: str, *, num_classes: int, image_size: int) -> str:
    """Returns a table of one network's costs by stage and branch, for a terminal.

    Raises UserError for an input size that the network cannot take.
    """

    with torch.device("meta"):
        network = create_model(name, num_classes=num_classes)
    try:
        parts = breakdown(network, image_size=image_size)
    except RuntimeError as error:  # torch's checks of shapes
        raise UserError(f"--size {image_size} does not pass through {name}: {str(error).splitlines()[0]}") from error
    rows = []
    all_macs = max(sum(p.macs for p in parts), 1)
    for p in [*parts, _total(parts)]:
        counts = (f"{p.params:,}", f"{p.params_with_bn:,}", f"{p.macs:,}", f"{100 * p.macs / all_macs:.1f} %")
        rows.append((str(p.stage or ""), p.branch, *counts))
    headers = ("stage", "branch", "parameters", "with BN statistics", "MACs", "of MACs")
    table = columns(headers, rows, right=range(2, 6))
    return f"{name}, {num_classes} classes, {image_size}x{image_size} RGB\n{table}"


def _total(parts: Sequence[Part]) -> Part:
    params, params_with_bn, macs = (sum(getattr(p, key) for p in parts) for key in ("params", "params_with_bn", "macs"))
    return Part(stage=None, branch="all", params=params, params_with_bn=params_with_bn, macs=macs)


def usual_heads(name: str) -> tuple[tuple[int, int], ...]:
    """Returns (classes, input size in pixels) of a named network: those of its own data set at its own size first."""
    return IMAGENET if fnmatch.fnmatch(name, "*_imagenet") else CIFAR


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one network's costs by stage and branch. Returns 0; raises UserError."""

    parser = OneLineParser("python -m ran.models.cost", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", help="network")
    parser.add_argument("--classes", type=int, help="number of classes (default: its data set's)")
    parser.add_argument("--size", type=int, help="side of the square input in pixels (default: its data set's)")
    options = parser.parse_args(argv)
    _ = NETWORKS[options.name]
    (usual_classes, usual_size), *_ = usual_heads(options.name)
    classes = usual_classes if options.classes is None else options.classes
    size = usual_size if options.size is None else options.size
    for flag, value in (("--classes", classes), ("--size", size)):
        if value < 1:
            raise UserError(f"{flag} must be at least 1, got {value}")
    print(describe(options.name, num_classes=classes, image_size=size))
    return 0


if __name__ == "__main__":
    entry("ran.models.cost", main)
