"""Which launches of a search count as alive, seen from another machine."""

import pytest

from experiments.search.liveness import is_dead, living
from experiments.tracking.errors import StoreUnavailable
from experiments.tracking.leases import Leases
from experiments.tracking.store import Store


@pytest.fixture
def machine(lab, tmp_path):
    """Makes the checkpoint folder and the leases of a launch on a machine of its own."""

    def make(name):
        (tmp_path / name).mkdir()
        return tmp_path / name, Leases(Store.open(lab.uri), tmp_path / name)

    return make


def test_a_launch_on_another_machine_is_alive_until_it_ends(machine):
    here, there = machine("here"), machine("there")
    with living(*there) as name:
        assert not is_dead(name, *here)
    assert is_dead(name, *here)


def test_while_the_store_does_not_answer_no_launch_is_dead(machine, monkeypatch):
    here, there = machine("here"), machine("there")
    with living(*there) as name:
        with monkeypatch.context() as patch:
            patch.setattr(here[1], "_try_acquire", away)
            assert not is_dead(name, *here)
        assert not is_dead(name, *here)


def away(*arguments):
    raise StoreUnavailable("the tracking store does not answer")
