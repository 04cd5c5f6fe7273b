"""Reads studies and runs from MLflow, as tidy data; nothing is created or written. No other module of analysis does."""

import math
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.read.mlflow_client import (
    FIRST_COMMAND,
    NoRunsError,
    connect,
    one_line_errors,
    query,
    sqlite_file,
)  # fmt: skip
from analysis.read.mlflow_client import StoreError as StoreError
from analysis.read.runs import COMMIT, CURVES, Curves, RunData, StudyParent, group_runs, tidy
from analysis.read.runs import RUN_COLUMNS as RUN_COLUMNS
from analysis.read.runs import RUNNING as RUNNING
from analysis.read.sane_run import checked, checked_curves, checked_json, checked_parent
from records import names
from records.artifact_place import local_folder, moved_to
from records.collector import collector_paused
from records.errors import first_line
from records.experiments import our_experiments
from records.mlflow_uri import resolve_uri
from records.reading import UnreadableError, parse_json, read_bytes
from records.sane import OutOfRangeError
from records.search_json import SearchRecord
from records.secrets import mask_secrets
from records.study_json import StudyRecord

if TYPE_CHECKING:  # a second and more of imports that --help does not need
    import pandas as pd
    from mlflow import MlflowClient

Point = tuple[int, int, float]
"""(step, ms since 1970, value)"""
PAGE = 1000  # runs per query; more runs need paging
MOST_BYTES = 256 * 2**20  # of an artifact
NOTE = "mlflow.note.content"  # MLflow's tag of a run's description


@dataclass(frozen=True)
class TrackedStudies:
    """The studies of a tracking store, one per parent run, and its child runs as a DataFrame, one per fingerprint."""

    uri: str  # as printed, without its password
    studies: tuple[StudyRecord, ...]
    runs: "pd.DataFrame"
    problems: tuple[str, ...]
    kept: Mapping[str, Sequence[RunData]] = field(default_factory=dict, repr=False, compare=False)
    """the runs with their artifacts, by fingerprint"""


@dataclass(frozen=True)
class ParentRun:
    """A parent run with a readable study.json."""

    run_id: str
    parent: StudyParent
    record: StudyRecord


@dataclass(frozen=True)
class StoreContents:
    """The content of a tracking store: parents (oldest first, one per tag ran.parent) and child runs."""

    uri: str  # as printed, without its password
    parents: tuple[ParentRun, ...]
    runs: tuple[RunData, ...]
    problems: tuple[str, ...]
    experiments: tuple[str, ...]  # names of all our experiments in the store


def read_store(uri: str | None = None, parent: str | None = None) -> TrackedStudies:
    """Returns the studies and runs of a tracking store.

    `uri` defaults to MLFLOW_TRACKING_URI, then to sqlite:///mlflow.db. With `parent`, a run id or the hash in the tag
    ran.parent, only that parent's study is read. `runs` is the result of runs.tidy for the child runs that are not
    deleted: errors in %, hours, start_time in UTC. Raises StoreError.
    """
    store = read_contents(uri, parent=parent)
    if not store.parents:
        raise StoreError(store.problems[0] if store.problems else _nothing(store.uri))
    studies = tuple(found.record for found in store.parents)
    return TrackedStudies(
        uri=store.uri,
        studies=studies,
        runs=tidy(store.runs),
        problems=store.problems,
        kept={fingerprint: group.copies for fingerprint, group in group_runs(store.runs).items()},
    )


def read_contents(uri: str | None = None, *, parent: str | None = None, experiment: str | None = None) -> StoreContents:
    """Returns the content of a tracking store, or only of one parent or one experiment ("ran/<data set>").

    Curves and artifacts are read on demand. An experiment that is not in the store gives no runs. Raises StoreError,
    and its subclass NoRunsError if there is no store or it has no runs of ours.
    """
    uri = resolve_uri(uri)
    shown = mask_secrets(uri)
    with one_line_errors(uri), collector_paused():
        client, file = connect(uri), sqlite_file(uri)
        experiments = _experiments(client)
        chosen = [key for key, name in experiments.items() if experiment in (None, name)]
        found = _pages(lambda token: client.search_runs(chosen, max_results=PAGE, page_token=token)) if chosen else []
        parents = sorted((run for run in found if names.PARENT in run.data.tags), key=lambda run: run.info.start_time)
        children = [run for run in found if names.FINGERPRINT in run.data.tags and names.PARENT not in run.data.tags]
        if not experiments or (experiment is None and not parents and not children):
            raise NoRunsError(_nothing(shown))
        if parent is not None:
            parents = [run for run in parents if parent in (run.info.run_id, run.data.tags[names.PARENT])]
            if not parents:
                raise StoreError(f"no parent run {parent} in {shown}")
        readable, problems = _read_parents(client, uri, parents)
        runs = tuple(_checked_runs((_run(client, uri, file, run) for run in children), problems))
        return StoreContents(
            uri=shown,
            parents=tuple(readable),
            runs=runs,
            problems=tuple(problems),
            experiments=tuple(sorted(experiments.values())),
        )


def read_searches(
    uri: str | None = None, *, experiment: str | None = None
) -> tuple[list[SearchRecord], list[str], str]:
    """Returns the searches of a tracking store, oldest first, messages about unreadable ones, and the URI as printed.

    Raises StoreError.
    """
    uri = resolve_uri(uri)
    with one_line_errors(uri):
        client = connect(uri)
        sqlite_file(uri)
        chosen = [key for key, name in _experiments(client).items() if experiment in (None, name)]
        found = _pages(lambda token: client.search_runs(
            chosen, f"tags.`{names.SEARCH}` != ''", max_results=PAGE, page_token=token
        )) if chosen else []  # fmt: skip
        searches, problems = [], []
        for run in sorted(found, key=lambda run: run.info.start_time):
            try:
                searches.append(SearchRecord.from_json(parse_json(_artifact(client, uri, run, names.SEARCH_JSON))))
            except (OSError, ValueError) as error:
                name = run.data.tags.get(names.STUDY, "?")
                problems.append(first_line(f"parent run {run.info.run_id} of search {name} is left out: {error}"))
    return searches, problems, mask_secrets(uri)


