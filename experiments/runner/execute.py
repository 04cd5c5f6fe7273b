"""One run: claim, resume, train, finish. The only caller of the training loop."""

import contextlib
import functools
import gc
import logging
import platform
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from experiments.console.progress import Reporter
from experiments.placement import Placement
from experiments.plan import PlannedRun
from experiments.runner.log_tail import Tail, listening
from experiments.runner.remote_checkpoints import Mirror
from experiments.runner.run_dir import KEEP, MAX_DEATHS, begin_attempt, discard, end_attempt, locked, set_aside, tidy
from experiments.runner.torchrun import leading
from experiments.tracking import provenance
from experiments.tracking.leases import Claims
from experiments.tracking.run_log import RunLog, SpoolError
from experiments.tracking.store import Opening, Record, Store, StoreAway, Superseded, TrackingError
from ran import snapshot
from ran.config import flatten
from ran.data.datasets import Splits, load_splits
from ran.distributed.group import LostError, current
from ran.engine import checkpoint
from ran.engine.checkpoint import write_tensors
from ran.engine.train import Checkpointing, Result, TrainHooks, train
from ran.models.zoo import config_spec
from ran.trained import Interface
from records import names
from records.errors import mask_secrets, one_line
from records.files import WriteError, writing

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
    """of a failure, where it happened and the last lines that the run said"""
    delivered: bool = True
    """whether the store has everything; else it waits in the run's folder"""
    halts: bool = False
    """whether the others would fare no better: the disk is full, a process of several died or was told to stop"""
    val_err: float | None = None

    @property
    def is_result(self) -> bool:
        return self.outcome in (names.FINISHED, names.DIVERGED)

    def __str__(self) -> str:
        if self.outcome == names.FINISHED and self.test_err is not None:
            return f"finished, test error {self.test_err:.2f} %"
        return f"{self.outcome}: {self.reason}" if self.reason else self.outcome


def _go_on(name: str) -> str | None:
    return None


@dataclass(frozen=True)
class Context:
    """What all runs of a launch share."""

    tags: Mapping[str, str]
    """of every run: study, profile and overrides"""
    store: Store
    claims: Claims
    parent_id: str
    checkpoints: Path
    device: torch.device
    report: Reporter
    stop: Callable[[], bool]
    keep: str = "final"
    retry_failed: bool = False
    checkpoint_seconds: float = 60.0
    cut: Callable[[str], str | None] = _go_on
    """why the run of a name shall end before its last step; None = it shall not"""
    placement: Placement = field(default_factory=Placement)
    modules: tuple[str, ...] = ()
    """that a worker imports first: names of --import, and the paths of a user's own files"""
    mirror: Mirror | None = None
    """of the checkpoints, where --checkpoints is a URI"""

    def saving(self, seconds: float | None) -> "Context":
        """Returns the context with so many seconds between two checkpoints of a run; None = as it is."""
        return self if seconds is None else replace(self, checkpoint_seconds=seconds)

    @property
    def leaves_artifacts(self) -> bool:
        """Whether a run leaves more in the store than points, parameters and tags."""
        return self.keep != "none"

    def keep_in_step(self, folder: Path) -> None:
        """Copies the folder of a run to where other machines find it, if there is such a place."""
        if self.mirror is not None:
            self.mirror.push(folder.name)


def execute(run: PlannedRun, context: Context) -> Ended:
    """Trains one run to an outcome and records it. An exception of the run itself becomes `failed`."""
    folder = context.checkpoints / run.folder_name
    try:
        with locked(folder) as alone:
            if alone is False:
                return Ended(run, BUSY, "another launch on this machine is training it")
            with context.claims.claimed(run.folder_name, alone=alone is True) as other:
                if other is not None:
                    return Ended(run, BUSY, f"{other} is training it")
                if context.mirror is not None:
                    context.mirror.fetch(folder.name)
                try:
                    return _execute(run, context, folder)
                finally:
                    context.keep_in_step(folder)
    except WriteError as error:
        return Ended(run, names.KILLED, str(error), halts=True)
    except SpoolError as error:
        return Ended(run, names.KILLED, str(error))


