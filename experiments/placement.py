"""Where the runs of a launch train: how many at once, with how many threads and how much of a GPU each."""

import importlib.util
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import psutil
import torch

from ran.config import TrainConfig
from ran.distributed.group import current
from ran.distributed.micro_batches import check_sharing
from ran.engine.device import DeviceCapabilities, uses_graph
from records.errors import UserError

WORTH_SECONDS = 60.0
"""amount of work below which starting workers (5 to 10 s, since each imports torch and MLflow) gains nothing"""
WORKER_BYTES = 3 * 2**29
"""memory that a worker with a small network needs; measured 0.8 to 1.2 GiB"""
INSTALL = "pip install -e '.[cluster]'"
NOT_HERE_CAPABILITIES = DeviceCapabilities(bf16=True, tf32=True, no_kernels="")
NOT_HERE = (
    "this machine has no CUDA device: the plan assumes one with bfloat16 and TensorFloat-32 (compute capability 8.0 or "
    "newer); how long the runs take, how many train at once and whether they fit its memory was not measured"
)
"""remark on the plan of a dry run for a device that is elsewhere, with the capabilities above"""


class PlacementError(UserError):
    """Workers, GPUs or a cluster that are not available; one line that says what to do."""


@dataclass(frozen=True)
class Placement:
    """Where the runs of a launch train. The default is one after another in this process."""

    workers: int | None = 1
    """number of runs at once; None = as many as the cluster has room for"""
    threads: int | None = None
    """CPU threads per run if its config does not say; None = torch's default"""
    gpus: float = 0.0
    """share of a GPU for each run"""
    address: str | None = None
    """address of a Ray cluster; None = this machine"""
    hint: str = ""
    """what would suit the machine better"""
    room: int | None = None
    """number of runs that the cluster has room for now"""
    processes: int = 1
    """number of processes that train each run together"""
    sync_batchnorm: bool = False
    """whether BatchNorm is computed over all of them"""

    @property
    def at_once(self) -> int:
        """Number of runs that train at the same time."""
        return max(1, min(n for n in (self.workers, self.room) if n is not None))

    @property
    def executor(self) -> str:
        return "inline" if self.workers == 1 and self.address is None else "ray"

    def __str__(self) -> str:
        if self.processes > 1:
            return f"{self.processes} processes"
        if self.executor == "inline":
            return self.hint
        each = f"{self.gpus:g} GPU" if self.gpus else f"{self.threads} thread{'s' * (self.threads != 1)}"
        place = "" if self.address is None else " on the Ray cluster"
        return f"{self.workers or 'all'} workers{place} of {each} each"


@dataclass(frozen=True)
class PlacementRequest:
    """Where the user wants the runs to train: flags of a launch."""

    device: str = "auto"
    workers: int | None = None
    """number of runs at once; None = what suits the machine"""
    gpus_per_run: float | None = None
    ray_address: str | None = None
    sync_batchnorm: bool = False
    search: bool = False
    """whether the launch is a search, which trains many runs"""
    dry_run: bool = False
    """whether nothing will train, so that the device may be another machine's"""


@dataclass(frozen=True)
class Machine:
    """The device that trains."""

    device: torch.device
    capabilities: DeviceCapabilities
    """what decides its arithmetic if a config leaves it open"""


def cores() -> int:
    """Returns the number of cores that this process may use, at most OMP_NUM_THREADS if that is set."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    said = os.environ.get("OMP_NUM_THREADS", "")
    return min(allowed, int(said)) if said.isdecimal() and int(said) else allowed


def _held_back(runs: int) -> str:
    """What to say if OMP_NUM_THREADS alone keeps several runs from training at once."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores() > 1 or min(allowed, runs) == 1:
        return ""
    return f"one run at a time, because OMP_NUM_THREADS=1; --workers {min(allowed, runs)} trains several"


def has_ray() -> bool:
    """Returns whether the extra `cluster` is installed, without importing it."""
    return importlib.util.find_spec("ray") is not None


def require_ray(flag: str) -> None:
    """Raises PlacementError if Ray is not installed."""
    if not has_ray():
        raise PlacementError(f"{flag} needs Ray, which is not installed: {INSTALL}")


def planned_device(request: PlacementRequest) -> torch.device | None:
    """Returns the CUDA device that a dry run plans for and this machine lacks, as it has none; None in other cases."""
    asked = re.fullmatch(r"cuda(:\d+)?", request.device) is not None
    elsewhere = asked and request.dry_run and request.ray_address is None and not torch.cuda.device_count()
    return torch.device(request.device) if elsewhere else None


def check_request(request: PlacementRequest) -> None:
    """Raises PlacementError for flags that need what is not there, or do not fit the number of processes."""
    count = current().world
    if request.sync_batchnorm and count == 1:
        raise PlacementError("--sync-batchnorm is for several processes on GPUs: start the command with torchrun")
    if request.search and count > 1:
        raise PlacementError("--search trains many runs: start it without torchrun, with --workers for several at once")
    given = {
        "--workers": request.workers not in (None, 1),
        "--gpus-per-run": request.gpus_per_run is not None,
        "--ray-address": request.ray_address is not None,
    }
    for flag in (flag for flag, is_given in given.items() if is_given and count > 1):
        raise PlacementError(f"{flag} trains several runs at once, torchrun one run in {count} processes: choose one")
    if request.ray_address is not None:
        require_ray(f"--ray-address {request.ray_address}")


