"""The fingerprint: the same for the same result, another for any other."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran import fingerprints
from ran.config import ConfigError, OptimConfig, RunConfig, difference, flatten, identity, override, unflatten
from ran.fingerprints import fingerprint

DIGEST = "0" * 64
GOLDEN = "a44d2b7dbe6912434b39dd090e234c3f48be1a1e97699da4e87bd56f8709c59d"
BASE = override(RunConfig(), {"train.precision": "float32"})
FIELDS = list(flatten(BASE))
# Where and how, not what: a change of these must find the run that is there already.
OUTSIDE = {
    "data.root", "data.download", "data.damaged", "data.exclude", "data.workers",
    "train.threads", "train.evals", "train.recompute",
}  # fmt: skip
# Fields that came after there were runs: in the identity only where they are not the default.
ADDED = {"data.noise", "data.noise_labels", "data.image_size", "data.test_size", "train.kernels"}
FLOATS = [
    "model.width",
    "optim.lr",
    "optim.momentum",
    "optim.weight_decay",
    "optim.label_smoothing",
    "data.difficulty",
]


def another(key):
    """A value of the field's type that it does not have."""
    value = flatten(BASE)[key]
    if key == "train.precision":
        return "bf16"
    if key == "train.kernels":
        return "fused"
    if value is None:
        return {"data.difficulty": 0.5, "data.noise_labels": "worse", "data.exclude": "x.txt"}.get(key, 3)
    return {bool: lambda: not value, str: lambda: value + "x", int: lambda: value + 1, float: lambda: value + 0.25}[
        type(value)
    ]()


def test_golden():
    """Red after a change of a default, a field's name or the schema: every finished run would be trained again.

    Where that is meant, raise SCHEMA_VERSION (or add a field), say so in docs/reproducibility.md, and renew the value.
    """
    assert fingerprint(BASE, DIGEST) == GOLDEN


# Of runs that people may have: red if a change would train these anew.
RUNS = [
    ({}, "a44d2b7dbe6912434b39dd090e234c3f48be1a1e97699da4e87bd56f8709c59d"),
    ({"model.name": "attention92", "model.learning": "nal", "seed": 3},
     "c0d00a357b30f5f59157da43b59f3f27846a00ed869cc4f5c39e0b4a15ccd089"),
    ({"model.name": "attention164", "model.width": 0.25, "optim.schedule": "one_cycle", "optim.lr": 0.4},
     "36567e6cd8c301c9b77e96226337f1d570b9897380a1d05737971523d4f87a80"),
    ({"model.mask_activation": "channel", "model.mask_structure": "local_conv_macs"},
     "daa095f33a7733901ccf0581f484c84815d4796859feda6f65289185b9aad9f7"),
    ({"model.p": 2, "model.t": 3, "model.r": 1, "train.micro_batch": 16},
     "e408c67d0d778774d7f02fd3b62a6e81a3d16ea4ac965adb3c4b474d069e721e"),
    ({"data.name": "cifar100", "data.noise": 0.3, "data.val_images": 5000},
     "41af8948af18c11723876ae03382be7ece4de9794a24c0233239fef9d0128124"),
    ({"data.noise_labels": "worse", "optim.label_smoothing": 0.1},
     "dfcfab835e16aaf992279fc8214888108ec001466ca03726de5db3b440961705"),
    ({"model.name": "attention56_imagenet", "data.name": "imagenet", "data.image_size": 128, "data.test_size": 160,
      "optim.schedule": "step_imagenet"},
     "9d173a1baed6b8d905dc220e1a087d6afa64ad91e97ce019ccec8c1de3462ebd"),
    ({"data.name": "cluttershapes", "data.difficulty": 0.5, "data.train_images": 1000, "train.steps": 200},
     "237f14a1bfd1c6aca628dee7148a0ada0797306faaafece986d56f27c2a9f377"),
    ({"train.precision": "bf16", "train.kernels": "fused", "train.batch_size": 128, "train.channels_last": True},
     "d5844891926b6dbbabfdb983171801546cdbcda5dcea84ce218979961e4b98b2"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "expected"), RUNS, ids=str)
