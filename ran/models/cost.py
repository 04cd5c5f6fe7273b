"""What a network costs: parameters and multiply-adds (the paper's "FLOPs"), in all and by stage and branch.

python -m ran.models.cost                          # write analysis/tables/costs.csv (every network); minutes
python -m ran.models.cost --check                  # is that file fresh? exit status 1 where it is not
python -m ran.models.cost attention56 --size 64    # one network by stage and branch
"""

import argparse
import csv
import dataclasses
import fnmatch
import functools
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ran.config import ConfigError, ModelConfig
from ran.kernels.ops import using
from ran.models.masks import MASK_STRUCTURES
from ran.models.network import NetworkSpec, build
from ran.models.zoo import config_spec
from records.errors import UserError

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

COSTS_CSV = Path(__file__).parents[2] / "analysis" / "tables" / "costs.csv"
FIELDS = (
    "name", "width", "mask_structure", "num_classes", "image_size", "depth",
    "params", "params_with_bn", "macs", "mask_params", "mask_macs",
)  # fmt: skip
# Number of classes and input size in pixels: CIFAR's, and the sizes that Table 7 tests at.
_CIFAR = ((10, 32), (100, 32))
_IMAGENET = ((1000, 224), (1000, 299), (1000, 320))
WIDTHS = (1.0, 0.5, 0.25, 0.125)
"""of the CIFAR networks: those of the profiles"""
_ANY_MASK = "attention56"  # the network that studies give every mask structure; the others have their own

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
    """stem, units (before the modules), trunk (of the modules, with their p units), mask, or head (with its norm)"""
    params: int
    """trainable parameters"""
    params_with_bn: int
    """with BatchNorm's running mean and variance"""
    macs: int
    """multiply-adds of convolutions and matrix products for one image, forward"""


def cost(spec: NetworkSpec, *, num_classes: int, image_size: int) -> Cost:
    """Returns parameters and MACs of a network for square RGB images."""
    network = _on_meta(spec, num_classes)
    params = sum(p.numel() for p in network.parameters())
    try:
        macs = _macs_of_known(network, image_size)
    except Exception:  # a user's mask or unit may do anything: torch's counter knows it all, and computes nothing
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
    *("add", "addcmul", "amax", "batch_norm", "cat", "expand_as", "interpolate", "instance_norm", "max_pool2d", "mean"),
    *("mul", "normalize", "relu", "sigmoid", "split", "stack", "sub", "sum", "transpose", "unsqueeze", "view", "dim"),
    *("size", "numel", "is_contiguous", "contiguous", "flatten", "softmax", "__get__", "__getitem__"),
}
"""what our networks are made of that multiplies no matrices"""


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
    """The MACs of one image, which is computed with whatever lies in memory; the network is moved there.

    A tenth of what torch's counter takes, which imports a compiler and takes each operation apart on the meta device.
    """
    # Not to_empty, which from the meta device takes a Python function of PyTorch's for each tensor.
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

    What is registered before the first stage is the stem, what is registered after the stages is the head. On the meta
    device nothing is computed. The network keeps its mode.
    """
    stages = stage_names(network)
    macs = _macs_by_module(network, image_size)
    tally: dict[tuple[int | None, str], list[int]] = {}
    behind = False
    for name, module in network.named_modules():
        stage = _stage_of(name)
        behind = behind or stage is not None
        if stage is None:
            # The root's own arithmetic, if any, stands in its forward, where the features are turned into logits.
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
    return [Part(*place, *counts) for place, counts in tally.items()]


def _stage_of(name: str) -> str | None:
    match = _STAGE.search(name)
    return name[: match.end()] if match else None


def _branch_of(name: str) -> str:
    if _MASK.search(name):
        return "mask"
    return "trunk" if _TRUNK.search(name) else "units"


def _count(network: nn.Module, image_size: int) -> "FlopCounterMode":
    """Runs one image through torch's counter: a multiply-add counts as two, convolutions and matrix products alone."""
    from torch.utils.flop_counter import FlopCounterMode  # which imports a compiler

    image = torch.empty(1, 3, image_size, image_size, device=next(network.parameters()).device)
    # no_grad, not inference_mode, in which the counter takes every operation apart in Python.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return counter