def _execute(run: PlannedRun, context: Context, folder: Path) -> Ended:
    asked = True
    try:
        record = context.store.record(run.source.name, run.fingerprint)
    except StoreAway:  # it trains all the same, and its log waits; if another launch has a result too, one counts
        if run.fresh and run.record is not None:
            return Ended(run, names.KILLED, "not begun: --rerun replaces a run in a store that does not answer")
        record, asked = run.record, False
    known = run.record is not None and record is not None and record.run_id == run.record.run_id
    if record is not None and not (known and run.fresh):
        # Another launch got here between the plan and the claim.
        if record.is_result:
            return Ended(run, str(record.outcome), record.reason, record.test_err, val_err=record.val_err)
        if record.outcome == names.FAILED and not (known and context.retry_failed):
            return Ended(run, names.FAILED, record.reason)
    with listening() as tail:
        ended = _train_and_record(run, record, context, folder, tail, asked=asked)
    if ended.is_result and ended.delivered:
        tidy(folder, context.keep)
    elif ended.delivered and context.cut(run.name) is not None:
        tidy(folder, "final")
    return ended


def _train_and_record(
    run: PlannedRun, record: Record | None, context: Context, folder: Path, tail: Tail, *, asked: bool
) -> Ended:
    """Trains, and closes the run's log whatever happens: only a process that dies leaves it open.

    `asked`: `record` is the store's own word, of this moment.
    """
    if run.fresh:
        for path in checkpoint.paths(folder):
            path.unlink(missing_ok=True)
    header = checkpoint.newest(folder, run.fingerprint, verify=True)
    step = 0 if header is None else header.step
    deaths = begin_attempt(folder, step, again=run.fresh or context.retry_failed)
    context.keep_in_step(folder)
    context.report.run_begins(run.name, run.config, step)
    died = False
    try:
        log = _open_log(run, record, context, folder, asked=asked)
        try:
            ended = _train(run, context, folder, log, tail, deaths)
        except KeyboardInterrupt:
            # The second Ctrl-C: no checkpoint is written, the last one stays.
            with contextlib.suppress(WriteError, TrackingError):
                log.drop_points()
                log.close(names.KILLED, "interrupted twice")
            raise
        except (WriteError, TrackingError) as error:  # of a store that is away the log itself takes care
            with contextlib.suppress(WriteError, TrackingError):
                log.drop_points()
                log.close(names.KILLED, str(error))
            raise
        except LostError as error:  # a process that trained it too died: as if this one had
            died = True
            log.drop_points()
            ended = Ended(run, names.KILLED, str(error), halts=True)
        except Exception as error:
            log.drop_points()
            log.text("traceback.txt", traceback.format_exc())
            log.text("log_tail.txt", str(tail))
            said = (*_place(error), *list(tail.lines)[-3:])
            ended = Ended(run, names.FAILED, one_line(error), tail=tuple(map(mask_secrets, said)))
        ended = replace(ended, delivered=log.close(ended.outcome, ended.reason))
    except Superseded as error:
        discard(folder)
        ended = Ended(run, names.KILLED, str(error))
    except TrackingError as error:  # it refuses: the run was deleted meanwhile
        set_aside(folder)
        ended = Ended(run, names.KILLED, str(error))
    finally:
        if not died:
            end_attempt(folder)
    if ended.outcome == names.FAILED:
        _free(context.device)
    context.report.run_ends(run.name, str(ended))
    return ended


def _train(run: PlannedRun, context: Context, folder: Path, log: RunLog, tail: Tail, deaths: int) -> Ended:
    if deaths >= MAX_DEATHS:
        raise DiedError(f"{deaths} processes in a row died in it without a step of progress; out of memory?")

    def log_metrics(step: int, values: dict[str, float]) -> None:
        log.metrics(step, values)
        tail.metrics(step, values)
        context.report.metrics(run.name, step, values)

    splits = load_splits(run.config.data, run.seed)
    if context.leaves_artifacts:
        log.json(names.MODEL_JSON, Interface.of(run.source, splits.normalization).to_json())
    if splits.noise is not None:
        log.tag(names.NOISE_DIGEST, splits.noise.digest)
    with leading(run, context.device, context.placement) as processes:
        result = train(
            run.config,
            splits,
            TrainHooks(
                log=log_metrics,
                flush=log.flush,
                after_save=lambda: context.keep_in_step(folder),
                on_step=functools.partial(context.report.step, run.name),
                stop=lambda: context.stop() or context.cut(run.name) is not None,
            ),
            num_classes=run.source.num_classes,
            fingerprint=run.fingerprint,
            device=context.device,
            checkpoints=Checkpointing(folder, seconds=context.checkpoint_seconds, keep=KEEP[context.keep]),
            processes=processes,
        )
    reason = (result.outcome == names.KILLED and context.cut(run.name)) or result.reason
    # Nobody here asked: a process that trains with this one was told to stop.
    elsewhere = result.outcome == names.KILLED and not context.stop() and context.cut(run.name) is None
    test_err, val_err = result.metrics.get(names.FINAL_TEST_ERR), result.metrics.get(names.FINAL_VAL_ERR)
    ended = Ended(run, result.outcome, reason, test_err, halts=elsewhere, val_err=val_err)
    if ended.is_result:
        _leave_results(run, result, log, weights=context.leaves_artifacts)
    if ended.outcome == names.FINISHED and context.leaves_artifacts:
        _leave_probes(run, result, splits, log)
    return ended


