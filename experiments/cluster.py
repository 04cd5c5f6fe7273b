"""Runs placed by Ray: on the cores and GPUs of this machine, or of a cluster.

The parent hands out runs and hears of them; a worker is a process that claims, trains and logs like the parent would.
Ray starts a run again elsewhere when its worker or node dies, and the run goes on from its checkpoint.
"""

import contextlib
import functools
import logging
import os
import platform
import socket
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no phoning home
# Else a worker without GPUs is warned about CUDA_VISIBLE_DEVICES.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
import torch
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from experiments.claims import Claims
from experiments.mirror import Mirror
from experiments.placement import Machine, Placement, PlacementError
from experiments.plan import PlannedRun
from experiments.runner import BUSY, Context, Ended, execute
from experiments.signals import pause
from experiments.tracking import Store, TrackingError, absolute
from ran import names
from ran.config import RunConfig
from ran.data.augment import cifar_pixels
from ran.data.datasets import Images, open_source
from ran.engine.device import has_bf16, make_deterministic
from ran.errors import UserError, one_line

logger = logging.getLogger(__name__)

T = TypeVar("T")

POLL_SECONDS = 0.2
TELL_SECONDS = 1.0
"""between two reports of a worker, and so how long a request to stop can take to arrive"""
CONNECT_SECONDS = 10.0
MAX_RETRIES = 20
"""of a run whose worker or node died; three deaths in a row without a step of progress end it sooner (folder.py)"""
STORE_SECONDS = 60.0
"""that a worker which starts waits for a store that is away"""
STOP_SECONDS = 120.0
"""that workers have to write their checkpoints after the launch was ended from within"""


# Connecting


def connect(placement: Placement) -> None:
    """Starts Ray on this machine, or joins the cluster at `placement.address`. Raises PlacementError."""
    if ray.is_initialized():
        return
    address = placement.address
    if address is not None:
        _check_address(address)
    options: dict[str, Any] = {"logging_level": logging.CRITICAL, "log_to_driver": False, "configure_logging": False}
    if address is None:
        # "local": without it Ray joins whatever cluster runs here. Nothing large is shared, so the store is small.
        options |= {"num_cpus": placement.workers, "include_dashboard": False, "object_store_memory": 2**27}
    else:
        # Every node runs the code of this checkout, whatever version is installed there.
        root = Path(__file__).parents[1]
        options["runtime_env"] = {"py_modules": [str(root / "ran"), str(root / "experiments")]}
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        ray.init(address=address or "local", **options)
    except Exception as error:  # ConnectionError, ValueError, RuntimeError, an authentication error: no common base
        raise PlacementError(
            f"--ray-address {address}: {_first_line(error)}" if address else _first_line(error)
        ) from None


def disconnect() -> None:
    """Leaves Ray; on this machine its workers end."""
    ray.shutdown()


