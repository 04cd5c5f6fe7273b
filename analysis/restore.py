"""Fills a tracking store from archive files, so that a study goes on where its first store is not.

Parents get their study.json, runs their tags, parameters, metrics, curves and the artifacts that the archive holds. Not
restored are weights, which the archive lacks, and what a launch makes anew: summary metrics and pages of a parent.
Restoring again adds nothing, and after an interruption it adds the rest.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.read.archive_file import ArchiveFile
from analysis.read.mlflow_client import connect_to_write, one_line_errors
from analysis.read.mlflow_store import NOTE
from analysis.read.runs import RunData, RunGroup, StudyParent, group_runs, is_same_run
from records import names
from records.experiments import find_experiment, make_experiment
from records.sqlite_store import open_or_create
from records.study_json import RecordError, StudyKey, StudyRecord, unite

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

ARTIFACTS = (names.SPEC_JSON, names.PROBES_JSON, names.PROVENANCE_JSON, names.MASKS_NPZ, names.TEST_CORRECT)
METRICS_PER_CALL, PARAMS_PER_CALL = 1000, 100  # MLflow's limits
RESTORED = "Restored from "  # begins the note of a restored run


@dataclass
class RestoredFile:
    """What a file has added to the store."""

    path: Path
    runs: int = 0
    parents: int = 0
    there: int = 0
    """runs that the store had, or for which it had another result"""
    problems: list[str] = field(default_factory=list)


def restore(files: Sequence[ArchiveFile], uri: str) -> list[RestoredFile]:
    """Adds the studies and runs of the files to the store at `uri`, which is created if it is a missing sqlite file.

    A fingerprint for which the store has a result that is not in the files stays as it is. Raises StoreError and
    TrackingError.
    """
    import mlflow  # before one_line_errors: the import sets the level of MLflow's loggers  # noqa: F401

    def connect(at: str) -> "MlflowClient":
        client = connect_to_write(at)
        client.search_experiments(max_results=1)  # this makes the tables
        return client

    with one_line_errors(uri, "write"):
        writer = _Writer(open_or_create(uri, connect), uri)
        return [_restore_file(file, writer) for file in files]


def _restore_file(file: ArchiveFile, writer: "_Writer") -> RestoredFile:
    done = RestoredFile(file.path)
    parents: dict[StudyKey, str] = {}
    for line in file.study_lines:
        if line.parent is None:
            continue
        parents[line.record.key], added = writer.parent(line.record, line.parent, done.problems)
        done.parents += added
    if without := len(file.study_lines) - len(parents):
        done.problems.append(
            f"{file.path}: {without} of {len(file.study_lines)} studies were archived without their parent runs: only "
            "the runs of these are restored, and the next launch of each makes its parent"
        )
    owners = _Owners(file.studies, parents)
    for group in group_runs(file.runs).values():
        for run, held in _missing(group, writer.runs(_dataset(group.counts))):
            writer.run(run, owners.of(run), held)
            done.runs += 1
    done.there = len(file.runs) - done.runs
    return done


def _dataset(run: RunData) -> str:
    return run.tags.get(names.DATASET, "")


class _Owners:
    """The parent runs of restored runs: of the study that ran them first, else of one that plans them."""

    def __init__(self, studies: Iterable[StudyRecord], parents: dict[StudyKey, str]):
        self._parents = parents
        self._planned: dict[str, str] = {}
        for study in studies:
            for run in study.runs:
                if study.key in parents:
                    self._planned.setdefault(run.fingerprint, parents[study.key])

    def of(self, run: RunData) -> str | None:
        key = tuple(run.tags.get(name, "") for name in (names.STUDY, names.PROFILE, names.DATASET, names.OVERRIDES))
        first = next((parent for study, parent in self._parents.items() if study == key), None)
        return first or self._planned.get(run.fingerprint)


def _missing(group: RunGroup, there: "dict[str, list[Run]]") -> "Iterator[tuple[RunData, str | None]]":
    """The results and attempts that the store lacks, each with the id of its run there if that is not complete.

    Nothing if the store has another result of this fingerprint: which of two counts is decided in one place.
    """
    held = there.get(group.counts.fingerprint, [])
    results = [run for run in held if run.data.tags.get(names.OUTCOME) in (names.FINISHED, names.DIVERGED)]
    if any(not any(_is(run, ours) for ours in group.results) for run in results):
        return
    for run in group.results:
        if not any(_is(stored, run) for stored in results):
            yield run, _begun(run, held)
    for run in group.ended:
        begun = _begun(run, held)
        if begun is not None or all(stored.info.start_time != run.start_time for stored in held):
            yield run, begun


def _begun(run: RunData, held: "Sequence[Run]") -> str | None:
    """The id of what an interrupted restore wrote of a run; not of a run that a launch is training."""
    for stored in held:
        tags = stored.data.tags
        restored = tags.get(NOTE, "").startswith(RESTORED)
        if restored and names.OUTCOME not in tags and stored.info.start_time == run.start_time:
            return stored.info.run_id
    return None


def _is(stored: "Run", run: RunData) -> bool:
    metrics = {key: value for key, value in stored.data.metrics.items() if not key.startswith("system/")}
    return is_same_run(run.start_time, run.metrics, stored.info.start_time, names.current_metrics(metrics))


class _Writer:
    """A store to write to."""

    def __init__(self, client: "MlflowClient", uri: str):
        self._client, self._uri = client, uri
        self._experiments: dict[str, str] = {}
        self._runs: dict[str, dict[str, list[Run]]] = {}

    def runs(self, dataset: str) -> "dict[str, list[Run]]":
        """Returns the runs that the store had at first of a data set, by fingerprint."""
        if dataset not in self._runs:
            found: dict[str, list[Run]] = {}
            for run in self._search(dataset, f"tags.`{names.FINGERPRINT}` != ''"):
                found.setdefault(run.data.tags[names.FINGERPRINT], []).append(run)
            self._runs[dataset] = found
        return self._runs[dataset]

    def parent(self, record: StudyRecord, parent: StudyParent, problems: list[str]) -> tuple[str, bool]:
        """Returns the id of a study's parent run, and whether it is new; one that was there lists both plans then."""
        from mlflow.entities import RunTag

        found = self._search(record.dataset, f"tags.`{names.PARENT}` = '{parent.key}'")
        if found:
            run_id = found[0].info.run_id
            self._unite(run_id, record, problems)
            return run_id, False
        # The key comes last: without it, a run that an interruption left is no parent.
        tags = {**parent.tags, NOTE: parent.note}
        tags.pop(names.PARENT, None)
        run = self._client.create_run(self._experiment(record.dataset), tags=tags, run_name=parent.name or record.name)
        run_id = run.info.run_id
        self._client.log_text(run_id, json.dumps(record.to_json()), names.STUDY_JSON)
        self._client.set_terminated(run_id, "FINISHED")
        self._client.log_batch(run_id, tags=[RunTag(names.PARENT, parent.key)])
        return run_id, True

    def _unite(self, run_id: str, record: StudyRecord, problems: list[str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(self._client.download_artifacts(run_id, names.STUDY_JSON, folder))
            content = path.read_bytes()
        try:
            held = StudyRecord.from_json(json.loads(content))
            both = unite(held, record)
        except (RecordError, ValueError) as error:
            problems.append(f"the {names.STUDY_JSON} of parent run {run_id} stays as it is: {error}")
            return
        if both != unite(held, held):
            self._client.log_text(run_id, json.dumps(both.to_json()), names.STUDY_JSON)

    def run(self, run: RunData, parent_id: str | None, run_id: str | None) -> None:
        """Writes a run, or completes the run `run_id`. Its outcome comes last: a run that has one is complete."""
        from mlflow.entities import Dataset, DatasetInput, Param
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        client, dataset = self._client, _dataset(run)
        tags = {key: value for key, value in run.tags.items() if key != names.OUTCOME}
        tags[NOTE] = f"{RESTORED}{Path(run.source).name}, without weights."
        tags |= {} if parent_id is None else {MLFLOW_PARENT_RUN_ID: parent_id}
        if run_id is None:
            name = run.name or f"{run.tags.get(names.CELL, '')} s{run.tags.get(names.SEED, '')}"
            made = client.create_run(self._experiment(dataset), run.start_time, tags=tags, run_name=name)
            run_id = made.info.run_id
        params = [Param(key, value) for key, value in run.params.items()]
        for begin in range(0, len(params), PARAMS_PER_CALL):
            client.log_batch(run_id, params=params[begin : begin + PARAMS_PER_CALL])
        points = list(_points(run))
        for begin in range(0, len(points), METRICS_PER_CALL):
            client.log_batch(run_id, metrics=points[begin : begin + METRICS_PER_CALL])
        if digest := run.params.get("data.digest"):
            source = Dataset(name=dataset, digest=digest, source_type="ran", source=dataset)
            client.log_inputs(run_id, [DatasetInput(source)])
        self._artifacts(run_id, run)
        status = names.MLFLOW_STATUS[run.outcome]
        if run.end_time is None:  # set_terminated would write the present time
            client.update_run(run_id, status=status)
        else:
            client.set_terminated(run_id, status, run.end_time)
        client.set_tag(run_id, names.OUTCOME, run.outcome)

    def _artifacts(self, run_id: str, run: RunData) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name in ARTIFACTS:
                content = run.artifact(name)
                if content is not None:
                    path = Path(folder) / name
                    path.write_bytes(content)
                    self._client.log_artifact(run_id, str(path))

    def _experiment(self, dataset: str) -> str:
        if dataset not in self._experiments:
            found = find_experiment(self._client, dataset)
            self._experiments[dataset] = (
                make_experiment(self._client, self._uri, dataset) if found is None else found.experiment_id
            )
        return self._experiments[dataset]

    def _search(self, dataset: str, filter_string: str) -> "list[Run]":
        """The runs of a data set that match, the oldest first."""
        found: list[Run] = []
        token: Any = None
        while True:
            page = self._client.search_runs(
                [self._experiment(dataset)],
                filter_string,
                max_results=1000,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            found.extend(page)
            token = page.token
            if not token:
                return found


def _points(run: RunData) -> "Iterator[Metric]":
    """The points of all metrics: curves at their steps, and the others at the last step of any curve.

    The archive rounds curves and knows no times: the last point of a curve has the exact value of its metric, and times
    go evenly from start to end, so that restoring again writes the same points.
    """
    from mlflow.entities import Metric

    curves, start = run.curves(), run.start_time or 0
    last = max((step for curve in curves.values() for step, _ in curve), default=0)
    duration = (run.end_time or start) - start

    def time(step: int) -> int:
        return start + (duration * step // last if last else duration)

    for key, value in run.metrics.items():
        *before, (end, _) = curves.get(key) or [(last, value)]
        for step, exact in (*before, (end, value)):
            yield Metric(key, exact, time(step), step)
