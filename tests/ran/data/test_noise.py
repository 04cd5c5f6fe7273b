"""Wrong labels: eq. 7's confusion matrix, one draw per seed, nested rates; people's labels, read as plain data."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuse
from test_datasets import LAYOUT, REAL, batch, needs_cifar10, write

from ran.config import DataConfig
from ran.data import noise
from ran.data.datasets import DATASETS, DataError, load_splits, open_source
from ran.data.noise import flip_labels, human_labels

KEYS = ("clean_label", *noise.HUMAN_LABELS.values())


def labels(count, classes=10):
    return np.arange(count) % classes


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.7])
def test_confusion_matrix_is_q(rate, classes):
    """Each entry of the 60,000 labels' matrix within five standard deviations of eq. 7."""
    count = 60_000
    true = labels(count, classes)
    noisy = flip_labels(true, rate, num_classes=classes, seed=3)
    each = count / classes
    found = np.histogram2d(true, noisy, bins=(classes, classes), range=((0, classes), (0, classes)))[0] / each
    q = np.full((classes, classes), rate / (classes - 1))
    np.fill_diagonal(q, 1 - rate)
    assert np.all(abs(found - q) < 5 * np.sqrt(q * (1 - q) / each))


@given(st.integers(0, 2**63 - 1), st.floats(0, 0.99), st.floats(0, 0.99), st.integers(2, 100), st.integers(1, 300))
def test_rates_are_nested_and_wrong_labels_are_wrong(seed, a, b, classes, count):
    low, high = sorted((a, b))
    true = labels(count, classes)
    less, more = (flip_labels(true, rate, num_classes=classes, seed=seed) for rate in (low, high))
    wrong = less != true
    assert np.array_equal(more[wrong], less[wrong]), "what is wrong at one rate is wrong alike at a higher one"
    assert more.min() >= 0
    assert more.max() < classes
    assert np.array_equal(less, flip_labels(true, low, num_classes=classes, seed=seed))


