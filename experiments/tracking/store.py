"""The only place where experiments read and write MLflow.

One experiment a data set, "ran/<data set>"; in it a parent run per (study, profile, data set, overrides) and a child
per cell and seed, found by its fingerprint alone. MLflow takes a second or two to import, so it is imported where a
store is there to be asked: a dry run without one does not wait for it.
"""

import contextlib
import functools
import json
import logging
import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

# Set before mlflow is imported: no phoning home, and a server that is dead or hangs is noticed in seconds; the default
# is 7 tries of 120 s each. What cannot be delivered waits on disk (runlog.py).
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is the table's

from filelock import FileLock

from experiments.tracking import provenance
from records import names
from records.errors import UserError, mask_secrets

if TYPE_CHECKING:
    from mlflow.entities import Run

# Errors are raised to us as well as logged, with their tracebacks: we say them, in one line.
logging.getLogger("mlflow").setLevel(logging.CRITICAL)
logging.getLogger("alembic").setLevel(logging.CRITICAL)

DEFAULT_URI = "sqlite:///mlflow.db"
BATCH = 1_000  # metrics a call: MLflow's limit
MLFLOW_STATUS = {
    names.FINISHED: "FINISHED", names.DIVERGED: "FINISHED", names.FAILED: "FAILED", names.KILLED: "KILLED",
}  # fmt: skip


# What a store answers that works and does not want to: asking again changes nothing. A right that is missing can be
# granted, and a token that ran out renewed: then what was to be written waits, as for a store that is away.
REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}

F = TypeVar("F", bound=Callable[..., Any])


class TrackingError(UserError):
    """A tracking store that cannot be used, or refuses; the message is one line."""


class StoreAway(TrackingError):
    """A store that does not answer, or cannot write now: later the same may work."""


@contextlib.contextmanager
def asking(uri: str) -> Iterator[None]:
    """Turns what MLflow and what is under it raise into TrackingError, or StoreAway where later may be better."""
    try:
        yield
    except Exception as error:
        kind = _kind(error)
        if kind is None:
            raise
        raise kind(f"the tracking store {uri} {_complaint(kind, error)}") from error


def _kind(error: Exception) -> type[TrackingError] | None:
    """What an error of a store's is to us; None for one that is not a store's."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return TrackingError if error.error_code in REFUSALS else StoreAway
    away = (sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, requests.RequestException, OSError)
    return StoreAway if isinstance(error, away) else None


def _complaint(kind: type[TrackingError], error: BaseException) -> str:
    return f"{'does not answer' if kind is StoreAway else 'refuses'}: {_first_line(error)}"


def _asks(method: F) -> F:
    @functools.wraps(method)
    def ask(self: "Store", *args: Any, **options: Any) -> Any:
        with asking(self.uri):
            return method(self, *args, **options)

    return ask  # type: ignore[return-value]


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
    val_err: float | None = None

    @property
    def is_result(self) -> bool:
        """Whether the run is over and done with: finished, or diverged, which is a result too."""
        return self.outcome in (names.FINISHED, names.DIVERGED)


@dataclass(frozen=True)
class Found:
    """A run that somebody looks for."""

    run_id: str
    name: str
    fingerprint: str
    outcome: str | None
    study: str
    profile: str
    dataset: str
    test_err: float | None


def resolve_uri(uri: str | None) -> str:
    """Returns the tracking URI: the given one, else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def absolute(uri: str) -> str:
    """Returns the URI as a process with another working directory must name the store."""
    path = _sqlite_path(uri)
    return uri if path is None else f"sqlite:///{path.absolute()}"


