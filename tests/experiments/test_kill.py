"""The small form of kill.py: a few random moments, and the two ends of every write that makes something permanent."""

import shutil

import kill_creation
import kill_often
import pause
import pytest
from kill import Moment, check, harness, launch
from lab import Lab

pytestmark = pytest.mark.slow

WRITES = [
    Moment(None, "ran/tensor_file.py:write_tensors", "call", 9),
    Moment(None, "ran/tensor_file.py:write_tensors", "return", 9),
    Moment(None, "records/files.py:_sync_folder", "call", 9),  # renamed, its name not yet synced
    # Points are in the store, their steps not in a checkpoint.
    Moment(None, "experiments/tracking/run_log.py:RunLog.flush", "return", 9),
    Moment(None, "experiments/tracking/store.py:Store.log_points", "return", 9),
    Moment(None, "ran/engine/evaluate.py:evaluate", "return", 2),
    Moment(None, "experiments/tracking/store.py:Store.open_run", "return", 1),
    Moment(None, "experiments/tracking/store.py:Store.log_file", "return", 3),  # the weights
    Moment(None, "experiments/tracking/store.py:Store.close_run", "call", 1),
    Moment(None, "experiments/tracking/store.py:Store.close_run", "return", 1),
    Moment(None, "experiments/runner/run_dir.py:tidy", "return", 1),
    Moment(None, "experiments/tracking/leases.py:Leases._try_acquire", "return", 2),
]  # fmt: skip


def test_random_moments(tmp_path, migrated_store):
    found = harness(tmp_path, migrated_store, moments=4, seed=11)
    assert [(str(moment), wrong) for moment, wrong, _ in found if wrong] == []


def test_random_moments_of_the_creation_of_a_store(tmp_path):
    found = kill_creation.harness(tmp_path, moments=8, seed=3)
    assert [(str(moment), wrong) for moment, wrong in found if wrong] == []


def test_pauses_beyond_the_lease(tmp_path, migrated_store):
    found = pause.harness(tmp_path, migrated_store, moments=3, seed=3)
    assert [wrong for wrong, _ in found if wrong] == []
    assert ("", "taken over") in found, "not so for one that is stopped inside a transaction"


@pytest.mark.parametrize(
    ("way", "kills"), [("launch", 6), ("launches", 8), pytest.param("workers", 3, marks=pytest.mark.cluster)]
)
def test_launches_and_workers_that_are_killed_again_and_again(way, kills, tmp_path, migrated_store):
    if way == "workers":
        pytest.importorskip("ray", reason="needs the extra cluster")
    found = kill_often.harness(tmp_path, migrated_store, way, kills, seed=11)
    assert [study.wrong for study in found if study.wrong] == []
    assert sum(study.kills for study in found) >= kills


@pytest.fixture(scope="module")
def whole(tmp_path_factory, migrated_store):
    lab = _lab(tmp_path_factory.mktemp("whole"), migrated_store)
    assert launch(lab) == 0
    return lab


def _lab(folder, migrated) -> Lab:
    shutil.copy(migrated, folder / "mlflow.db")
    return Lab(folder)


@pytest.mark.parametrize("moment", WRITES, ids=str)
def test_before_and_after_each_write(moment, tmp_path, migrated_store, whole):
    wrong, state = check(_lab(tmp_path, migrated_store), whole, moment)
    assert (wrong, state) == ("", state)
    assert (state == "finished, no checkpoint") == ("tidy" in moment.function), "it was killed where it should be"
