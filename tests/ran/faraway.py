"""The meta device in place of a GPU: what is computed there, what is sent to it, and what is fetched from it."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FAR = torch.device("meta")
COPIES = {"_to_copy", "copy_"}


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