def test_no_noise_is_no_change_and_seeds_differ():
    true = labels(1_000)
    assert np.array_equal(flip_labels(true, 0.0, num_classes=10, seed=0), true)
    one, other = (flip_labels(true, 0.5, num_classes=10, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one, other)


@pytest.fixture
def cifar(tmp_path):
    """A made CIFAR-10 of 100 + 20 images, with people's labels for it; `human` are the arrays in its file."""
    folder, train, test, meta, key = LAYOUT["cifar10"]
    (tmp_path / folder).mkdir()
    batches = [batch(20, key, 10, seed=i) for i in range(len(train))]
    for file, content in zip(train, batches, strict=True):
        write(tmp_path / folder / file, content)
    write(tmp_path / folder / test, batch(20, key, 10, seed=9))
    write(tmp_path / folder / meta, {"label_names": [f"class {i}" for i in range(10)]})
    return DataConfig(name="cifar10", root=str(tmp_path))


@pytest.fixture
def human(cifar):
    folder, train, _, _, key = LAYOUT["cifar10"]
    clean = np.concatenate([pickle.loads((_root(cifar) / folder / f).read_bytes())[key] for f in train])
    rng = np.random.default_rng(0)
    return {k: clean if k == "clean_label" else np.where(rng.random(100) < 0.4, (clean + 1) % 10, clean) for k in KEYS}


def _root(config):
    return Path(config.root)


def save_npz(config, arrays):
    np.savez(_root(config) / noise.PACKED, **{key: value.astype(np.uint8) for key, value in arrays.items()})


def test_splits_carry_the_noise(cifar):
    config = replace(cifar, noise=0.5, val_images=30)
    clean, noisy, again = load_splits(replace(config, noise=0.0), 0), load_splits(config, 1), load_splits(config, 1)
    assert clean.noise is None
    assert noisy.noise is not None
    assert torch.equal(noisy.noise.true_labels, clean.train.labels)
    assert torch.equal(noisy.test.labels, clean.test.labels), "test labels are the true ones"
    assert noisy.train.images.data_ptr() == clean.train.images.data_ptr(), "the images are shared"
    for part in ("train", "val"):
        share = (getattr(noisy, part).labels != getattr(clean, part).labels).double().mean().item()
        assert 0.25 < share < 0.75, f"{part} labels are noisy"
    assert noisy.noise.rate == pytest.approx(100 * (noisy.train.labels != clean.train.labels).double().mean().item())
    assert torch.equal(noisy.train.labels, again.train.labels)
    assert noisy.noise.digest == again.noise.digest != load_splits(config, 2).noise.digest


def test_labels_do_not_depend_on_how_the_images_are_split(cifar):
    whole = load_splits(replace(cifar, noise=0.5), 1)
    parts = load_splits(replace(cifar, noise=0.5, val_images=30), 1)
    assert whole.noise.digest == parts.noise.digest
    both = torch.cat([parts.val.labels, parts.train.labels])
    images = torch.cat([parts.val.images, parts.train.images])
    place = {
        image.numpy().tobytes(): label for image, label in zip(whole.train.images, whole.train.labels, strict=True)
    }
    assert [int(label) for label in both] == [int(place[image.numpy().tobytes()]) for image in images]


def test_one_class_has_no_wrong_labels(monkeypatch, cifar):
    lone = replace(open_source(cifar), classes=("all",))
    monkeypatch.setitem(DATASETS._entries, "lone", lambda config: lone)
    with pytest.raises(DataError, match="one class"):
        open_source(DataConfig(name="lone", noise=0.1))


@pytest.mark.parametrize("form", ["npz", "official"])
@pytest.mark.parametrize("name", list(noise.HUMAN_LABELS))
def test_human_labels(name, form, cifar, human):
    if form == "npz":
        save_npz(cifar, human)
    else:
        torch.save(human, _root(cifar) / noise.OFFICIAL)
    splits = load_splits(replace(cifar, noise_labels=name), 0)
    clean = load_splits(cifar, 0)
    assert splits.noise.digest == noise.digest(human[noise.HUMAN_LABELS[name]])
    assert torch.equal(splits.noise.true_labels, clean.train.labels)
    assert torch.equal(splits.test.labels, clean.test.labels)
    other = load_splits(replace(cifar, noise_labels=name), 5)
    assert torch.equal(other.train.labels, splits.train.labels), "the same for every seed"


def test_the_digest_covers_the_human_labels(cifar, human):
    save_npz(cifar, human)
    config = replace(cifar, noise_labels="worse")
    before = open_source(config).digest
    assert before != open_source(cifar).digest
    human["worse_label"] = (human["worse_label"] + 1) % 10
    save_npz(cifar, human)
    os.utime(_root(cifar) / noise.PACKED, ns=(0, 0))  # a clock too coarse would give both files one time
    assert open_source(config).digest != before
    assert len(before) <= 36


class Runs:
    """Pickled, it is a call."""

    def __reduce__(self):
        return print, ("ran",)


def test_bad_files_and_names_are_refused_in_one_line(cifar, human, tmp_path):
    config = replace(cifar, noise_labels="worse")

    refuse(config, "cifar10n.npz", "CIFAR-10_human.pt")
    refuse(replace(cifar, noise_labels="worst"), "aggre", "worst")
    refuse(replace(cifar, name="cluttershapes", noise_labels="worse"), "cluttershapes")
    save_npz(cifar, human | {"clean_label": np.roll(human["clean_label"], 1)})
    refuse(config, "official order")
    save_npz(cifar, human | {"worse_label": human["worse_label"][:50]})
    refuse(config, "worse_label")
    save_npz(cifar, human | {"worse_label": human["worse_label"] + 10})
    refuse(config, "0..9")
    (_root(cifar) / noise.PACKED).write_bytes(b"PK nothing")
    refuse(config, "cifar10n.npz", "download it again")
    (_root(cifar) / noise.PACKED).unlink()
    torch.save({"clean_label": Runs()}, _root(cifar) / noise.OFFICIAL)
    refuse(config, "CIFAR-10_human.pt", "download it again")


@needs_cifar10
@pytest.mark.skipif(not (REAL / noise.PACKED).is_file(), reason="no cifar10n.npz under data/")
def test_real_human_labels_have_the_published_rates():
    """Wei et al. (ICLR 2022), Table 1."""
    clean = np.load(REAL / noise.PACKED)["clean_label"].astype(np.int64)
    rates = {name: 100 * (human_labels(str(REAL), name, clean) != clean).mean() for name in noise.HUMAN_LABELS}
    expected = {"aggre": 9.03, "random1": 17.23, "random2": 18.12, "random3": 17.64, "worse": 40.21}
    assert rates == pytest.approx(expected, abs=0.03)
