"""Starts Ray on this machine or joins a cluster, and finds what can train there."""

import contextlib
import logging
import math
import os
import shutil
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # sends no usage statistics
# Else a worker without GPUs is warned about CUDA_VISIBLE_DEVICES.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
import torch

from experiments.executors.ray_folder import session_folder
from experiments.executors.warm_up import warm_up
from experiments.placement import Machine, Placement, PlacementError, PlacementRequest
from ran.engine.device import device_capabilities
from records.errors import first_line

CONNECT_SECONDS = 10.0
WARM_SECONDS = 60.0
"""longest wait for workers of this machine before its runs are given to Ray, which says what it waits for"""

T = TypeVar("T")


class Session:
    """Ray during a launch. On this machine it starts in the background: that takes five seconds, most of it waiting."""

    def __init__(self, placement: Placement):
        self._placement = placement
        self._folder: str | None = None
        self._error: BaseException | None = None
        self._warming: list[Any] = []
        self._started, self._over = threading.Event(), threading.Event()

    def begin(self) -> None:
        """Starts Ray on this machine in a thread, or joins the cluster. Raises PlacementError.

        An error of starting it here is raised by `wait`.
        """
        if self._placement.address is None:
            self._folder = session_folder()
            threading.Thread(target=self._run_here, name="ray", daemon=True).start()
        else:
            connect(self._placement)
            self._started.set()

    def wait(self) -> None:
        """Returns when Ray has started, and here its workers. Raises PlacementError if it cannot start."""
        self._started.wait()
        if self._error is not None:
            raise self._error
        if self._warming:  # a run that waits for a worker would make Ray start one more
            ray.wait(self._warming, num_returns=len(self._warming), timeout=WARM_SECONDS)

    def end(self) -> None:
        """Disconnects from Ray; on this machine its workers end."""
        self._started.wait()
        disconnect()
        self._over.set()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _run_here(self) -> None:
        try:
            connect(self._placement, self._folder)
            task = ray.remote(warm_up).options(**resources(self._placement))
            self._warming = [task.remote() for _ in range(self._placement.workers or 0)]
        except BaseException as error:
            self._error = error
        self._started.set()
        self._over.wait()  # the kernel kills Ray's processes when the thread that started them ends


def connect(placement: Placement, folder: str | None = None) -> None:
    """Starts Ray on this machine, or joins the cluster at `placement.address`. Raises PlacementError.

    `folder`: of Ray's session on this machine; default: Ray's own choice.
    """
    if ray.is_initialized():
        return
    address = placement.address
    if address is not None:
        _check_address(address)
    options: dict[str, Any] = {"logging_level": logging.CRITICAL, "log_to_driver": False, "configure_logging": False}
    if address is None:
        # "local": without it Ray joins whatever cluster runs here. Nothing large is shared, so the store is small.
        options |= {"num_cpus": placement.workers, "include_dashboard": False, "object_store_memory": 2**27}
        # Said, not found out: without GPUs of its own count Ray would wait for one for ever.
        options["num_gpus"] = math.ceil((placement.workers or 1) * placement.gpus - 1e-9)
        options |= {} if folder is None else {"_temp_dir": folder}
    else:
        # The error repeats what Ray warns about while it connects. Ray says on stderr that this is set, so not above.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
        # Every node runs the code of this checkout, whatever version is installed there.
        root = Path(__file__).parents[2]
        options["runtime_env"] = {"py_modules": [str(root / name) for name in ("records", "ran", "experiments")]}
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        ray.init(address=address or "local", **options)
    except ConnectionError as error:
        reason = "no Ray cluster runs on this machine (ray start --head starts one)"
        raise PlacementError(f"--ray-address {address}: {reason if address == 'auto' else first_line(error)}") from None
    except Exception as error:  # ValueError, RuntimeError, an authentication error: no common base
        raise PlacementError(
            f"--ray-address {address}: {first_line(error)}" if address else first_line(error)
        ) from None


