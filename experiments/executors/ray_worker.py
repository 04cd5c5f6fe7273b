"""The worker's side of Ray: a process that leases, trains and logs one run after another, as the launch would."""

import contextlib
import functools
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayError

from experiments.catalog import import_module, load_file
from experiments.console.signals import pause
from experiments.placement import PlacementError
from experiments.plan import PlannedRun
from experiments.runner.execute import Ended, RunServices, execute
from experiments.runner.settings import RunSettings
from experiments.tracking import provenance
from experiments.tracking.errors import TrackingError
from experiments.tracking.leases import Leases
from experiments.tracking.store import Store
from ran.config import DataConfig, RunConfig
from ran.data.datasets import open_source
from ran.data.image_folder.pools import set_share
from ran.engine.device import make_deterministic
from records import names
from records.errors import UserError
from records.mlflow_uri import is_sqlite

EXCHANGE_SECONDS = 1.0
"""time between two reports of a worker, and so the longest that a request to stop takes to arrive"""
STORE_SECONDS = 60.0
"""seconds that a starting worker waits for a store that does not answer"""


@dataclass(frozen=True)
class WorkerJob:
    """What workers need to know of a launch, sent once."""

    launch: str
    """random id of the launch"""
    settings: RunSettings
    parent_id: str
    folder: str
    """folder that relative paths start from, if a node has it"""
    path: tuple[str, ...]
    """sys.path of the launch"""
    host: str
    """name of the launch's machine"""
    provenance: provenance.Provenance
    """of the launch: what a worker of another machine has loaded is a copy that git does not know"""
    events: Any
    """handle of the EventBus actor"""


