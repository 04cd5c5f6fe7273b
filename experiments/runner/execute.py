"""Executes one run: lease, resume, train, record. The only caller of the training loop."""

import contextlib
import functools
import gc
import logging
import platform
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from experiments.console.progress import Reporter
from experiments.plan import PlannedRun, UserCode
from experiments.runner.artifacts import log_probes, log_results
from experiments.runner.attempts import Attempts
from experiments.runner.log_tail import Tail, listening
from experiments.runner.run_dir import (
    KEEP,
    MAX_DEATHS,
    begin_attempt,
    died_in,
    discard,
    end_attempt,
    locked,
    set_aside,
    tidy,
)
from experiments.runner.settings import RunSettings
from experiments.runner.torchrun import processes_for
from experiments.tracking import provenance
from experiments.tracking.errors import LeaseLost, StoreUnavailable, Superseded, TrackingError
from experiments.tracking.leases import Leases
from experiments.tracking.records import RunOpening, StoredRun
from experiments.tracking.run_log import RunLog
from experiments.tracking.spool import SpoolError
from experiments.tracking.store import Store
from ran.config import flatten
from ran.data.datasets import load_splits
from ran.distributed.group import LostError
from ran.engine import checkpoint
from ran.engine.device import pick_kernels
from ran.engine.train import Checkpointing, TrainHooks, train
from ran.fingerprints import SCHEMA_VERSION
from ran.models.zoo import config_spec
from ran.trained import Interface
from records import names
from records.errors import one_line
from records.files import WriteError, write_whole
from records.secrets import mask_secrets

logger = logging.getLogger(__name__)

BUSY = "busy"
"""state of a run that another launch is training now; not an outcome"""


@dataclass(frozen=True)
class Ended:
    """How a run of this launch ended."""

    run: PlannedRun
    outcome: str
    """an outcome of records.names, or BUSY"""
    reason: str = ""
    test_err: float | None = None
    tail: tuple[str, ...] = ()
    """of a failed run: where it failed, and its last log lines"""
    delivered: bool = True
    """whether the store has everything; else it waits in the run's folder"""
    halts: bool = False
    """whether the launch ends with it: the disk is full, or one of several processes died or was stopped"""
    val_err: float | None = None

    @classmethod
    def of_stored(cls, run: PlannedRun, stored: StoredRun) -> "Ended":
        """Returns how a run that is already in the tracking store ended."""
        return cls(
            run=run, outcome=str(stored.outcome), reason=stored.reason, test_err=stored.test_err, val_err=stored.val_err
        )

    @property
    def is_result(self) -> bool:
        return self.outcome in (names.FINISHED, names.DIVERGED)

    def __str__(self) -> str:
        if self.outcome == names.FINISHED and self.test_err is not None:
            return f"finished, test error {self.test_err:.2f} %"
        return f"{self.outcome}: {self.reason}" if self.reason else self.outcome


@dataclass(frozen=True)
class RunServices:
    """What a process needs to train and record the runs of a launch, besides its settings."""

    settings: RunSettings
    store: Store
    leases: Leases
    parent_id: str
    report: Reporter
    stop: Callable[[], bool]
    cut: Callable[[str], str | None] = lambda name: None
    """returns the reason to end the named run before its last step; None = no reason"""


def execute(run: PlannedRun, services: RunServices) -> Ended:
    """Trains one run to an outcome and records it. An exception of the run itself becomes `failed`."""
    settings = services.settings
    folder = settings.checkpoints / run.folder_name
    try:
        with locked(folder) as alone:
            if alone is False:
                return Ended(run=run, outcome=BUSY, reason="another launch on this machine is training it")
            with services.leases.acquire(run.folder_name, alone=alone is True) as other:
                if other is not None:
                    return Ended(run=run, outcome=BUSY, reason=f"{other} is training it")
                if settings.remote is not None:
                    settings.remote.fetch(folder.name)
                lost = False
                try:
                    return _execute(run, services, folder)
                except LeaseLost as error:  # the folder and its copy may be the other's by now: they stay as they are
                    lost = True
                    return Ended(run=run, outcome=BUSY, reason=str(error))
                finally:
                    if not lost:
                        settings.push_checkpoints(folder)
    except WriteError as error:
        return Ended(run=run, outcome=names.KILLED, reason=str(error), halts=True)
    except SpoolError as error:
        return Ended(run=run, outcome=names.KILLED, reason=str(error))


