"""Analysis' only reader of MLflow: studies and runs as tidy data. It creates and writes nothing."""

import logging
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from analysis.record import RecordError, Study, parse_study
from ran import names

if TYPE_CHECKING:  # a second and more of imports that --help does not need
    import pandas as pd
    from mlflow import MlflowClient

PAGE = 1000  # runs a query; search_runs stops there unless paged
RUNNING = "running"  # no outcome yet: running now, or its process was killed
CURVES = ("train/", "val/", "test/")
FIRST_COMMAND = "python run_ablation.py --study arl_vs_nal"

RUN_COLUMNS = (
    "fingerprint", "outcome", "seed", "test_err", "val_err", "hours", "start_time", "run_id",
    "cell", "study", "profile", "dataset", "overrides", "reason",
)  # fmt: skip


# What MLflow says of a schema that is not its own; a read-only file shows when it wants to add what an old one lacks.
_HINTS = {
    "out-of-date database schema": " (another version of MLflow wrote it)",
    "readonly database": " (written by an older MLflow: `mlflow db upgrade` migrates it)",
    "Can't locate revision": " (written by a newer MLflow than is installed)",
}


class StoreError(Exception):
    """A tracking store that is missing, empty, unreadable or of another tool; the message is one line."""


@dataclass(frozen=True)
class Store:
    """What a tracking store holds: a study per parent run, all child runs, and what could not be read."""

    uri: str  # as printed, without its password
    studies: tuple[Study, ...]
    runs: "pd.DataFrame"
    problems: tuple[str, ...]


def read_store(uri: str | None = None, parent: str | None = None) -> Store:
    """Returns the studies and runs of a tracking store.

    `uri` defaults to MLFLOW_TRACKING_URI, then to sqlite:///mlflow.db. With `parent`, a run id or the hash in the tag
    ran.parent, only that parent's study is read. `runs` has the columns RUN_COLUMNS, a row per child run that is not
    deleted: errors in %, hours, start_time in UTC; what a run has not logged is NaN or "". Raises StoreError.
    """
    uri = _resolve(uri)
    shown = mask_password(uri)
    with _one_line_errors(uri):
        client = _open(uri)
        runs = _all_runs(client)
        parents = [run for run in runs if names.PARENT in run.data.tags]
        if not parents:
            raise StoreError(f"no runs of ours in {shown}: run `{FIRST_COMMAND}` first, or pass --tracking-uri")
        if parent is not None:
            parents = [run for run in parents if parent in (run.info.run_id, run.data.tags[names.PARENT])]
            if not parents:
                raise StoreError(f"no parent run {parent} in {shown}")
        studies, problems = _read_studies(client, parents)
        return Store(shown, tuple(studies), _tidy(runs), tuple(problems))


def read_results(uri: str | None = None) -> list[dict[str, Any]]:
    """Returns every finished or diverged run whole, ordered by fingerprint, each fingerprint once (the newest).

    Keys: fingerprint, tags, params, metrics (last values) and curves (name -> [[step, value], ...]); system metrics are
    left out. Raises StoreError as `read_store`.
    """
    uri = _resolve(uri)
    with _one_line_errors(uri):
        client = _open(uri)
        results = {}
        for run in sorted(_all_runs(client), key=lambda run: run.info.start_time):
            tags, metrics = run.data.tags, run.data.metrics
            if tags.get(names.OUTCOME) not in (names.FINISHED, names.DIVERGED):
                continue
            ours = {key: value for key, value in metrics.items() if not key.startswith("system/")}
            results[tags[names.FINGERPRINT]] = {
                "fingerprint": tags[names.FINGERPRINT],
                "tags": {k: v for k, v in tags.items() if k.startswith("ran.") or k == "mlflow.source.git.commit"},
                "params": dict(run.data.params),
                "metrics": ours,
                "curves": {key: _curve(client, run.info.run_id, key) for key in ours if key.startswith(CURVES)},
            }
    return [results[key] for key in sorted(results)]


def _curve(client: "MlflowClient", run_id: str, key: str) -> list[list[float]]:
    """A point a step: of one that was logged twice the later."""
    points = sorted(client.get_metric_history(run_id, key), key=lambda point: (point.step, point.timestamp))
    return [[step, value] for step, value in {point.step: point.value for point in points}.items()]


def _resolve(uri: str | None) -> str:
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def _all_runs(client: "MlflowClient") -> list[Any]:
    filter_string = f"name LIKE '{names.EXPERIMENT_PREFIX}%'"
    experiments = _pages(lambda token: client.search_experiments(filter_string=filter_string, page_token=token))
    ids = [experiment.experiment_id for experiment in experiments]
    return _pages(lambda token: client.search_runs(ids, max_results=PAGE, page_token=token)) if ids else []


