"""One run: claim, resume, train, finish. The only caller of the training loop."""

import contextlib
import logging
import platform
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout

from experiments.plan import Plan, PlannedRun
from experiments.progress import Reporter
from experiments.tracking import Record, RunLog, Store
from ran import names, snapshot
from ran.config import flatten
from ran.data.datasets import Splits, load_splits
from ran.engine import checkpoint
from ran.engine.checkpoint import write_tensors
from ran.engine.train import Result, train
from ran.errors import one_line
from ran.models.zoo import config_spec

logger = logging.getLogger(__name__)

BUSY = "busy"
"""state of a run that another launch is training now; not an outcome"""


@dataclass(frozen=True)
class Ended:
    """How a run of this launch ended."""

    run: PlannedRun
    outcome: str
    """an outcome of ran.names, or BUSY"""
    reason: str = ""
    test_err: float | None = None

    def __str__(self) -> str:
        if self.outcome == names.FINISHED and self.test_err is not None:
            return f"finished, test error {self.test_err:.2f} %"
        return f"{self.outcome}: {self.reason}" if self.reason else self.outcome


@dataclass(frozen=True)
class Context:
    """What all runs of a launch share."""

    plan: Plan
    store: Store
    parent_id: str
    checkpoints: Path
    device: torch.device
    report: Reporter
    stop: Callable[[], bool]
    checkpoint_seconds: float = 60.0


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Holds the lock of a run's folder; False if another process of this machine has it.

    The kernel releases the lock of a process that dies, so a dead owner never blocks a run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def execute(run: PlannedRun, context: Context) -> Ended:
    """Trains one run to an outcome and records it. An exception of the run itself becomes `failed`."""
    folder = context.checkpoints / run.folder_name
    with claimed(folder) as mine:
        if not mine:
            return Ended(run, BUSY, "another launch is training it")
        record = context.store.record(run.source.name, run.fingerprint)
        replaced = run.fresh and record is not None and run.record is not None and record.run_id == run.record.run_id
        if record is not None and record.is_result and not replaced:
            # Another launch got here between the plan and the claim.
            return Ended(run, str(record.outcome), record.reason, record.test_err)
        ended = _train_and_record(run, record, context, folder)
    if ended.outcome in (names.FINISHED, names.DIVERGED):
        shutil.rmtree(folder, ignore_errors=True)
    return ended


def _train_and_record(run: PlannedRun, record: Record | None, context: Context, folder: Path) -> Ended:
    if run.fresh:
        (folder / checkpoint.NAME).unlink(missing_ok=True)
    log = _open_log(run, record, context)
    report = context.report

    def log_metrics(step: int, values: dict[str, float]) -> None:
        log.metrics(step, values)
        report.metrics(step, values)

    report.run_begins(run.name, run.config, run.step)
    try:
        splits = load_splits(run.config.data, run.seed)
        if splits.noise is not None:
            log.tag(names.NOISE_DIGEST, splits.noise.digest)
        result = train(
            run.config,
            splits,
            num_classes=run.source.num_classes,
            fingerprint=run.fingerprint,
            device=context.device,
            folder=folder,
            log=log_metrics,
            flush=log.flush,
            on_step=report.step,
            stop=context.stop,
            checkpoint_seconds=context.checkpoint_seconds,
        )
        ended = _ended(run, result)
        if ended.outcome != names.KILLED:
            _leave_results(run, result, log)
        if ended.outcome == names.FINISHED:
            _leave_probes(run, result, splits, log)
    except KeyboardInterrupt:
        # The second Ctrl-C: no checkpoint is written, the last one stays.
        log.close(names.KILLED, "interrupted twice")
        raise
    except Exception as error:
        log.text("traceback.txt", traceback.format_exc())
        ended = Ended(run, names.FAILED, one_line(error))
    log.close(ended.outcome, ended.reason)
    report.run_ends(run.name, str(ended))
    return ended


def _open_log(run: PlannedRun, record: Record | None, context: Context) -> RunLog:
    plan, store = context.plan, context.store
    here = {names.HOST: _host(context.device)}
    if record is not None and not run.fresh:
        return store.resume(record, here)
    if record is not None:
        store.delete(record)
    tags = here | {
        names.STUDY: plan.study.name,
        names.CELL: str(run.cell),
        names.SEED: str(run.seed),
        names.PROFILE: plan.profile.tag,
        names.DATASET: run.source.name,
        names.OVERRIDES: plan.overrides_json,
    }
    params = {**flatten(run.config), "data.digest": run.source.digest, "data.official_images": run.source.train_images}
    log = store.start(
        dataset=run.source.name, digest=run.source.digest, parent_id=context.parent_id, name=run.name,
        fingerprint=run.fingerprint, tags=tags, params=params,
    )  # fmt: skip
    log.json(names.CONFIG_JSON, flatten(run.config))
    log.json(names.SPEC_JSON, asdict(config_spec(run.config.model)))
    return log


def _ended(run: PlannedRun, result: Result) -> Ended:
    match result.outcome:
        case names.DIVERGED:
            return Ended(run, names.DIVERGED, f"loss not finite by step {result.step}")
        case names.KILLED:
            return Ended(run, names.KILLED, f"stopped at step {result.step}/{run.config.train.steps}")
        case _:
            return Ended(run, names.FINISHED, test_err=result.metrics[names.FINAL_TEST_ERR])


def _leave_results(run: PlannedRun, result: Result, log: RunLog) -> None:
    final = {**result.metrics, names.COST_PARAMS: run.cost.params, names.COST_MACS: run.cost.macs}
    if result.outcome == names.DIVERGED:
        final[names.DIVERGED_STEP] = result.step
    log.metrics(result.step, final)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / names.WEIGHTS
        write_tensors(path, result.network.state_dict(), {"fingerprint": run.fingerprint})
        log.artifact(path)


def _leave_probes(run: PlannedRun, result: Result, splits: Splits, log: RunLog) -> None:
    """What the figures are drawn from. A network of the user's that cannot be probed does not lose its run."""
    device = next(result.network.parameters()).device
    pixels = splits.pixels.to(device)
    images, labels = splits.test.images.to(device), splits.test.labels.to(device)
    try:
        probes = snapshot.probes(result.network, images, pixels)
        masks = snapshot.masks(result.network, images, labels, run.source.classes, pixels)
    except Exception:
        logger.warning("%s: the network could not be probed; probe_error.txt says why", run.name)
        log.text("probe_error.txt", traceback.format_exc())
        return
    log.json(names.PROBES_JSON, probes)
    if masks is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / names.MASKS_NPZ
            np.savez_compressed(path, allow_pickle=False, **masks)
            log.artifact(path)


def _host(device: torch.device) -> str:
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} cpu"
    return f"{platform.node()}, {kind}, {torch.get_num_threads()} threads, torch {torch.__version__}"
