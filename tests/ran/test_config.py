"""The config: dotted names and back, what is refused, and that `check` refuses each number that cannot be run."""

import dataclasses
import inspect
import json
import math
import re
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran.config import (
    ConfigError,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
    check,
    difference,
    flatten,
    identity,
    override,
    unflatten,
)
from ran.registry import UnknownNameError

GROUPS = {"model": ModelConfig, "data": DataConfig, "optim": OptimConfig, "train": TrainConfig}
HINTS = {f"{g}.{k}": hint for g, kind in GROUPS.items() for k, hint in typing.get_type_hints(kind).items()}
HINTS["seed"] = int


def values_of(hint):
    kinds = {
        str: st.text(max_size=5),
        bool: st.booleans(),
        int: st.integers(),
        float: st.floats(allow_nan=False),
        type(None): st.none(),
    }
    return st.one_of([kinds[h] for h in typing.get_args(hint) or (hint,)])


complete = st.fixed_dictionaries({key: values_of(hint) for key, hint in HINTS.items()})
some = st.fixed_dictionaries({}, optional={key: values_of(hint) for key, hint in HINTS.items()})


def test_every_field_is_flattened_in_order():
    assert list(flatten(RunConfig())) == list(HINTS)


@given(complete)
def test_round_trip(values):
    config = unflatten(values)
    assert flatten(config) == values
    assert unflatten(flatten(config)) == config
    assert unflatten(json.loads(json.dumps(flatten(config)))) == config


@given(some)
def test_override_changes_what_is_named_and_nothing_else(values):
    default = RunConfig()
    assert flatten(override(default, values)) == flatten(default) | values
    assert default == RunConfig()


@given(complete, some)
def test_difference_is_what_override_needs(values, changes):
    base = unflatten(values)
    config = override(base, changes)
    found = difference(config, base)
    assert identity(override(base, found)) == identity(config)
    assert all(found[key] != values[key] for key in found)
    assert difference(unflatten(json.loads(json.dumps(flatten(config)))), config) == {}


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().seed = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().optim.lr = 1.0


@pytest.mark.parametrize("kind", GROUPS.values())
def test_every_field_is_documented(kind):
    """The line under a field is the command line's help."""
    source = inspect.getsource(kind)
    for f in dataclasses.fields(kind):
        assert re.search(rf'^    {f.name}: .*\n    """.+"""$', source, re.MULTILINE), f.name


@pytest.mark.parametrize(
    ("key", "nearest"), [("optim.lrr", "optim.lr"), ("sed", "seed"), ("train.batchsize", "train.batch_size")]
)
def test_an_unknown_field_is_answered_with_the_valid_ones(key, nearest):
    with pytest.raises(UnknownNameError) as caught:
        override(RunConfig(), {key: 1})
    message = str(caught.value)
    assert f"unknown config field {key!r}. Did you mean {nearest!r}?" in message
    assert message.endswith(f"Valid: {', '.join(HINTS)}.")


@pytest.mark.parametrize("key", ["model", "train", "", "lr", "model.name.x", ".seed", "model.", "optim.momentum "])
def test_only_whole_names_are_fields(key):
    with pytest.raises(UnknownNameError):
        override(RunConfig(), {key: 1})


WRONG = {str: [1, None, True, b"x"], bool: [0, 1, "true", None], int: [1.0, True, "1"], float: [True, "0.1", None]}


@pytest.mark.parametrize("key", HINTS)
def test_a_wrong_type_is_refused_with_the_fields_name(key):
    hint = HINTS[key]
    optional = type(None) in typing.get_args(hint)
    kind = typing.get_args(hint)[0] if optional else hint
    wrong = [v for v in WRONG[kind] if not (optional and v is None)] + ([] if optional else [None]) + [[1], {}]
    for value in wrong:
        with pytest.raises(ConfigError, match=rf"^{re.escape(key)} takes .*{kind.__name__}") as caught:
            override(RunConfig(), {key: value})
        assert repr(value) in str(caught.value)


def test_defaults_are_the_papers_and_pass():
    config = RunConfig()
    check(config)
    o, t = config.optim, config.train
    assert (o.lr, o.momentum, o.weight_decay, o.schedule) == (0.1, 0.9, 1e-4, "step")
    assert (t.steps, t.batch_size, t.micro_batch) == (160_000, 64, None)
    assert (config.data.val_images, config.data.train_images, config.optim.label_smoothing) == (0, None, 0.0)


NAN, INF = math.nan, math.inf
# (field, values that are refused, values at the border that are not)
LIMITS = [
    ("model.width", [0.0, -1.0, NAN, INF], [0.01]),
    ("model.p", [0, -1], [1, None]),
    ("model.t", [0, -1], [1, None]),
    ("model.r", [0, -1], [1, None]),
    ("data.train_images", [0, -1], [1, None]),
    ("data.val_images", [-1], [0, 5]),
    ("data.test_images", [0, -1], [1, None]),
    ("data.difficulty", [-0.1, 1.1, NAN, INF], [0.0, 1.0, None]),
    ("data.noise", [-0.1, 1.0, NAN, INF], [0.0, 0.7]),
    ("data.image_size", [0, 7, -1], [8, None]),
    ("data.test_size", [0, 7, -1], [8, None]),
    ("data.damaged", ["keep", ""], ["refuse", "skip"]),
    ("data.workers", [0, -1, 1025], [1, None]),
    ("optim.lr", [0.0, -0.1, NAN, INF], [1e-9, 10.0]),
    ("optim.momentum", [-0.1, 1.0, NAN, INF], [0.0, 0.99]),
    ("optim.weight_decay", [-1e-9, NAN, INF], [0.0]),
    ("optim.label_smoothing", [-0.1, 1.0, NAN, INF], [0.0, 0.9]),
    ("train.steps", [0, -1], [1]),
    ("train.batch_size", [1, 0, -2], [2]),
    ("train.micro_batch", [0, 1, 3, 5, 128, -2], [2, 32, 64, None]),
    ("train.precision", ["fp16", "", "BF16"], ["auto", "bf16", "float32"]),
    ("train.kernels", ["native", ""], ["auto", "fused", "eager"]),
    ("train.threads", [0, -1], [1, None]),
    ("train.evals", [-1], [0]),
    ("seed", [-1, 2**63], [0, 2**63 - 1]),
]


def cases(column):
    return [(key, value) for key, *values in LIMITS for value in values[column]]


@pytest.mark.parametrize(("key", "value"), cases(0))
def test_check_refuses(key, value):
    with pytest.raises(ConfigError) as caught:
        check(override(RunConfig(), {key: value}))
    message = str(caught.value)
    assert message.startswith(key)
    assert str(value) in message
    assert "\n" not in message


def test_check_refuses_drawn_and_human_noise_together():
    with pytest.raises(ConfigError, match=r"data\.noise and data\.noise_labels"):
        check(override(RunConfig(), {"data.noise": 0.1, "data.noise_labels": "worse"}))


@pytest.mark.parametrize(("key", "value"), cases(1))
def test_check_admits(key, value):
    check(override(RunConfig(), {key: value}))


def test_check_looks_at_every_number():
    """A new field with a number needs a row in LIMITS."""
    numbers = {key for key, hint in HINTS.items() if {int, float} & set(typing.get_args(hint) or (hint,))}
    assert numbers == {key for key, *_ in LIMITS} - {"data.damaged", "train.precision", "train.kernels"}