def _check_address(address: str) -> None:
    """Ray waits for minutes for a host that does not answer."""
    if address.startswith("ray://"):
        raise PlacementError(
            f"--ray-address {address}: Ray's client protocol does not carry a launch; start the command on a node of "
            "the cluster with --ray-address auto, or give host:port of its head"
        )
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise PlacementError(f"--ray-address takes auto or host:port (6379 is Ray's), got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise PlacementError(f"--ray-address {address}: nothing answers there ({error})") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def on_cluster(
    address: str, workers: int | None, gpus_per_run: float | None, device: str, threads: int | None
) -> Placement:
    """Returns the placement on a cluster, joined. Raises PlacementError for resources that no node has."""
    if workers is not None and workers < 1:
        raise PlacementError(f"--workers must be at least 1, got {workers}")
    connect(Placement(None, address=address))
    gpus = max((node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
    if gpus_per_run is None:
        gpus_per_run = 1.0 if gpus and device != "cpu" else 0.0
    elif device == "cpu":
        raise PlacementError(f"--gpus-per-run {gpus_per_run:g}: the runs train on the CPU (--device cpu)")
    if not 0 <= gpus_per_run <= 1 or (gpus_per_run > gpus):
        raise PlacementError(
            f"--gpus-per-run {gpus_per_run:g}: a run takes one GPU or a part of it, and the cluster's largest node has "
            f"{gpus:g}"
        )
    if device.startswith("cuda") and not gpus_per_run:
        raise PlacementError(f"--device {device}: the Ray cluster has no GPU")
    cpus = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
    if (threads or 1) > cpus:
        raise PlacementError(f"--train.threads {threads}: the cluster's largest node has {cpus:g} CPUs")
    return Placement(workers, threads or 1, gpus_per_run, address)


def there(placement: Placement, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Returns what a function returns where runs train."""
    task = ray.remote(function).options(**_resources(placement))
    return ray.get(task.remote(*arguments, **options))


def machine(placement: Placement) -> Machine:
    """Returns what a run trains on."""
    device = torch.device("cuda" if placement.gpus else "cpu")
    return Machine(device, there(placement, has_bf16, device))


def _resources(placement: Placement) -> dict[str, Any]:
    # On this machine `workers` is all there is to share out; threads are set by the worker.
    return {"num_cpus": 1 if placement.address is None else placement.threads, "num_gpus": placement.gpus}


# The parent's side


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


class Board:
    """An actor on the parent's node, through which workers tell of their runs and hear when to stop."""

    def __init__(self) -> None:
        self.events: deque[tuple[str, tuple[Any, ...]]] = deque()
        self.orders: tuple[bool, Mapping[str, str]] = (False, {})

    def tell(self, events: list[tuple[str, tuple[Any, ...]]]) -> tuple[bool, Mapping[str, str]]:
        """Takes what a worker has to tell; returns whether all stop, and the runs to end with the reason."""
        self.events.extend(events)
        return self.orders

    def exchange(self, stop: bool, cut: Mapping[str, str]) -> list[tuple[str, tuple[Any, ...]]]:
        """Sets the orders; returns what workers have told since."""
        self.orders = (stop, cut)
        events = list(self.events)
        self.events.clear()
        return events


def place(runs: Iterable[PlannedRun | None], context: Context) -> Iterator[Ended]:
    """Trains runs in Ray's workers, as many at once as the placement says; see `executors.Executor`."""
    placement = context.placement
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board: Any = ray.remote(Board).options(num_cpus=0, scheduling_strategy=here, max_concurrency=1).remote()
    job = ray.put(Job(
        launch=uuid.uuid4().hex, uri=absolute(context.store.uri), checkpoints=context.checkpoints.absolute(),
        mirror=context.mirror, parent_id=context.parent_id, tags=dict(context.tags), device=context.device,
        keep=context.keep, retry_failed=context.retry_failed, checkpoint_seconds=context.checkpoint_seconds,
        threads=placement.threads, deterministic=torch.are_deterministic_algorithms_enabled(),
        modules=context.modules, folder=os.getcwd(), path=tuple(sys.path), board=board,
    ))  # fmt: skip
    task = ray.remote(train_there)
    options = {
        **_resources(placement),
        "max_retries": MAX_RETRIES,
        "scheduling_strategy": "DEFAULT" if placement.address is None else "SPREAD",
    }
    source = iter(runs)
    places: dict[Any, PlannedRun] = {}
    begun: set[str] = set()
    stopping = threading.Event()

    def exchange() -> None:
        cut = {run.name: reason for run in places.values() if (reason := context.cut(run.name)) is not None}
        with contextlib.suppress(RayActorError):  # then nothing is heard of the runs, but they train
            for what, arguments in ray.get(board.exchange.remote(stopping.is_set() or context.stop(), cut)):
                if what == "warning":
                    logger.warning("%s: %s", *arguments)
                    continue
                if what == "run_begins":
                    begun.add(arguments[0])
                elif what == "run_ends":
                    begun.discard(arguments[0])
                getattr(context.report, what)(*arguments)

    try:
        more = True
        while True:
            while more and len(places) < _room(placement) and not context.stop():
                run = next(source, _END)
                if run is _END:
                    more = False
                elif run is None:
                    break
                elif any(other.fingerprint == run.fingerprint for other in places.values()):
                    yield Ended(run, BUSY, "this launch is training it")  # of two workers the second would take over
                else:
                    places[task.options(**options, name=run.name).remote(job, _sendable(run))] = run
            if not places:
                return
            done, _ = ray.wait(list(places), num_returns=len(places), timeout=POLL_SECONDS)
            exchange()
            for ref in done:
                run = places.pop(ref)
                ended = _ended(ref, run)
                if run.name in begun and ended is not None:  # its worker died and could not say so
                    begun.discard(run.name)
                    context.report.run_ends(run.name, str(ended))
                if ended is not None:
                    yield ended
    finally:
        stopping.set()
        end = time.monotonic() + STOP_SECONDS
        with contextlib.suppress(RayError):
            while places and time.monotonic() < end:
                exchange()
                done, _ = ray.wait(list(places), num_returns=len(places), timeout=POLL_SECONDS)
                for ref in done:
                    places.pop(ref)


_END: Any = object()


def _room(placement: Placement) -> int:
    """How many runs Ray is handed at once. Of a cluster a few more than fit: an autoscaler sees them wait."""
    if placement.workers is not None:
        return placement.workers
    total = _cluster_resources(int(time.monotonic() / 5))
    rooms = [total.get("CPU", 0) / (placement.threads or 1)]
    if placement.gpus:
        rooms.append(total.get("GPU", 0) / placement.gpus)
    room = int(min(rooms))
    return room + max(1, room // 4)


@functools.lru_cache(maxsize=1)
def _cluster_resources(_: int) -> dict[str, float]:
    return ray.cluster_resources()


def _sendable(run: PlannedRun) -> PlannedRun:
    """The run without its data set's ways to load it, which may hold a million paths; a worker opens its own."""
    return replace(run, source=replace(run.source, load=_opened_there, pixels=cifar_pixels))


def _opened_there() -> tuple[Images, Images]:
    raise AssertionError("a worker opens the data set itself")


def _ended(ref: Any, run: PlannedRun) -> Ended | None:
    """How a run ended, or what became of its worker; None if it had not begun."""
    try:
        ended: Ended | None = ray.get(ref)
    except RayTaskError as error:
        return Ended(run, names.KILLED, f"its worker failed: {one_line(error.cause or error)}")
    except RayError as error:
        return Ended(run, names.KILLED, f"its worker died again and again: {_first_line(error)}")
    return None if ended is None else replace(ended, run=run)


# The worker's side


class _Line(logging.Handler):
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

    def __enter__(self) -> "_Line":
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
    claims: Claims


_homes: dict[str, _Home] = {}
"""by launch; one at most"""


def _home(job: Job, stop: Callable[[], bool]) -> _Home:
    if job.launch not in _homes:
        _homes.clear()
        _homes[job.launch] = _make_home(job, stop)
    return _homes[job.launch]


def _make_home(job: Job, stop: Callable[[], bool]) -> _Home:
    from experiments.catalog import import_module, load_file

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
    return _Home(store, Claims(store, job.checkpoints, launch=job.launch).__enter__())


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
def _digest(config: Any) -> str:
    return open_source(config).digest


def train_there(job: Job, run: PlannedRun) -> Ended | None:
    """Trains a run in this worker; None if the launch was stopped before it began."""
    try:
        with _Line(job.board, run.name) as line:
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
