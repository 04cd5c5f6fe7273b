"""The attention module: trunk branch, mask branch and their combination."""

from collections.abc import Callable

from torch import Tensor, nn

from ran.kernels.ops import residual_attention
from ran.registry import Registry

Learning = Callable[[Tensor, Tensor], Tensor]
LEARNING: Registry[Learning] = Registry("learning")


@LEARNING.register("arl")
def attention_residual_learning(trunk: Tensor, mask: Tensor) -> Tensor:
    """H = (1 + M) * T, eq. 3."""
    return residual_attention(trunk, mask)


@LEARNING.register("nal")
def naive_attention_learning(trunk: Tensor, mask: Tensor) -> Tensor:
    """H = M * T, eq. 1. The same parameters as with attention residual learning."""
    return mask * trunk


class AttentionModule(nn.Module):
    """p units, then trunk (t units) and mask side by side, combined, then p units (section 3, Figure 2).

    The mask reads the output of the first p units, as the trunk does. Without a mask the output is the trunk's.
    (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(self, *, unit: Callable[[], nn.Module], mask: nn.Module | None, learning: Learning, p: int, t: int):
        super().__init__()
        self.pre = nn.Sequential(*(unit() for _ in range(p)))
        self.trunk = nn.Sequential(*(unit() for _ in range(t)))
        self.mask = mask
        self.learning = learning
        self.post = nn.Sequential(*(unit() for _ in range(p)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pre(x)
        if self.mask is None:
            return self.post(self.trunk(x))
        return self.post(self.learning(self.trunk(x), self.mask(x)))
