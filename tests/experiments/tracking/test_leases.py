"""Leases in the tracking store: one owner at a time; a dead owner's lease is taken over, a living one's is not."""

import threading
import time

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from experiments.tracking import leases
from experiments.tracking.errors import LeaseLost, StoreUnavailable
from experiments.tracking.leases import Leases
from experiments.tracking.store import Store

RUN = "7da9f4efa4c2cff0"


@pytest.fixture
def store(lab):
    return Store.open(lab.uri)


@pytest.fixture
def machine(store, tmp_path):
    """Makes the leases of a launch with a checkpoint folder of its own."""

    def make(name: str) -> Leases:
        (tmp_path / name).mkdir(exist_ok=True)
        return Leases(store, tmp_path / name)

    return make


def names_in(store: Store) -> list[str]:
    return [model.name for model in store.client.search_registered_models()]


def age(store: Store, number: int) -> None:
    """Makes a lease as old as possible."""
    store.client.set_registered_model_tag(f"ran-claim-{RUN}-{number}", leases.RENEWED, "0")


def renewed(store: Store, number: int) -> float:
    return float(store.client.get_registered_model(f"ran-claim-{RUN}-{number}").tags[leases.RENEWED])


def test_one_owner_at_a_time(store, machine):
    one, two = machine("one"), machine("two")
    with one.acquire(RUN, alone=True) as other:
        assert other is None
        assert names_in(store) == [f"ran-claim-{RUN}-0"]
        with two.acquire(RUN, alone=True) as other:
            assert other == one._owner
        with two.acquire("another-run", alone=True) as other:
            assert other is None
    assert names_in(store) == []
    with two.acquire(RUN, alone=True) as other:
        assert other is None


def test_an_exception_releases_the_lease(store, machine):
    with pytest.raises(KeyboardInterrupt), machine("one").acquire(RUN, alone=True):
        raise KeyboardInterrupt
    assert names_in(store) == []


def leave(store, machine, name="dead"):
    """A lease whose process was killed."""
    dead = machine(name)
    dead._try_acquire(RUN, True)
    return dead


def test_a_worker_of_the_same_launch_is_followed_at_once_wherever_it_died(store, machine, tmp_path):
    """A launch gives a run to one worker at a time, so the lease of another is of one that died."""
    (tmp_path / "second").mkdir()
    machine("first")
    Leases(store, tmp_path / "first", launch="l")._try_acquire(RUN, True)
    with Leases(store, tmp_path / "second", launch="another").acquire(RUN, alone=True) as other:
        assert other is not None
    worker = Leases(store, tmp_path / "second", launch="l")
    with worker.acquire(RUN, alone=True) as other:
        assert other is None
        assert worker._try_acquire(RUN, True)[0] is None, "of its own it knows that it lives"


def test_a_dead_process_of_this_folder_is_followed_at_once(store, machine):
    leave(store, machine)
    with machine("dead").acquire(RUN, alone=True) as other:
        assert other is None
        assert names_in(store) == [f"ran-claim-{RUN}-1"], "under the next number; the dead one's is gone"


def test_without_a_lock_that_says_so_it_is_alive(store, machine):
    """As on a network file system."""
    dead = leave(store, machine)
    with machine("dead").acquire(RUN, alone=False) as other:
        assert other == dead._owner


def test_a_dead_machine_is_followed_after_the_lease(store, machine, monkeypatch):
    dead = leave(store, machine)
    with machine("other").acquire(RUN, alone=True) as other:
        assert other == dead._owner
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.0)
    with machine("other").acquire(RUN, alone=True) as other:
        assert other is None


def test_a_living_one_renews_its_lease(store, machine, monkeypatch):
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.05)
    with machine("one") as one, one.acquire(RUN, alone=True):
        age(store, 0)
        end = time.monotonic() + 60
        while renewed(store, 0) < time.time() - leases.LEASE_SECONDS and time.monotonic() < end:
            time.sleep(0.01)
        with machine("two").acquire(RUN, alone=True) as other:
            assert other == one._owner


def gap(leases_of, key=RUN):
    """Makes the last look at the store as long ago as after a pause of the process."""
    held = leases_of._held[key]
    held.seen = held.seen[0] - 1_000, held.seen[1]


def test_after_a_pause_the_newer_number_decides(store, machine):
    """The first one was stopped for longer than the lease; it asks before it writes again."""
    one, two = machine("one"), machine("two")
    with one.acquire(RUN, alone=True):
        age(store, 0)
        with two.acquire(RUN, alone=True) as other:
            assert other is None
            one.confirm(RUN)  # no gap, no look
            gap(one)
            with pytest.raises(LeaseLost, match="taken it over"):
                one.confirm(RUN)
            with pytest.raises(LeaseLost):
                one.confirm(RUN)
            gap(two)
            two.confirm(RUN)
    assert names_in(store) == [], "the one that was stopped removes nothing of the other's, which removes its own"


