"""The residual attention networks and the plain residual networks, built from one kind of specification."""

import contextlib
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ran.config import ConfigError
from ran.kernels.ops import fused, norm_relu, using
from ran.models.attention import LEARNING, AttentionModule
from ran.models.masks import MASK_ACTIVATIONS, MASK_STRUCTURES, MaskParts, mask_head
from ran.models.stems import STEMS
from ran.models.units import UNITS
from ran.rng import stream, stream_seed
from records.errors import UserError


@dataclass(frozen=True)
class StageSpec:
    """One stage: its units (the first changes shape), then attention modules of the same widths."""

    channels: int
    bottleneck: int
    stride: int
    units: int
    modules: int
    poolings: int
    """number of max pools in each mask of the stage"""
    unit: str | None = None
    """name of this stage's residual unit; None = the network's"""


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that defines a network except its number of classes. Each run stores it as spec.json."""

    stem_channels: int
    stages: tuple[StageSpec, ...]
    unit: str = "preact_bottleneck"
    p: int = 1
    t: int = 2
    r: int = 1
    learning: str = "arl"
    mask_activation: str = "mixed"
    mask_structure: str = "encoder_decoder"
    stem: str = "conv3"
    groups: int = 1
    """number of groups of the units' 3x3 convolutions"""

    def unit_of(self, stage: StageSpec) -> str:
        """Returns the name of the residual unit of one of the stages."""
        return self.unit if stage.unit is None else stage.unit

    @property
    def trunk_depth(self) -> int:
        """Layers along the trunk: stem, those of each unit's longest path (three in a bottleneck), classifier."""
        modules = 2 * self.p + self.t
        return 2 + sum((s.units + s.modules * modules) * UNITS[self.unit_of(s)].layers for s in self.stages)


def check(spec: NetworkSpec) -> None:
    """Raises ConfigError for invalid numbers."""
    if not spec.stages:
        raise ConfigError("stages must hold at least one stage")
    counts = {"p": spec.p, "t": spec.t, "r": spec.r, "groups": spec.groups, "stem_channels": spec.stem_channels}
    for i, s in enumerate(spec.stages):
        widths = {"channels": s.channels, "bottleneck": s.bottleneck, "stride": s.stride, "units": s.units}
        # For every mask: an ablation of the mask must not change which specifications are valid.
        poolings = {"poolings": s.poolings} if s.modules else {}
        counts |= {f"stages[{i}].{key}": n for key, n in {**widths, **poolings}.items()}
        if s.modules < 0:
            raise ConfigError(f"stages[{i}].modules must not be negative, got {s.modules}")
    for key, n in counts.items():
        if n < 1:
            raise ConfigError(f"{key} must be at least 1, got {n}")
    units = [UNITS[spec.unit_of(s)].preactivated for s in spec.stages]
    if wrong := [i for i, (first, then) in enumerate(itertools.pairwise(units), 1) if first and not then]:
        raise ConfigError(
            f"stages[{wrong[0]}] has post-activation units after a stage of pre-activation units, whose raw sums "
            "they would read"
        )
    bottlenecks = [s.bottleneck for s in spec.stages]
    common = math.gcd(*bottlenecks)
    if common % spec.groups != 0:
        valid = [g for g in range(1, common + 1) if common % g == 0]
        raise ConfigError(
            f"groups={spec.groups} does not divide the bottleneck widths {bottlenecks} of the stages; "
            f"groups that do: {', '.join(map(str, valid))}"
        )


class Stage(nn.Module):
    """Residual units, then attention modules. (B, in, H, W) -> (B, C, H/stride, W/stride)."""

    def __init__(self, units: Sequence[nn.Module], attention: Sequence[nn.Module]):
        super().__init__()
        self.recomputes = False
        """whether only the inputs of units and attention modules are kept for the backward pass"""
        self.units = nn.Sequential(*units)
        self.attention = nn.Sequential(*attention)

    def forward(self, x: Tensor) -> Tensor:
        if not self.recomputes or not torch.is_grad_enabled():
            return self.attention(self.units(x))
        for block in (*self.units, *self.attention):
            x = _recomputed(block, x)
        return x


