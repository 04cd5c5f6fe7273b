"""The only place where experiments read and write MLflow.

One experiment a data set, "ran/<data set>"; in it a parent run per (study, profile, data set, overrides) and a child
per cell and seed, found by its fingerprint alone.
"""

import contextlib
import getpass
import json
import logging
import os
import re
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Set before mlflow is imported: no phoning home, and a dead server is noticed in seconds instead of 247 of them.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
    MLFLOW_USER,
)

from ran import names
from ran.errors import UserError

# "Started monitoring system metrics" and the like, once a run.
logging.getLogger("mlflow").setLevel(logging.WARNING)

DEFAULT_URI = "sqlite:///mlflow.db"
BATCH = 1_000  # metrics a call: MLflow's limit
MLFLOW_STATUS = {
    names.FINISHED: "FINISHED", names.DIVERGED: "FINISHED", names.FAILED: "FAILED", names.KILLED: "KILLED",
}  # fmt: skip


class TrackingError(UserError):
    """A tracking store that cannot be used; the message is one line."""


@dataclass(frozen=True)
class Record:
    """What the store knows of one run."""

    run_id: str
    fingerprint: str
    outcome: str | None
    resumes: int
    images_per_s: float | None
    test_err: float | None
    reason: str

    @property
    def is_result(self) -> bool:
        """Whether the run is over and done with: finished, or diverged, which is a result too."""
        return self.outcome in (names.FINISHED, names.DIVERGED)