def place_processes(request: PlacementRequest, trains: Iterable[TrainConfig], device: torch.device) -> Placement | None:
    """Returns where the runs train if several processes share each; None with one process. Raises UserError."""
    count = current().world
    if count == 1:
        return None
    if request.sync_batchnorm and device.type != "cuda":
        raise PlacementError(f"--sync-batchnorm works on GPUs only (--device {device}): leave it out")
    if device.index is not None:
        raise PlacementError(f"--device {device} is one GPU, and {count} processes take one each: leave it out")
    here, there_are = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if device.type == "cuda" and here > there_are:
        raise PlacementError(f"{here} processes need {here} GPUs on this machine, there are {there_are}")
    for config in set(trains):
        if uses_graph(config):
            raise PlacementError(f"--train.graph on is for one process; leave it out for {count}")
        check_sharing(config.batch_size, config.micro_batch, count, sync_batchnorm=request.sync_batchnorm)
    return Placement(processes=count, sync_batchnorm=request.sync_batchnorm)


def place_here(
    request: PlacementRequest, device: torch.device, *, threads: int | None, runs: int, per_gpu: int = 1
) -> Placement:
    """Returns where `runs` runs train on this machine: as requested, else what suits the machine.

    `threads` is the config's (train.threads), `per_gpu` how many runs suit a GPU (gpu_share.py). On a CPU, several runs
    of one thread each finish sooner than one run after another with all threads. The number of threads depends on the
    machine and on how many runs the plan has, not on how many are still to do, so that a plan that is continued
    computes the same bits. Raises PlacementError.
    """
    workers, gpus_per_run = request.workers, request.gpus_per_run
    if workers is not None and workers < 1:
        raise PlacementError(f"--workers must be at least 1, got {workers}")
    if gpus_per_run is not None and not 0 < gpus_per_run <= 1:
        raise PlacementError(
            f"--gpus-per-run must lie in (0, 1], got {gpus_per_run:g}: workers train a run on one GPU or a part of it; "
            "torchrun trains one run on several (docs/scale.md)"
        )
    if workers is not None and workers > 1:
        require_ray(f"--workers {workers}")
    if device.type == "cuda":
        return _on_gpus(request, device, runs=runs, per_gpu=per_gpu)
    if gpus_per_run is not None:
        where = "the CPU" if device.type == "cpu" else "a device that is not shared"
        raise PlacementError(f"--gpus-per-run {gpus_per_run:g}: the runs train on {where} (--device {device})")
    if workers is not None:
        each = threads if workers == 1 else threads or max(1, cores() // workers)
        return Placement(workers=workers, threads=each)
    if device.type != "cpu":  # an untried device is not shared
        return Placement(threads=threads)
    room = max(1, psutil.virtual_memory().available // WORKER_BYTES)
    each = threads or max(1, cores() // max(1, min(cores(), runs)))
    best = max(1, min(cores() // each, runs, room))
    if best == 1:
        return Placement(threads=threads, hint=_held_back(runs))
    if not has_ray():
        return Placement(threads=threads, hint=f"one run at a time ({INSTALL} trains {best} at once)")
    return Placement(workers=best, threads=each)


def _on_gpus(request: PlacementRequest, device: torch.device, *, runs: int, per_gpu: int) -> Placement:
    workers, gpus_per_run = request.workers, request.gpus_per_run
    if device.index is not None and (workers or 1) > 1:
        raise PlacementError(f"--device {device} is one GPU; for --workers {workers} leave it out, or name cuda")
    count = 1 if device.index is not None else torch.cuda.device_count()
    if gpus_per_run is None and workers is not None:
        gpus_per_run = min(1.0, count / workers)
    if gpus_per_run is None:  # Ray would choose the GPU, so a named one trains one run at a time
        gpus_per_run = 1.0 if device.index is not None else 1 / max(1, min(per_gpu, math.ceil(runs / count)))
    room = int(count / gpus_per_run + 1e-9)
    if workers is not None and workers > room:
        raise PlacementError(
            f"--workers {workers} with --gpus-per-run {gpus_per_run:g} needs {workers * gpus_per_run:g} GPUs, there "
            f"are {count}"
        )
    best = workers or min(room, max(1, runs))
    if workers is None and best > 1 and not has_ray():
        return Placement(hint=f"one run at a time ({INSTALL} trains {best} at once)")
    several = best > 1
    threads = max(1, cores() // best) if several else None
    return Placement(workers=best, threads=threads, gpus=gpus_per_run if several else 0.0)


def if_worth(placement: Placement, requested: int | None, seconds: float) -> Placement:
    """Returns the placement, or one in this process with the same threads if the work is not worth starting workers.

    Workers that were requested are started for any work at all.
    """
    if placement.address is None and (seconds == 0 or (requested is None and seconds < WORTH_SECONDS)):
        return replace(placement, workers=1, gpus=0.0, hint="")
    return placement