def disconnect() -> None:
    """Disconnects from Ray; on this machine its workers end."""
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
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS) as connection:
            is_grpc = os.environ.get("RAY_USE_TLS") == "1" or _speaks_http2(connection)
    except (OSError, OverflowError) as error:
        raise PlacementError(f"--ray-address {address}: nothing answers there ({error})") from None
    if not is_grpc:
        raise PlacementError(f"--ray-address {address}: what answers there is not the head of a Ray cluster")


def _speaks_http2(connection: socket.socket) -> bool:
    """Returns whether the server speaks HTTP/2, as gRPC does: its first frame is SETTINGS (RFC 9113, 3.4 and 6.5)."""
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
    with contextlib.suppress(TimeoutError):
        return connection.recv(9)[3:4] == b"\4"
    return False


def on_cluster(
    request: PlacementRequest, threads: int | None, *, per_gpu: Callable[[int], int] = lambda cores: 1
) -> Placement:
    """Joins the cluster and returns the placement on it. Raises PlacementError for resources that no node has.

    `per_gpu` returns how many runs suit a GPU that has a number of cores.
    """
    address, device = request.ray_address, request.device
    workers, gpus_per_run = request.workers, request.gpus_per_run
    if workers is not None and workers < 1:
        raise PlacementError(f"--workers must be at least 1, got {workers}")
    connect(Placement(workers=None, address=address))
    gpus = max((node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
    cpus = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
    if gpus_per_run is None:
        gpus_per_run = 1 / per_gpu(int(cpus / gpus / (threads or 1))) if gpus and device != "cpu" else 0.0
    elif device == "cpu":
        raise PlacementError(f"--gpus-per-run {gpus_per_run:g}: the runs train on the CPU (--device cpu)")
    if not 0 <= gpus_per_run <= 1 or (gpus_per_run > gpus):
        raise PlacementError(
            f"--gpus-per-run {gpus_per_run:g}: a run takes one GPU or a part of it, and the cluster's largest node has "
            f"{gpus:g}"
        )
    if device.startswith("cuda") and not gpus_per_run:
        raise PlacementError(f"--device {device}: the Ray cluster has no GPU")
    if (threads or 1) > cpus:
        raise PlacementError(f"--train.threads {threads}: the cluster's largest node has {cpus:g} CPUs")
    placement = Placement(workers=workers, threads=threads or 1, gpus=gpus_per_run, address=address)
    return replace(placement, room=room(placement))


def room(placement: Placement) -> int:
    """Returns the number of runs that fit on the cluster now."""
    total = ray.cluster_resources()
    fit = [total.get("CPU", 0) / (placement.threads or 1)]
    if placement.gpus:
        fit.append(total.get("GPU", 0) / placement.gpus)
    return max(1, int(min(fit) + 1e-9))


def waited_for(placement: Placement) -> str:
    """Returns what a run needs that no node has free now, in words."""
    needs = {"CPU": resources(placement)["num_cpus"], "GPU": placement.gpus}
    free = ray.available_resources()
    parts = [f"{needs[kind]:g} {kind} ({free.get(kind, 0):g} free)" for kind in needs if needs[kind]]
    return f"waiting for Ray to start a run, which needs {' and '.join(parts)} on one node; Ctrl-C leaves"


def there(placement: Placement, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Calls a function on a node that trains and returns its result."""
    task = ray.remote(function).options(**resources(placement))
    return ray.get(task.remote(*arguments, **options))


def find_machine(request: PlacementRequest, *, kernels: bool = False) -> Machine:
    """Joins the cluster and returns the device that a run trains on; `kernels`: whether to look for our own kernels."""
    placement = on_cluster(request, None)
    device = torch.device("cuda" if placement.gpus else "cpu")
    return Machine(device, there(placement, device_capabilities, device, kernels=kernels))


def resources(placement: Placement) -> dict[str, Any]:
    """Returns the resources that a run needs of a node, as Ray's options."""
    # On this machine `workers` is the number of CPUs that Ray has; the worker sets its threads.
    return {"num_cpus": 1 if placement.address is None else placement.threads, "num_gpus": placement.gpus}
