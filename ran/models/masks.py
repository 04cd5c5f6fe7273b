"""Mask branches: what reads x and says, per channel and position, how much of the trunk's output to keep.

A structure (encoder-decoder, ...) is the whole branch. It ends in a head, the same for all structures, and an
activation that turns the head's output z into the mask M.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ran.models.units import conv
from ran.registry import Registry

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


class MaskFactory(Protocol):
    def __call__(
        self, *, unit: Callable[[], nn.Module], poolings: int, r: int, head: nn.Module, activation: MaskActivation
    ) -> nn.Module: ...


MASK_STRUCTURES: Registry[MaskFactory] = Registry("mask structure")


def mask_head(channels: int) -> nn.Sequential:
    """Returns the two 1x1 convolutions before the activation, each behind BN and ReLU. (B, C, H, W) -> the same."""
    return nn.Sequential(
        nn.BatchNorm2d(channels), nn.ReLU(inplace=True), conv(channels, channels, 1),
        nn.BatchNorm2d(channels), nn.ReLU(inplace=True), conv(channels, channels, 1),
    )  # fmt: skip


def _resize(x: Tensor, size: torch.Size) -> Tensor:
    # Caffe's Interp takes only the size from its second input; corners are aligned.
    return F.interpolate(x, size=list(size), mode="bilinear", align_corners=True)


@MASK_STRUCTURES.register("encoder_decoder")
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
        for skip, up, level in zip(reversed(self.skip), self.up, reversed(levels), strict=True):
            x = up(_resize(x, level.shape[-2:]) + skip(level))
        return self.activation(self.head(_resize(x, size)))
