"""The argument RUN of the commands after training: the name of weights that the package contains, an MLflow run id, a
fingerprint, a checkpoint, or files of a run.

`ran.trained` reads the files; only this module also looks into the tracking store.
"""

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from experiments.tracking.errors import TrackingError
from experiments.tracking.records import StoredRun
from experiments.tracking.store import Store
from ran.engine.checkpoint import is_checkpoint, read_header
from ran.models.pretrained import pretrained_files
from ran.trained import Trained, from_run, load, metadata, read_json
from records import names
from records.errors import UserError
from records.mlflow_uri import resolve_uri

SHORTEST = 6
"""smallest number of digits of an abbreviated fingerprint"""


class RunError(UserError):
    """A RUN that does not exist, is ambiguous, or has no weights; the message is one line."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ResolvedRun:
    """A trained network and its run in the tracking store."""

    trained: Trained
    name: str
    """name of the run in the store, with the step if it is a checkpoint; path if there is no store"""
    step: int
    """number of optimizer steps of the network"""
    store: Store | None = None
    """None for files, for which nothing can be logged"""
    run_id: str | None = None


def find(run: str, uri: str | None = None) -> ResolvedRun:
    """Returns the network that `run` names; `uri` names the tracking store (None = the default).

    A folder or file, also of the package, is read without a store, but a checkpoint needs the store for its
    configuration. Raises RunError, ModelError and TrackingError.
    """
    # os.path, unlike Path, also accepts a name that no file can have.
    packaged = pretrained_files()
    if run not in packaged and os.path.isfile(run) and is_checkpoint(metadata(Path(run))):
        return _from_store(read_header(Path(run)).fingerprint, uri, weights=Path(run))
    if run in packaged or os.path.exists(run):
        trained = load(run)
        return ResolvedRun(trained=trained, name=run, step=trained.config.train.steps)
    if re.fullmatch(rf"[0-9a-f]{{{SHORTEST},64}}", run):
        return _from_store(run, uri)
    raise RunError(
        f"no run {run!r}: neither a file or folder, nor an MLflow run id, nor a fingerprint or its first {SHORTEST} or "
        f"more digits, nor weights of the package ({', '.join(packaged) or 'none'}); python -m "
        "experiments.runs lists the runs"
    )


def _from_store(digits: str, uri: str | None, weights: Path | None = None) -> ResolvedRun:
    where = resolve_uri(uri)
    store = Store.peek(where)
    if store is None:
        raise TrackingError(f"no tracking store {where}; name the store of the run with --tracking-uri")
    found = store.find(digits)
    if not found:
        raise RunError(f"{where} has no run {digits}, by id or fingerprint; python -m experiments.runs lists them")
    if len(found) > 1:
        several = ", ".join(f"{r.name} {r.run_id}" for r in found[:4])
        raise RunError(f"{digits} is ambiguous, {len(found)} runs match: {several}; give the id of one")
    run = found[0]
    with tempfile.TemporaryDirectory(prefix="ran-") as folder:
        artifacts = store.artifacts(run.run_id)
        if weights is None and names.WEIGHTS not in artifacts:
            raise RunError(_without_weights(run))
        for name in (names.CONFIG_JSON, names.MODEL_JSON):
            if name not in artifacts:
                why = "it was trained with --keep none or by an earlier version, or its artifacts were deleted"
                raise RunError(f"{run.name} ({run.run_id}) has no {name}: {why}")
        config, model = (
            read_json(store.download(run.run_id, name, Path(folder))) for name in (names.CONFIG_JSON, names.MODEL_JSON)
        )
        path = weights or store.download(run.run_id, names.WEIGHTS, Path(folder))
        trained = from_run(config, model, path)
        steps = trained.config.train.steps
        step = steps if weights is None else read_header(weights).step
        name = run.name if step == steps else f"{run.name} at step {step}/{steps}"
        return ResolvedRun(trained=trained, name=name, step=step, store=store, run_id=run.run_id)


def _without_weights(run: StoredRun) -> str:
    if run.is_result:
        why = "it was trained with --keep none, or restored from an archive, or its artifacts were deleted"
        return f"{run.name} has no weights: {why}"
    state = "is unfinished" if run.outcome is None else f"is {run.outcome}"
    return (
        f"{run.name} {state} and has no final weights; repeat its launch to continue it, or give one of its "
        f"checkpoints (checkpoints/{run.fingerprint[:16]}/step-*.safetensors) instead"
    )
