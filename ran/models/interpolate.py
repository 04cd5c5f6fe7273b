"""Bilinear interpolation with aligned corners, whose gradient has the same bits each time.

On CUDA, PyTorch's backward pass adds with atomic operations, in an order that changes from call to call. Here the
gradient is a product with two constant matrices: interpolation is Y = R X C^T, with rows R (H_out, H) and columns C
(W_out, W), so its gradient is dX = R^T dY C. The forward pass is PyTorch's own; it adds nothing across threads.
"""

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def interpolate(x: Tensor, size: Sequence[int]) -> Tensor:
    """Returns F.interpolate(x, size, mode="bilinear", align_corners=True): (B, C, H, W) -> (B, C, *size).

    Values, dtype (also under autocast) and memory layout are PyTorch's. The gradient is computed in float32 (float64 if
    y is), outside autocast, and has x's dtype and the layout of y's gradient. Under the transforms of torch.func it is
    PyTorch's.
    """
    if torch.is_grad_enabled() and x.requires_grad and not _transformed():
        return _Interpolate.apply(x, tuple(size))
    return _forward(x, size)


class _Interpolate(torch.autograd.Function):
    """Saves sizes and a dtype. Its backward pass is differentiable."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.size, ctx.dtype = tuple(x.shape[-2:]), x.dtype
        return _forward(x, size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return adjoint(grad, ctx.size).to(ctx.dtype), None


def _forward(x: Tensor, size: Sequence[int]) -> Tensor:
    # The operation that F.interpolate calls. Under torch.use_deterministic_algorithms F.interpolate itself calls a
    # slower one on CUDA, which returns bfloat16 where autocast otherwise gives float32.
    return torch.ops.aten.upsample_bilinear2d.vec(x, list(size), True, None)


def adjoint(grad: Tensor, size: Sequence[int]) -> Tensor:
    """Returns R^T grad C, the gradient for an input of `size`: (B, C, H, W) -> (B, C, *size), at least float32."""
    with _without_autocast(grad.device):
        grad = grad.to(torch.float64 if grad.dtype == torch.float64 else torch.float32)
        rows, columns = (weights(few, many, grad) for few, many in zip(size, grad.shape[-2:], strict=True))
        return separable(grad, rows.mT, columns.mT)


def separable(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Returns rows x columns^T of each map: (B, C, H, W), (H', H), (W', W) -> (B, C, H', W'), in x's memory layout."""
    if x.stride(1) != 1:
        return rows @ (x @ columns.mT)
    # Channels are innermost in memory: (B, H, W, C), which neither product copies.
    batch, channels, height, width = x.shape
    y = x.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
    y = torch.bmm(rows.expand(batch, -1, -1), y)
    y = y.view(batch * len(rows), width, channels)
    y = torch.bmm(columns.expand(len(y), -1, -1), y)
    return y.view(batch, len(rows), len(columns), channels).permute(0, 3, 1, 2)


def weights(few: int, many: int, like: Tensor) -> Tensor:
    """Returns the matrix that interpolates `few` pixels to `many`, (many, few), of a tensor's dtype and device."""
    # A tensor that belongs to a compiler, torch.func or FakeTensorMode must not outlive its context.
    keep = type(like) is Tensor and not torch.compiler.is_compiling() and not _transformed()
    build = _kept if keep else _built
    return build(few, many, like.dtype, like.device)


def _built(few: int, many: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Read off from PyTorch's forward pass, whose exact transpose the gradient then is: column i is the interpolation of
    # a map that is 1 at pixel i.
    with torch.no_grad():
        units = torch.eye(few, dtype=dtype, device=device)[None, :, :, None]  # channel i is the map of pixel i
        return _forward(units, (many, 1))[0, :, :, 0].mT.contiguous()


_kept = functools.cache(_built)


def _transformed() -> bool:
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def _without_autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    available = torch.amp.is_autocast_available(device.type)  # not on the meta device
    return torch.autocast(device.type, enabled=False) if available else contextlib.nullcontext()
