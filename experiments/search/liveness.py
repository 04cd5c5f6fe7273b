"""Which launches of a search live: each holds a lock and a claim of its own, as a run in training does."""

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from experiments.runner.run_dir import locked
from experiments.tracking.leases import Leases

PREFIX = "searcher"


@contextlib.contextmanager
def living(checkpoints: Path, claims: Leases) -> Iterator[str]:
    """Makes this launch known as alive for the time of the block; yields its name, a new one each time."""
    name = f"{PREFIX}-{uuid.uuid4().hex[:16]}"
    folder = checkpoints / name
    try:
        with locked(folder), claims.acquire(name, alone=False):
            yield name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_dead(name: str, checkpoints: Path, claims: Leases) -> bool:
    """Whether a launch that called itself so has died: at once if it did here, elsewhere when its lease has run out.

    The tracking store must answer; while it is away nobody's death can be told from silence.
    """
    folder = checkpoints / name
    with locked(folder) as alone:
        if alone is False:
            return False
        with claims.acquire(name, alone=alone is True) as other:
            dead = other is None
    shutil.rmtree(folder, ignore_errors=True)
    return dead