class ResidualAttentionNetwork(nn.Module):
    """Stem, stages, BN-ReLU, global average pool, classifier. (B, in_channels, H, W) -> logits (B, num_classes).

    After stages that are not preactivated, whose output is already activated, the BN-ReLU is left out.
    """

    def __init__(
        self,
        *,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        feature_info: Sequence[dict[str, Any]],
        preactivated: bool,
        in_channels: int,
        num_classes: int,
        smallest_input: int = 1,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.feature_info = list(feature_info)
        """per stage: num_chs, reduction (image pixels per pixel of the map) and module (its name), as in timm"""
        self.num_features: int = self.feature_info[-1]["num_chs"]
        self.drop_rate = 0.0
        """dropout rate before the classifier"""
        self.global_pool = "avg"
        """or '', without a classifier: the output is the map itself"""
        self.smallest_input = smallest_input
        """smallest side of an image"""
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(self.num_features) if preactivated else None
        self.head = _classifier(self.num_features, num_classes)

    def _stem(self, x: Tensor) -> Tensor:
        return self.stem(_large_enough(x, self.smallest_input))

    def _activated(self, x: Tensor) -> Tensor:
        return x if self.norm is None else norm_relu(self.norm, x)

    def stage_outputs(self, x: Tensor, first: int | None = None) -> list[Tensor]:
        """Returns the output of each stage, (B, C, H/reduction, W/reduction): raw sums for pre-activation units.

        `first`: number of stages to compute. Raises UserError, as `forward` does, for an image that is too small for
        the masks.
        """
        x = self._stem(x)
        outputs: list[Tensor] = []
        for stage in list(self.stages)[:first]:
            x = stage(x)
            outputs.append(x)
        return outputs

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Returns timm's (features, outputs of stages), or only the latter; raw sums, as in `stage_outputs`.

        `indices` of the stages; a number n selects the last n, None all. With `norm` the last stage's output is
        activated. With `stop_early` the features are those of the last requested stage.
        """
        if output_fmt != "NCHW":
            raise ConfigError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        chosen = self._chosen(indices)
        first = max(chosen) + 1 if stop_early or intermediates_only else len(self.stages)
        outputs = self.stage_outputs(x, first)
        features = self._activated(outputs[-1]) if first == len(self.stages) else outputs[-1]
        if norm:
            outputs[-1] = features
        taken = [outputs[i] for i in chosen]
        return taken if intermediates_only else (features, taken)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Removes the stages after the selected ones (as in `forward_intermediates`) and the classifier, as in timm.

        Returns the numbers of the selected stages. The last norm is removed together with the last stage.
        """
        chosen = self._chosen(indices)
        first = max(chosen) + 1
        if prune_norm or first < len(self.stages):
            self.norm = None
        self.stages = self.stages[:first]
        self.num_features = self.feature_info[first - 1]["num_chs"]
        if prune_head:
            self.reset_classifier(0)
        return chosen

    def _chosen(self, indices: int | Sequence[int] | None) -> list[int]:
        count = len(self.stages)
        wanted = range(-indices, 0) if isinstance(indices, int) else range(count) if indices is None else indices
        if not wanted or not all(-count <= i < count for i in wanted):
            raise ConfigError(f"indices must be of the {count} stages, got {indices}")
        return [i % count for i in wanted]

    def forward_features(self, x: Tensor) -> Tensor:
        """Returns the activated output of the last stage, (B, C, H', W')."""
        x = self._stem(x)
        for stage in self.stages:
            x = stage(x)
        return self._activated(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Returns the logits of the features, (B, num_classes), or with `pre_logits` the classifier's input."""
        if self.global_pool:
            x = x.mean((2, 3))
        if self.drop_rate > 0:
            x = F.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Switches activation checkpointing of units and attention modules on or off: less memory, more time.

        Weights, gradients and running statistics do not change.
        """
        for stage in self.stages:
            stage.recomputes = enable  # type: ignore[assignment]

    def get_classifier(self) -> nn.Module:
        """Returns the classifier."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the classifier, with PyTorch's default weights; with 0 classes the pooled features are the output.

        `global_pool`: "avg"; "" returns the feature map, without a classifier; None changes nothing.
        """
        global_pool = self.global_pool if global_pool is None else global_pool
        if global_pool not in ("avg", ""):
            raise ConfigError(f"global_pool must be 'avg', or '' without a classifier, got {global_pool!r}")
        if not global_pool and num_classes > 0:
            raise ConfigError(f"global_pool='' is without a classifier, but num_classes is {num_classes}, not 0")
        like = next(self.parameters())
        self.head = _classifier(self.num_features, num_classes).to(like.device, like.dtype).train(self.training)
        self.num_classes = num_classes
        self.global_pool = global_pool

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Returns the layers in order as patterns of parameter names, for timm's layer decay.

        Each unit and attention module is a layer, or with `coarse` each stage; the last norm belongs to the last layer.
        """
        stages = range(len(self.stages))
        layers = [rf"^stages\.{i}\.{part}\.(\d+)" for i in stages for part in ("units", "attention")]
        if coarse:
            layers = [rf"^stages\.{i}\." for i in stages]
        with_the_one_before = 99999
        return {"stem": "^stem", **{layer: layer for layer in layers}, "norm": [("^norm", (with_the_one_before,))]}


@torch.fx.wrap  # one node of a torch.fx graph, for which images have no size
def _large_enough(x: Tensor, smallest: int) -> Tensor:
    """Returns the images (B, C, H, W). Raises UserError if a side is below `smallest`."""
    if min(x.shape[-2:]) < smallest:
        raise UserError(
            f"images of {x.shape[-2]}x{x.shape[-1]} are too small for this network: "
            f"the smallest are {smallest}x{smallest}"
        )
    return x


def _recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """Returns block(x); only x is kept for the backward pass, which computes the rest again with the same draws."""
    # Of a CUDA graph, in which no state can be read.
    capturing = x.device.type == "cuda" and torch.cuda.is_current_stream_capturing()
    return checkpoint(
        block, x, use_reentrant=False, preserve_rng_state=not capturing,
        context_fn=functools.partial(_first_and_again, block),
    )  # fmt: skip


def _first_and_again(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    return contextlib.nullcontext(), _again(block, fused())


@contextlib.contextmanager
def _again(block: nn.Module, fused: bool | None) -> Iterator[None]:
    """Keeps the running statistics unchanged in the block, because the first forward pass has updated them."""
    kept = [(buffer, buffer.clone()) for buffer in block.buffers()]
    try:
        with using(fused):
            yield
    finally:
        for buffer, value in kept:
            buffer.copy_(value)


def _classifier(channels: int, num_classes: int) -> nn.Module:
    if num_classes < 0:
        raise ConfigError(f"num_classes must not be negative, got {num_classes}")
    return nn.Linear(channels, num_classes) if num_classes > 0 else nn.Identity()


def build(
    spec: NetworkSpec, *, num_classes: int, in_channels: int = 3, image_size: int | None = None
) -> ResidualAttentionNetwork:
    """Returns the network of `spec`, with PyTorch's default weights (see `initialize`).

    Raises UnknownNameError for a unit, mask or learning that is not registered, ConfigError as `check` does, and for
    masks that are too deep for images of the given (smaller) side.
    """
    check(spec)
    if in_channels < 1:
        raise ConfigError(f"in_channels must be at least 1, got {in_channels}")
    stem = STEMS[spec.stem]
    learning, activation, structure = (
        LEARNING[spec.learning], MASK_ACTIVATIONS[spec.mask_activation], MASK_STRUCTURES[spec.mask_structure],
    )  # fmt: skip

    def stage(in_channels: int, s: StageSpec) -> Stage:
        unit = UNITS[spec.unit_of(s)]

        def identity_unit(bottleneck: int = s.bottleneck) -> nn.Module:
            return unit(s.channels, s.channels, bottleneck, groups=spec.groups)

        parts = MaskParts(
            channels=s.channels,
            bottleneck=s.bottleneck,
            unit=identity_unit,
            groups=spec.groups,
            poolings=s.poolings,
            r=spec.r,
            head=lambda: mask_head(s.channels, preactivated=unit.preactivated),
            activation=activation,
        )

        def module() -> AttentionModule:
            return AttentionModule(unit=identity_unit, mask=structure(parts), learning=learning, p=spec.p, t=spec.t)

        first = unit(in_channels, s.channels, s.bottleneck, stride=s.stride, groups=spec.groups)
        return Stage(
            units=[first, *(identity_unit() for _ in range(s.units - 1))],
            attention=[module() for _ in range(s.modules)],
        )

    widths = [spec.stem_channels, *(s.channels for s in spec.stages)]
    stages = [stage(width, s) for width, s in zip(widths, spec.stages, strict=False)]
    smallest_input = stem.smallest_input(_smallest_map(spec, stages))
    if image_size is not None and image_size < smallest_input:
        raise ConfigError(_too_deep(spec, stages, image_size, smallest_input))
    reductions = [stem.reduction * math.prod(s.stride for s in spec.stages[: i + 1]) for i in range(len(stages))]
    return ResidualAttentionNetwork(
        stem=stem.make(in_channels, spec.stem_channels),
        stages=stages,
        feature_info=[
            {"num_chs": s.channels, "reduction": reduction, "module": f"stages.{i}"}
            for i, (s, reduction) in enumerate(zip(spec.stages, reductions, strict=True))
        ],
        preactivated=UNITS[spec.unit_of(spec.stages[-1])].preactivated,
        in_channels=in_channels,
        num_classes=num_classes,
        smallest_input=smallest_input,
    )


def _map_needed(stage: Stage) -> int:
    """Returns the smallest side of the stage's maps that its masks support."""
    return max((getattr(module.mask, "smallest_map", 1) for module in stage.attention), default=1)


def _smallest_map(spec: NetworkSpec, stages: Sequence[Stage]) -> int:
    """Returns the smallest side of the stem's output that every mask supports."""
    size = 1
    for s, stage in zip(reversed(spec.stages), reversed(stages), strict=True):
        size = s.stride * (max(size, _map_needed(stage)) - 1) + 1  # a strided convolution rounds up
    return size


def _too_deep(spec: NetworkSpec, stages: Sequence[Stage], image_size: int, smallest_input: int) -> str:
    smallest_of, size, found = STEMS[spec.stem].smallest_input, 0, ""
    while smallest_of(size + 1) <= image_size:
        size += 1
    for i, (s, stage) in enumerate(zip(spec.stages, stages, strict=True)):
        size = math.ceil(size / s.stride)
        if size < _map_needed(stage):
            found = f"stages[{i}].poolings={s.poolings} is too deep for a map of {size}x{size}; "
            break
    return f"image_size={image_size} is too small: {found}the smallest image_size is {smallest_input}"


def initialize(network: nn.Module, seed: int) -> None:
    """Sets all weights from `seed`: He initialisation for convolutions (section 4.1, ref. [9]), BatchNorm 1 and 0.

    Each tensor is drawn from a stream of its own, keyed by its name, so two networks share every weight that has the
    same name and shape in both. Modules of other kinds are reset by their own `reset_parameters`.
    """
    for name, m in network.named_modules():
        if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            # Caffe's MSRA filler counts the inputs.
            # Deviation: the classifier's initialisation is not given; variance-preserving, without the ReLU's factor 2.
            gain = 1 if isinstance(m, nn.Linear) else 2
            _normal(m.weight, math.sqrt(gain / m.weight[0].numel()), seed, f"{name}.weight")
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.BatchNorm2d):
            m.reset_parameters()
        elif hasattr(m, "reset_parameters"):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(stream_seed(seed, "init", name))
                m.reset_parameters()


def _normal(weight: Tensor, std: float, seed: int, name: str) -> None:
    # Drawn by numpy on the CPU, so that all devices and processors start from the same bits.
    drawn = stream(seed, "init", name).standard_normal(tuple(weight.shape), np.float32)
    with torch.no_grad():
        weight.copy_(torch.from_numpy(drawn) * std)
