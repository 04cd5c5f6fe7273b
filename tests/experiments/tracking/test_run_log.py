"""The log of a run that another launch takes over while this process is stopped between two writes."""

import pytest
from lab import EXPERIMENT

from experiments.tracking import spool
from experiments.tracking.errors import LeaseLost
from experiments.tracking.records import RunOpening
from experiments.tracking.run_log import RunLog
from experiments.tracking.store import Store
from records import names

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