def _nothing(shown: str) -> str:
    return f"no runs of ours in {shown}: run `{FIRST_COMMAND}` first, or pass --tracking-uri"


def _experiments(client: "MlflowClient") -> dict[str, str]:
    """Ids and names of all our experiments."""
    return {experiment.experiment_id: experiment.name for experiment in our_experiments(client)}


def _pages(query: Any) -> list[Any]:
    found, token = [], None
    while True:
        page = query(token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def _read_parents(client: "MlflowClient", uri: str, runs: Sequence[Any]) -> tuple[list[ParentRun], list[str]]:
    """The oldest readable parent per tag ran.parent (launches keep the oldest, too), and messages about the others."""
    found: dict[str, ParentRun] = {}
    problems = []
    for run in runs:
        tag = run.data.tags[names.PARENT]
        if tag in found:
            continue
        try:
            record = StudyRecord.from_json(parse_json(_artifact(client, uri, run, names.STUDY_JSON)))
            parent = checked_parent(StudyParent(
                key=tag, name=run.info.run_name or "", tags=_our_tags(run), note=run.data.tags.get(NOTE, "")
            ))  # fmt: skip
            found[tag] = ParentRun(run.info.run_id, parent, record)
        except (OSError, ValueError) as error:
            name = run.data.tags.get(names.STUDY, "?")
            problems.append(first_line(f"parent run {run.info.run_id} of study {name} is left out: {error}"))
    return list(found.values()), problems


def _checked_runs(runs: Iterable[RunData], problems: list[str]) -> Iterator[RunData]:
    """The runs whose values runs of ours can have; a message for each of the others."""
    for run in runs:
        try:
            yield checked(run)
        except (OutOfRangeError, TypeError) as error:
            problems.append(f"run {run.run_id} is left out: {error}")


def _run(client: "MlflowClient", uri: str, file: Path | None, run: Any) -> RunData:
    stored = {key: value for key, value in run.data.metrics.items() if not key.startswith("system/")}

    def curves() -> Curves:
        with one_line_errors(uri):
            wanted = [key for key in sorted(stored) if names.current_metric(key).startswith(CURVES)]
            try:
                if file is not None:
                    with suppress(sqlite3.Error):  # another table layout in a later MLflow
                        return checked_curves(curves_by_query(file, run.info.run_id, wanted))
                return checked_curves(curves_by_client(client, run.info.run_id, wanted))
            except (OutOfRangeError, TypeError):
                return {}

    def artifact(name: str) -> bytes | None:
        try:
            with one_line_errors(uri):
                content = _artifact(client, uri, run, name)
                return checked_json(name, content) if name.endswith(".json") else content
        except (StoreError, OSError):
            return None

    return RunData(
        fingerprint=run.data.tags[names.FINGERPRINT],
        source=mask_secrets(uri),
        run_id=run.info.run_id,
        start_time=run.info.start_time,
        tags=_our_tags(run),
        params=run.data.params,
        metrics=names.current_metrics(stored),
        curves=curves,
        artifact=artifact,
        name=run.info.run_name or "",
        end_time=run.info.end_time,
    )


def _our_tags(run: Any) -> dict[str, str]:
    return {key: value for key, value in run.data.tags.items() if key.startswith("ran.") or key == COMMIT}


def curves_by_client(client: "MlflowClient", run_id: str, wanted: Sequence[str]) -> Curves:
    """Returns curves through MLflow, with a query per curve and an object per point."""
    return _curves({
        key: [(point.step, point.timestamp, point.value) for point in client.get_metric_history(run_id, key)]
        for key in wanted
    })  # fmt: skip


def curves_by_query(file: Path, run_id: str, wanted: Sequence[str]) -> Curves:
    """Returns the same by one SQL query, 30 times faster: figures read hundreds of runs. Raises sqlite3.Error."""
    points: dict[str, list[Point]] = {key: [] for key in wanted}
    statement = "SELECT key, step, timestamp, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY value"
    for key, step, timestamp, value, is_nan in query(file, statement, run_id):
        if key in points:
            points[key].append((step, timestamp, math.nan if is_nan else value))
    return _curves(points)


def _curves(points: Mapping[str, list[Point]]) -> Curves:
    """The curves by their present names, one point per step: the later one if it was logged twice.

    A run that was begun before and continued has some curves by both names.
    """
    united: dict[str, list[Point]] = {}
    for key, some in points.items():
        united.setdefault(names.current_metric(key), []).extend(some)
    return {
        key: list({step: value for step, _, value in sorted(some, key=lambda point: point[:2])}.items())
        for key, some in united.items()
    }


def _artifact(client: "MlflowClient", uri: str, run: Any, name: str) -> bytes:
    """The content of an artifact, read directly from a local store, also one that was moved. Raises OSError."""
    place = moved_to(uri, run.info.artifact_uri) or local_folder(run.info.artifact_uri)
    if place is not None:
        return _read(place / name)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with tempfile.TemporaryDirectory() as folder:
        try:
            return _read(Path(client.download_artifacts(run.info.run_id, name, folder)))
        except Exception as error:  # each kind of artifact store raises its own errors
            raise OSError(f"{name} cannot be fetched: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, MOST_BYTES)
    except UnreadableError as error:
        raise OSError(f"{path.name} cannot be read: {error}") from None
