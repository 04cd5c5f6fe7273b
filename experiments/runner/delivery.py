"""What runs could not tell the tracking store while it was away, delivered later."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from experiments.console.signals import pause
from experiments.runner.remote_checkpoints import Mirror
from experiments.runner.run_dir import REFUSED, locked, set_aside, tidy
from experiments.tracking.errors import Superseded, TrackingError
from experiments.tracking.run_log import RunLog
from experiments.tracking.spool import SPOOL, SpoolError
from experiments.tracking.store import Store
from records.files import WriteError

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5.0


@dataclass(frozen=True)
class Delivery:
    """What became of the logs that waited."""

    delivered: tuple[Path, ...] = ()
    """folders of runs of which the store has everything now"""
    waiting: tuple[Path, ...] = ()
    """of those that still wait for this store"""


def deliver(store: Store, checkpoints: Path, keep: str, mirror: Mirror | None = None) -> Delivery:
    """Delivers what waits under `checkpoints`, of whatever study. A run that another process trains is left to it."""
    delivered: list[Path] = []
    waiting: list[Path] = []
    for spool in sorted(checkpoints.glob(f"*/{SPOOL}")):
        folder = spool.parent
        with locked(folder) as alone:
            if alone is False:
                continue
            try:
                log = RunLog.waiting(store, folder)
                over = log.is_result
                (delivered if log.flush() else waiting).append(folder)
            except Superseded as error:
                logger.warning("%s; what waited in %s is dropped", error, folder)
                tidy(folder, keep)
            except (SpoolError, WriteError) as error:
                logger.warning("%s", error)
            except TrackingError as error:
                logger.warning("%s; what waited in %s is kept as %s", error, folder, REFUSED)
                set_aside(folder)
            else:
                if over and folder in delivered:
                    tidy(folder, keep)
            if mirror is not None:
                mirror.push(folder.name)
    return Delivery(tuple(delivered), tuple(waiting))


def deliver_patiently(
    store: Store, checkpoints: Path, keep: str, mirror: Mirror | None, *, seconds: float, stop: Callable[[], bool]
) -> Delivery:  # fmt: skip
    """Delivers what waits, trying again for `seconds` or until `stop()`."""
    end = time.monotonic() + seconds
    delivered: list[Path] = []
    while True:
        found = deliver(store, checkpoints, keep, mirror)
        delivered += found.delivered
        if not found.waiting or stop() or time.monotonic() + RETRY_SECONDS > end:
            return Delivery(tuple(delivered), found.waiting)
        pause(RETRY_SECONDS, stop)
