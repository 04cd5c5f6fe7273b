"""One training step over several processes: assignment of micro-batches, and reduction of their results.

BatchNorm and each backward pass work on `train.micro_batch` images. So N processes that share the micro-batches of a
step compute, up to rounding, the same as one process that computes them one after another.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ran.config import ConfigError
from ran.distributed.group import Processes

T = TypeVar("T")

_KNOWN = inspect.signature(DistributedDataParallel).parameters
# Buffers are not sent with each forward pass (torch 2.14 renamed the option), and the gradients of a bucket are copied
# into it at once (since 2.14), not one by one.
_OPTIONS: dict[str, Any] = {"forward_sync_buffers" if "forward_sync_buffers" in _KNOWN else "broadcast_buffers": False}
_OPTIONS |= {"batched_grad_copy": True} if "batched_grad_copy" in _KNOWN else {}


def check_sharing(batch_size: int, micro_batch: int | None, world: int, *, sync_batchnorm: bool = False) -> None:
    """Raises ConfigError if `world` processes cannot share a step equally; the message names a valid micro-batch."""
    micro = micro_batch or batch_size
    if world == 1 or (micro % world if sync_batchnorm else batch_size // micro % world) == 0:
        return
    problem = (
        f"--sync-batchnorm: {world} processes cannot split micro-batches of {micro}"
        if sync_batchnorm
        else f"{world} processes cannot share the {batch_size // micro} micro-batch(es) of {micro} in a batch of "
        f"{batch_size} equally"
    )
    sizes = [size for size in range(2, batch_size + 1) if batch_size % size == 0]
    fits = [size for size in sizes if (size % world if sync_batchnorm else batch_size // size % world) == 0]
    if not fits:
        raise ConfigError(f"{problem}, and no --train.micro_batch helps: start a number that divides {batch_size}")
    best = max((size for size in fits if size <= micro), default=fits[0])
    raise ConfigError(f"{problem}; --train.micro_batch {best} works (it is part of a run's identity)")


@dataclass(frozen=True)
class Share:
    """The images of a step that one process trains on."""

    positions: np.ndarray | None
    """positions in the batch; None = all"""
    size: int
    """number of images in one forward pass"""
    indices: tuple[int, ...]
    """index within the step of each micro-batch"""


def share_of(processes: Processes, batch_size: int, micro_batch: int) -> Share:
    """Returns the images of this process: every world-th micro-batch, or with SyncBatchNorm its part of each.

    Raises ConfigError as `check_sharing` does.
    """
    check_sharing(batch_size, micro_batch, processes.world, sync_batchnorm=processes.sync_batchnorm)
    batch = np.arange(batch_size).reshape(-1, micro_batch)
    rank, world = processes.rank, processes.world
    if processes.alone:
        return Share(None, micro_batch, tuple(range(len(batch))))
    if processes.sync_batchnorm:
        size = micro_batch // world
        return Share(batch[:, rank * size : (rank + 1) * size].reshape(-1), size, tuple(range(len(batch))))
    indices = range(rank, len(batch), world)
    return Share(batch[indices].reshape(-1), micro_batch, tuple(indices))


def assign_micro_batches(
    processes: Processes, network: nn.Module, forward: Any, window: Mapping[str, Tensor], share: Share
) -> tuple[Any, Callable[[Iterable[T]], Iterable[T]]]:
    """Returns what to call in place of `forward`, and what to iterate a step's micro-batches through.

    `forward` is `network`, or the same compiled. After the iteration each process has the gradients, log window and
    running statistics of the whole batch.
    """
    if processes.alone:
        return forward, lambda parts: parts
    step = _SharedStep(processes, network, forward, window, share)
    return step.network, step.assign


class _SharedStep:
    """Reduces log window and running statistics; DistributedDataParallel reduces the gradients.

    Operations cover all tensors at once (torch._foreach_*): one by one they are a thousand launches a step on a GPU.
    """

    def __init__(
        self, processes: Processes, network: nn.Module, forward: Any, window: Mapping[str, Tensor], share: Share
    ):
        self.processes, self.share = processes, share
        self.network = DistributedDataParallel(forward, process_group=processes.data, **_OPTIONS)
        self.network.register_comm_hook(processes.data, _sum)
        norms = [] if processes.sync_batchnorm else _norms(network)
        self.tracked = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
        self.window = list(window.values())
        self.running = [value for norm in norms for value in (norm.running_mean, norm.running_var)]
        # r <- (1 - m) r + m b, once for each of the step's M micro-batches b_0 .. b_M-1, is
        # r <- (1 - m)^M r + sum of (1 - m)^(M-1-i) m b_i. Here m b_i is what one pass leaves of a statistic that was 0.
        kept = [1 - norm.momentum for norm in norms for _ in range(2)]
        count = len(share.indices) * (1 if processes.sync_batchnorm else processes.world)
        self.old = [k**count for k in kept]
        self.weights = [[k ** (count - 1 - index) for k in kept] for index in share.indices]
        self.others = count - len(share.indices)
        self.rehearsed = False

    def assign(self, parts: Iterable[T]) -> Iterator[T]:
        """Yields the micro-batches of this process; the backward pass of the last one reduces the gradients."""
        parts = list(parts)
        if not self.rehearsed:
            yield from self._rehearse(parts[0])
        totals = list(torch._foreach_mul(self.running, self.old)) if self.running else []
        if not self.processes.leads:  # the value before the step counts once
            _zero([*totals, *self.window])
        _zero(self.running)
        for i, part in enumerate(parts):
            last = i == len(self.share.indices) - 1
            with contextlib.nullcontext() if last else self.network.no_sync():
                yield part
            if totals:
                torch._foreach_mul_(self.running, self.weights[i])
                torch._foreach_add_(totals, self.running)
                _zero(self.running)
        tensors = [*self.window, *totals]
        flat = torch.cat([value.reshape(-1) for value in tensors])
        self.processes.all_reduce(flat)
        found = flat.split([value.numel() for value in tensors])
        kept = [*self.window, *self.running]
        torch._foreach_copy_(kept, [total.view_as(value) for value, total in zip(kept, found, strict=True)])
        if self.tracked:
            torch._foreach_add_(self.tracked, self.others)

    def _rehearse(self, part: T) -> Iterator[T]:
        """Yields a micro-batch whose results are discarded.

        DistributedDataParallel puts the gradients in another order after the first backward pass, and the order decides
        how a sum over three processes or more is rounded. Without this, the first step after a resume would differ.
        """
        state = [*self.window, *self.network.buffers()]
        kept = [value.clone() for value in state]
        yield part
        self.network.zero_grad()
        torch._foreach_copy_(state, kept)
        self.rehearsed = True


def _zero(tensors: list[Tensor]) -> None:
    if tensors:
        torch._foreach_zero_(tensors)


def _norms(network: nn.Module) -> list[Any]:
    """Returns the BatchNorms with running statistics. Raises ConfigError for one without a momentum."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if any(norm.momentum is None for norm in norms):
        raise ConfigError("a BatchNorm with momentum=None cannot be trained by several processes: give it a number")
    return norms


def _sum(group: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Sums the gradients instead of torch's mean, because each loss is already divided by the whole batch's size."""
    work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
    return work.get_future().then(lambda future: future.value()[0])