def test_after_a_pause_another_lease_of_the_same_name_is_not_its_own(store, machine):
    """It was taken over, the other one ended, and a third has begun, whose lease has the first one's name."""
    one, two, three = machine("one"), machine("two"), machine("three")
    with one.acquire(RUN, alone=True):
        age(store, 0)
        with two.acquire(RUN, alone=True) as other:
            assert other is None
        with three.acquire(RUN, alone=True) as other:
            assert other is None
            gap(one)
            with pytest.raises(LeaseLost):
                one.confirm(RUN)
            one._give_back(RUN, one._held[RUN].own)
            gap(three)
            three.confirm(RUN)
    assert names_in(store) == []


def test_after_a_pause_that_nobody_used_it_goes_on(store, machine):
    with machine("one") as one, one.acquire(RUN, alone=True):
        age(store, 0)
        gap(one)
        one.confirm(RUN)


def test_a_clock_that_jumps_is_a_gap_too(store, machine):
    """A suspended virtual machine notices its pause by the time alone."""
    one = machine("one")
    with one.acquire(RUN, alone=True):
        store.client.delete_registered_model(f"ran-claim-{RUN}-0")  # taken over, and ended already
        one._held[RUN].seen = one._held[RUN].seen[0], one._held[RUN].seen[1] - 1_000
        with pytest.raises(LeaseLost):
            one.confirm(RUN)


def test_a_lease_that_was_lost_is_not_renewed(store, machine, monkeypatch):
    """Else the other one would be taken for dead as soon as it dies or sleeps itself."""
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.02)
    one = machine("one")
    with one.acquire(RUN, alone=True):
        age(store, 0)
        store.client.create_registered_model(f"ran-claim-{RUN}-1", {"renewed": "0"})
        with one:
            end = time.monotonic() + 30
            while not one._held[RUN].lost and time.monotonic() < end:
                time.sleep(0.01)
        assert renewed(store, 0) == 0


def test_who_had_no_lease_asks_for_one_when_the_store_is_back(store, machine, monkeypatch):
    def away(*arguments, **options):
        raise ConnectionError("refused")

    one, two = machine("one"), machine("two")
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_registered_model", away)
        held = one.acquire(RUN, alone=True)
        assert held.__enter__() is None
        with pytest.raises(StoreUnavailable):
            one.confirm(RUN)
    with two.acquire(RUN, alone=True) as other:
        assert other is None
        with pytest.raises(LeaseLost, match="is training it"):
            one.confirm(RUN)
    one.confirm(RUN)
    with two.acquire(RUN, alone=True) as other:
        assert other == one._owner
    held.__exit__(None, None, None)
    assert names_in(store) == []


def test_of_many_that_ask_at_once_one_wins(store, machine):
    """Also where all of them have seen the same dead lease."""
    leave(store, machine)
    age(store, 0)
    won, start = [], threading.Barrier(8)

    def ask(i):
        mine = machine(f"m{i}")
        start.wait()
        won.append(mine._try_acquire(RUN, True))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ((winner, _),) = [answer for answer in won if answer[1] is None]
    assert names_in(store) == [winner.name]


def test_a_store_that_is_away_stops_nobody(machine, monkeypatch, caplog):
    def away(*arguments, **options):
        raise ConnectionError("refused")

    monkeypatch.setattr(MlflowClient, "search_registered_models", away)
    with machine("one").acquire(RUN, alone=True) as other:
        assert other is None
    assert "the run has no lease there" in caplog.text


def test_a_store_without_a_registry_stops_nobody_and_says_so_once(machine, monkeypatch, caplog):
    def refuses(*arguments, **options):
        refusal = MlflowException("not here")
        refusal.error_code = "NOT_IMPLEMENTED"
        raise refusal

    monkeypatch.setattr(MlflowClient, "create_registered_model", refuses)
    one = machine("one")
    for _ in range(2):
        with one.acquire(RUN, alone=True) as other:
            assert other is None
    assert caplog.text.count("no model registry") == 1


def test_a_lease_that_somebody_garbled(store, machine):
    store.client.create_registered_model(f"ran-claim-{RUN}-0", {"renewed": "yesterday"})
    store.client.create_registered_model(f"ran-claim-{RUN}-last")
    with machine("one").acquire(RUN, alone=True) as other:
        assert other == "unknown"


def test_what_a_finished_run_left_is_swept(lab, store):
    lab.launch("--cells", "learning=arl")
    run = next(iter(lab.children().values())).data.tags["ran.fingerprint"][:16]
    folder = lab.checkpoints / run
    folder.mkdir()
    Leases(store, lab.checkpoints)._try_acquire(run, True)
    assert names_in(store)
    assert lab.launch("--cells", "learning=arl").status == 0
    assert names_in(store) == []
    assert not folder.exists()


def test_no_answer_is_an_error_of_its_own(store, monkeypatch):
    def away(*arguments, **options):
        raise ConnectionError("refused")

    monkeypatch.setattr(MlflowClient, "get_run", away)
    with pytest.raises(StoreUnavailable, match=r"does not answer: refused$"):
        store.points("x")