class WorkerReporter(logging.Handler):
    """A reporter that sends what happens to the launch, and receives its orders to stop.

    It talks to the event bus in a thread of its own only. While a task's main thread waits for an answer, Ray takes the
    task's CPU as free and may start another run on it.
    """

    def __init__(self, bus: Any, name: str):
        super().__init__(logging.WARNING)
        self._bus, self._name = bus, name
        self._events: list[tuple[str, tuple[Any, ...]]] = []
        self._step: int | None = None
        self._stop, self._cut = False, None
        self._ready, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep_exchanging, name="reporter", daemon=True)

    def __enter__(self) -> "WorkerReporter":
        logging.getLogger().addHandler(self)
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exception: object) -> None:
        logging.getLogger().removeHandler(self)
        self._over.set()
        self._thread.join()

    def run_begins(self, name: str, config: RunConfig, step: int, where: str = "") -> None:
        self._events.append(("run_begins", (name, config, step, f"{platform.node()}, process {os.getpid()}")))

    def step(self, name: str, step: int) -> None:
        self._step = step

    def metrics(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self._events.append(("metrics", (name, step, dict(values))))

    def run_ends(self, name: str, text: str) -> None:
        self._events.append(("run_ends", (name, text)))

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # a library's message whose arguments do not fit it
            self._events.append(("warning", (self._name, record.getMessage())))

    def stop(self) -> bool:
        return self._stop

    def cut(self, name: str) -> str | None:
        return self._cut

    def _keep_exchanging(self) -> None:
        try:
            self._exchange()
        finally:
            self._ready.set()
        while not self._over.wait(EXCHANGE_SECONDS):
            self._exchange()
        self._exchange()

    def _exchange(self) -> None:
        """Sends what happened since, and receives the orders. An event bus that does not answer changes nothing."""
        events, self._events = self._events, []
        step, self._step = self._step, None
        if step is not None:  # after it has begun, and before it ends
            at = 1 + max((i for i, (what, _) in enumerate(events) if what == "run_begins"), default=-1)
            events.insert(at, ("step", (self._name, step)))
        with contextlib.suppress(RayError):
            self._stop, cut = ray.get(self._bus.report.remote(events), timeout=30)
            self._cut = cut.get(self._name)


_connected: dict[str, tuple[Store, Leases]] = {}
"""what a worker process keeps from one run to the next, by launch; one launch at most"""


def _connect(job: WorkerJob, stop: Callable[[], bool]) -> tuple[Store, Leases]:
    """Returns the launch's store and leases; the first run of a launch sets the process up."""
    if job.launch not in _connected:
        _connected.clear()
        _connected[job.launch] = _set_up(job, stop)
    return _connected[job.launch]


def _settings(job: WorkerJob) -> RunSettings:
    """The launch's, with the folder of this machine that is copied to a URI: its place may be another here."""
    remote = job.settings.remote
    return job.settings if remote is None else replace(job.settings, checkpoints=remote.local)


def _set_up(job: WorkerJob, stop: Callable[[], bool]) -> tuple[Store, Leases]:
    settings = _settings(job)
    provenance.adopt(job.provenance)
    with contextlib.suppress(OSError):
        os.chdir(job.folder)
    sys.path.extend(entry for entry in job.path if entry not in sys.path)
    for module in settings.modules:
        if module.endswith(".py"):
            load_file(Path(module))  # a study or search file, which may register parts of the user's
        else:
            import_module(module)
    if settings.deterministic:
        make_deterministic()
    if settings.remote is None and not settings.checkpoints.is_dir():
        raise PlacementError(
            f"there is no folder {settings.checkpoints} on {platform.node()}: give --checkpoints a folder that all "
            "nodes share, or a URI such as s3://bucket/folder"
        )
    if settings.remote is not None:
        settings.remote.make_local()
    settings.checkpoints.mkdir(parents=True, exist_ok=True)
    if is_sqlite(settings.tracking_uri) and platform.node() != job.host:
        raise PlacementError(
            f"{settings.tracking_uri} is a file of {job.host}, and SQLite does not work across machines: workers on "
            f"{platform.node()} need an MLflow server (docs/scale.md)"
        )
    store = _store(settings.tracking_uri, stop)
    return store, Leases(store, settings.checkpoints, launch=job.launch).__enter__()


def _store(uri: str, stop: Callable[[], bool]) -> Store:
    """Returns the launch's store. Waits up to STORE_SECONDS for it when a worker starts; later, the run log does."""
    end = time.monotonic() + STORE_SECONDS
    while True:
        try:
            store = Store.peek(uri)
            break
        except TrackingError:
            if time.monotonic() > end or stop():
                raise
        pause(EXCHANGE_SECONDS, stop)
    if store is None:
        raise TrackingError(
            f"there is no {uri} on {platform.node()}: workers on several machines need an MLflow server"
        )
    return store


@functools.cache
def _digest(config: DataConfig) -> str:
    return open_source(config).digest


def train_in_worker(job: WorkerJob, run: PlannedRun) -> Ended | None:
    """Trains a run in this worker; returns None if the launch was stopped before it began."""
    try:
        with WorkerReporter(job.events, run.name) as reporter:
            if reporter.stop():
                return None
            store, leases = _connect(job, reporter.stop)
            digest = _digest(run.config.data)
            if digest != run.source.digest:
                raise PlacementError(
                    f"{platform.node()} has other data than the launch: {run.source.name} with digest {digest}, not "
                    f"{run.source.digest}, under {run.config.data.root}"
                )
            settings = _settings(job)
            threads = settings.placement.threads
            if run.config.train.threads is None and threads is not None:
                torch.set_num_threads(threads)
            if settings.placement.address is None and threads is not None:
                set_share(threads)  # on a cluster runs decode with all cores of their node
            services = RunServices(
                settings=settings, store=store, leases=leases, parent_id=job.parent_id, report=reporter,
                stop=reporter.stop, cut=reporter.cut,
            )  # fmt: skip
            return execute(run, services)
    except UserError as error:  # of this node's set-up: other runs would fail on it too
        return Ended(run=run, outcome=names.KILLED, reason=str(error), halts=True)
