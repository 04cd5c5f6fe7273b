"""The launch's side of Ray: hands out runs, passes on what workers report, and collects how each run ended.

Ray starts a run again elsewhere if its worker or node dies, and the run continues from its checkpoint.
"""

import contextlib
import functools
import logging
import math
import os
import platform
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from experiments.executors.event_bus import EventBus
from experiments.executors.ray_cluster import resources, room, waited_for
from experiments.executors.ray_worker import WorkerJob, train_in_worker
from experiments.placement import Placement
from experiments.plan import PlannedRun
from experiments.runner.execute import BUSY, Ended, RunServices
from experiments.tracking import provenance
from ran.data.augment import cifar_normalization
from ran.data.datasets import Images
from records import names
from records.errors import one_line
from records.mlflow_uri import absolute

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
LOOK_SECONDS = 5
"""time between two looks at how large the cluster is"""
SILENCE_SECONDS = 60.0
"""time without a first run after which the launch says what it waits for"""
MAX_RETRIES = 20
"""retries of a run whose worker or node died; three deaths in a row without progress end it sooner (run_dir.py)"""
STOP_SECONDS = 120.0
"""time that workers have to write their checkpoints after the launch ended by itself"""


def train_on_workers(runs: Iterable[PlannedRun | None], services: RunServices) -> Iterator[Ended]:
    """Trains runs in Ray's workers, as many at once as the placement says; see `run_plan.Executor`."""
    settings, placement = services.settings, services.settings.placement
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    bus: Any = ray.remote(EventBus).options(num_cpus=0, scheduling_strategy=here, max_concurrency=1).remote()
    job = ray.put(
        WorkerJob(
            launch=services.leases.launch,
            settings=replace(
                settings,
                tracking_uri=absolute(settings.tracking_uri),
                checkpoints=settings.checkpoints.absolute(),
            ),
            parent_id=services.parent_id,
            folder=os.getcwd(),
            path=tuple(sys.path),
            host=platform.node(),
            provenance=provenance.own(),
            events=bus,
        )
    )
    task = _task(placement)
    options = {
        **resources(placement),
        "max_retries": MAX_RETRIES,
        "scheduling_strategy": "DEFAULT" if placement.address is None else "SPREAD",
    }
    source, began = iter(runs), time.monotonic()
    tasks: dict[Any, PlannedRun] = {}
    started: set[str] = set()
    stopping = threading.Event()

    def exchange() -> None:
        cut = {run.name: reason for run in tasks.values() if (reason := services.cut(run.name)) is not None}
        with contextlib.suppress(RayActorError):  # then no events arrive, but the runs train
            for what, arguments in ray.get(bus.exchange.remote(stopping.is_set() or services.stop(), cut)):
                if what == "warning":
                    logger.warning("%s: %s", *arguments)
                    continue
                if what == "run_begins":
                    started.add(arguments[0])
                elif what == "run_ends":
                    started.discard(arguments[0])
                getattr(services.report, what)(*arguments)

    try:
        more = True
        while True:
            while more and len(tasks) < _room(placement) and not services.stop():
                run = next(source, _END)
                if run is _END:
                    more = False
                elif run is None:
                    break
                elif any(other.fingerprint == run.fingerprint for other in tasks.values()):
                    # Of two workers the second would take over.
                    yield Ended(run=run, outcome=BUSY, reason="this launch is training it")
                else:
                    tasks[task.options(**options, name=run.name).remote(job, _sendable(run))] = run
            if not tasks:
                return
            ray.wait(list(tasks), timeout=POLL_SECONDS)  # until the first has ended
            done, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=0)
            exchange()
            if started or done:
                began = math.inf  # runs do start here
            elif time.monotonic() - began > SILENCE_SECONDS:
                logger.warning("%s", waited_for(placement))
                began = math.inf
            for ref in done:
                run = tasks.pop(ref)
                ended = _ended(ref, run)
                if run.name in started and ended is not None:  # its worker died and could not report it
                    started.discard(run.name)
                    services.report.run_ends(run.name, str(ended))
                if ended is not None:
                    yield ended
    except KeyboardInterrupt:  # the second Ctrl-C: no worker is waited for
        tasks.clear()
        raise
    finally:
        stopping.set()
        end = time.monotonic() + STOP_SECONDS
        with contextlib.suppress(RayError):
            while tasks and time.monotonic() < end:
                exchange()
                done, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=POLL_SECONDS)
                for ref in done:
                    tasks.pop(ref)


_END: Any = object()


def _task(placement: Placement) -> Any:
    """Returns the task that trains a run.

    A process with a GPU trains one run: Ray may give the next one another GPU, which a process that has used one does
    not see.
    """
    return ray.remote(max_calls=1)(train_in_worker) if placement.gpus else ray.remote(train_in_worker)


def _room(placement: Placement) -> int:
    """Number of runs that Ray is given at once; on a cluster a few more than fit, so that an autoscaler sees them."""
    if placement.workers is not None:
        return placement.workers
    fit = _room_of(placement, int(time.monotonic() / LOOK_SECONDS))
    return fit + max(1, fit // 4)


@functools.lru_cache(maxsize=1)
def _room_of(placement: Placement, _: int) -> int:
    return room(placement)


def _sendable(run: PlannedRun) -> PlannedRun:
    """Returns the run without its data set's functions, which may hold a million paths; a worker opens its own."""
    return replace(run, source=replace(run.source, load=_opened_there, normalization=cifar_normalization))


def _opened_there() -> tuple[Images, Images]:
    raise AssertionError("a worker opens the data set itself")


def _ended(ref: Any, run: PlannedRun) -> Ended | None:
    """Returns how a run ended, or what happened to its worker; None if it had not started."""
    try:
        ended: Ended | None = ray.get(ref)
    except RayTaskError as error:
        return Ended(run=run, outcome=names.KILLED, reason=f"its worker failed: {one_line(error.cause or error)}")
    except RayError as error:
        return Ended(run=run, outcome=names.KILLED, reason=f"its worker died again and again: {one_line(error)}")
    return None if ended is None else replace(ended, run=run)
