"""Parent runs: one per study (with profile, data set and overrides), and one per search."""

import contextlib
import logging
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from experiments.tracking import provenance
from experiments.tracking.errors import asking
from experiments.tracking.store import Store
from records import names
from records.reading import parse_json
from records.study_json import StudyRecord, unite

logger = logging.getLogger(__name__)


def open_study(store: Store, key: str, name: str, *, tags: Mapping[str, str], note: str, record: StudyRecord) -> str:
    """Returns the id of the study's parent run with this key, created if absent, with its study.json updated.

    Other seeds of the same cells that an earlier launch listed stay listed.
    """
    run_id, existed = _open(store, record.dataset, names.PARENT, key, name, tags, note)
    if existed and (before := _study_record(store, run_id)) is not None:
        record = unite(record, before, same_cells=True)
        if record == before:  # an artifact is not written atomically, so avoid the write
            return run_id
    store.log_json(run_id, record.to_json(), names.STUDY_JSON)
    return run_id


def study_id(store: Store, dataset: str, key: str) -> str | None:
    """Returns the id of the study's parent run with this key, None if there is none; nothing is written."""
    found = store.search_runs(dataset, f"tags.`{names.PARENT}` = '{key}'")
    return found[0].info.run_id if found else None


def open_search(store: Store, dataset: str, key: str, name: str, tags: Mapping[str, str], note: str) -> str:
    """Returns the id of the search's parent run with this key, created if absent."""
    return _open(store, dataset, names.SEARCH, key, name, tags, note)[0]


def finish_parent(store: Store, run_id: str, outcome: str) -> None:
    """Ends the parent run."""
    with asking(store.uri):
        store.client.set_terminated(run_id, names.MLFLOW_STATUS[outcome])


def summarize(
    store: Store, run_id: str, metrics: Mapping[str, float], step: int, turn: contextlib.AbstractContextManager[None]
) -> None:
    """Logs a search's own metrics on its parent.

    A step that the parent has already stays as it is: of two launches that share a search, one writes it. `turn` is a
    context in which no other launch does this (leases.in_turn), entered only if there is something to write.
    """

    def new() -> list[tuple[str, int, float, int]]:
        there, now = store.points(run_id), int(time.time() * 1000)
        return [(key, step, value, now) for key, value in metrics.items() if (key, step) not in there]

    if new():
        with turn:
            store.log_points(run_id, new())


def _open(
    store: Store, dataset: str, tag: str, key: str, name: str, tags: Mapping[str, str], note: str
) -> tuple[str, bool]:
    """The id of the parent whose `tag` has the value `key`, and whether it existed before."""
    from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

    with asking(store.uri):
        found = store.search_runs(dataset, f"tags.`{tag}` = '{key}'")
        if found:
            store.client.update_run(found[0].info.run_id, status="RUNNING")
            return found[0].info.run_id, True
        all_tags = {**tags, tag: key, MLFLOW_RUN_NOTE: note, **provenance.tags()}
        run = store.client.create_run(store.experiment(dataset), run_name=name, tags=all_tags)
        return run.info.run_id, False


def _study_record(store: Store, run_id: str) -> StudyRecord | None:
    """Returns what an earlier launch wrote; None if there is no readable record, which a warning says.

    Raises TrackingError if the store does not deliver the file: what it lists must not be overwritten unread.
    """
    if names.STUDY_JSON not in store.artifacts(run_id):
        return None
    with tempfile.TemporaryDirectory() as folder:
        content = store.download(run_id, names.STUDY_JSON, Path(folder)).read_bytes()
    try:
        return StudyRecord.from_json(parse_json(content))
    except ValueError as error:  # a launch that died while it wrote the file, or somebody's edit
        logger.warning(
            "the %s of parent run %s cannot be read and is written anew: %s", names.STUDY_JSON, run_id, error
        )
        return None