def _sqlite_path(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _first_line(error: BaseException) -> str:
    return mask_secrets(str(error).strip() or type(error).__name__).splitlines()[0]


_our_files: set[str] = set()
"""of SQLite stores, which are synced by `Store.sync` and not by each commit"""


@functools.cache
def _syncing_later() -> None:
    import sqlalchemy.engine
    import sqlalchemy.event

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", _sync_later)


def _sync_later(connection: Any, _: Any) -> None:
    """A run makes twenty commits of MLflow's; each would wait for the disk. The file is whole without that too."""
    if isinstance(connection, sqlite3.Connection):
        files = {file for _, _, file in connection.execute("PRAGMA database_list")}
        if files & _our_files and connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            connection.execute("PRAGMA synchronous=NORMAL")


class Store:
    """An MLflow store. `Store.open` for one to write to, `Store.peek` for one that must not be created."""

    def __init__(self, uri: str):
        from mlflow import MlflowClient

        _syncing_later()
        self.uri = uri
        self._path = _sqlite_path(uri)
        if self._path is not None:
            _our_files.add(str(self._path.resolve()))
        self._experiments: dict[str, str] = {}
        """ids by data set; asked for once, as a study of thousands of runs asks again and again"""
        try:
            # The registry is the same store: claims.py agrees in it on who trains what.
            self.client = MlflowClient(uri, uri)
            self.client.search_experiments(max_results=1)
        except Exception as error:  # mlflow's, sqlalchemy's, alembic's, requests': they share no base
            raise TrackingError(f"cannot use the tracking store {uri}: {_first_line(error)}") from None

    @classmethod
    def open(cls, uri: str) -> "Store":
        """Returns the store, created if it is a sqlite file that does not exist. Raises TrackingError."""
        path = _sqlite_path(uri)
        if path is not None:
            check_writable(uri)
            lock = _creation_lock(path)
            if not path.exists() or not _holds_mlflow(path, uri) or lock.exists():
                with FileLock(lock):  # two processes that create one store at once break it
                    cls._create(path, uri)
                    lock.unlink(missing_ok=True)
        return cls(uri)

    @classmethod
    def _create(cls, path: Path, uri: str) -> None:
        try:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                # It stays in the file, makes writes ten times cheaper and lets several writers share it.
                connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.Error as error:
            raise TrackingError(f"cannot use the tracking store {uri}: {error}") from None
        cls(uri)

    @classmethod
    def peek(cls, uri: str) -> "Store | None":
        """Returns the store for reading, or None if it is a sqlite file that does not exist yet or is empty.

        While another process creates it, waits for that: MLflow would make the same tables once more.
        """
        path = _sqlite_path(uri)
        if path is not None:
            if not path.exists() or not _holds_mlflow(path, uri):
                return None
            if os.access(lock := _creation_lock(path), os.W_OK):
                with FileLock(lock):
                    return cls(uri)
        return cls(uri)

    @_asks
    def sync(self) -> None:
        """Makes what was written so far survive a power cut; a server sees to that itself."""
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):  # nothing was written since the file was last whole
                handle = os.open(f"{self._path}-wal", os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)

    @_asks
    def experiment(self, dataset: str) -> str:
        """Returns the id of the data set's experiment, created if absent."""
        from mlflow.exceptions import MlflowException

        name = names.EXPERIMENT_PREFIX + dataset
        if (known := self._experiment(dataset)) is not None:
            return known
        path = _sqlite_path(self.uri)
        # A sqlite store keeps its artifacts beside it, whatever folder a later command is started from.
        location = None if path is None else (path.resolve().parent / "mlruns").as_uri()
        try:
            return self.client.create_experiment(name, artifact_location=location and f"{location}/{dataset}")
        except MlflowException:
            found = self.client.get_experiment_by_name(name)  # another launch was faster
            if found is None:
                raise
            return found.experiment_id

    @_asks
    def records(self, dataset: str) -> dict[str, Record]:
        """Returns all runs of a data set by fingerprint; results before attempts, then the newest."""
        experiment_id = self._experiment(dataset)
        if experiment_id is None:
            return {}
        return _by_fingerprint(self._search(experiment_id, f"tags.`{names.FINGERPRINT}` != ''"))

    def _experiment(self, dataset: str) -> str | None:
        if dataset not in self._experiments:
            found = self.client.get_experiment_by_name(names.EXPERIMENT_PREFIX + dataset)
            if found is None:
                return None
            self._experiments[dataset] = found.experiment_id
        return self._experiments[dataset]

    @_asks
    def record(self, dataset: str, fingerprint: str) -> Record | None:
        """Returns one run, freshly read."""
        experiment_id = self._experiment(dataset)
        if experiment_id is None:
            return None
        runs = self._search(experiment_id, f"tags.`{names.FINGERPRINT}` = '{fingerprint}'")
        return _by_fingerprint(runs).get(fingerprint)

    @_asks
    def find(self, digits: str) -> "list[Found]":
        """Returns the run of this id, else those whose fingerprint begins so, the oldest first ("": all).

        Of several of one fingerprint only that with a result.
        """
        from mlflow.entities import ViewType
        from mlflow.exceptions import MlflowException

        if digits:
            with contextlib.suppress(MlflowException):
                run = self.client.get_run(digits)
                if names.FINGERPRINT in run.data.tags and run.info.lifecycle_stage == "active":
                    return [_found(run)]
        experiments = self.client.search_experiments(
            ViewType.ACTIVE_ONLY, filter_string=f"name LIKE '{names.EXPERIMENT_PREFIX}%'"
        )
        ids = [experiment.experiment_id for experiment in experiments]
        if not ids:
            return []
        runs = self._search(ids, f"tags.`{names.FINGERPRINT}` LIKE '{digits}%'")
        of_fingerprint = {record.run_id for record in _by_fingerprint(runs).values()}
        return [_found(run) for run in runs if run.info.run_id in of_fingerprint]

    @_asks
    def artifacts(self, run_id: str) -> set[str]:
        """Returns the names of what a run left, of the top level."""
        return {file.path for file in self.client.list_artifacts(run_id)}

    @_asks
    def download(self, run_id: str, name: str, folder: Path) -> Path:
        """Returns the path of an artifact: its copy in `folder`, or the store's own file where that is here."""
        return Path(self.client.download_artifacts(run_id, name, str(folder)))

    @_asks
    def log_json(self, run_id: str, content: Mapping[str, Any], name: str) -> None:
        """Writes an artifact, over one of the same name; `name` may have folders."""
        self.client.log_dict(run_id, dict(content), name)

    def _search(self, experiment_id: "str | list[str]", filter_string: str) -> "list[Run]":
        from mlflow.entities import ViewType

        runs: list[Run] = []
        token = None
        ids = [experiment_id] if isinstance(experiment_id, str) else experiment_id
        while True:
            page = self.client.search_runs(
                ids, filter_string, ViewType.ACTIVE_ONLY, 1_000, ["attributes.start_time ASC"], token
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs

    @_asks
    def parent(self, dataset: str, key: str, name: str, tags: Mapping[str, str], note: str, study: dict) -> str:
        """Returns the id of the parent run with this key, created if absent, its study.json written anew.

        Runs that an earlier launch listed (other seeds) stay listed.
        """
        from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

        experiment_id = self.experiment(dataset)
        found = self._search(experiment_id, f"tags.`{names.PARENT}` = '{key}'")
        if found:
            run_id = found[0].info.run_id
            before = self._study_json(run_id)
            study = study | {"runs": _union(before.get("runs", []), study["runs"])}
            self.client.update_run(run_id, status="RUNNING")
            if before == study:  # an artifact is not written at one stroke: the fewer writes the better
                return run_id
        else:
            all_tags = {**tags, names.PARENT: key, MLFLOW_RUN_NOTE: note, **provenance.tags()}
            run_id = self.client.create_run(experiment_id, run_name=name, tags=all_tags).info.run_id
        self.client.log_dict(run_id, study, names.STUDY_JSON)
        return run_id

    @_asks
    def search(self, dataset: str, key: str, name: str, tags: Mapping[str, str], note: str) -> str:
        """Returns the id of the parent run of a search with this key, created if absent."""
        from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

        experiment_id = self.experiment(dataset)
        found = self._search(experiment_id, f"tags.`{names.SEARCH}` = '{key}'")
        if found:
            self.client.update_run(found[0].info.run_id, status="RUNNING")
            return found[0].info.run_id
        all_tags = {**tags, names.SEARCH: key, MLFLOW_RUN_NOTE: note, **provenance.tags()}
        return self.client.create_run(experiment_id, run_name=name, tags=all_tags).info.run_id

    @_asks
    def log_search(self, run_id: str, content: Mapping[str, Any]) -> None:
        """Writes a search's search.json anew."""
        self.log_json(run_id, content, names.SEARCH_JSON)

    def _study_json(self, run_id: str) -> dict[str, Any]:
        """What an earlier launch left; {} where it died before the file was whole."""
        if not any(file.path == names.STUDY_JSON for file in self.client.list_artifacts(run_id)):
            return {}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(self.client.download_artifacts(run_id, names.STUDY_JSON, folder))
            with contextlib.suppress(ValueError):
                content = json.loads(path.read_bytes())
                return content if isinstance(content, dict) else {}
            return {}

    @_asks
    def finish_parent(self, run_id: str, outcome: str) -> None:
        self.client.set_terminated(run_id, MLFLOW_STATUS[outcome])

    @_asks
    def summarize(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        """Logs the study's own metrics on the parent, without which its chart page is empty."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(run_id, metrics=[Metric(key, value, now, step) for key, value in metrics.items()])

    @_asks
    def delete(self, record: Record) -> None:
        """Moves a run to MLflow's trash (restorable), so that another may take its place."""
        self.client.delete_run(record.run_id)

    @_asks
    def open_run(self, opening: "Opening", *, absent: bool = False) -> tuple[str, bool]:
        """Returns the id of the run to log to, and whether it was there before; whatever it lacks is added.

        Repeating it changes nothing, so it may be asked again when the answer was lost. `absent`: the store was just
        asked and has no such run. Raises Superseded if another launch has brought the run to a result meanwhile.
        """
        from mlflow.entities import Dataset, DatasetInput, Param
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        client, run_id = self.client, opening.run_id
        held = None
        if run_id is None and not absent:
            held = self.record(opening.dataset, opening.fingerprint)
            if held is not None and held.is_result:
                raise Superseded(f"{opening.name}: another launch has a result already")
            run_id = None if held is None else held.run_id
        tags = {**opening.tags, names.FINGERPRINT: opening.fingerprint, names.RESUMES: str(opening.resumes)}
        params = dict(opening.params)
        existed = run_id is not None
        if run_id is None:
            fixed = {MLFLOW_PARENT_RUN_ID: opening.parent_id, **provenance.tags()}
            run_id = client.create_run(
                self.experiment(opening.dataset), opening.start_ms, tags={**tags, **fixed}, run_name=opening.name
            ).info.run_id
        else:
            client.update_run(run_id, status="RUNNING")
            there = client.get_run(run_id).data
            for key in there.tags.keys() & {names.OUTCOME, names.REASON}:
                client.delete_tag(run_id, key)
            # Who made it stays, and how: --train.threads may be another now.
            changed = (names.HOST, names.RESUMES)
            tags = {key: value for key, value in tags.items() if key in changed or key not in there.tags}
            params = {key: value for key, value in params.items() if key not in there.params}
            self.set_tags(run_id, tags)
        client.log_batch(run_id, params=[Param(key, value) for key, value in params.items()])
        source = Dataset(name=opening.dataset, digest=opening.digest, source_type="ran", source=opening.dataset)
        client.log_inputs(run_id, [DatasetInput(source)])
        return run_id, existed

    @_asks
    def points(self, run_id: str) -> set[tuple[str, int]]:
        """Returns (metric, step) of every point that a run has, but for the system's."""
        keys = [key for key in self.client.get_run(run_id).data.metrics if not key.startswith("system/")]
        return {(key, point.step) for key in keys for point in self.client.get_metric_history(run_id, key)}

    @_asks
    def log_points(self, run_id: str, points: Sequence[Sequence[Any]]) -> None:
        """Writes (metric, step, value, milliseconds)."""
        from mlflow.entities import Metric

        for begin in range(0, len(points), BATCH):
            batch = [Metric(key, value, ms, step) for key, step, value, ms in points[begin : begin + BATCH]]
            self.client.log_batch(run_id, metrics=batch)

    @_asks
    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    @_asks
    def log_file(self, run_id: str, path: Path) -> None:
        self.client.log_artifact(run_id, str(path))

    @_asks
    def close_run(self, run_id: str, outcome: str, reason: str, end_ms: int) -> None:
        """Ends a run. The outcome is written last: what carries one is complete."""
        if reason:
            self.client.set_tag(run_id, names.REASON, reason)
        self.client.set_terminated(run_id, MLFLOW_STATUS[outcome], end_ms)
        self.client.set_tag(run_id, names.OUTCOME, outcome)


@dataclass(frozen=True)
class Opening:
    """What a run's log begins with: enough to create the run, or to find it again."""

    dataset: str
    digest: str
    parent_id: str
    name: str
    fingerprint: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    start_ms: int
    run_id: str | None
    """of the run that goes on; None = create it, or take one that is there after all"""
    resumes: int


class Superseded(TrackingError):
    """A run whose result another launch has delivered first."""


def metric_name(text: str) -> str:
    """Returns `text` without the characters that MLflow refuses in the name of a metric."""
    return re.sub(r"[^\w.\- :]", "_", text) or "all"


def _creation_lock(path: Path) -> Path:
    """The lock beside a sqlite store, there from before its first table until it has the last."""
    return Path(f"{path}.lock")


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


def _by_fingerprint(runs: "Iterable[Run]") -> dict[str, Record]:
    records: dict[str, Record] = {}
    for run in runs:  # oldest first
        record = _record(run)
        held = records.get(record.fingerprint)
        if held is None or not held.is_result or record.is_result:
            records[record.fingerprint] = record
    return records


def _record(run: "Run") -> Record:
    tags, metrics = run.data.tags, run.data.metrics
    return Record(
        run_id=run.info.run_id,
        fingerprint=tags[names.FINGERPRINT],
        outcome=tags.get(names.OUTCOME),
        resumes=int(resumes) if (resumes := tags.get(names.RESUMES, "0")).isdecimal() else 0,
        images_per_s=metrics.get(names.COST_IMAGES_PER_S),
        test_err=metrics.get(names.FINAL_TEST_ERR),
        reason=tags.get(names.REASON, ""),
        val_err=metrics.get(names.FINAL_VAL_ERR),
    )


def _found(run: "Run") -> Found:
    tags = run.data.tags
    return Found(
        run_id=run.info.run_id,
        name=run.info.run_name,
        fingerprint=tags[names.FINGERPRINT],
        outcome=tags.get(names.OUTCOME),
        study=tags.get(names.STUDY, ""),
        profile=tags.get(names.PROFILE, ""),
        dataset=tags.get(names.DATASET, ""),
        test_err=run.data.metrics.get(names.FINAL_TEST_ERR),
    )


def _union(old: Any, new: list[dict]) -> list[dict]:
    """Returns the runs of this launch and, of the same cells, the other seeds that earlier launches listed."""
    seeds = {run["seed"] for run in new}
    cells = [run["cell"] for run in new]
    whole = [r for r in old if isinstance(r, dict) and r.keys() == new[0].keys()] if isinstance(old, list) else []
    kept = [run for run in whole if isinstance(run["seed"], int) and run["seed"] not in seeds and run["cell"] in cells]
    return sorted(kept + new, key=lambda run: run["seed"])