def resolve_uri(uri: str | None) -> str:
    """Returns the tracking URI: the given one, else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def _sqlite_path(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Store:
    """An MLflow store. `Store.open` for one to write to, `Store.peek` for one that must not be created."""

    def __init__(self, uri: str):
        self.uri = uri
        try:
            self.client = MlflowClient(uri)
            self.client.search_experiments(max_results=1)
        except Exception as error:  # mlflow's, sqlalchemy's, alembic's, requests': they share no base
            raise TrackingError(f"cannot use the tracking store {uri}: {_first_line(error)}") from None

    @classmethod
    def open(cls, uri: str) -> "Store":
        """Returns the store, created if it is a sqlite file that does not exist. Raises TrackingError."""
        path = _sqlite_path(uri)
        if path is not None:
            check_writable(uri)
            # Write-ahead logging stays in the file and makes writes ten times cheaper; several writers share it.
            try:
                with sqlite3.connect(path) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.Error as error:
                raise TrackingError(f"cannot use the tracking store {uri}: {error}") from None
        return cls(uri)

    @classmethod
    def peek(cls, uri: str) -> "Store | None":
        """Returns the store for reading, or None if it is a sqlite file that does not exist yet or is empty."""
        path = _sqlite_path(uri)
        if path is not None and (not path.exists() or not _holds_mlflow(path, uri)):
            return None
        return cls(uri)

    def experiment(self, dataset: str) -> str:
        """Returns the id of the data set's experiment, created if absent."""
        name = names.EXPERIMENT_PREFIX + dataset
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        path = _sqlite_path(self.uri)
        # A sqlite store keeps its artifacts beside it, whatever folder a later command is started from.
        location = None if path is None else (path.resolve().parent / "mlruns").as_uri()
        return self.client.create_experiment(name, artifact_location=location and f"{location}/{dataset}")

    def records(self, dataset: str) -> dict[str, Record]:
        """Returns all runs of a data set by fingerprint; results before attempts, then the newest."""
        found = self.client.get_experiment_by_name(names.EXPERIMENT_PREFIX + dataset)
        if found is None:
            return {}
        return _by_fingerprint(self._search(found.experiment_id, f"tags.`{names.FINGERPRINT}` != ''"))

    def record(self, dataset: str, fingerprint: str) -> Record | None:
        """Returns one run, freshly read."""
        found = self.client.get_experiment_by_name(names.EXPERIMENT_PREFIX + dataset)
        if found is None:
            return None
        runs = self._search(found.experiment_id, f"tags.`{names.FINGERPRINT}` = '{fingerprint}'")
        return _by_fingerprint(runs).get(fingerprint)

    def _search(self, experiment_id: str, filter_string: str) -> list[Run]:
        runs: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                [experiment_id], filter_string, ViewType.ACTIVE_ONLY, 1_000, ["attributes.start_time ASC"], token
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs

    def parent(self, dataset: str, key: str, name: str, tags: Mapping[str, str], note: str, study: dict) -> str:
        """Returns the id of the parent run with this key, created if absent, its study.json written anew.

        Runs that an earlier launch listed (other seeds) stay listed.
        """
        experiment_id = self.experiment(dataset)
        found = self._search(experiment_id, f"tags.`{names.PARENT}` = '{key}'")
        if found:
            run_id = found[0].info.run_id
            study = study | {"runs": _union(self._read_json(run_id, names.STUDY_JSON).get("runs", []), study["runs"])}
            self.client.update_run(run_id, status="RUNNING")
        else:
            all_tags = {**tags, names.PARENT: key, MLFLOW_RUN_NOTE: note, **_provenance()}
            run_id = self.client.create_run(experiment_id, run_name=name, tags=all_tags).info.run_id
        self.client.log_dict(run_id, study, names.STUDY_JSON)
        return run_id

    def _read_json(self, run_id: str, name: str) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                return json.loads(Path(self.client.download_artifacts(run_id, name, folder)).read_text())
            except (MlflowException, OSError, ValueError):  # a launch that died before it wrote the file
                return {}

    def finish_parent(self, run_id: str, outcome: str) -> None:
        self.client.set_terminated(run_id, MLFLOW_STATUS[outcome])

    def summarize(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        """Logs the study's own metrics on the parent, without which its chart page is empty."""
        now = int(time.time() * 1000)
        self.client.log_batch(run_id, metrics=[Metric(key, value, now, step) for key, value in metrics.items()])

    def delete(self, record: Record) -> None:
        """Moves a run to MLflow's trash (restorable), so that another may take its place."""
        self.client.delete_run(record.run_id)

    def start(
        self, *, dataset: str, digest: str, parent_id: str, name: str, fingerprint: str,
        tags: Mapping[str, str], params: Mapping[str, Any],
    ) -> "RunLog":  # fmt: skip
        """Returns the log of a new child run."""
        all_tags = {**tags, names.FINGERPRINT: fingerprint, names.RESUMES: "0", MLFLOW_PARENT_RUN_ID: parent_id}
        run = self.client.create_run(self.experiment(dataset), run_name=name, tags={**all_tags, **_provenance()})
        run_id = run.info.run_id
        self.client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])
        source = Dataset(name=dataset, digest=digest, source_type="ran", source=dataset)
        self.client.log_inputs(run_id, [DatasetInput(source)])
        return RunLog(self.client, run_id, seen=set(), resumed=False)

    def resume(self, record: Record, tags: Mapping[str, str]) -> "RunLog":
        """Returns the log of an existing child run that goes on; points that it has already are not written twice."""
        run_id = record.run_id
        self.client.update_run(run_id, status="RUNNING")
        data = self.client.get_run(run_id).data
        seen = {
            (key, point.step)
            for key in data.metrics
            if not key.startswith("system/")
            for point in self.client.get_metric_history(run_id, key)
        }
        changed = {**tags, names.RESUMES: str(record.resumes + 1)}
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in changed.items()])
        for stale in (names.OUTCOME, names.REASON):
            if stale in data.tags:
                self.client.delete_tag(run_id, stale)
        return RunLog(self.client, run_id, seen=seen, resumed=True)