def test_ten_configurations_keep_their_fingerprints(values, expected):
    assert fingerprint(override(BASE, values), DIGEST) == expected


def test_form():
    assert re.fullmatch("[0-9a-f]{64}", fingerprint(BASE, DIGEST))
    assert fingerprint(BASE, DIGEST) == fingerprint(unflatten(flatten(BASE)), DIGEST)


def test_auto_precision_is_refused():
    with pytest.raises(ConfigError, match=r"train\.precision"):
        fingerprint(RunConfig(), DIGEST)


def test_the_fields_outside_are_these():
    assert set(FIELDS) - set(identity(BASE)) == OUTSIDE | ADDED
    changed = override(BASE, {key: another(key) for key in ADDED})
    assert list(identity(changed)) == [key for key in FIELDS if key not in OUTSIDE]


def test_differences_name_added_fields_in_both_directions():
    noisy = override(BASE, {"data.noise": 0.3})
    assert difference(noisy, BASE) == {"data.noise": 0.3}
    assert difference(BASE, noisy) == {"data.noise": 0.0}


@pytest.mark.parametrize("key", FIELDS)
def test_each_field_of_the_identity_changes_it_and_no_other(key):
    changed = override(BASE, {key: another(key)})
    assert changed != BASE
    assert (fingerprint(changed, DIGEST) == fingerprint(BASE, DIGEST)) == (key in OUTSIDE)


def test_all_changes_give_different_fingerprints():
    inside = [key for key in FIELDS if key not in OUTSIDE]
    found = {fingerprint(override(BASE, {key: another(key)}), DIGEST) for key in inside}
    assert len(found) == len(inside)


def test_data_and_schema_change_it(monkeypatch):
    before = fingerprint(BASE, DIGEST)
    assert fingerprint(BASE, "1" + DIGEST[1:]) != before
    monkeypatch.setattr(fingerprints, "SCHEMA_VERSION", fingerprints.SCHEMA_VERSION + 1)
    assert fingerprint(BASE, DIGEST) != before


@given(st.permutations(FIELDS))
def test_the_order_of_the_values_does_not_matter(order):
    values = flatten(BASE)
    assert fingerprint(unflatten({key: values[key] for key in order}), DIGEST) == GOLDEN


def test_the_order_of_the_fields_does_not_matter(monkeypatch):
    monkeypatch.setattr(fingerprints, "identity", lambda config: dict(reversed(identity(config).items())))
    assert list(fingerprints.identity(BASE)) != list(identity(BASE))
    assert fingerprint(BASE, DIGEST) == GOLDEN


@pytest.mark.parametrize("key", FLOATS)
@pytest.mark.parametrize("value", [0, 1])
def test_an_int_for_a_float_is_the_same_run(key, value):
    as_int, as_float = (override(BASE, {key: v}) for v in (value, float(value)))
    assert fingerprint(as_int, DIGEST) == fingerprint(as_float, DIGEST)


def test_an_int_for_a_float_in_a_constructor_is_the_same_run():
    as_int, as_float = (dataclasses.replace(BASE, optim=OptimConfig(lr=lr)) for lr in (1, 1.0))
    assert as_int == as_float
    assert fingerprint(as_int, DIGEST) == fingerprint(as_float, DIGEST)


def test_negative_zero_is_zero():
    negative, positive = (override(BASE, {"optim.weight_decay": v}) for v in (-0.0, 0.0))
    assert negative == positive
    assert fingerprint(negative, DIGEST) == fingerprint(positive, DIGEST)


@given(st.floats(1e-6, 10), st.floats(1e-6, 10))
def test_equal_exactly_where_the_rates_are(a, b):
    prints = [fingerprint(override(BASE, {"optim.lr": lr}), DIGEST) for lr in (a, b)]
    assert (prints[0] == prints[1]) == (a == b)
