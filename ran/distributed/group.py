"""The processes that train one run together, and what they say to each other.

Two kinds of traffic, on two groups. Control: small messages on the default group, which is gloo and has patience, since
the first process may plan, ask or write for hours while the others wait. Data: gradients, statistics and logits, on
a group that belongs to one run (nccl on GPUs), so that what a failed run left in flight cannot reach the next.

Whatever one process alone may do or suffer between two exchanges of data (write a checkpoint, find no data set)
therefore comes before an `sync_stop`, in which all learn whether to go on.
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
"""how long a process that cannot go on waits for the others to hear of it"""
GO_ON, STOP, FAILED = range(3)


class AbandonedError(RuntimeError):
    """One of the processes could not go on with this run, and all know it; the message is its reason."""


class LostError(RuntimeError):
    """A process died, or hangs where no message reaches it: the group is of no more use."""


@dataclass(frozen=True)
class Processes:
    """Those that train a run. The default is one process, which exchanges nothing and does no more than it did."""

    rank: int = 0
    """this process among them; 0 leads: it alone prints, logs, reads and writes"""
    world: int = 1
    """their number"""
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
        """Returns whether any process asks to stop. Waits for all.

        Raises AbandonedError if one gave up, LostError if one died.
        """
        return not self.alone and self._exchange(STOP if stop else GO_ON, "", None)

    def synced_stop(self, stop: Callable[[], bool]) -> Callable[[], bool]:
        """Returns `stop` as a collective call, true in all if it is in any; all must make it equally often.

        Raises as `sync_stop` does.
        """
        return stop if self.alone else lambda: self.sync_stop(stop())

    def abort(self, reason: str) -> None:
        """Tells the others that this process cannot go on: each raises AbandonedError at its next `sync_stop`.

        Raises LostError if they do not hear of it: they wait for tensors that will not come.
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
        """Writes the first process's values over everyone's, in place."""
        with _watched():
            for tensor in () if self.alone else tensors:
                sent = tensor.detach().contiguous()  # torch sends no other layout
                dist.broadcast(sent, group=self.data, group_src=0)
                tensor.detach().copy_(sent)

    def all_reduce(self, tensor: Tensor) -> None:
        """Makes `tensor` the sum over the processes, in place; the same bits in each."""
        if not self.alone:
            with _watched():
                dist.all_reduce(tensor, group=self.data)

    def shard(self, items: Stack, rank: int | None = None) -> Stack:
        """Returns the items (N, ...) that fall to a process, one more to the first ones; the first item if none do."""
        if self.alone:
            return items
        rank = self.rank if rank is None else rank
        each, more = divmod(len(items), self.world)
        start = rank * each + min(rank, more)
        found = items[start : start + each + (rank < more)]
        return found if len(found) else items[:1]

    def gather(self, mine: Tensor, count: int) -> Tensor:
        """Returns what all made of their parts of `count` items, (count, ...), in the items' order."""
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
"""why the group is of no more use; of the whole process, as torch's default group is"""
_in_flight: list[str] = []
"""what ended runs between two exchanges"""


def current() -> Processes:
    """Returns the processes that this one belongs to, without a group for data; ALONE where it belongs to none."""
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    return Processes(rank=dist.get_rank(), world=dist.get_world_size())


@contextlib.contextmanager
def data_group(device: torch.device, *, sync_batchnorm: bool = False) -> Iterator[Processes]:
    """Yields the current processes with a group for the data of one run on devices of a kind.

    All must be ready: raises AbandonedError if one gave up.
    """
    group = current()
    group.sync_stop()
    with _watched():
        data = dist.new_group(backend="nccl" if device.type == "cuda" else "gloo")
    try:
        yield replace(group, data=data, sync_batchnorm=sync_batchnorm)
    except BaseException as error:
        # Something of it may still be under way, and to close the group would be to wait for that.
        (_in_flight if isinstance(error, Exception) else _lost).append(repr(error))
        raise
    dist.destroy_process_group(data)


@contextlib.contextmanager
def abort_on_error(group: Processes) -> Iterator[None]:
    """Tells the others of an exception in the block, its end of those in the others' blocks.

    Raises AbandonedError for theirs, and LostError, from the exception, where the others cannot be told.
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
            raise lost if is_lost(error) else LostError(f"{one_line(error)}, where the others went on") from error
        raise


def is_lost(error: BaseException) -> bool:
    """Returns whether an exception comes from a group one of whose processes died."""
    text = str(error)  # gloo's are plain RuntimeErrors
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
    """Leaves the group; ends the process instead where torch would wait for what will never come."""
    if _lost or _in_flight:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    dist.destroy_process_group()
