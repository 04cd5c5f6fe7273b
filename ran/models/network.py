"""The residual attention network, made from one specification."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ran.models.attention import LEARNING, AttentionModule
from ran.models.masks import MASK_ACTIVATIONS, MASK_STRUCTURES, mask_head
from ran.models.units import UNITS, conv
from ran.rng import stream_seed


@dataclass(frozen=True)
class StageSpec:
    """One stage: its units (the first changes shape), then attention modules of the same widths."""

    channels: int
    bottleneck: int
    stride: int
    units: int
    modules: int
    poolings: int
    """max pools in each mask of the stage"""


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that shapes a network but its number of classes. Written to spec.json with each run."""

    stem_channels: int
    stages: tuple[StageSpec, ...]
    unit: str = "preact_bottleneck"
    p: int = 1
    t: int = 2
    r: int = 1
    learning: str = "arl"
    mask_activation: str = "mixed"
    mask_structure: str = "encoder_decoder"

    @property
    def trunk_depth(self) -> int:
        """Layers along the trunk: stem, three a bottleneck unit, classifier."""
        units = sum(s.units + s.modules * (2 * self.p + self.t) for s in self.stages)
        return 2 + 3 * units


class Stage(nn.Module):
    """Residual units, then attention modules. (B, in, H, W) -> (B, C, H/stride, W/stride)."""

    def __init__(self, units: Sequence[nn.Module], attention: Sequence[nn.Module]):
        super().__init__()
        self.units = nn.Sequential(*units)
        self.attention = nn.Sequential(*attention)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(self.units(x))


class ResidualAttentionNetwork(nn.Module):
    """Stem, stages, BN-ReLU, global average pool, classifier. (B, in_channels, H, W) -> logits (B, num_classes)."""

    def __init__(self, *, stem: nn.Module, stages: Sequence[nn.Module], channels: int, num_classes: int):
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Returns the activated output of the last stage, (B, C, H', W')."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return F.relu(self.norm(x), inplace=True)

    def forward_head(self, x: Tensor) -> Tensor:
        """Returns the logits of the features, (B, num_classes)."""
        return self.head(x.mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def build(spec: NetworkSpec, *, num_classes: int, in_channels: int = 3) -> ResidualAttentionNetwork:
    """Returns the network of `spec`, with PyTorch's default weights (see `initialize`).

    Raises UnknownNameError for a unit, mask or learning that is not registered.
    """
    unit = UNITS[spec.unit]
    learning, activation, structure = (
        LEARNING[spec.learning], MASK_ACTIVATIONS[spec.mask_activation], MASK_STRUCTURES[spec.mask_structure],
    )  # fmt: skip

    def stage(in_channels: int, s: StageSpec) -> Stage:
        def identity_unit() -> nn.Module:
            return unit(s.channels, s.channels, s.bottleneck)

        def module() -> AttentionModule:
            mask = structure(
                unit=identity_unit, poolings=s.poolings, r=spec.r, head=mask_head(s.channels), activation=activation
            )
            return AttentionModule(unit=identity_unit, mask=mask, learning=learning, p=spec.p, t=spec.t)

        first = unit(in_channels, s.channels, s.bottleneck, stride=s.stride)
        return Stage(
            units=[first, *(identity_unit() for _ in range(s.units - 1))],
            attention=[module() for _ in range(s.modules)],
        )

    widths = [spec.stem_channels, *(s.channels for s in spec.stages)]
    return ResidualAttentionNetwork(
        # Deviation: section 4.1 does not describe the CIFAR stem; a bare 3x3 convolution, as pre-activation ResNet-164.
        stem=conv(in_channels, spec.stem_channels, 3),
        stages=[stage(width, s) for width, s in zip(widths, spec.stages, strict=False)],
        channels=widths[-1],
        num_classes=num_classes,
    )


def initialize(network: nn.Module, seed: int) -> None:
    """Sets all weights from `seed`: He initialisation for convolutions (section 4.1, ref. [9]), BatchNorm 1 and 0.

    Networks whose parameters have the same shapes in the same order (ARL and NAL) get the same weights.
    """
    generator = torch.Generator().manual_seed(stream_seed(seed, "init"))
    for m in network.modules():
        if isinstance(m, nn.Conv2d):
            fan_in = m.weight[0].numel()  # Caffe's MSRA filler counts the inputs
            _normal(m.weight, math.sqrt(2 / fan_in), generator)
        elif isinstance(m, nn.Linear):
            # Deviation: the paper does not give the classifier's; variance-preserving without the ReLU's factor 2.
            _normal(m.weight, math.sqrt(1 / m.in_features), generator)
            nn.init.zeros_(m.bias)
        elif isinstance(m, nn.BatchNorm2d):
            m.reset_parameters()


def _normal(weight: Tensor, std: float, generator: torch.Generator) -> None:
    # Drawn on the CPU whatever the device, so that all devices start from the same weights.
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=generator) * std)
