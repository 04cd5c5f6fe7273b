"""Residual units, the building block of trunk and mask. Registered: a network's specification names one.

A unit is made as `unit(in_channels, out_channels, bottleneck, stride=1)`. Where shape changes it has a projection.
"""

from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from ran.registry import Registry


class UnitFactory(Protocol):
    def __call__(self, in_channels: int, out_channels: int, bottleneck: int, *, stride: int = 1) -> nn.Module: ...


UNITS: Registry[UnitFactory] = Registry("residual unit")


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Returns a padded convolution without bias, as every convolution of the network."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)


@UNITS.register("preact_bottleneck")
class PreActBottleneck(nn.Module):
    """Pre-activation bottleneck unit U(C, M) of the Attention-* networks (architecture: files of the authors).

    y = h + x with x the raw sum; a projection unit takes its shortcut from the activated input instead, the same `a`
    that the branch reads. The stride sits on the 3x3 and on the shortcut.
    (B, in, H, W) -> (B, out, H/stride, W/stride).
    """

    def __init__(self, in_channels: int, out_channels: int, bottleneck: int, *, stride: int = 1):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv(in_channels, bottleneck, 1)
        self.norm2 = nn.BatchNorm2d(bottleneck)
        self.conv2 = conv(bottleneck, bottleneck, 3, stride)
        self.norm3 = nn.BatchNorm2d(bottleneck)
        self.conv3 = conv(bottleneck, out_channels, 1)
        projects = stride != 1 or in_channels != out_channels
        self.shortcut = conv(in_channels, out_channels, 1, stride) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.norm1(x), inplace=True)
        h = self.conv1(a)
        h = self.conv2(F.relu(self.norm2(h), inplace=True))
        h = self.conv3(F.relu(self.norm3(h), inplace=True))
        return h + (x if self.shortcut is None else self.shortcut(a))
