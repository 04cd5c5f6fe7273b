"""Mask branches: modules that compute, per channel and position, how much of the trunk's output to keep.

A structure (encoder-decoder, ...) is the whole branch. Those of the paper end in a common head and an activation that
turns the head's output z into the mask M. A structure is registered as a function of a `MaskParts`; a mask with a
smallest feature map has an attribute `smallest_map`.
"""

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F

from ran.config import ConfigError
from ran.kernels.ops import NormReLUSequential
from ran.models.interpolate import interpolate
from ran.models.units import conv
from ran.registry import Registry

torch.fx.wrap("interpolate")  # one node of a torch.fx graph, which keeps its gradient

MaskActivation = Callable[[Tensor], Tensor]
MASK_ACTIVATIONS: Registry[MaskActivation] = Registry("mask activation")


@MASK_ACTIVATIONS.register("mixed")
def mixed(z: Tensor) -> Tensor:
    """f1, eq. 4: a sigmoid for each channel and position. (B, C, H, W), values in (0, 1)."""
    return z.sigmoid()


@MASK_ACTIVATIONS.register("channel")
def channel(z: Tensor) -> Tensor:
    """f2, eq. 5: L2 normalisation over the channels of each position. Values in [-1, 1]: there is no sigmoid."""
    return F.normalize(z, dim=1, eps=1e-12)


@MASK_ACTIVATIONS.register("spatial")
def spatial(z: Tensor) -> Tensor:
    """f3, eq. 6: each channel's map normalised over its positions, then a sigmoid. Values in (0, 1)."""
    # Deviation: section 3.2 does not say over what mean and std run; per image and channel, as Caffe's MVN layer does.
    return F.instance_norm(z, eps=1e-5).sigmoid()


@dataclass(frozen=True)
class MaskParts:
    """Building blocks for the masks of one stage; each structure uses those that it needs."""

    channels: int
    """number of channels C of trunk and mask"""
    bottleneck: int
    """the trunk's bottleneck width"""
    unit: Callable[[int], nn.Module]
    """makes an identity unit of the trunk's kind, C channels and the given bottleneck width"""
    groups: int
    """number that must divide a bottleneck width"""
    poolings: int
    r: int
    """number of units between two poolings"""
    head: Callable[[], nn.Module]
    """makes the layers before the activation, (B, C, H, W) -> z (B, C, H, W)"""
    activation: MaskActivation

    def units(self, n: int, bottleneck: int | None = None) -> nn.Sequential:
        """Returns n identity units, of the trunk's widths or with another bottleneck."""
        return nn.Sequential(*(self.unit(self.bottleneck if bottleneck is None else bottleneck) for _ in range(n)))


MaskFactory = Callable[[MaskParts], nn.Module | None]
MASK_STRUCTURES: Registry[MaskFactory] = Registry("mask structure")


def mask_head(channels: int, *, preactivated: bool = True) -> nn.Sequential:
    """Returns the two 1x1 convolutions before the activation, each after BN and ReLU. (B, C, H, W) -> the same.

    After units that are not preactivated, whose output is already activated, the first BN and ReLU are left out.
    """
    first = (nn.BatchNorm2d(channels), nn.ReLU(inplace=True)) if preactivated else ()
    return NormReLUSequential(
        *first, conv(channels, channels, 1),
        nn.BatchNorm2d(channels), nn.ReLU(inplace=True), conv(channels, channels, 1),
    )  # fmt: skip


class EncoderDecoder(nn.Module):
    """Bottom-up top-down mask branch (section 3.2, Figure 2). (B, C, H, W) -> (B, C, H, W).

    `poolings` max pools; r units after each but the last, 2r at the lowest level, r after each interpolation but the
    last; one unit in each skip. `unit()` makes an identity unit of the trunk's widths.
    """

    def __init__(
        self, *, unit: Callable[[], nn.Module], poolings: int, r: int, head: nn.Module, activation: MaskActivation
    ):
        super().__init__()

        def units(n: int) -> nn.Sequential:
            return nn.Sequential(*(unit() for _ in range(n)))

        # Caffe's ceil rule: windows start at 2i and the last is clipped; padding=1 would give other values.
        self.pool = nn.MaxPool2d(3, 2, padding=0, ceil_mode=True)
        self.smallest_map = 2**poolings  # each pooling needs a side of two pixels and halves it, rounding down
        self.down = nn.ModuleList(units(r) for _ in range(poolings - 1))
        self.bottom = units(2 * r)
        self.skip = nn.ModuleList(unit() for _ in range(poolings - 1))
        self.up = nn.ModuleList(units(r) for _ in range(poolings - 1))
        self.head = head
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        levels: list[Tensor] = []
        for down in self.down:
            x = down(self.pool(x))
            levels.append(x)
        x = self.bottom(self.pool(x))
        # Caffe's Interp takes only the size from its second input; corners are aligned.
        for skip, up, level in zip(reversed(self.skip), self.up, reversed(levels), strict=True):
            x = up(interpolate(x, level.shape[-2:]) + skip(level))
        return self.activation(self.head(interpolate(x, size)))


@MASK_STRUCTURES.register("encoder_decoder")
def encoder_decoder(parts: MaskParts) -> nn.Module:
    return EncoderDecoder(
        unit=lambda: parts.unit(parts.bottleneck),
        poolings=parts.poolings,
        r=parts.r,
        head=parts.head(),
        activation=parts.activation,
    )


