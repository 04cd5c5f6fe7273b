"""The networks' operations besides convolutions, each in few passes over memory.

With channels_last our own kernels replace PyTorch's operations: on the CPU those of channels_last.cpp, unless `using`
selects otherwise, and on CUDA those of channels_last_triton.py, only if `using` selects them, because they were never
measured. On other devices and layouts, and with hooks, torch.compile, torch.export or functional transforms, PyTorch's
operations are used. The two agree up to rounding; `using` selects between them, as a run's `train.kernels` does.
"""

import contextlib
import functools
import os
from collections.abc import Iterator
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as module_hooks

from ran.kernels.build import OFF, library

_fused: ContextVar[bool | None] = ContextVar("fused", default=None)
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


@contextlib.contextmanager
def using(fused: bool | None) -> Iterator[None]:
    """In the block modules use our own kernels if possible, or only PyTorch's operations.

    None is the default: our own kernels on the CPU, PyTorch's operations on CUDA.
    """
    token = _fused.set(fused)
    try:
        yield
    finally:
        _fused.reset(token)


def fused() -> bool | None:
    """Returns what `using` selected."""
    return _fused.get()


@functools.cache
def why_no_triton() -> str:
    """Returns why the kernels for CUDA cannot be used on any GPU of this machine, one line; "" if they can."""
    if os.environ.get(OFF) == "0":
        return f"{OFF}=0"
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return f"on CUDA they need triton: pip install triton ({error})"
    return ""


def norm_relu(norm: nn.Module, x: Tensor) -> Tensor:
    """Returns relu(norm(x)), (B, C, H, W) -> the same, and updates the running statistics as `norm` does."""
    return norm_relu_and_input(norm, x)[0]


def norm_relu_and_input(norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns relu(norm(x)) and x; the backward pass adds the gradients of both in one pass.

    For a pre-activation unit, whose input goes to the first norm and to the shortcut.
    """
    if isinstance(norm, nn.BatchNorm2d) and _applies(norm, x):
        if norm.training:
            assert norm.num_batches_tracked is not None  # `_applies` has checked it
            norm.num_batches_tracked.add_(1)
            return _TrainNormReLU.apply(x, norm.weight, norm.bias, norm)
        if not torch.is_grad_enabled():
            return _infer_norm_relu(norm, x), x
    # A tensor wrapped by a backward hook must not be replaced.
    return F.relu(norm(x), inplace=not (norm._backward_hooks or norm._backward_pre_hooks)), x


class NormReLUSequential(nn.Sequential):
    """nn.Sequential that computes a BatchNorm and the ReLU after it together."""

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self)
        while layers:
            layer = layers.pop(0)
            if layers and isinstance(layer, nn.BatchNorm2d) and type(layers[0]) is nn.ReLU:
                x = norm_relu(layer, x)
                layers.pop(0)
            else:
                x = layer(x)
        return x


def _applies(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    """Returns whether the kernels support this call, and no hook depends on calling the module."""
    return (
        type(norm) is nn.BatchNorm2d
        and type(x) is Tensor
        and _selected(x)
        and x.dtype in _DTYPES
        and x.dim() == 4
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.shape[1] == norm.num_features
        and x.numel() > norm.num_features  # one value a channel has no variance: PyTorch says so
        and norm.momentum is not None
        and norm.running_mean is not None
        and _plain(x.device, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        and not (norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks or norm._backward_pre_hooks)
        and not (module_hooks._global_forward_hooks or module_hooks._global_forward_pre_hooks)
        and _undisturbed(x)
    )


def _on_cuda(x: Tensor) -> bool:
    return x.device.type == "cuda"


def _selected(x: Tensor) -> bool:
    """Returns whether `using` selects our kernels on the device of a tensor."""
    if _on_cuda(x):
        return _fused.get() is True
    return x.device.type == "cpu" and _fused.get() is not False


def _undisturbed(x: Tensor) -> bool:
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    return os.environ.get(OFF) != "0" if _on_cuda(x) else library() is not None


def _plain(device: torch.device, *tensors: Any) -> bool:
    return all(t is not None and t.dtype == torch.float32 and t.device == device for t in tensors)


def _triton() -> ModuleType:
    """Returns the kernels for CUDA. Raises ImportError without triton."""
    from ran.kernels import channels_last_triton

    return channels_last_triton


def _call(name: str, dtype: torch.dtype, *arguments: Any) -> None:
    pointers = [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]
    if getattr(library(), f"{name}_{_DTYPES[dtype]}")(*pointers):
        raise MemoryError(f"{name}: out of memory")


def _infer_norm_relu(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    if _on_cuda(x):
        return _triton().infer(x, norm)
    y = torch.empty_like(x)
    channels = x.shape[1]
    _call(
        *("infer", x.dtype, x, y, norm.weight, norm.bias, norm.running_mean, norm.running_var),
        *(x.numel() // channels, channels, norm.eps),
    )
    return y


class _TrainNormReLU(torch.autograd.Function):
    """Saves x, the batch's mean and 1/std for the backward pass; y is not needed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> Any:
        y, statistics = (_triton().forward if _on_cuda(x) else _forward)(x, weight, bias, norm)
        ctx.save_for_backward(x, weight, bias, statistics)
        ctx.eps = norm.eps
        ctx.set_materialize_grads(False)
        return y, x

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, passed: Tensor | None) -> Any:
        x, weight, bias, statistics = ctx.saved_tensors
        if grad is None:
            return passed, None, None, None
        if torch.is_grad_enabled():  # create_graph: the gradients are to be differentiated, too
            return *_differentiable(ctx, grad, passed), None
        grad, passed = _like(grad, x), None if passed is None else _like(passed, x)
        return *(_triton().backward if _on_cuda(x) else _backward)(grad, passed, x, weight, bias, statistics), None


