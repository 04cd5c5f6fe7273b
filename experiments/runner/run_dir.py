"""The folder of an unfinished run: its lock, its checkpoints, what waits for the store, and how often it died."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.tracking.run_log import ARTIFACTS
from experiments.tracking.spool import SPOOL
from ran.engine import checkpoint
from ran.registry import Registry
from records.files import writing

ATTEMPT = "attempt.json"
LOCK = "lock"
KEPT = "kept"
REFUSED = "spool.refused"
MAX_DEATHS = 3
"""processes in a row that died in a run without a step of progress, after which it counts as failed"""

KEEP: Registry[int | None] = Registry("way to keep checkpoints (--keep)")
"""how many checkpoints stay while a run trains; None = all"""
KEEP.register("final")(checkpoint.KEEP)  # and none when it is done: its final weights are in the store
KEEP.register("last")(checkpoint.KEEP)
KEEP.register("all")(None)
KEEP.register("none")(checkpoint.KEEP)  # not even weights in the store: points, parameters and tags only


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool | None]:
    """Holds the lock of a run's folder; True = alone, False = another process of this machine has it, None = unknown.

    The kernel releases the lock of a process that dies, so a dead owner never blocks a run. Some network file systems
    have no locks: None, and the claim in the tracking store decides alone.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except (NotImplementedError, OSError):
        yield None
        return
    try:
        yield True
    finally:
        lock.release()


def begin_attempt(folder: Path, step: int, *, again: bool) -> int:
    """Notes that a process trains from `step`; returns how many in a row died there before, 0 with `again`."""
    path = folder / ATTEMPT
    deaths = 0
    if path.exists() and not again:
        deaths = 1
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # as garbled as a death can leave it
            before = json.loads(path.read_bytes())
            deaths += int(before["deaths"]) if before["step"] == step else 0
    with writing(path):
        path.write_text(json.dumps({"step": step, "deaths": deaths}))
    return deaths


def end_attempt(folder: Path) -> None:
    """Notes that the process did not die."""
    with contextlib.suppress(OSError):
        (folder / ATTEMPT).unlink(missing_ok=True)


def tidy(folder: Path, keep: str) -> None:
    """Removes what a run that is done does not need: all of it, or all but its checkpoints."""
    if keep in ("final", "none"):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        discard(folder)
        with contextlib.suppress(OSError):
            (folder / KEPT).touch()


def is_kept(folder: Path) -> bool:
    """Whether the checkpoints of a run that is done stay, because --keep said so."""
    return (folder / KEPT).exists()


def set_aside(folder: Path) -> None:
    """Keeps, under another name, what the store refused: nobody offers it again."""
    with contextlib.suppress(OSError):
        (folder / SPOOL).replace(folder / REFUSED)


def discard(folder: Path) -> None:
    """Removes what waits for the store."""
    shutil.rmtree(folder / ARTIFACTS, ignore_errors=True)
    with contextlib.suppress(OSError):
        (folder / SPOOL).unlink(missing_ok=True)