def _execute(run: PlannedRun, services: RunServices, folder: Path) -> Ended:
    settings = services.settings
    asked = True
    died = died_in(folder, services.leases.launch)  # and Ray has started the run again, perhaps elsewhere
    try:
        record = services.store.run(run.source.name, run.fingerprint)
    except StoreUnavailable:  # it trains, and its log waits; if another launch has a result too, one counts
        if run.fresh and run.stored is not None and not died:
            return Ended(
                run=run,
                outcome=names.KILLED,
                reason="not begun: --rerun replaces a run in a store that does not answer",
            )
        record, asked = (None if run.fresh and died else run.stored), False
    known = run.stored is not None and record is not None and record.run_id == run.stored.run_id
    if run.fresh and died and not known:
        run = replace(run, fresh=False)  # the earlier attempt has begun afresh
    if record is not None and not (known and run.fresh):
        # Another launch finished or failed it between the plan and the lease. What is in the folder is older.
        if record.is_result:
            tidy(folder, settings.keep)
            return Ended.of_stored(run, record)
        if record.outcome == names.FAILED and not (known and settings.retry_failed):
            return Ended(run=run, outcome=names.FAILED, reason=record.reason)
    with listening() as tail:
        ended = _train_and_record(run, record, services, folder, tail, asked=asked)
    if ended.is_result and ended.delivered:
        tidy(folder, settings.keep)
    elif ended.delivered and services.cut(run.name) is not None:
        tidy(folder, "final")
    return ended


def _train_and_record(
    run: PlannedRun, record: StoredRun | None, services: RunServices, folder: Path, tail: Tail, *, asked: bool
) -> Ended:
    """Trains, and closes the run's log whatever happens; only a process that dies leaves it open.

    `asked`: whether the store was just asked for `record`.
    """
    settings = services.settings
    if run.fresh:
        for path in checkpoint.paths(folder):
            path.unlink(missing_ok=True)
    header = checkpoint.newest(folder, run.fingerprint, verify=True)
    step = 0 if header is None else header.step
    attempts = Attempts.begin(folder, step, _attempt(run, settings), fresh=run.fresh)
    again = run.fresh or settings.retry_failed
    deaths = begin_attempt(folder, step, launch=services.leases.launch, again=again)
    settings.push_checkpoints(folder)
    services.report.run_begins(run.name, run.config, step)
    died = False
    try:
        log = _open_log(run, record, services, folder, attempts, asked=asked)
        try:
            ended = _train(run, services, folder, log, tail, deaths)
        except KeyboardInterrupt:
            # The second Ctrl-C: no further checkpoint is written; the last one stays.
            with contextlib.suppress(WriteError, TrackingError):
                log.drop_points()
                log.close(names.KILLED, "interrupted twice")
            raise
        except LeaseLost:
            raise
        except (WriteError, TrackingError) as error:  # the log itself handles a store that is away
            with contextlib.suppress(WriteError, TrackingError):
                log.drop_points()
                log.close(names.KILLED, str(error))
            raise
        except LostError as error:  # one of several processes died: as if this one had
            died = True
            log.drop_points()
            ended = Ended(run=run, outcome=names.KILLED, reason=str(error), halts=True)
        except Exception as error:
            log.drop_points()
            log.text("traceback.txt", traceback.format_exc())
            log.text("log_tail.txt", str(tail))
            said = (*_place(error), *list(tail.lines)[-3:])
            ended = Ended(run=run, outcome=names.FAILED, reason=one_line(error), tail=tuple(map(mask_secrets, said)))
        content = attempts.end(ended.outcome)
        if settings.leaves_artifacts:
            log.json(names.PROVENANCE_JSON, content)
        ended = replace(ended, delivered=log.close(ended.outcome, ended.reason))
    except LeaseLost as error:
        services.report.run_ends(run.name, f"left to another launch: {error}")
        raise
    except Superseded as error:
        discard(folder)
        ended = Ended(run=run, outcome=names.KILLED, reason=str(error))
    except TrackingError as error:  # the store refuses: the run was deleted meanwhile
        set_aside(folder)
        ended = Ended(run=run, outcome=names.KILLED, reason=str(error))
    finally:
        if not died:
            end_attempt(folder)
    if ended.outcome == names.FAILED:
        _free(settings.device)
    services.report.run_ends(run.name, str(ended))
    return ended


