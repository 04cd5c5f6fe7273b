"""Which launches of a search are alive: each holds a lock and a lease of its own, as a run in training does."""

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from experiments.runner.run_dir import locked
from experiments.tracking.errors import TrackingError
from experiments.tracking.leases import Leases

PREFIX = "searcher"


@contextlib.contextmanager
def living(checkpoints: Path, leases: Leases) -> Iterator[str]:
    """Marks this launch as alive during the block; yields its name, which is new each time."""
    name = f"{PREFIX}-{uuid.uuid4().hex[:16]}"
    folder = checkpoints / name
    try:
        with locked(folder), leases.acquire(name, alone=False):
            yield name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_dead(name: str, checkpoints: Path, leases: Leases) -> bool:
    """Returns whether the launch of this name has died: at once if it ran here, else when its lease has expired.

    While the tracking store does not answer, a dead launch cannot be told from a silent one, and none counts as dead.
    """
    folder = checkpoints / name
    with locked(folder) as alone:
        if alone is False:
            return False
        with leases.acquire(name, alone=alone is True) as other:
            dead = other is None and _confirmed(name, leases)
    shutil.rmtree(folder, ignore_errors=True)
    return dead


def _confirmed(name: str, leases: Leases) -> bool:
    """Whether the store has a lease of ours: `acquire` lets a process go on without one."""
    try:
        leases.confirm(name)
    except TrackingError:
        return False
    return True