class RunLog:
    """The log of one child run.

    Metrics wait in memory until `flush`, which the training loop calls before it makes their steps permanent; so after
    a kill a point is either in the store or computed again, and what is in the store already is not written twice.
    """

    def __init__(self, client: MlflowClient, run_id: str, *, seen: set[tuple[str, int]], resumed: bool):
        self.client, self.run_id = client, run_id
        self._seen = seen
        self._pending: list[Metric] = []
        self._monitor = SystemMetricsMonitor(run_id, resume_logging=resumed, tracking_uri=client.tracking_uri)
        self._monitor.start()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        for key, value in values.items():
            if (key, step) not in self._seen:
                self._seen.add((key, step))
                self._pending.append(Metric(key, value, now, step))

    def flush(self) -> None:
        while self._pending:
            self.client.log_batch(self.run_id, metrics=self._pending[:BATCH])
            del self._pending[:BATCH]

    def tag(self, name: str, value: str) -> None:
        self.client.set_tag(self.run_id, name, value)

    def artifact(self, path: Path) -> None:
        self.client.log_artifact(self.run_id, str(path))

    def json(self, name: str, content: Mapping[str, Any]) -> None:
        self.client.log_dict(self.run_id, dict(content), name)

    def text(self, name: str, content: str) -> None:
        self.client.log_text(self.run_id, content, name)

    def close(self, outcome: str, reason: str = "") -> None:
        """Ends the run. The outcome is written last: what carries one is complete."""
        self._monitor.finish()
        self.flush()
        tags = [RunTag(names.OUTCOME, outcome)]
        if reason:
            tags.insert(0, RunTag(names.REASON, reason[:500]))
        self.client.log_batch(self.run_id, tags=tags)
        self.client.set_terminated(self.run_id, MLFLOW_STATUS[outcome])


def metric_name(text: str) -> str:
    """Returns `text` without the characters that MLflow refuses in the name of a metric."""
    return re.sub(r"[^\w.\- :]", "_", text) or "all"


def _holds_mlflow(path: Path, uri: str) -> bool:
    """Whether a sqlite file has MLflow's tables; False for one without any. MLflow would add its own to any file."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise TrackingError(f"cannot use the tracking store {uri}: {error}") from None
    if tables and not tables & {"experiments", "alembic_version"}:
        raise TrackingError(f"cannot use the tracking store {uri}: {path} is another program's database")
    return bool(tables)


def check_writable(uri: str) -> None:
    """Raises TrackingError for a sqlite store that can be neither written nor created; other stores say so later."""
    path = _sqlite_path(uri)
    if path is None:
        return
    folder = path.parent
    if not folder.is_dir():
        raise TrackingError(f"cannot use the tracking store {uri}: there is no folder {folder}")
    target = path if path.exists() else folder
    if not os.access(target, os.W_OK) or not os.access(folder, os.W_OK):
        raise TrackingError(f"cannot use the tracking store {uri}: {target} is not writable")


def _by_fingerprint(runs: Iterable[Run]) -> dict[str, Record]:
    records: dict[str, Record] = {}
    for run in runs:  # oldest first
        record = _record(run)
        held = records.get(record.fingerprint)
        if held is None or not held.is_result or record.is_result:
            records[record.fingerprint] = record
    return records


def _record(run: Run) -> Record:
    tags, metrics = run.data.tags, run.data.metrics
    return Record(
        run_id=run.info.run_id,
        fingerprint=tags[names.FINGERPRINT],
        outcome=tags.get(names.OUTCOME),
        resumes=int(tags.get(names.RESUMES, "0")),
        images_per_s=metrics.get(names.COST_IMAGES_PER_S),
        test_err=metrics.get(names.FINAL_TEST_ERR),
        reason=tags.get(names.REASON, ""),
    )


def _union(old: list[dict], new: list[dict]) -> list[dict]:
    """Returns the runs of this launch and, of the same cells, the other seeds that earlier launches listed."""
    seeds = {run["seed"] for run in new}
    cells = [run["cell"] for run in new]
    kept = [run for run in old if run["seed"] not in seeds and run["cell"] in cells]
    return sorted(kept + new, key=lambda run: run["seed"])


def _provenance() -> dict[str, str]:
    """Returns who made a run and from which commit, as MLflow's own tags."""
    tags = {MLFLOW_SOURCE_NAME: "run_ablation.py"}
    try:
        tags[MLFLOW_USER] = getpass.getuser()
    except (KeyError, OSError):  # a container without a user entry
        tags[MLFLOW_USER] = "unknown"
    commit, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if commit:
        tags[MLFLOW_GIT_COMMIT] = commit
    tags[names.GIT_DIRTY] = "unknown" if status is None else str(bool(status)).lower()
    return tags


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
