"""The log of a run that another launch takes over while this process is stopped between two writes."""

from dataclasses import replace

import pytest
from lab import EXPERIMENT

from experiments.runner.delivery import deliver
from experiments.tracking import spool
from experiments.tracking.errors import LeaseLost, StoreUnavailable, Superseded
from experiments.tracking.records import RunOpening
from experiments.tracking.run_log import RunLog
from experiments.tracking.store import Store
from records import names
from records.mlflow_uri import absolute

OPENING = RunOpening(
    dataset="cluttershapes", digest="0" * 32, parent_id="none", name="arl s0", fingerprint="f" * 64, tags={}, params={},
    start_ms=0, run_id=None, resumes=0,
)  # fmt: skip


def test_nothing_is_written_after_the_lease_is_lost_before_each_entry(lab, tmp_path):
    store, lost = Store.open(lab.uri), []

    def confirm():
        if lost:
            raise LeaseLost("another launch")

    log = RunLog.open(store, tmp_path, OPENING, confirm)
    log.metrics(1, {names.TRAIN_LOSS: 1.0})
    assert log.flush()
    log.metrics(2, {names.TRAIN_LOSS: 2.0})
    log.tag("a", "b")
    original = store.log_points
    store.log_points = lambda *arguments: (original(*arguments), lost.append(True))  # stopped within the flush
    with pytest.raises(LeaseLost):
        log.flush()
    (run,) = (run for run in lab.all_runs() if names.FINGERPRINT in run.data.tags)
    assert "a" not in run.data.tags
    for end in (log.flush, lambda: log.close(names.KILLED)):
        with pytest.raises(LeaseLost):
            end()
    assert names.OUTCOME not in lab.children()["arl s0"].data.tags
    assert not (tmp_path / spool.SPOOL).exists(), "nothing waits that would be delivered later"


@pytest.mark.parametrize("calls", [0, 1])
def test_a_run_that_is_made_after_the_lease_is_lost_does_not_stay(lab, tmp_path, calls):
    """The process was stopped just before, or while, it created the run; the other launch has one of its own."""
    store, made = Store.open(lab.uri), []
    create = store.client.create_run

    def create_run(*arguments, **options):
        made.append(create(*arguments, **options))
        return made[-1]

    store.client.create_run = create_run

    def confirm():
        if len(made) >= calls and store.client.get_experiment_by_name(EXPERIMENT):
            raise LeaseLost("another launch")

    with pytest.raises(LeaseLost):
        RunLog.open(store, tmp_path, OPENING, confirm)
    assert len(made) == calls
    assert lab.all_runs() == []


def unconfirmed() -> None:
    pass


@pytest.fixture
def away(monkeypatch):
    """A store that takes nothing more while the list is not empty."""
    gone, original = [], Store.log_points

    def log_points(*arguments):
        if gone:
            raise StoreUnavailable("away")
        return original(*arguments)

    monkeypatch.setattr(Store, "log_points", log_points)
    return gone


def left_on_one_machine(store, folder, away) -> str:
    """A run whose process died with points in its spool; returns the run's id."""
    folder.mkdir(parents=True)
    log = RunLog.open(store, folder, OPENING, unconfirmed)
    away.append(True)
    log.metrics(1, {names.TRAIN_LOSS: 1.0})
    assert not log.flush()
    log._stop_system_metrics()
    away.clear()
    return str(log._run_id)


def finished_on_another(store, folder, run_id) -> None:
    folder.mkdir(parents=True)
    log = RunLog.open(store, folder, replace(OPENING, run_id=run_id, resumes=1), unconfirmed)
    log.metrics(1, {names.TRAIN_LOSS: 1.0})
    assert log.close(names.FINISHED)


def test_what_waited_on_a_machine_that_lost_the_run_does_not_undo_the_result(lab, tmp_path, away):
    store = Store.open(lab.uri)
    run_id = left_on_one_machine(store, tmp_path / "one" / "f", away)
    finished_on_another(store, tmp_path / "two" / "f", run_id)
    deliver(store, tmp_path / "one", "final")
    run = lab.client.get_run(run_id)
    assert (run.info.status, run.data.tags[names.OUTCOME]) == ("FINISHED", names.FINISHED)
    assert not (tmp_path / "one" / "f").exists(), "nothing waits any more"
    with pytest.raises(Superseded):
        RunLog.open(store, tmp_path / "late", replace(OPENING, run_id=run_id), unconfirmed)


def test_the_own_result_is_delivered_again_after_a_lost_answer(lab, tmp_path):
    store = Store.open(lab.uri)
    log = RunLog.open(store, tmp_path, OPENING, unconfirmed)
    log.metrics(1, {names.TRAIN_LOSS: 1.0})
    close_run = store.close_run

    def answer_lost(*arguments):
        close_run(*arguments)
        raise StoreUnavailable("the answer was lost")

    store.close_run = answer_lost
    assert not log.close(names.FINISHED)
    store.close_run = close_run
    log = RunLog.waiting(store, tmp_path, unconfirmed)
    assert log.flush()
    (run,) = lab.children().values()
    assert (run.info.status, run.data.tags[names.OUTCOME]) == ("FINISHED", names.FINISHED)
    assert lab.points(run)[names.TRAIN_LOSS] == [(1, 1.0)]


def test_a_spool_waits_for_the_store_by_whatever_path_a_process_names_it(tmp_path, monkeypatch):
    """Workers of Ray have the absolute path of a launch's sqlite:///mlflow.db."""
    monkeypatch.chdir(tmp_path)
    relative = "sqlite:///mlflow.db"
    entries = [{"do": "tags", "tags": {"a": "b"}}]
    opened = [{"do": "open", **{**vars(OPENING)}}, *entries]
    for written, read in ((relative, absolute(relative)), (absolute(relative), relative)):
        spool.write(tmp_path, written, opened)
        assert spool.read(tmp_path, read) == opened
    (tmp_path / "elsewhere").mkdir()
    spool.write(tmp_path, relative, opened)
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(spool.SpoolError):
        spool.read(tmp_path, relative)
