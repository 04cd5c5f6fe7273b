"""Stems: the layers before the first stage. They are registered; a network's specification names one."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from ran.kernels.ops import NormReLUSequential
from ran.models.units import conv
from ran.registry import Registry


@dataclass(frozen=True)
class Stem:
    """A function that makes a stem, and its effect on an image's size."""

    make: Callable[[int, int], nn.Module]
    """(in_channels, out_channels) -> module"""
    reduction: int
    """image pixels per pixel of its output, along a side"""
    smallest_input: Callable[[int], int]
    """smallest size of an image whose output has the given size"""


STEMS: Registry[Stem] = Registry("stem")


# Deviation: section 4.1 does not describe the CIFAR stem; a bare 3x3 convolution, as pre-activation ResNet-164.
STEMS.register("conv3")(Stem(lambda i, o: conv(i, o, 3), reduction=1, smallest_input=lambda n: n))


def _conv7_pool(in_channels: int, out_channels: int, pool: nn.MaxPool2d) -> nn.Sequential:
    return NormReLUSequential(
        OrderedDict(
            conv=conv(in_channels, out_channels, 7, 2),
            norm=nn.BatchNorm2d(out_channels),
            relu=nn.ReLU(inplace=True),
            pool=pool,
        )
    )


# As in the files of the authors: Caffe's pool, without padding, the last window clipped. A side n becomes
# floor(ceil(n/2)/2).
STEMS.register("conv7_pool")(
    Stem(
        lambda i, o: _conv7_pool(i, o, nn.MaxPool2d(3, 2, padding=0, ceil_mode=True)),
        reduction=4,
        smallest_input=lambda n: 4 * n - 1,
    )
)

# As in torchvision's ResNets: a side n becomes ceil(ceil(n/2)/2).
STEMS.register("conv7_padded_pool")(
    Stem(
        lambda i, o: _conv7_pool(i, o, nn.MaxPool2d(3, 2, padding=1)),
        reduction=4,
        smallest_input=lambda n: 4 * n - 3,
    )
)
