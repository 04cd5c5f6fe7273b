"""One run trained by several processes: torchrun starts them, the first leads, the others follow.

The leader does all that a launch does alone: it plans, asks, claims, logs, writes and prints. A follower waits for a
run, trains its part of it in silence and waits for the next, until it is dismissed.
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
from experiments.cli import Launch, parse_launch
from experiments.console.signals import stop_request
from experiments.placement import Placement
from experiments.plan import Plan, PlannedRun
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
from ran.distributed.micro_batches import check_sharing
from ran.engine.device import make_deterministic
from ran.engine.train import Checkpointing, TrainHooks, train
from records.errors import UserError

PATIENCE = datetime.timedelta(days=30)
"""how long followers wait for a run: the leader may ask a person, or wait for another launch"""


class TogetherError(UserError):
    """A launch that several processes cannot share; one line that says what to do."""


@dataclass(frozen=True)
class Job:
    """What a follower must know of a run."""

    config: RunConfig
    num_classes: int
    fingerprint: str
    device: str
    """cpu or cuda"""
    threads: int
    deterministic: bool
    sync_batchnorm: bool


def check_flags(launch: Launch) -> None:
    """Raises TogetherError for flags that several processes, or one alone, cannot follow."""
    count = current().world
    if launch.sync_batchnorm and count == 1:
        raise TogetherError("--sync-batchnorm is for several processes on GPUs: start the command with torchrun")
    if launch.search is not None and not launch.confirm and count > 1:
        raise TogetherError("--search trains many runs: start it without torchrun, with --workers for several at once")
    given = {"--workers": launch.workers not in (None, 1), "--gpus-per-run": launch.gpus_per_run is not None,
             "--ray-address": launch.ray_address is not None}  # fmt: skip
    for flag in (flag for flag, is_given in given.items() if is_given and count > 1):
        raise TogetherError(f"{flag} trains several runs at once, torchrun one run in {count} processes: choose one")


def place_together(launch: Launch, plan: Plan, device: torch.device) -> Placement | None:
    """Returns where the runs train if several processes share each; None with one process. Raises UserError."""
    count = current().world
    if count == 1:
        return None
    if launch.sync_batchnorm and device.type != "cuda":
        raise TogetherError(f"--sync-batchnorm works on GPUs only (--device {device}): leave it out")
    if device.index is not None:
        raise TogetherError(f"--device {device} is one GPU, and {count} processes take one each: leave it out")
    here, there_are = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if device.type == "cuda" and here > there_are:
        raise TogetherError(f"{here} processes need {here} GPUs on this machine, there are {there_are}")
    for train_config in {run.config.train for run in plan.runs}:
        check_sharing(
            train_config.batch_size, train_config.micro_batch, count, sync_batchnorm=launch.sync_batchnorm
        )  # fmt: skip
    return Placement(processes=count, sync_batchnorm=launch.sync_batchnorm)


@contextlib.contextmanager
def leading(run: PlannedRun, device: torch.device, placement: Placement) -> Iterator[Processes]:
    """Yields those that train `run`, for the time of the block: this process alone, or the followers too, who begin.

    Raises AbandonedError where a follower could not go on, and LostError where one died.
    """
    group = current()
    if group.alone:
        yield ALONE
        return
    group.share(Job(
        run.config, run.source.num_classes, run.fingerprint, device.type, torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(), placement.sync_batchnorm,
    ))  # fmt: skip
    with abort_on_error(group), data_group(device, sync_batchnorm=placement.sync_batchnorm) as processes:
        yield processes


def together(lead: Callable[[], int], arguments: Sequence[str]) -> int:
    """Returns the exit status of this one of the processes that torchrun started: of `lead`, or a follower's."""
    try:
        dist.init_process_group("gloo", timeout=PATIENCE)
    except ValueError as error:
        print(f"run_ablation: {str(error).splitlines()[0]}; torchrun sets what is needed", file=sys.stderr)
        return 2
    if not current().leads:
        status = _follow(arguments)
        leave(status)
        return status
    status = 1
    try:
        status = lead()
    except SystemExit as request:  # --help
        status = int(request.code or 0)
    except Exception:
        traceback.print_exc()
    if is_whole():
        with contextlib.suppress(LostError):
            current().share(None)
    leave(status)
    return status


def _follow(arguments: Sequence[str]) -> int:
    """Trains what the leader hands out. Returns 1 if a process was lost, else 0: the leader says what went wrong."""
    loud = sys.stderr
    with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        try:
            with contextlib.suppress(UserError, SystemExit):
                for module in parse_launch(arguments)[0].imports:
                    import_module(module)
            with stop_request() as stop:
                while (job := current().share(None)) is not None:
                    _take_part(job, stop)
                    gc.collect()  # what a run held must not be missing in the next
                    if job.device == "cuda":
                        torch.cuda.empty_cache()
        except LostError as lost:
            if lost.__cause__ is not None and not is_lost(lost.__cause__):
                print(f"run_ablation: process {current().rank}: {lost}", file=loud)
            return 1
        except KeyboardInterrupt:
            return 130
    return 0


def _take_part(job: Job, stop: Callable[[], bool]) -> None:
    try:
        with abort_on_error(current()):
            device = torch.device(job.device)
            if job.device == "cuda":
                device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
                torch.cuda.set_device(device)
            torch.set_num_threads(job.threads)
            if job.deterministic:
                make_deterministic()
            splits = load_splits(job.config.data, job.config.seed)
            with data_group(device, sync_batchnorm=job.sync_batchnorm) as processes:
                train(
                    job.config, splits, TrainHooks(stop=stop), num_classes=job.num_classes,
                    fingerprint=job.fingerprint, device=device, checkpoints=Checkpointing(Path(os.devnull)),
                    processes=processes,
                )  # fmt: skip
    except LostError:
        raise
    except Exception:
        pass  # the leader was told
