"""The folder of an unfinished run: its lock, checkpoints, log entries that wait for the store, and count of deaths."""

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
"""number of processes that may die in a row without a step of progress before the run counts as failed"""

KEEP: Registry[int | None] = Registry("way to keep checkpoints (--keep)")
"""number of checkpoints kept while a run trains; None = all"""
KEEP.register("final")(checkpoint.KEEP)  # none after it finishes: its final weights are in the store
KEEP.register("last")(checkpoint.KEEP)
KEEP.register("all")(None)
KEEP.register("none")(checkpoint.KEEP)  # not even weights in the store: points, parameters and tags only


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool | None]:
    """Holds the lock of a run's folder. Yields True if this process has it, False if another has, None if unknown.

    The kernel releases the lock of a process that dies, so a dead owner never blocks a run. Some network file systems
    have no locks: None, and the lease in the tracking store decides alone.
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
    """Records that a process trains from `step`; returns how many died there in a row before, 0 with `again`."""
    path = folder / ATTEMPT
    deaths = 0
    if path.exists() and not again:
        deaths = 1
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # a killed process can leave any content
            before = json.loads(path.read_bytes())
            deaths += int(before["deaths"]) if before["step"] == step else 0
    with writing(path):
        path.write_text(json.dumps({"step": step, "deaths": deaths}))
    return deaths


def end_attempt(folder: Path) -> None:
    """Records that the process did not die."""
    with contextlib.suppress(OSError):
        (folder / ATTEMPT).unlink(missing_ok=True)


def tidy(folder: Path, keep: str) -> None:
    """Removes what a finished run does not need: the whole folder, or all but its checkpoints."""
    if keep in ("final", "none"):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        discard(folder)
        with contextlib.suppress(OSError):
            (folder / KEPT).touch()


def is_kept(folder: Path) -> bool:
    """Returns whether --keep says that the checkpoints of a finished run stay."""
    return (folder / KEPT).exists()


def set_aside(folder: Path) -> None:
    """Renames the log entries that the store refused, so that they are not offered again."""
    with contextlib.suppress(OSError):
        (folder / SPOOL).replace(folder / REFUSED)


def discard(folder: Path) -> None:
    """Removes the log entries and artifacts that wait for the store."""
    shutil.rmtree(folder / ARTIFACTS, ignore_errors=True)
    with contextlib.suppress(OSError):
        (folder / SPOOL).unlink(missing_ok=True)
