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
GOLDEN = "8ed2fcd1e8099af603e51b4f9afed8b44be3745b48aaa53af645a1b80961fdab"
BASE = override(RunConfig(), {"train.precision": "float32"})
FIELDS = list(flatten(BASE))
# Where and how, not what: a change of these must find the run that is there already.
OUTSIDE = {
    "data.root", "data.download", "data.damaged", "data.exclude", "data.workers",
    "train.threads", "train.evals", "train.recompute", "train.channels_last", "train.compile", "train.kernels",
    "train.graph",
}  # fmt: skip
# Fields that came after there were runs: in the identity only where they are not the default.
ADDED = {"data.noise", "data.noise_labels", "data.image_size", "data.test_size"}
FLOATS = [
    "model.width",
    "optim.lr",
    "optim.momentum",
    "optim.weight_decay",
    "optim.label_smoothing",
    "data.difficulty",
]


NAMES = {
    "model.name": "attention92", "model.learning": "nal", "model.mask_activation": "spatial",
    "model.mask_structure": "none", "data.name": "cluttershapes", "optim.schedule": "cosine",
    "train.precision": "bf16", "train.kernels": "fused",
}  # fmt: skip
"""another valid value of each field that takes a name"""


def another(key):
    """A value of the field's type that it does not have."""
    value = flatten(BASE)[key]
    if key in NAMES:
        return NAMES[key]
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
    ({}, "8ed2fcd1e8099af603e51b4f9afed8b44be3745b48aaa53af645a1b80961fdab"),
    ({"model.name": "attention92", "model.learning": "nal", "seed": 3},
     "742a7459b86ff9fed19eb6051521e43838a48a6ef848401274637f8bf8cda888"),
    ({"model.name": "attention164", "model.width": 0.25, "optim.schedule": "one_cycle", "optim.lr": 0.4},
     "1c972277a42b27a678690b2ea702a3cb126721df2c7328a8f51acc78875720ce"),
    ({"model.mask_activation": "channel", "model.mask_structure": "local_conv_macs"},
     "235f97d6fe66813b98927c9e3cddf62ec43f0df9432b9610336414fe90238ef9"),
    ({"model.p": 2, "model.t": 3, "model.r": 1, "train.micro_batch": 16},
     "9caa36b84e6669d1b32181e68dd2fb92b985428200a9f32d060ff196052e2f10"),
    ({"data.name": "cifar100", "data.noise": 0.3, "data.val_images": 5000},
     "d6a3f7dbe8c7b24f78888786257c3c44133c8a4f0e39aced31ab3171487694d8"),
    ({"data.noise_labels": "worse", "optim.label_smoothing": 0.1},
     "ca95ede0f5d308de48f5bd4100e530f5b6d62bd23b7faac07d3fa3d0a88807de"),
    ({"model.name": "attention56_imagenet", "data.name": "imagenet", "data.image_size": 128, "data.test_size": 160,
      "optim.schedule": "step_imagenet"},
     "e1330478f531c9a4285042d480f8c76c089ab46c536d81d5bcf656608eb51b95"),
    ({"data.name": "cluttershapes", "data.difficulty": 0.5, "data.train_images": 1000, "train.steps": 200},
     "e64ba7d405c16cbbb44296e01eb50c69082e9095c51d1e38f0ea35773c5f45b9"),
    ({"train.precision": "bf16", "train.kernels": "fused", "train.batch_size": 128, "train.channels_last": True},
     "c265ff8bf6124290dc0c1d35d4129a0f3cd12f775538a81c702fe1b2ae788b75"),
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