def _forward(x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Returns y, and the batch's mean and 1/std, (2, C)."""
    y = torch.empty_like(x)
    channels = x.shape[1]
    statistics = torch.empty(2, channels)
    _call(
        *("forward", x.dtype, x, y, weight, bias, norm.running_mean, norm.running_var, statistics),
        *(x.numel() // channels, channels, norm.momentum, norm.eps),
    )
    return y, statistics


def _backward(
    grad: Tensor, passed: Tensor | None, x: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of x, weight and bias."""
    dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
    channels = x.shape[1]
    _call(
        *("backward", x.dtype, grad, 0 if passed is None else passed, x, weight, bias),
        *(statistics, dx, dweight, dbias, x.numel() // channels, channels),
    )
    return dx, dweight, dbias


def _differentiable(ctx: Any, grad: Tensor, passed: Tensor | None) -> tuple[Tensor | None, ...]:
    """The gradients of x, weight and bias, by PyTorch's operations."""
    x, weight, bias, _ = ctx.saved_tensors
    y = F.relu(F.batch_norm(x, None, None, weight, bias, training=True, eps=ctx.eps))
    needed = [tensor for tensor, needs in zip((x, weight, bias), ctx.needs_input_grad, strict=False) if needs]
    found = iter(torch.autograd.grad(y, needed, grad, create_graph=True))
    dx, dweight, dbias = (next(found) if needs else None for needs in ctx.needs_input_grad[:3])
    return dx if dx is None or passed is None else dx + passed, dweight, dbias


def _like(grad: Tensor, x: Tensor) -> Tensor:
    return grad.to(x.dtype).contiguous(memory_format=torch.channels_last)


def residual_attention(trunk: Tensor, mask: Tensor) -> Tensor:
    """Returns (1 + mask) * trunk, two tensors of one shape or of shapes that broadcast."""
    real = isinstance(trunk, Tensor)  # not a proxy of torch.fx
    if real and trunk.shape == mask.shape and _selected(trunk) and _undisturbed(trunk):
        return _ResidualAttention.apply(trunk, mask)
    return torch.addcmul(trunk, trunk, mask)


class _ResidualAttention(torch.autograd.Function):
    """addcmul's own backward pass computes two gradients of the trunk and adds them: twice the memory traffic."""

    @staticmethod
    def forward(ctx: Any, trunk: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(trunk, mask)
        return torch.addcmul(trunk, trunk, mask)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        trunk, mask = ctx.saved_tensors
        return torch.addcmul(grad, grad, mask), grad * trunk