class DiedError(RuntimeError):
    """A run that killed its process each time."""


def _place(error: Exception) -> tuple[str, ...]:
    """Where an exception was raised: the innermost line of somebody's code."""
    frames = traceback.extract_tb(error.__traceback__)
    return (f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}: {frames[-1].line}",) if frames else ()


def _free(device: torch.device) -> None:
    """What a run that failed for want of memory held must not fail the next one."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _open_log(run: PlannedRun, record: Record | None, context: Context, folder: Path, *, asked: bool) -> RunLog:
    store, absent = context.store, record is None and asked
    if record is not None and run.fresh:
        store.delete(record)
        record = None
        discard(folder)
    tags = {
        **context.tags,
        **run.tags,
        names.HOST: _host(context.device),
        names.CELL: str(run.cell),
        names.SEED: str(run.seed),
        names.DATASET: run.source.name,
    }
    params = {**flatten(run.config), "data.digest": run.source.digest, "data.official_images": run.source.train_images}
    log = RunLog.open(store, folder, Opening(
        dataset=run.source.name, digest=run.source.digest, parent_id=context.parent_id, name=run.name,
        fingerprint=run.fingerprint, tags=tags, params={key: str(value) for key, value in params.items()},
        start_ms=int(time.time() * 1000), run_id=None if record is None else record.run_id,
        resumes=0 if record is None else record.resumes + 1,
    ), absent=absent)  # fmt: skip
    if context.leaves_artifacts:
        log.json(names.CONFIG_JSON, flatten(run.config))
        log.json(names.SPEC_JSON, asdict(config_spec(run.config.model)))
        if diff := provenance.diff():
            log.text(names.GIT_DIFF, diff)
    return log


def _leave_results(run: PlannedRun, result: Result, log: RunLog, *, weights: bool) -> None:
    final = {**result.metrics, names.COST_PARAMS: run.cost.params, names.COST_MACS: run.cost.macs}
    if result.outcome == names.DIVERGED:
        final[names.DIVERGED_STEP] = result.step
    log.metrics(result.step, final)
    if weights:
        write_tensors(log.artifacts / names.WEIGHTS, result.network.state_dict(), {"fingerprint": run.fingerprint})
        log.artifact(names.WEIGHTS)


def _leave_probes(run: PlannedRun, result: Result, splits: Splits, log: RunLog) -> None:
    """What the figures are drawn from. A network of the user's that cannot be probed does not lose its run."""
    device = next(result.network.parameters()).device
    pixels = splits.normalization.to(device)
    test = splits.test.to(device)
    try:
        probes = snapshot.probes(result.network, test.images, pixels)
        masks = snapshot.masks(result.network, test.images, test.labels, run.source.classes, pixels)
    except Exception:
        logger.warning("%s: the network could not be probed; probe_error.txt says why", run.name)
        log.text("probe_error.txt", traceback.format_exc())
        return
    log.json(names.PROBES_JSON, probes)
    if masks is not None:
        with writing(log.artifacts / names.MASKS_NPZ):
            np.savez_compressed(log.artifacts / names.MASKS_NPZ, allow_pickle=False, **masks)
        log.artifact(names.MASKS_NPZ)


def _host(device: torch.device) -> str:
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} cpu"
    mode = ", deterministic" if torch.are_deterministic_algorithms_enabled() else ""
    count = current().world
    each = "" if count == 1 else f"{count} processes of "
    return f"{platform.node()}, {kind}, {each}{torch.get_num_threads()} threads, torch {torch.__version__}{mode}"
