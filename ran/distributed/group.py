"""Communication between the processes that train one run together.

There are two groups. Control: small messages on the default group (gloo, with a long timeout, because the first process
may plan, ask or write for hours while the others wait). Data: gradients, statistics and logits, on a group for one run
(nccl on GPUs), so that pending messages of a failed run cannot reach the next.

What only one process does, and may fail at, between two collective calls on data (writing a checkpoint, opening a data
set) is therefore followed by `sync_stop`, which tells all processes whether to go on.
"""

import contextlib
import datetime
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ran.data.image_folder.reader import Stack
from records.errors import one_line

ABORT_SECONDS = 30.0
"""how long `abort` waits for the other processes to receive the message"""
GO_ON, STOP, FAILED = range(3)


class AbandonedError(RuntimeError):
    """A process cannot go on with this run and has told the others; the message is its reason."""


class LostError(RuntimeError):
    """A process died or hangs, so the group can no longer be used."""


@dataclass(frozen=True)
class Processes:
    """The processes that train a run. The default is a single process, which communicates with nobody."""

    rank: int = 0
    """number of this process; process 0 leads: it alone prints, logs, reads and writes"""
    world: int = 1
    """number of processes"""
    data: Any = None
    """torch's process group for tensors on the run's device"""
    sync_batchnorm: bool = False
    """whether each micro-batch is split among all, instead of the micro-batches of a step"""

    @property
    def alone(self) -> bool:
        return self.world == 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def sync_stop(self, stop: bool = False) -> bool:
        """Returns whether any process asks to stop. A collective call on the control group.

        Raises AbandonedError if a process aborted, LostError if one died.
        """
        return not self.alone and self._exchange(STOP if stop else GO_ON, "", None)

    def synced_stop(self, stop: Callable[[], bool]) -> Callable[[], bool]:
        """Returns `stop` as a collective call, true in all if it is in any; all must make it equally often.

        Raises as `sync_stop` does.
        """
        return stop if self.alone else lambda: self.sync_stop(stop())

    def abort(self, reason: str) -> None:
        """Tells the others that this process cannot go on: each raises AbandonedError at its next `sync_stop`.

        Raises LostError if they do not receive it, because they wait for tensors that will never arrive.
        """
        if not self.alone:
            with contextlib.suppress(AbandonedError):
                self._exchange(FAILED, reason, datetime.timedelta(seconds=ABORT_SECONDS))

    def share(self, value: Any) -> Any:
        """Returns the first process's `value`."""
        if self.alone:
            return value
        box = [value]
        with _watched():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def broadcast_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Overwrites the tensors in place with the first process's values."""
        with _watched():
            for tensor in () if self.alone else tensors:
                sent = tensor.detach().contiguous()  # torch sends contiguous tensors only
                dist.broadcast(sent, group=self.data, group_src=0)
                tensor.detach().copy_(sent)

    def all_reduce(self, tensor: Tensor) -> None:
        """Replaces `tensor` by the sum over the processes, bit-identical in each."""
        if not self.alone:
            with _watched():
                dist.all_reduce(tensor, group=self.data)

    def shard(self, items: Stack, rank: int | None = None) -> Stack:
        """Returns a process's share of items (N, ...), one more for the first processes; never less than one item."""
        if self.alone:
            return items
        rank = self.rank if rank is None else rank
        each, more = divmod(len(items), self.world)
        start = rank * each + min(rank, more)
        found = items[start : start + each + (rank < more)]
        return found if len(found) else items[:1]

    def gather(self, mine: Tensor, count: int) -> Tensor:
        """Returns the results of all shards of `count` items, (count, ...), in the items' order."""
        if self.alone:
            return mine
        sizes = [count // self.world + (rank < count % self.world) for rank in range(self.world)]
        padded = mine.new_zeros(sizes[0], *mine.shape[1:])
        padded[: len(mine)] = mine
        found = [torch.empty_like(padded) for _ in sizes]
        with _watched():
            dist.all_gather(found, padded, group=self.data)
        return torch.cat([part[:size] for part, size in zip(found, sizes, strict=True)])

    def _exchange(self, code: int, reason: str, timeout: datetime.timedelta | None) -> bool:
        highest = torch.tensor(code)
        with _watched():
            work = dist.all_reduce(highest, dist.ReduceOp.MAX, async_op=True)
            work.wait() if timeout is None else work.wait(timeout)
            if highest < FAILED:
                return bool(highest == STOP)
            reasons: list[str] = [""] * self.world
            dist.all_gather_object(reasons, reason)
        raise AbandonedError(next(f"process {rank}: {text}" for rank, text in enumerate(reasons) if text))


ALONE = Processes()
_lost: list[str] = []
"""why the group can no longer be used; global, as torch's default group is"""
_in_flight: list[str] = []
"""errors that ended runs between two collective calls"""


def current() -> Processes:
    """Returns the processes of torch's default group, without a group for data; ALONE without one."""
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    return Processes(rank=dist.get_rank(), world=dist.get_world_size())


@contextlib.contextmanager
def data_group(device: torch.device, *, sync_batchnorm: bool = False) -> Iterator[Processes]:
    """Yields the current processes with a group for the data of one run on this type of device.

    A collective call: raises AbandonedError if a process aborted.
    """
    group = current()
    group.sync_stop()
    with _watched():
        data = dist.new_group(backend="nccl" if device.type == "cuda" else "gloo")
    try:
        yield replace(group, data=data, sync_batchnorm=sync_batchnorm)
    except BaseException as error:
        # Messages may still be pending, and closing the group would wait for them.
        (_in_flight if isinstance(error, Exception) else _lost).append(repr(error))
        raise
    dist.destroy_process_group(data)


@contextlib.contextmanager
def abort_on_error(group: Processes) -> Iterator[None]:
    """Tells the other processes of an exception in the block, and waits for theirs at its end.

    Raises AbandonedError for an exception in another process, and LostError if the others cannot be told of this one's.
    """
    try:
        yield
        group.sync_stop()
    except (AbandonedError, LostError):
        raise
    except Exception as error:
        try:
            group.abort(one_line(error))
        except LostError as lost:
            raise (lost if is_lost(error) else LostError(f"{one_line(error)}, while the others went on")) from error
        raise


def is_lost(error: BaseException) -> bool:
    """Returns whether an exception means that a process of the group died."""
    text = str(error)  # gloo raises plain RuntimeErrors
    return isinstance(error, (LostError, dist.DistError)) or any(
        sign in text for sign in ("gloo", "Connection closed by peer", "NCCL")
    )


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    try:
        yield
    except AbandonedError:
        raise
    except RuntimeError as error:
        _lost.append(str(error))
        raise LostError(f"a process of this run died or hangs ({str(error).splitlines()[0]})") from error


def is_whole() -> bool:
    """Returns whether the group can still be used."""
    return not _lost


def leave(status: int) -> None:
    """Leaves the group; ends the process if torch would wait for ever."""
    if _lost or _in_flight:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    dist.destroy_process_group()
