"""One run trained by several processes that torchrun starts: rank 0 runs the launch, the other ranks are workers.

Rank 0 does everything that a launch of one process does: it plans, asks, takes leases, logs, writes and prints. A
worker waits for a run, trains its part of it without output and waits for the next, until rank 0 ends the launch.
"""

import contextlib
import datetime
import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from experiments.catalog import import_module
from experiments.cli import parse_launch
from experiments.console.signals import stop_request
from experiments.placement import Placement
from experiments.plan import PlannedRun
from ran.config import RunConfig
from ran.data.datasets import load_splits
from ran.distributed.group import (
    ALONE,
    LostError,
    Processes,
    abort_on_error,
    current,
    data_group,
    is_lost,
    is_whole,
    leave,
)  # fmt: skip
from ran.engine.device import make_deterministic
from ran.engine.train import Checkpointing, TrainHooks, train
from records.errors import UserError

PATIENCE = datetime.timedelta(days=30)
"""how long workers wait for a run: rank 0 may ask a person, or wait for another launch"""


@dataclass(frozen=True)
class SharedRun:
    """What a worker must know of a run."""

    config: RunConfig
    num_classes: int
    fingerprint: str
    device: str
    """cpu or cuda"""
    threads: int
    deterministic: bool
    sync_batchnorm: bool


@contextlib.contextmanager
def processes_for(run: PlannedRun, device: torch.device, placement: Placement) -> Iterator[Processes]:
    """Yields the processes that train `run` during the block: this one alone, or the workers too, which begin with it.

    Raises AbandonedError if a worker could not continue, and LostError if one died.
    """
    group = current()
    if group.alone:
        yield ALONE
        return
    shared = SharedRun(
        config=run.config,
        num_classes=run.source.num_classes,
        fingerprint=run.fingerprint,
        device=device.type,
        threads=torch.get_num_threads(),
        deterministic=torch.are_deterministic_algorithms_enabled(),
        sync_batchnorm=placement.sync_batchnorm,
    )
    group.share(shared)
    with abort_on_error(group), data_group(device, sync_batchnorm=placement.sync_batchnorm) as processes:
        yield processes


def run_under_torchrun(launch: Callable[[], int], arguments: Sequence[str]) -> int:
    """Returns the exit status of this process, one of several that torchrun started: rank 0 calls `launch`."""
    try:
        dist.init_process_group("gloo", timeout=PATIENCE)
    except ValueError as error:
        print(f"run_ablation: {str(error).splitlines()[0]}; torchrun sets what is needed", file=sys.stderr)
        return 2
    if not current().leads:
        status = _work(arguments)
        leave(status)
        return status
    status = 1
    try:
        status = launch()
    except SystemExit as request:  # --help
        status = int(request.code or 0)
    except Exception:
        traceback.print_exc()
    if is_whole():
        with contextlib.suppress(LostError):
            current().share(None)
    leave(status)
    return status


def _work(arguments: Sequence[str]) -> int:
    """Trains what rank 0 hands out. Returns 1 if a process was lost, else 0: rank 0 reports what went wrong."""
    stderr = sys.stderr
    with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        try:
            with contextlib.suppress(UserError, SystemExit):
                for module in parse_launch(arguments)[0].imports:
                    import_module(module)
            with stop_request() as stop:
                while (shared := current().share(None)) is not None:
                    _take_part(shared, stop)
                    gc.collect()  # memory that a run held must be free for the next
                    if shared.device == "cuda":
                        torch.cuda.empty_cache()
        except LostError as lost:
            if lost.__cause__ is not None and not is_lost(lost.__cause__):
                print(f"run_ablation: process {current().rank}: {lost}", file=stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    return 0


def _take_part(shared: SharedRun, stop: Callable[[], bool]) -> None:
    try:
        with abort_on_error(current()):
            device = torch.device(shared.device)
            if shared.device == "cuda":
                device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
                torch.cuda.set_device(device)
            torch.set_num_threads(shared.threads)
            if shared.deterministic:
                make_deterministic()
            splits = load_splits(shared.config.data, shared.config.seed)
            with data_group(device, sync_batchnorm=shared.sync_batchnorm) as processes:
                train(
                    shared.config, splits, TrainHooks(stop=stop), num_classes=shared.num_classes,
                    fingerprint=shared.fingerprint, device=device, checkpoints=Checkpointing(Path(os.devnull)),
                    processes=processes,
                )  # fmt: skip
    except LostError:
        raise
    except Exception:
        pass  # `abort_on_error` has told rank 0
