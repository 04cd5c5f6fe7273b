"""The meta device in place of a GPU: what is computed there, what is sent to it, and what is fetched from it."""

import contextlib

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

FAR = torch.device("meta")
COPIES = {"_to_copy", "copy_"}


LOWER = {torch.conv2d, torch.conv1d, F.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm}
FLOAT32 = {torch.ops.aten.upsample_bilinear2d.vec, torch.sum, Tensor.sum, F.normalize}
WIDEST = {torch.addcmul, torch.cat}
FLOATS = (torch.float32, torch.bfloat16)


class AutocastToBf16(TorchFunctionMode):
    """In the block, casts the inputs of operations as autocast to bfloat16 does on CUDA; the meta device has none.

    It knows the operations of the networks here. `as_on_cuda` has the real one, on a device that is faked.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        floats = [x.dtype for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor) and x.dtype in FLOATS]
        if func in LOWER:
            dtype = torch.bfloat16
        elif func in FLOAT32 or (func in WIDEST and torch.float32 in floats):
            dtype = torch.float32
        else:
            return func(*args, **kwargs)

        def cast(x):
            return x.to(dtype) if isinstance(x, Tensor) and x.dtype in FLOATS else x

        return func(*tree_map(cast, args), **tree_map(cast, kwargs))


@contextlib.contextmanager
def as_on_cuda():
    """Autocast to bfloat16 of CUDA in the block: torch.autocast switches itself off where there is no GPU."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])


class FarAway(TorchDispatchMode):
    """In the block, refuses operations that mix the CPU with the meta device; counts copies between the two.

    A GPU waits at each `fetched`, and may wait at each `sent`. Fetched values are made up: 1, and False of booleans.
    """

    def __init__(self):
        super().__init__()
        self.sent = self.fetched = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.name().partition("::")[2].partition(".")[0]
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        far, near = [x for x in tensors if x.is_meta], [x for x in tensors if not x.is_meta]
        if name == "_local_scalar_dense" and far:
            self.fetched += 1
            return {torch.bool: False, torch.int64: 1}.get(far[0].dtype, 1.0)
        if name == "_to_copy" and far and kwargs.get("device", FAR).type != "meta":
            self.fetched += 1
            return torch.ones(far[0].shape, dtype=kwargs.get("dtype", far[0].dtype))
        if name in COPIES and near and (far or kwargs.get("device") == FAR):
            self.sent += 1
        elif far and any(x.dim() for x in near):  # a number may lie on the CPU
            raise AssertionError(f"{name}: tensors of the CPU among those of the GPU")
        if name == "_fused_sgd_":  # has no meta kernel, and works in place
            return None
        return func(*args, **kwargs)
