"""A worker's side: a process that claims, trains and logs one run after another, as the launch itself would."""

import contextlib
import functools
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayError

from experiments.catalog import import_module, load_file
from experiments.console.signals import pause
from experiments.placement import PlacementError
from experiments.plan import PlannedRun
from experiments.runner.execute import Context, Ended, execute
from experiments.runner.remote_checkpoints import Mirror
from experiments.tracking.errors import TrackingError
from experiments.tracking.leases import Leases
from experiments.tracking.store import Store
from ran.config import DataConfig, RunConfig
from ran.data.datasets import open_source
from ran.engine.device import make_deterministic
from records import names
from records.errors import UserError

TELL_SECONDS = 1.0
"""between two reports of a worker, and so how long a request to stop can take to arrive"""
STORE_SECONDS = 60.0
"""that a worker which starts waits for a store that is away"""


@dataclass(frozen=True)
class Job:
    """What workers need to know of a launch, sent once."""

    launch: str
    uri: str
    checkpoints: Path
    mirror: Mirror | None
    parent_id: str
    tags: Mapping[str, str]
    device: torch.device
    keep: str
    retry_failed: bool
    checkpoint_seconds: float
    threads: int | None
    deterministic: bool
    modules: tuple[str, ...]
    folder: str
    """that relative paths start from, where a node has it"""
    path: tuple[str, ...]
    board: Any


class Line(logging.Handler):
    """A worker's line to its parent: a reporter that tells it what happens, and asks whether to stop."""

    def __init__(self, board: Any, name: str):
        super().__init__(logging.WARNING)
        self._board, self._name = board, name
        self._events: list[tuple[str, tuple[Any, ...]]] = []
        self._step: int | None = None
        self._stop, self._cut = False, None
        self._over = threading.Event()
        self._telling = threading.Lock()
        self._thread = threading.Thread(target=self._keep_telling, name="line", daemon=True)

    def __enter__(self) -> "Line":
        logging.getLogger().addHandler(self)
        self.tell()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        logging.getLogger().removeHandler(self)
        self._over.set()
        self._thread.join()
        self.tell()

    def run_begins(self, name: str, config: RunConfig, step: int, where: str = "") -> None:
        self._events.append(("run_begins", (name, config, step, f"{platform.node()}, process {os.getpid()}")))

    def step(self, name: str, step: int) -> None:
        self._step = step

    def metrics(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self._events.append(("metrics", (name, step, dict(values))))

    def run_ends(self, name: str, text: str) -> None:
        self._events.append(("run_ends", (name, text)))

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # a message of somebody else's whose arguments do not fit it
            self._events.append(("warning", (self._name, record.getMessage())))

    def stop(self) -> bool:
        return self._stop

    def cut(self, name: str) -> str | None:
        return self._cut

    def tell(self) -> None:
        """Tells what happened since, and hears the orders. A board that does not answer changes nothing."""
        with self._telling:
            events, self._events = self._events, []
            step, self._step = self._step, None
            if step is not None:  # after it has begun, and before it ends
                at = 1 + max((i for i, (what, _) in enumerate(events) if what == "run_begins"), default=-1)
                events.insert(at, ("step", (self._name, step)))
            with contextlib.suppress(RayError):
                self._stop, cut = ray.get(self._board.tell.remote(events), timeout=30)
                self._cut = cut.get(self._name)

    def _keep_telling(self) -> None:
        while not self._over.wait(TELL_SECONDS):
            self.tell()


@dataclass(frozen=True)
class _Home:
    """What a worker process keeps from one run to the next."""

    store: Store
    claims: Leases


_homes: dict[str, _Home] = {}
"""by launch; one at most"""


def _home(job: Job, stop: Callable[[], bool]) -> _Home:
    if job.launch not in _homes:
        _homes.clear()
        _homes[job.launch] = _make_home(job, stop)
    return _homes[job.launch]


def _make_home(job: Job, stop: Callable[[], bool]) -> _Home:
    with contextlib.suppress(OSError):
        os.chdir(job.folder)
    sys.path.extend(entry for entry in job.path if entry not in sys.path)
    for module in job.modules:
        if module.endswith(".py"):
            load_file(Path(module))  # of a study or a search: it may register parts of the user's
        else:
            import_module(module)
    if job.deterministic:
        make_deterministic()
    if job.mirror is None and not job.checkpoints.is_dir():
        raise PlacementError(
            f"there is no folder {job.checkpoints} on {platform.node()}: give --checkpoints a folder that all nodes "
            "share, or a URI such as s3://bucket/folder"
        )
    job.checkpoints.mkdir(parents=True, exist_ok=True)
    store = _store(job.uri, stop)
    return _Home(store, Leases(store, job.checkpoints, launch=job.launch).__enter__())


def _store(uri: str, stop: Callable[[], bool]) -> Store:
    """The launch's store. One that is away when a worker starts is waited for; afterwards the log itself does that."""
    end = time.monotonic() + STORE_SECONDS
    while True:
        try:
            store = Store.peek(uri)
            break
        except TrackingError:
            if time.monotonic() > end or stop():
                raise
        pause(TELL_SECONDS, stop)
    if store is None:
        raise TrackingError(
            f"there is no {uri} on {platform.node()}: workers on several machines need an MLflow server"
        )
    return store


@functools.cache
def _digest(config: DataConfig) -> str:
    return open_source(config).digest


def train_there(job: Job, run: PlannedRun) -> Ended | None:
    """Trains a run in this worker; None if the launch was stopped before it began."""
    try:
        with Line(job.board, run.name) as line:
            if line.stop():
                return None
            home = _home(job, line.stop)
            digest = _digest(run.config.data)
            if digest != run.source.digest:
                raise PlacementError(
                    f"{platform.node()} has other data than the launch: {run.source.name} with digest {digest}, not "
                    f"{run.source.digest}, under {run.config.data.root}"
                )
            if run.config.train.threads is None and job.threads is not None:
                torch.set_num_threads(job.threads)
            context = Context(
                job.tags, home.store, home.claims, job.parent_id, job.checkpoints, job.device, line, line.stop,
                job.keep, job.retry_failed, job.checkpoint_seconds, cut=line.cut, mirror=job.mirror,
            )  # fmt: skip
            return execute(run, context)
    except UserError as error:  # of this node's set-up: the others would fare no better on it
        return Ended(run, names.KILLED, str(error), halts=True)
