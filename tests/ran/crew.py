"""Processes that are started once and do what tests ask of them, in gloo groups of any size up to their number.

What is asked is a function of a test's module, called with the member's `Processes` first. A member that raises answers
with the exception; one that dies, or does not answer in time, with None. The time begins when all have understood what
they are asked: before that they import, which takes a busy machine longer than any task.
"""

import datetime
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ran.distributed import group as talk
from ran.distributed.group import Processes
from ran.models.zoo import NETWORKS

IMPORT_SECONDS = 300.0
CONTEXT = multiprocessing.get_context("spawn")


def _serve(connection: Any) -> None:
    torch.set_num_threads(1)
    while True:
        function, rank, world, store, NETWORKS._entries["tiny"], arguments = connection.recv()
        connection.send("understood")
        dist.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=world,
            timeout=datetime.timedelta(seconds=IMPORT_SECONDS),
        )
        try:
            data = dist.new_group(timeout=datetime.timedelta(seconds=20))
            answer = function(Processes(rank, world, data), *arguments)
        except Exception as error:
            answer = error
        connection.send((answer, bool(talk._lost)))
        talk.leave(0)


class Crew:
    """`crew(world, function, *arguments)` returns the answers by rank."""

    def __init__(self, size: int, folder: Path):
        self.folder, self.tasks = folder, 0
        self.members = [self._hire() for _ in range(size)]

    def _hire(self) -> tuple[Any, Any]:
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(target=_serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def __call__(self, world: int, function: Callable[..., Any], *arguments: Any, seconds: float = 60.0) -> list[Any]:
        self.tasks += 1
        store = self.folder / f"store-{self.tasks}"
        for rank in range(world):
            self.members[rank][1].send((function, rank, world, str(store), NETWORKS["tiny"], arguments))
        for rank in range(world):
            self._heard(rank, IMPORT_SECONDS)
        answers = [self._heard(rank, seconds) or (None, True) for rank in range(world)]
        for rank, (_, leaves) in enumerate(answers):
            if leaves:
                self._fire(rank)
                self.members[rank] = self._hire()
        return [answer for answer, _ in answers]

    def _heard(self, rank: int, seconds: float) -> Any:
        """What a member says next; None if it says nothing for so long, or is dead."""
        try:
            return self.members[rank][1].recv() if self.members[rank][1].poll(seconds) else None
        except (EOFError, OSError):
            return None

    def _fire(self, rank: int) -> None:
        self.members[rank][0].kill()
        self.members[rank][0].join()

    def dismiss(self) -> None:
        for rank in range(len(self.members)):
            self._fire(rank)