def one_per_fingerprint(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Returns one row per fingerprint, indexed by it: results before others, then the newest start."""
    ranked = runs.assign(result=runs["outcome"].isin([names.FINISHED, names.DIVERGED]))
    ranked = ranked.sort_values(["result", "start_time"], kind="stable")
    return ranked.drop_duplicates("fingerprint", keep="last").drop(columns="result").set_index("fingerprint")


def mask_password(text: str) -> str:
    """Returns `text` with the passwords of the URIs in it replaced by ***."""
    text = re.sub(r"(://[^:/@\s]*):[^/\s]*@", r"\1:***@", text)
    return re.sub(r"\b(password|passwd|pwd|token)=[^&\s]+", r"\1=***", text, flags=re.IGNORECASE)


def _open(uri: str) -> "MlflowClient":
    parts = urlsplit(uri)
    dialect = parts.scheme.split("+")[0]
    if dialect in ("", "file"):
        raise StoreError(
            f"{mask_password(uri)} is no tracking store: pass a URI such as sqlite:///mlflow.db or http://host:5000"
        )
    if dialect == "sqlite":
        uri = _read_only(_sqlite_file(uri))
    elif dialect in ("http", "https"):
        # MLflow's default keeps a caller waiting for minutes when the server is dead.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import
    from mlflow import MlflowClient

    return MlflowClient(uri)


def _sqlite_file(uri: str) -> Path:
    """The existing MLflow database behind a sqlite URI; else raises before MLflow could create one."""
    name = uri.partition("://")[2].removeprefix("/").partition("?")[0]
    if name in ("", ":memory:"):
        raise StoreError(f"{uri} is a store in memory: pass the file, as in sqlite:///mlflow.db")
    path = next((path for path in (Path(name), Path(unquote(name))) if path.exists()), Path(name))
    where = f"./{path}" if not path.is_absolute() else str(path)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        where = f"./{path.relative_to(Path.cwd())}"
    if not path.is_file():
        raise StoreError(f"no tracking store at {where}: run `{FIRST_COMMAND}` first, or pass --tracking-uri")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)) as connection:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise StoreError(f"{where} cannot be read as a tracking store: {error}") from None
    if not {"alembic_version", "experiments", "runs"} <= tables:
        raise StoreError(f"{where} is not an MLflow tracking store (it lacks MLflow's tables)")
    return path.absolute()


def _read_only(path: Path) -> str:
    # The driver is named because MLflow makes the folders of a plain sqlite:/// URI, here one called "file:".
    return f"sqlite+pysqlite:///file:{quote(str(path))}?mode=ro&uri=true"


def _pages(query: Any) -> list[Any]:
    found, token = [], None
    while True:
        page = query(token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def _read_studies(client: "MlflowClient", parents: list[Any]) -> tuple[list[Study], list[str]]:
    """One study per tag ran.parent: the oldest run whose study.json can be read, as launches keep the oldest."""
    found: dict[str, Study] = {}
    problems = []
    for run in sorted(parents, key=lambda run: run.info.start_time):
        tag = run.data.tags[names.PARENT]
        if tag in found:
            continue
        try:
            found[tag] = parse_study(_artifact(client, run, names.STUDY_JSON))
        except (RecordError, OSError) as error:
            name = run.data.tags.get(names.STUDY, "?")
            problems.append(_first_line(f"parent run {run.info.run_id} of study {name} is left out: {error}"))
    if problems and not found:
        raise StoreError(problems[0])
    return list(found.values()), problems


def _artifact(client: "MlflowClient", run: Any, name: str) -> str:
    uri = urlsplit(run.info.artifact_uri)
    if uri.scheme in ("", "file"):
        return (Path(url2pathname(uri.path)) / name).read_text(encoding="utf-8")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(client.download_artifacts(run.info.run_id, name, folder)).read_text(encoding="utf-8")
        except Exception as error:  # each kind of artifact store raises its own
            raise OSError(f"{name} cannot be fetched: {error}") from error


def _tidy(runs: list[Any]) -> "pd.DataFrame":
    import pandas as pd

    rows = []
    for run in runs:
        tags, metrics = run.data.tags, run.data.metrics
        if names.PARENT in tags or names.FINGERPRINT not in tags:
            continue
        seed = tags.get(names.SEED, "")
        rows.append((
            tags[names.FINGERPRINT], tags.get(names.OUTCOME, RUNNING), int(seed) if seed.isdecimal() else -1,
            metrics.get(names.FINAL_TEST_ERR), metrics.get(names.FINAL_VAL_ERR), metrics.get(names.COST_HOURS),
            run.info.start_time, run.info.run_id, tags.get(names.CELL, ""), tags.get(names.STUDY, ""),
            tags.get(names.PROFILE, ""), tags.get(names.DATASET, ""), tags.get(names.OVERRIDES, "{}"),
            tags.get(names.REASON, ""),
        ))  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(RUN_COLUMNS))
    frame = frame.astype({"test_err": "float64", "val_err": "float64", "hours": "float64", "seed": "int64"})
    frame["start_time"] = pd.to_datetime(frame["start_time"], unit="ms", utc=True)
    return frame


@contextmanager
def _one_line_errors(uri: str) -> Iterator[None]:
    """Turns whatever MLflow, SQLAlchemy or a driver raises into one line, their logged tracebacks off the screen."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    except StoreError:
        raise
    except Exception as error:  # foreign code: any type may come
        hint = next((hint for sign, hint in _HINTS.items() if sign in str(error)), "")
        raise StoreError(f"cannot read {mask_password(uri)}: {_first_line(mask_password(str(error)))}{hint}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
