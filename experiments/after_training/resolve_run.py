"""RUN, as the commands after training name it: an MLflow run id, a fingerprint, a checkpoint, or files of a run.

The only place that resolves it. `ran.trained` reads the files and knows no tracking store.
"""

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from experiments.tracking.errors import TrackingError
from experiments.tracking.store import Store
from experiments.tracking.uri import resolve_uri
from ran.engine.checkpoint import FORMAT, read_header
from ran.trained import Trained, from_run, load, metadata, read_json
from records import names
from records.errors import UserError

SHORTEST = 6
"""hexadecimal digits that a fingerprint may be shortened to"""


class RunError(UserError):
    """A RUN that names nothing, more than one run, or one that left no network; one line."""


@dataclass(frozen=True, eq=False)
class Finished:
    """A network that was trained, and where it is on record."""

    trained: Trained
    store: Store | None
    """None for files: nothing can be logged back"""
    run_id: str | None
    name: str
    """that of the run in the store, else the path; of a checkpoint with its step"""
    step: int
    """optimizer steps that the network has taken"""


def find(run: str, uri: str | None = None) -> Finished:
    """Returns the network that `run` names; `uri` is the tracking store's (None = the usual).

    A folder or file is read as such, without a store; a checkpoint needs the store for its configuration. Raises
    RunError, ModelError and TrackingError, each in one line.
    """
    path = Path(run)
    if os.path.exists(run):  # unlike Path.exists, also of a name that no file can have
        if path.is_dir() or metadata(path).get("format") != FORMAT:
            trained = load(path)
            return Finished(trained, None, None, run, trained.config.train.steps)
        return _on_record(read_header(path).fingerprint, uri, weights=path)
    if re.fullmatch(rf"[0-9a-f]{{{SHORTEST},64}}", run):
        return _on_record(run, uri)
    raise RunError(
        f"no run {run!r}: neither a file or folder, nor an MLflow run id, nor a fingerprint or its first {SHORTEST} or "
        "more digits; python -m experiments.runs lists the runs"
    )


def _on_record(digits: str, uri: str | None, weights: Path | None = None) -> Finished:
    where = resolve_uri(uri)
    store = Store.peek(where)
    if store is None:
        raise TrackingError(f"no tracking store {where}; name the one that has the run with --tracking-uri")
    found = store.find(digits)
    if not found:
        raise RunError(f"{where} has no run {digits}, by id or fingerprint; python -m experiments.runs lists them")
    if len(found) > 1:
        several = ", ".join(f"{r.name} {r.run_id}" for r in found[:4])
        raise RunError(f"{digits} is the beginning of {len(found)} runs: {several}; name one by its id")
    run = found[0]
    with tempfile.TemporaryDirectory(prefix="ran-") as folder:
        there = store.artifacts(run.run_id)
        if weights is None and names.WEIGHTS not in there:
            raise RunError(_without_weights(run.name, run.outcome, run.fingerprint))
        if names.CONFIG_JSON not in there:
            raise RunError(f"{run.name} ({run.run_id}) left no {names.CONFIG_JSON}: it was trained with --keep none")
        config = read_json(store.download(run.run_id, names.CONFIG_JSON, Path(folder)))
        model = None
        if names.MODEL_JSON in there:
            model = read_json(store.download(run.run_id, names.MODEL_JSON, Path(folder)))
        path = weights or store.download(run.run_id, names.WEIGHTS, Path(folder))
        trained = from_run(config, model, path)
        steps = trained.config.train.steps
        step = steps if weights is None else read_header(weights).step
        name = run.name if step == steps else f"{run.name} at step {step}/{steps}"
        return Finished(trained, store, run.run_id, name, step)


def _without_weights(name: str, outcome: str | None, fingerprint: str) -> str:
    if outcome in (names.FINISHED, names.DIVERGED):
        return f"{name} left no weights: it was trained with --keep none"
    state = "was not finished" if outcome is None else f"is {outcome}"
    return (
        f"{name} {state} and has no final weights; its launch, given again, continues it, and its checkpoints "
        f"(checkpoints/{fingerprint[:16]}/step-*.safetensors) can be named in its place"
    )
