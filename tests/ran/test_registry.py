"""Registries: a duplicate raises, a miss lists the valid names and the nearest."""

import pytest

from ran.data.datasets import DATASETS
from ran.engine.optim import SCHEDULES
from ran.models.attention import LEARNING
from ran.models.masks import MASK_ACTIVATIONS, MASK_STRUCTURES
from ran.models.units import UNITS
from ran.models.zoo import NETWORKS
from ran.registry import Registry, UnknownNameError
from records.errors import UserError

ALL = [DATASETS, SCHEDULES, LEARNING, MASK_ACTIVATIONS, MASK_STRUCTURES, UNITS, NETWORKS]


@pytest.fixture
def fruit():
    registry = Registry("fruit")
    registry.register("pear")(1)
    registry.register("apple")(2)
    return registry


def test_entries_in_the_order_of_their_registration(fruit):
    assert dict(fruit) == {"pear": 1, "apple": 2}
    assert list(fruit) == ["pear", "apple"]
    assert len(fruit) == 2
    assert "pear" in fruit
    assert "plum" not in fruit


def test_register_returns_what_it_decorates(fruit):
    @fruit.register("plum")
    def plum():
        return 3

    assert plum() == 3
    assert fruit["plum"] is plum


def test_a_duplicate_raises_and_changes_nothing(fruit):
    with pytest.raises(ValueError, match="fruit 'pear' is registered already"):
        fruit.register("pear")(9)
    assert fruit["pear"] == 1


def test_a_miss_lists_the_valid_names_and_the_nearest(fruit):
    with pytest.raises(UnknownNameError) as caught:
        fruit["aple"]
    assert str(caught.value) == "unknown fruit 'aple'. Did you mean 'apple'? Valid: pear, apple."
    with pytest.raises(UnknownNameError) as caught:
        fruit["zzz"]
    assert str(caught.value) == "unknown fruit 'zzz'. Valid: pear, apple."


def test_a_miss_in_an_empty_registry():
    with pytest.raises(UnknownNameError, match=r"unknown fruit 'pear'\. Valid: none\."):
        Registry("fruit")["pear"]


def test_a_miss_is_the_users_error_and_not_hidden_by_get(fruit):
    assert issubclass(UnknownNameError, UserError)
    with pytest.raises(UserError):
        fruit[None]


@pytest.mark.parametrize("registry", ALL, ids=lambda r: r.kind)
def test_every_registry_answers_a_miss_in_one_line(registry):
    assert len(registry)
    for name in registry:
        with pytest.raises(UnknownNameError) as caught:
            registry[name + "x"]
        message = str(caught.value)
        assert "\n" not in message
        assert registry.kind in message
        assert f"Did you mean {name!r}?" in message
        assert message.endswith(f"Valid: {', '.join(registry)}.")
