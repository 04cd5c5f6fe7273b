"""The MLflow store that experiments write to.

One experiment per data set, "ran/<data set>". It holds a parent run per (study, profile, data set, overrides), see
parents.py, and a child per cell and seed, which is found by its fingerprint alone.
"""

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.tracking import provenance, sqlite
from experiments.tracking.errors import LeaseLost, Superseded, TrackingError, asks, unusable
from experiments.tracking.records import RunOpening, StoredRun, by_fingerprint
from records import names
from records.artifact_place import local_folder, moved_to
from records.errors import first_line
from records.experiments import find_experiment, make_experiment, our_experiments
from records.files import locked_file
from records.mlflow_schema import schema_reason
from records.mlflow_uri import sqlite_path
from records.sqlite_store import creation_lock, holds_mlflow, is_unfinished, open_or_create

if TYPE_CHECKING:
    from mlflow.entities import Run

BATCH = 1_000  # metrics per call: MLflow's limit


class Store:
    """An MLflow store. `Store.open` opens it to write, `Store.peek` to read without creating it.

    All methods raise TrackingError, and StoreUnavailable if a later attempt may succeed.
    """

    def __init__(self, uri: str):
        from mlflow import MlflowClient

        self.uri = uri
        self._path = sqlite_path(uri)
        if self._path is not None:
            sqlite.sync_late(self._path)
        self._experiment_ids: dict[str, str] = {}
        """ids by data set, cached because a study of thousands of runs needs them again and again"""
        self._untagged: set[str] = set()
        try:
            self.client = MlflowClient(uri, uri)  # the model registry is in the same store: leases.py uses it
            self.client.search_experiments(max_results=1)
        except Exception as error:  # of MLflow, sqlalchemy, alembic or requests, which share no base class
            if "://" not in uri:  # MLflow's message of eighty words recommends stores of files, which we cannot use
                reason = "it is no URI such as sqlite:///mlflow.db or http://host:5000"
            else:
                reason = schema_reason(str(error)) or first_line(error)
            raise unusable(uri, reason) from None

    @classmethod
    def open(cls, uri: str) -> "Store":
        """Returns the store, created if it is a sqlite file that does not exist."""
        store = open_or_create(uri, cls)
        store._will_write()
        return store

    @classmethod
    def peek(cls, uri: str) -> "Store | None":
        """Returns the store for reading, or None if it is a sqlite file that does not exist yet, or was never finished.

        Waits while another process creates it: MLflow would create the same tables again.
        """
        path = sqlite_path(uri)
        if path is not None:
            if not path.exists() or not holds_mlflow(path, uri):
                return None
            if os.access(lock := creation_lock(path), os.W_OK):
                with locked_file(lock):
                    return None if is_unfinished(path) else cls(uri)
        return cls(uri)

    def _will_write(self) -> None:
        if self._path is not None:
            sqlite.whole_at_exit(self._path)

    @asks
    def sync(self) -> None:
        """Makes all writes so far survive a power cut; a server takes care of that itself."""
        if self._path is not None:
            sqlite.sync(self._path)

    @asks
    def experiment(self, dataset: str) -> str:
        """Returns the id of the data set's experiment, created if absent."""
        from mlflow.exceptions import MlflowException

        if (known := self._known_experiment(dataset)) is not None:
            if dataset in self._untagged:  # of an earlier version: with the tag it is found even if it is renamed
                self.client.set_experiment_tag(known, names.DATASET, dataset)
                self._untagged.remove(dataset)
            return known
        try:
            return make_experiment(self.client, self.uri, dataset)
        except MlflowException:
            if (known := self._known_experiment(dataset)) is None:  # else another launch has just created it
                raise
            return known

    def _known_experiment(self, dataset: str) -> str | None:
        if dataset not in self._experiment_ids:
            found = find_experiment(self.client, dataset)
            if found is None:
                return None
            self._check_place(found.artifact_location)
            self._experiment_ids[dataset] = found.experiment_id
            if names.DATASET not in found.tags:
                self._untagged.add(dataset)
        return self._experiment_ids[dataset]

    def _check_place(self, location: str) -> None:
        """Raises TrackingError for artifacts that have moved: MLflow would make their old folder again."""
        if moved_to(self.uri, location) is not None:
            raise TrackingError(
                f"{self.uri} was moved: its artifacts were in {local_folder(location)}; "
                "`python -m experiments.relocate` corrects their paths, for mlruns beside the store"
            )

    @asks
    def search_runs(self, dataset: str, filter_string: str) -> "list[Run]":
        """Returns the data set's runs that match MLflow's filter, the oldest first."""
        experiment_id = self._known_experiment(dataset)
        return [] if experiment_id is None else self._search([experiment_id], filter_string)

    def _search(self, experiment_ids: list[str], filter_string: str) -> "list[Run]":
        from mlflow.entities import ViewType

        runs: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                experiment_ids, filter_string, ViewType.ACTIVE_ONLY, 1_000, ["attributes.start_time ASC"], token
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs

    def runs(self, dataset: str) -> dict[str, StoredRun]:
        """Returns a data set's runs by fingerprint: the first result, else the newest attempt."""
        return by_fingerprint(map(StoredRun.of, self.search_runs(dataset, f"tags.`{names.FINGERPRINT}` != ''")))

    def run(self, dataset: str, fingerprint: str) -> StoredRun | None:
        """Returns one run, read from the store now."""
        found = self.search_runs(dataset, f"tags.`{names.FINGERPRINT}` = '{fingerprint}'")
        return by_fingerprint(map(StoredRun.of, found)).get(fingerprint)

    @asks
    def find(self, digits: str) -> list[StoredRun]:
        """Returns the run with this id, else those whose fingerprint starts with `digits`, the oldest first ("": all).

        Of several runs with one fingerprint, only the one that `runs` would return. Other characters than digits match
        nothing: a checkpoint that somebody else made can name any "fingerprint", also a pattern.
        """
        if not re.fullmatch(r"[0-9a-f]*", digits):
            return []
        from mlflow.exceptions import MlflowException

        if digits:
            with contextlib.suppress(MlflowException):
                run = self.client.get_run(digits)
                if names.FINGERPRINT in run.data.tags and run.info.lifecycle_stage == "active":
                    return [StoredRun.of(run)]
        ids = [experiment.experiment_id for experiment in our_experiments(self.client)]
        if not ids:
            return []
        found = [StoredRun.of(run) for run in self._search(ids, f"tags.`{names.FINGERPRINT}` LIKE '{digits}%'")]
        chosen = {run.run_id for run in by_fingerprint(found).values()}
        return [run for run in found if run.run_id in chosen]

    @asks
    def artifacts(self, run_id: str) -> set[str]:
        """Returns the names of a run's artifacts, of the top level only.

        Raises TrackingError if they were moved, or if the folder of all artifacts of the experiment was deleted, which
        an ended run shows: before the first artifact there is no folder.
        """
        run = self.client.get_run(run_id)
        self._check_place(run.info.artifact_uri)
        folder, ended = local_folder(run.info.artifact_uri), names.OUTCOME in run.data.tags
        if self._path is not None and folder is not None and ended and not folder.parents[1].exists():
            raise TrackingError(f"{folder.parents[1]}, the folder of all artifacts of {self.uri}, was deleted")
        return {file.path for file in self.client.list_artifacts(run_id)}

    @asks
    def download(self, run_id: str, name: str, folder: Path) -> Path:
        """Returns the path of an artifact: a copy in `folder`, or the store's own file if it is on this machine."""
        return Path(self.client.download_artifacts(run_id, name, str(folder)))

    @asks
    def log_json(self, run_id: str, content: Mapping[str, Any], name: str) -> None:
        """Writes an artifact and replaces one of the same name; `name` may contain folders."""
        self.client.log_dict(run_id, dict(content), name)

    @asks
    def delete(self, run: StoredRun) -> None:
        """Moves a run to MLflow's trash, from which it can be restored, so that another can replace it."""
        self.client.delete_run(run.run_id)

    @asks
    def open_run(
        self, opening: RunOpening, *, absent: bool = False, closed_ms: int | None = None,
        confirm: Callable[[], None] = lambda: None,
    ) -> tuple[str, bool]:  # fmt: skip
        """Returns the id of the run to log to, and whether it existed before; what it lacks is added.

        Idempotent, so it can be repeated after a lost answer. `absent`: the caller knows that the store has no such
        run. `closed_ms`: the end that the caller is about to give the run, perhaps again, because the answer was lost;
        a result with another end is another launch's. `confirm` raises LeaseLost if another launch has taken the run
        over; it is called around the creation of a run, which is undone then. Raises Superseded if another launch has
        delivered a result of the run.
        """
        from mlflow.entities import Dataset, DatasetInput, Param
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        client, run_id = self.client, opening.run_id
        if run_id is None and not absent and (held := self.run(opening.dataset, opening.fingerprint)) is not None:
            run_id = held.run_id
        tags = {**opening.tags, names.FINGERPRINT: opening.fingerprint, names.RESUMES: str(opening.resumes)}
        params = dict(opening.params)
        existed = run_id is not None
        if run_id is None:
            fixed = {MLFLOW_PARENT_RUN_ID: opening.parent_id, **provenance.tags()}
            experiment_id = self.experiment(opening.dataset)
            confirm()
            made = client.create_run(experiment_id, opening.start_ms, tags={**fixed, **tags}, run_name=opening.name)
            run_id = made.info.run_id
            try:
                confirm()
            except LeaseLost:
                client.delete_run(run_id)
                raise
        else:
            confirm()
            run = client.get_run(run_id)
            if StoredRun.of(run).is_result and run.info.end_time != closed_ms:
                raise Superseded(f"{opening.name}: another launch has delivered a result")
            client.update_run(run_id, status="RUNNING")
            there = run.data
            for key in there.tags.keys() & {names.OUTCOME, names.REASON}:
                client.delete_tag(run_id, key)
            # The tags and parameters of the first attempt stay, e.g. its --train.threads.
            changed = (names.HOST, names.HOW, names.RESUMES)
            tags = {key: value for key, value in tags.items() if key in changed or key not in there.tags}
            params = {key: value for key, value in params.items() if key not in there.params}
            self.set_tags(run_id, tags)
        client.log_batch(run_id, params=[Param(key, value) for key, value in params.items()])
        source = Dataset(name=opening.dataset, digest=opening.digest, source_type="ran", source=opening.dataset)
        client.log_inputs(run_id, [DatasetInput(source)])
        return run_id, existed

    @asks
    def points(self, run_id: str) -> set[tuple[str, int]]:
        """Returns (metric, step) of every point of a run, except system metrics."""
        keys = [key for key in self.client.get_run(run_id).data.metrics if not key.startswith("system/")]
        return {(key, point.step) for key in keys for point in self.client.get_metric_history(run_id, key)}

    @asks
    def log_points(self, run_id: str, points: Sequence[Sequence[Any]]) -> None:
        """Writes (metric, step, value, milliseconds)."""
        from mlflow.entities import Metric

        self._will_write()
        for begin in range(0, len(points), BATCH):
            batch = [Metric(key, value, ms, step) for key, step, value, ms in points[begin : begin + BATCH]]
            self.client.log_batch(run_id, metrics=batch)

    @asks
    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    @asks
    def log_file(self, run_id: str, path: Path) -> None:
        self.client.log_artifact(run_id, str(path))

    @asks
    def close_run(self, run_id: str, outcome: str, reason: str, end_ms: int) -> None:
        """Ends a run. The outcome is written last, so a run that has one is complete.

        MLflow's list of runs shows names and no error, so the error of a result is added to its name.
        """
        if reason:
            self.client.set_tag(run_id, names.REASON, reason)
        if outcome in (names.FINISHED, names.DIVERGED):
            run = self.client.get_run(run_id)
            error = names.current_metrics(run.data.metrics).get(names.FINAL_TEST_ERR)
            shown = outcome if error is None or outcome == names.DIVERGED else f"{error:.2f} %"
            name = names.without_result(run.info.run_name or "")
            self.client.update_run(run_id, name=names.with_result(name, shown))
        self.client.set_terminated(run_id, names.MLFLOW_STATUS[outcome], end_ms)
        self.client.set_tag(run_id, names.OUTCOME, outcome)
