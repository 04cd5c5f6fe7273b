"""Delivers later what runs could not log while the tracking store was away."""

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from experiments.console.signals import pause
from experiments.runner.remote_checkpoints import RemoteCheckpoints
from experiments.runner.run_dir import REFUSED, locked, set_aside, tidy
from experiments.runner.settings import RunSettings
from experiments.tracking.errors import LeaseLost, Superseded, TrackingError
from experiments.tracking.leases import Leases
from experiments.tracking.run_log import RunLog
from experiments.tracking.spool import SPOOL, SpoolError
from experiments.tracking.store import Store
from records.files import WriteError

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5.0


@dataclass(frozen=True)
class Delivery:
    """The result of delivering the logs that waited."""

    delivered: tuple[Path, ...] = ()
    """folders of runs whose log the store now has completely"""
    waiting: tuple[Path, ...] = ()
    """folders of runs whose log still waits for this store"""


def deliver(store: Store, checkpoints: Path, keep: str, remote: RemoteCheckpoints | None = None) -> Delivery:
    """Delivers what waits under `checkpoints`, of any study. A run that another launch is training is left to it."""
    delivered: list[Path] = []
    waiting: list[Path] = []
    spools = sorted(checkpoints.glob(f"*/{SPOOL}"))
    if not spools:
        return Delivery()
    leases = Leases(store, checkpoints)
    for folder in (spool.parent for spool in spools):
        with locked(folder) as alone:
            if alone is False:
                continue
            try:
                with leases.acquire(folder.name, alone=alone is True) as other:
                    if other is not None:
                        continue
                    log = RunLog.waiting(store, folder, functools.partial(leases.confirm, folder.name))
                    over = log.is_result
                    (delivered if log.flush() else waiting).append(folder)
            except LeaseLost:
                continue
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
            if remote is not None:
                remote.push(folder.name)
    return Delivery(tuple(delivered), tuple(waiting))


def deliver_patiently(store: Store, settings: RunSettings, *, seconds: float, stop: Callable[[], bool]) -> Delivery:
    """Delivers what waits, and tries again for `seconds` or until `stop()`."""
    end = time.monotonic() + seconds
    delivered: list[Path] = []
    while True:
        found = deliver(store, settings.checkpoints, settings.keep, settings.remote)
        delivered += found.delivered
        if not found.waiting or stop() or time.monotonic() + RETRY_SECONDS > end:
            return Delivery(tuple(delivered), found.waiting)
        pause(RETRY_SECONDS, stop)