def _train(run: PlannedRun, services: RunServices, folder: Path, log: RunLog, tail: Tail, deaths: int) -> Ended:
    settings = services.settings
    if deaths >= MAX_DEATHS:
        raise DiedError(f"{deaths} processes in a row died in it without a step of progress; out of memory?")

    _check_code(run)

    def log_metrics(step: int, values: dict[str, float]) -> None:
        log.metrics(step, values)
        tail.metrics(step, values)
        services.report.metrics(run.name, step, values)

    splits = load_splits(run.config.data, run.seed)
    interface = Interface.of(run.source, splits.normalization) if settings.leaves_artifacts else None
    if interface is not None:
        log.json(names.MODEL_JSON, interface.to_json())
    if splits.noise is not None:
        log.tag(names.NOISE_DIGEST, splits.noise.digest)
    with processes_for(run, settings.device, settings.placement) as processes:
        result = train(
            run.config,
            splits,
            TrainHooks(
                log=log_metrics,
                flush=log.flush,
                after_save=lambda: settings.push_checkpoints(folder),
                on_step=functools.partial(services.report.step, run.name),
                stop=lambda: services.stop() or services.cut(run.name) is not None,
            ),
            num_classes=run.source.num_classes,
            fingerprint=run.fingerprint,
            device=settings.device,
            checkpoints=Checkpointing(folder, settings.checkpoint_seconds, KEEP[settings.keep]),
            processes=processes,
        )
    reason = (result.outcome == names.KILLED and services.cut(run.name)) or result.reason
    # This process was not told to stop: one that trains with it was.
    elsewhere = result.outcome == names.KILLED and not services.stop() and services.cut(run.name) is None
    test_err, val_err = result.metrics.get(names.FINAL_TEST_ERR), result.metrics.get(names.FINAL_VAL_ERR)
    ended = Ended(run=run, outcome=result.outcome, reason=reason, test_err=test_err, val_err=val_err, halts=elsewhere)
    if ended.is_result:
        log_results(run, result, log, interface)
    if ended.outcome == names.FINISHED and settings.leaves_artifacts:
        log_probes(run, result, splits, log)
    return ended


def _check_code(run: PlannedRun) -> None:
    """Raises ChangedCodeError if this process has read other code of the user's than the one that planned the run."""
    code = UserCode.of(run.config, run.source.digest)
    planned, here = ({} if found is None else found.digests for found in (run.user_code, code))
    if planned != here:
        changed = ", ".join(sorted(name for name in planned | here if planned.get(name) != here.get(name)))
        raise ChangedCodeError(
            f"{changed} was changed after the launch had begun; the same command trains the new code"
        )


class ChangedCodeError(RuntimeError):
    """A user's file that is not what the plan saw, in a worker that has started since."""


class DiedError(RuntimeError):
    """A run that killed its process in every attempt."""


def _place(error: Exception) -> tuple[str, ...]:
    """Returns the innermost line of code that raised an exception."""
    frames = traceback.extract_tb(error.__traceback__)
    return (f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}: {frames[-1].line}",) if frames else ()


def _free(device: torch.device) -> None:
    """Frees the memory that a failed run held, so that the next run has it."""
    gc.collect()
    if device.type != "cpu":
        torch.accelerator.empty_cache()


def _attempt(run: PlannedRun, settings: RunSettings) -> dict[str, Any]:
    """Returns what the entry of this attempt in provenance.json says from its beginning."""
    from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

    own, train = provenance.tags(), run.config.train
    return {
        "command": settings.command,
        "planned_seeds": list(settings.planned_seeds),
        "commit": own.get(MLFLOW_GIT_COMMIT),
        "dirty": own[names.GIT_DIRTY],
        "how": provenance.how(run.config, settings.device),
        "machine": provenance.machine(settings.device, kernels=pick_kernels(train, settings.device) == "fused"),
    }


def _open_log(
    run: PlannedRun, record: StoredRun | None, services: RunServices, folder: Path, attempts: Attempts, *, asked: bool
) -> RunLog:
    settings = services.settings
    store, absent = services.store, record is None and asked
    if record is not None and run.fresh:
        store.delete(record)
        record = None
        discard(folder)
    tags = {
        **settings.tags,
        **run.tags,
        names.HOST: platform.node(),
        names.HOW: attempts.how,
        names.SCHEMA: str(SCHEMA_VERSION),
        names.CELL: str(run.cell),
        names.SEED: str(run.seed),
        names.DATASET: run.source.name,
    }
    modules = () if run.user_code is None else run.user_code.modules
    if run.user_code is not None:
        tags |= run.user_code.tags
        if not all(provenance.is_committed(module.path) for module in modules):
            tags[names.GIT_DIRTY] = "true"
    counts = {names.COST_PARAMS: run.cost.params, names.COST_MACS: run.cost.macs}
    params: dict[str, Any] = {names.COUNTS[name]: count for name, count in counts.items()}
    params |= {**flatten(run.config), "data.digest": run.source.digest, "data.official_images": run.source.train_images}
    log = RunLog.open(store, folder, RunOpening(
        dataset=run.source.name, digest=run.source.digest, parent_id=services.parent_id, name=run.name,
        fingerprint=run.fingerprint, tags=tags, params={key: str(value) for key, value in params.items()},
        start_ms=int(time.time() * 1000), run_id=None if record is None else record.run_id,
        resumes=0 if record is None else record.resumes + 1,
    ), functools.partial(services.leases.confirm, run.folder_name), absent=absent)  # fmt: skip
    if settings.leaves_artifacts:
        log.json(names.CONFIG_JSON, flatten(run.config))
        log.json(names.SPEC_JSON, asdict(config_spec(run.config.model)))
        if diff := provenance.diff():
            write_whole(log.artifacts / names.GIT_DIFF, diff)  # its bytes, so that `git apply` accepts it
            log.artifact(names.GIT_DIFF)
        for module in modules:
            log.text(module.path.name, module.text)
    return log
