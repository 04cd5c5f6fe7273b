"""The folder of an unfinished run: its lock, checkpoints, log entries that wait for the store, and count of deaths."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import Timeout

from experiments.tracking.run_log import ARTIFACTS
from experiments.tracking.spool import SPOOL
from ran.engine import checkpoint
from ran.registry import Registry
from records.files import kernel_lock, writing

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
    lock = kernel_lock(folder / LOCK)
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


def begin_attempt(folder: Path, step: int, *, launch: str, again: bool) -> int:
    """Records that a process of a launch trains from `step`; returns how many died there in a row before.

    `again`: deaths in other launches do not count.
    """
    path = folder / ATTEMPT
    deaths = 0
    if path.exists() and (not again or died_in(folder, launch)):
        before = _attempt(folder)
        with contextlib.suppress(ValueError, TypeError):
            deaths = 1 + (int(before.get("deaths", 0)) if before.get("step") == step else 0)
    with writing(path):
        path.write_text(json.dumps({"step": step, "deaths": deaths, "launch": launch}))
    return deaths


def died_in(folder: Path, launch: str) -> bool:
    """Returns whether the last attempt was of this launch and did not end: its process died, or is this one."""
    return _attempt(folder).get("launch") == launch


def _attempt(folder: Path) -> dict[str, Any]:
    """The record of an attempt that did not end; a killed process can leave any content."""
    try:
        found = json.loads((folder / ATTEMPT).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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