def _macs_by_module(network: nn.Module, image_size: int) -> dict[str, int]:
    """The MACs that each module does itself, its children's left out, by dotted name ("" for the network)."""
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
        while parent and parent not in counts:  # a ModuleList is never called, so it is not counted
            parent = parent.rpartition(".")[0]
        if parent:
            own[parent] -= counts[key]
    # The counter puts the class's name first.
    return {key.partition(".")[2]: flops // 2 for key, flops in own.items() if flops}


@dataclass(frozen=True)
class Setting:
    """What costs.csv lists a network by, beside its name: as a config and a data set say it."""

    num_classes: int
    image_size: int
    """side of the input in pixels"""
    width: float = 1.0
    mask_structure: str = NetworkSpec.mask_structure


def settings(name: str) -> list[Setting]:
    """Returns the settings at which costs.csv counts a network, its own data set at its own size first.

    A mask structure that does not fit a width (local_conv_macs in a very narrow network) is left out.
    """
    if fnmatch.fnmatch(name, "*_imagenet"):
        return [Setting(*head) for head in _IMAGENET]
    structures = [NetworkSpec.mask_structure]
    if name == _ANY_MASK:
        structures += [structure for structure in MASK_STRUCTURES if structure not in structures]
    found = [
        Setting(num_classes, image_size, width, structure)
        for structure in structures
        for width in WIDTHS
        for num_classes, image_size in _CIFAR
    ]
    return [setting for setting in found if _can_be_built(name, setting.width, setting.mask_structure)]


@functools.cache
def _can_be_built(name: str, width: float, mask_structure: str) -> bool:
    if mask_structure == NetworkSpec.mask_structure:
        return True
    try:
        _build(name, Setting(10, 32, width, mask_structure))
    except ConfigError:
        return False
    return True


def _build(name: str, setting: Setting) -> nn.Module:
    from ran.models.zoo import create_model

    with torch.device("meta"):
        return create_model(
            name, num_classes=setting.num_classes, width=setting.width, mask_structure=setting.mask_structure
        )


def row(name: str, setting: Setting) -> dict[str, object]:
    """Returns a named network's line of costs.csv: depth of the trunk branch, parameters and MACs, and the masks'."""
    from ran.models.zoo import network_spec

    parts = breakdown(_build(name, setting), image_size=setting.image_size)
    masks = [part for part in parts if part.branch == "mask"]
    counts = (
        sum(p.params for p in parts), sum(p.params_with_bn for p in parts), sum(p.macs for p in parts),
        sum(p.params for p in masks), sum(p.macs for p in masks),
    )  # fmt: skip
    depth = getattr(network_spec(name), "trunk_depth", None)
    key = (f"{setting.width:g}", setting.mask_structure, setting.num_classes, setting.image_size)
    return dict(zip(FIELDS, (name, *key, depth, *counts), strict=True))


def costs_csv(names: Sequence[str]) -> Iterator[str]:
    """Yields the lines of costs.csv for these networks: the header, then one a network and setting."""
    yield _line(FIELDS)
    for name in names:
        for setting in settings(name):
            yield _line(row(name, setting).values())


def _line(values: object) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)  # type: ignore[arg-type]
    return out.getvalue()


def describe(name: str, *, num_classes: int, image_size: int) -> str:
    """Returns a table of one network's costs by stage and branch, for a terminal.

    Raises UserError for an input size that the network cannot take.
    """
    from ran.models.zoo import create_model

    with torch.device("meta"):
        network = create_model(name, num_classes=num_classes)
    try:
        parts = breakdown(network, image_size=image_size)
    except RuntimeError as error:  # torch's checks of shapes
        raise UserError(f"--size {image_size} does not pass through {name}: {str(error).splitlines()[0]}") from error
    total = [sum(getattr(p, key) for p in parts) for key in ("params", "params_with_bn", "macs")]
    lines = [("stage", "branch", "parameters", "with BN statistics", "MACs", "of MACs")]
    for p in [*parts, Part(None, "all", *total)]:
        share = f"{100 * p.macs / max(total[2], 1):.1f} %"
        lines.append((str(p.stage or ""), p.branch, f"{p.params:,}", f"{p.params_with_bn:,}", f"{p.macs:,}", share))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = [
        "  ".join(x.ljust(w) if i < 2 else x.rjust(w) for i, (x, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    return "\n".join([f"{name}, {num_classes} classes, {image_size}x{image_size} RGB", *body])


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 where --check finds the file stale, 2 where the input is refused."""
    from ran.models.zoo import NETWORKS, list_models

    parser = argparse.ArgumentParser("python -m ran.models.cost", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="?", help="print this network's costs instead of writing the file")
    parser.add_argument("--classes", type=int, help="classes (default: the first at which the file counts it)")
    parser.add_argument("--size", type=int, help="side of the square input in pixels (default: likewise)")
    parser.add_argument("--check", action="store_true", help="write nothing, say whether the file is fresh")
    options = parser.parse_args(argv)
    try:
        if options.name is not None and options.check:
            raise UserError("--check is of the whole file; leave out the network")
        if options.name is None and (options.classes, options.size) != (None, None):
            raise UserError(f"--classes and --size go with a network. Valid: {', '.join(list_models())}.")
        if options.name is not None:
            _ = NETWORKS[options.name]
            usual = settings(options.name)[0]
            classes, size = (
                default if given is None else given
                for given, default in ((options.classes, usual.num_classes), (options.size, usual.image_size))
            )
            for flag, value in (("--classes", classes), ("--size", size)):
                if value < 1:
                    raise UserError(f"{flag} must be at least 1, got {value}")
            print(describe(options.name, num_classes=classes, image_size=size))
            return 0
        return _check() if options.check else _write()
    except UserError as error:
        print(f"ran.models.cost: {error}", file=sys.stderr)
        return 2


def _write() -> int:
    from ran.models.zoo import list_models

    temporary = COSTS_CSV.with_name(f".{COSTS_CSV.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text("".join(costs_csv(list_models())), encoding="utf-8", newline="")
        os.replace(temporary, COSTS_CSV)
    finally:
        temporary.unlink(missing_ok=True)
    print(f"wrote {COSTS_CSV}", file=sys.stderr)
    return 0


def _check() -> int:
    from ran.models.zoo import list_models

    there = COSTS_CSV.read_text(encoding="utf-8").splitlines(keepends=True) if COSTS_CSV.exists() else []
    due = list(costs_csv(list_models()))
    stale = [line.strip() for line in due if line not in there] + [line.strip() for line in there if line not in due]
    if there == due:
        print(f"{COSTS_CSV} is fresh")
        return 0
    print(
        f"{COSTS_CSV} is stale ({stale[0] if stale else 'its order'}): `python -m ran.models.cost` writes it",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
