"""Residual units, the building blocks of trunk and mask. They are registered; a network's specification names one.

A unit is made as `unit(in_channels, out_channels, bottleneck, stride=1, groups=1)`. It has a projection if the shape
changes. A registered class also has `layers`, the length of its longest path, and `preactivated`: the output of a
pre-activation unit is a raw sum, so BN and ReLU come before any layer that reads it.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ran.config import ConfigError
from ran.kernels.ops import norm_relu, norm_relu_and_input
from ran.registry import Registry


class UnitFactory(Protocol):
    @property
    def layers(self) -> int: ...

    @property
    def preactivated(self) -> bool: ...

    def __call__(
        self, in_channels: int, out_channels: int, bottleneck: int, *, stride: int = 1, groups: int = 1
    ) -> nn.Module: ...


UNITS: Registry[UnitFactory] = Registry("residual unit")


def conv(
    in_channels: int, out_channels: int, kernel: int | tuple[int, int], stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Returns a padded convolution without bias, as all convolutions of the network are."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (height // 2, width // 2)
    if (height, width) == (1, 1) and stride > 1 and in_channels < SAFE_CHANNELS:
        return _Strided(in_channels, out_channels, 1, stride, bias=False)
    return nn.Conv2d(in_channels, out_channels, (height, width), stride, padding, groups=groups, bias=False)


SAFE_CHANNELS = 8
"""of a 1x1 convolution with a stride: with 2 to 7 torch 2.14's backward pass writes beyond its memory, on the CPU in
float32 with channels_last, and the process aborts (1 to 33 were tried)"""


class _Strided(nn.Conv2d):
    """A 1x1 convolution with a stride, computed without a stride on every stride-th pixel."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight)


def _projects(in_channels: int, out_channels: int, stride: int) -> bool:
    return stride != 1 or in_channels != out_channels


def _refuse_groups(groups: int, unit: str) -> None:
    if groups != 1:
        raise ConfigError(f"groups must be 1, {unit} units have no grouped convolution; got {groups}")


@UNITS.register("preact_bottleneck")
class PreActBottleneck(nn.Module):
    """Pre-activation bottleneck unit U(C, M) of the Attention-* networks (architecture: files of the authors).

    y = h + x with x the raw sum; a projection unit takes its shortcut from the activated input instead, the same `a`
    that the branch reads. The stride sits on the 3x3 and on the shortcut.
    (B, in, H, W) -> (B, out, H/stride, W/stride).
    """

    layers: ClassVar[int] = 3
    preactivated: ClassVar[bool] = True

    def __init__(self, in_channels: int, out_channels: int, bottleneck: int, *, stride: int = 1, groups: int = 1):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv(in_channels, bottleneck, 1)
        self.norm2 = nn.BatchNorm2d(bottleneck)
        self.conv2 = conv(bottleneck, bottleneck, 3, stride, groups)
        self.norm3 = nn.BatchNorm2d(bottleneck)
        self.conv3 = conv(bottleneck, out_channels, 1)
        projects = _projects(in_channels, out_channels, stride)
        self.shortcut = conv(in_channels, out_channels, 1, stride) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        a, x = norm_relu_and_input(self.norm1, x)
        h = self.conv1(a)
        h = self.conv2(norm_relu(self.norm2, h))
        h = self.conv3(norm_relu(self.norm3, h))
        return h + (x if self.shortcut is None else self.shortcut(a))


@UNITS.register("preact_basic")
class PreActBasic(nn.Module):
    """Pre-activation unit of two 3x3 convolutions (Wide ResNet, arXiv 1605.07146, Figure 1 without dropout).

    `bottleneck` is the width between the two, equal to `out_channels` in a Wide ResNet.
    (B, in, H, W) -> (B, out, H/stride, W/stride).
    """

    layers: ClassVar[int] = 2
    preactivated: ClassVar[bool] = True

    def __init__(self, in_channels: int, out_channels: int, bottleneck: int, *, stride: int = 1, groups: int = 1):
        super().__init__()
        _refuse_groups(groups, "preact_basic")
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv(in_channels, bottleneck, 3, stride)
        self.norm2 = nn.BatchNorm2d(bottleneck)
        self.conv2 = conv(bottleneck, out_channels, 3)
        projects = _projects(in_channels, out_channels, stride)
        self.shortcut = conv(in_channels, out_channels, 1, stride) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        a, x = norm_relu_and_input(self.norm1, x)
        h = self.conv2(norm_relu(self.norm2, self.conv1(a)))
        return h + (x if self.shortcut is None else self.shortcut(a))


