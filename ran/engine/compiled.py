"""Compilation of a run's network (train.compile)."""

from collections.abc import Callable
from typing import Any

from torch import nn


def compiled(network: nn.Module, backend: str | Callable[..., Any] = "inductor") -> Callable[..., Any]:
    """Returns the network as a function that is compiled at its first call, whatever was compiled before.

    Dynamo keeps a few compilations of one piece of code, and from the next network on would run the code as it is, with
    a warning: it forgets the earlier networks here, and where it gives up, the call raises.
    """
    import torch._dynamo.config  # takes two seconds
    import torch._inductor.config

    torch._dynamo.reset()
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    if hasattr(torch._inductor.config, "deterministic"):  # torch 2.10
        torch._inductor.config.deterministic = True  # kernels are not chosen by their time
    return torch.compile(network, backend=backend)