class LocalMask(nn.Module):
    """Units at full resolution, then the head (section 4.1, Table 4). (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, *, units: nn.Module, head: nn.Module, activation: MaskActivation):
        super().__init__()
        self.smallest_map = 2  # one pixel has no standard deviation for the spatial activation
        self.units = units
        self.head = head
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.head(self.units(x)))


LOCAL_UNITS = 3  # "consists of three Residual Units", section 4.1


@MASK_STRUCTURES.register("local_conv")
def local_conv(parts: MaskParts) -> nn.Module:
    """Three units of the trunk's widths; 1.2 % more parameters and 24 % more MACs in Attention-56."""
    # Deviation: section 4.1's Attention-Local-Conv cannot have three units and the same FLOPs at full width. local_conv
    # keeps the units, local_conv_macs the FLOPs by narrower bottlenecks.
    return LocalMask(units=parts.units(LOCAL_UNITS), head=parts.head(), activation=parts.activation)


@MASK_STRUCTURES.register("local_conv_macs")
def local_conv_macs(parts: MaskParts) -> nn.Module:
    """Three units of the largest bottleneck width that costs no more multiply-adds than the encoder-decoder.

    Raises ConfigError if even the narrowest costs more.
    """

    def macs(bottleneck: int) -> int:  # for each position: an identity unit keeps the resolution
        with torch.device("meta"):
            unit = parts.unit(bottleneck)
        return sum(m.weight.numel() for m in unit.modules() if isinstance(m, nn.Conv2d))

    # The encoder-decoder's units in units at full resolution: each pooling quarters the positions.
    d, r = parts.poolings, parts.r
    equivalent = sum((2 * r + 1) / 4**i for i in range(1, d)) + 2 * r / 4**d
    limit = equivalent * macs(parts.bottleneck)
    most = math.ceil(parts.bottleneck * max(1, equivalent / LOCAL_UNITS))
    widths = range(parts.groups, most + 1, parts.groups)
    fitting = bisect.bisect_right(widths, limit, key=lambda width: LOCAL_UNITS * macs(width))
    if fitting == 0:
        raise ConfigError(
            f"mask_structure='local_conv_macs' does not fit {parts.channels} channels with a bottleneck of "
            f"{parts.bottleneck}: three units of width {parts.groups} cost more than the encoder-decoder. Raise width, "
            "or use mask_structure='local_conv'."
        )
    units = parts.units(LOCAL_UNITS, widths[fitting - 1])
    return LocalMask(units=units, head=parts.head(), activation=parts.activation)


@MASK_STRUCTURES.register("none")
def no_mask(parts: MaskParts) -> None:
    """No mask branch: the module is p + t + p units. Activation and learning have no effect."""
    return


# Gates of other papers, for comparison. torchvision's SqueezeExcitation returns the product of gate and features,
# not the gate, so it does not fit.
# Deviation: the gates of SE, ECA and CBAM read what every mask reads, x, and the learning combines them with the trunk;
# published, a gate multiplies the features that it reads.
GATE_REDUCTION = 16  # of SE and CBAM both


def _only_sigmoid(parts: MaskParts, structure: str) -> None:
    # Normalising over the positions or channels of a gate that has one of them would leave a constant.
    if parts.activation is not MASK_ACTIVATIONS["mixed"]:
        raise ConfigError(f"mask_structure={structure!r} ends in a sigmoid: mask_activation must be 'mixed'")


def _excitation(channels: int) -> nn.Sequential:
    hidden = max(1, channels // GATE_REDUCTION)
    return nn.Sequential(conv(channels, hidden, 1), nn.ReLU(inplace=True), conv(hidden, channels, 1))


class SqueezeExcitation(nn.Module):
    """SE, arXiv 1709.01507, section 3: channels squeezed by their mean, excited by two layers without biases.

    (B, C, H, W) -> (B, C, 1, 1), values in (0, 1).
    """

    def __init__(self, channels: int):
        super().__init__()
        self.excitation = _excitation(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.excitation(x.mean((2, 3), keepdim=True)).sigmoid()


class EfficientChannelAttention(nn.Module):
    """ECA, arXiv 1910.03151, section 3.2: a convolution over the channels' means, of the kernel size of eq. 12.

    (B, C, H, W) -> (B, C, 1, 1), values in (0, 1).
    """

    def __init__(self, channels: int):
        super().__init__()
        size = int((math.log2(channels) + 1) / 2)  # gamma = 2, b = 1
        kernel = size + 1 - size % 2  # the odd number, from below rounded up as in the authors' code
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3)).unsqueeze(1)  # (B, 1, C)
        return self.conv(means).sigmoid().transpose(1, 2).unsqueeze(3)


class ConvolutionalBlockAttention(nn.Module):
    """CBAM, arXiv 1807.06521, section 3: a gate of the channels (eq. 2), then one of the positions (eq. 3).

    (B, C, H, W) -> (B, C, H, W), the product of both; values in (0, 1).
    """

    def __init__(self, channels: int):
        super().__init__()
        self.excitation = _excitation(channels)
        self.position = conv(2, 1, 7)

    def forward(self, x: Tensor) -> Tensor:
        # Both descriptors go through the shared layers at once: each parameter is used once a forward.
        described = torch.stack((x.mean((2, 3)), x.amax((2, 3))), 2).unsqueeze(3)  # (B, C, 2, 1)
        channels = self.excitation(described).sum(2, keepdim=True).sigmoid()  # (B, C, 1, 1)
        x = x * channels
        described = torch.stack((x.mean(1), x.amax(1)), 1)  # (B, 2, H, W)
        return channels * self.position(described).sigmoid()


def _register_gate(name: str, gate: Callable[[int], nn.Module]) -> None:
    @MASK_STRUCTURES.register(name)
    def make(parts: MaskParts) -> nn.Module:
        _only_sigmoid(parts, name)
        return gate(parts.channels)


_register_gate("se", SqueezeExcitation)
_register_gate("eca", EfficientChannelAttention)
_register_gate("cbam", ConvolutionalBlockAttention)