@UNITS.register("postact_bottleneck")
class PostActBottleneck(nn.Module):
    """Bottleneck unit with BN after every convolution and a ReLU after the sum: ResNet's, and with groups ResNeXt's.

    The unit of the AttentionNeXt-* networks (architecture: files of the authors). The stride sits on the 3x3 and on the
    shortcut. (B, in, H, W) -> (B, out, H/stride, W/stride), not negative.
    """

    layers: ClassVar[int] = 3
    preactivated: ClassVar[bool] = False

    def __init__(self, in_channels: int, out_channels: int, bottleneck: int, *, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv1 = conv(in_channels, bottleneck, 1)
        self.norm1 = nn.BatchNorm2d(bottleneck)
        self.conv2 = conv(bottleneck, bottleneck, 3, stride, groups)
        self.norm2 = nn.BatchNorm2d(bottleneck)
        self.conv3 = conv(bottleneck, out_channels, 1)
        self.norm3 = nn.BatchNorm2d(out_channels)
        projects = _projects(in_channels, out_channels, stride)
        self.shortcut = _conv_norm(in_channels, out_channels, 1, stride) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        h = norm_relu(self.norm1, self.conv1(x))
        h = norm_relu(self.norm2, self.conv2(h))
        h = self.norm3(self.conv3(h))
        return F.relu(h + (x if self.shortcut is None else self.shortcut(x)), inplace=True)


def _conv_norm(in_channels: int, out_channels: int, kernel: int | tuple[int, int], stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(conv=conv(in_channels, out_channels, kernel, stride), norm=nn.BatchNorm2d(out_channels))
    )


class _Branch(nn.Sequential):
    """Repeated convolution, BN and ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            if isinstance(layer, nn.Sequential):
                convolution, norm = layer
                x = norm_relu(norm, convolution(x))
        return x


class PreActInception(nn.Module):
    """Branches of convolutions side by side, joined by a 1x1 convolution and added to x (Inception-ResNet).

    `branches` lists each branch's kernels; all have `bottleneck` channels, BN and ReLU; the last has the stride.
    (B, in, H, W) -> (B, out, H/stride, W/stride).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bottleneck: int,
        *,
        branches: Sequence[Sequence[tuple[int, int]]],
        stride: int = 1,
    ):
        super().__init__()

        def branch(kernels: Sequence[tuple[int, int]]) -> nn.Sequential:
            layers: list[nn.Module] = []
            for i, kernel in enumerate(kernels):
                width, step = (bottleneck if i else in_channels), (stride if i == len(kernels) - 1 else 1)
                layers += [_conv_norm(width, bottleneck, kernel, step), nn.ReLU(inplace=True)]
            return _Branch(*layers)

        self.norm = nn.BatchNorm2d(in_channels)
        self.branches = nn.ModuleList(branch(kernels) for kernels in branches)
        self.join = conv(len(branches) * bottleneck, out_channels, 1)
        projects = _projects(in_channels, out_channels, stride)
        self.shortcut = conv(in_channels, out_channels, 1, stride) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        a, x = norm_relu_and_input(self.norm, x)
        h = self.join(torch.cat([branch(a) for branch in self.branches], 1))
        return h + (x if self.shortcut is None else self.shortcut(a))


@dataclass(frozen=True)
class InceptionUnit:
    """Makes a PreActInception with these branches."""

    branches: tuple[tuple[tuple[int, int], ...], ...]
    preactivated: bool = True

    @property
    def layers(self) -> int:
        return 1 + max(len(kernels) for kernels in self.branches)

    def __call__(
        self, in_channels: int, out_channels: int, bottleneck: int, *, stride: int = 1, groups: int = 1
    ) -> nn.Module:
        _refuse_groups(groups, "Inception")
        return PreActInception(in_channels, out_channels, bottleneck, branches=self.branches, stride=stride)


# Deviation: the paper names AttentionInception-56's unit but does not draw it. The branches are those of
# Inception-ResNet-A, -B and -C (arXiv 1602.07261, Figures 10, 11 and 13).
# Deviation: the Inception branches of a unit all have one width, as in Inception-ResNet-v1's A.
# Deviation: the Inception units are pre-activation without residual scaling, like Attention-56's; the published ones
# activate the sum and scale the branch. Where shape changes there is a projection, not a published reduction.
UNITS.register("inception_a")(InceptionUnit((((1, 1),), ((1, 1), (3, 3)), ((1, 1), (3, 3), (3, 3)))))
UNITS.register("inception_b")(InceptionUnit((((1, 1),), ((1, 1), (1, 7), (7, 1)))))
UNITS.register("inception_c")(InceptionUnit((((1, 1),), ((1, 1), (1, 3), (3, 1)))))
