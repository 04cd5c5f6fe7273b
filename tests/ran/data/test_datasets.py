"""Data sets by name: digests, splits, and CIFAR files that are official, made anew, damaged or hostile."""

import logging
import os
import pickle
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refuse

from ran.config import DataConfig
from ran.data import cluttershapes, datasets
from ran.data.datasets import DATASETS, DataError, Images, Source, load_splits, open_source
from ran.registry import UnknownNameError

REAL = Path(__file__).parents[3] / "data"
OFFICIAL_CIFAR10 = "48a1e4232397b487346ceb7ce58d30cd"
LAYOUT = {
    "cifar10": (
        "cifar-10-batches-py",
        [f"data_batch_{i}" for i in range(1, 6)],
        "test_batch",
        "batches.meta",
        "labels",
    ),
    "cifar100": ("cifar-100-python", ["train"], "test", "meta", "fine_labels"),
}
needs_cifar10 = pytest.mark.skipif(
    not (REAL / "cifar-10-batches-py" / "test_batch").is_file(), reason="no CIFAR-10 under data/"
)


class Runs:
    """Pickled, it is a call of os.system."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def write(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol))


def batch(count, key, classes, seed, **changes):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count).tolist()
    return {"data": rng.integers(0, 256, (count, 3072), dtype=np.uint8), key: labels} | changes


@pytest.fixture(params=["cifar10", "cifar100"])
def fake(request, tmp_path):
    """A small CIFAR of 100 + 20 images that is not the official one."""
    name = request.param
    folder, train, test, meta, key = LAYOUT[name]
    classes = 10 if name == "cifar10" else 100
    (tmp_path / folder).mkdir()
    for i, file in enumerate(train):
        write(tmp_path / folder / file, batch(100 // len(train), key, classes, seed=i))
    write(tmp_path / folder / test, batch(20, key, classes, seed=9))
    names_key = "label_names" if name == "cifar10" else "fine_label_names"
    write(tmp_path / folder / meta, {names_key: [f"class {i}" for i in range(classes)]})
    return DataConfig(name=name, root=str(tmp_path))


def path_of(config, file="test"):
    folder, train, test, meta, _ = LAYOUT[config.name]
    return Path(config.root) / folder / {"train": train[-1], "test": test, "meta": meta}[file]


def test_unknown_name_lists_the_valid_ones():
    with pytest.raises(UnknownNameError, match="cifar10, cifar100"):
        open_source(DataConfig(name="cifar11"))


def test_files_made_anew_are_read_with_a_warning_each(fake, caplog):
    with caplog.at_level(logging.WARNING, "ran.data"):
        splits = load_splits(fake, 0)
    folder, train, _, _, key = LAYOUT[fake.name]
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == len(train) + 2
    assert all(str(Path(fake.root) / folder) in line and "\n" not in line for line in warned)
    source = open_source(fake)
    assert source.num_classes == {"cifar10": 10, "cifar100": 100}[fake.name]
    assert source.classes[3] == "class 3"
    assert source.image_size == 32
    with path_of(fake).open("rb") as file:
        expected = pickle.load(file)
    assert splits.test.images.dtype == torch.uint8
    assert splits.test.images.is_contiguous()
    assert torch.equal(splits.test.images, torch.from_numpy(expected["data"]).reshape(20, 3, 32, 32))
    assert splits.test.labels.tolist() == expected[key]
    assert (len(splits.train), len(splits.val)) == (100, 0)
    assert splits.val.images.shape == (0, 3, 32, 32)


@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_protocol_is_read(fake, protocol):
    key = LAYOUT[fake.name][4]
    content = batch(20, key, 10, seed=1)
    write(path_of(fake), content, protocol)
    assert torch.equal(load_splits(fake, 0).test.images.flatten(1), torch.from_numpy(content["data"]))


def test_digest_follows_every_file(fake):
    before = open_source(fake).digest
    assert re.fullmatch("[0-9a-f]{32}", before)
    assert open_source(fake).digest == before
    for file in ("train", "test", "meta"):
        path = path_of(fake, file)
        kept = path.read_bytes()
        path.write_bytes(kept + b"\0")  # behind the pickle's end: the content is the same, the file is not
        assert open_source(fake).digest != before
        path.write_bytes(kept)
        assert open_source(fake).digest == before


def test_digest_needs_no_torchvision(fake, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert open_source(fake).digest


@pytest.mark.parametrize("file", ["train", "test", "meta"])
def test_code_in_a_file_is_refused_and_never_run(fake, tmp_path, file):
    trace = tmp_path / "trace"
    write(path_of(fake, file), {"data": Runs(f"touch {trace}"), "labels": [0], "label_names": Runs(f"touch {trace}")})
    refuse(fake, str(path_of(fake, file)), "posix.system")
    assert not trace.exists()
    pickle.loads(path_of(fake, file).read_bytes())
    assert trace.exists()  # so the file is hostile indeed


@pytest.mark.parametrize(
    "payload",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.",
        b"c_codecs\ndecode\n(S'x'\ntR.",
        b"cran.data.datasets\nopen_source\n.",
    ],
)
def test_only_what_arrays_need_can_be_named(fake, payload):
    path_of(fake).write_bytes(payload)
    refuse(fake, str(path_of(fake)), "not plain data")


@pytest.mark.parametrize("kept", [0, 1, 40, 5000, -1])
@pytest.mark.parametrize("file", ["train", "test"])
def test_a_truncated_file_is_refused(fake, file, kept):
    path = path_of(fake, file)
    path.write_bytes(path.read_bytes()[:kept])
    refuse(fake, str(path), "download the data set again")


# Changes to a good batch of 20 images, and a word of the complaint.
BAD_BATCHES = {
    "label too high": ({"labels": [0] * 19 + [10]}, "labels 0 to 10"),
    "label negative": ({"labels": [0] * 19 + [-1]}, "labels -1 to 0"),
    "label a text": ({"labels": ["1"] * 20}, "no list of ints"),
    "label a bool": ({"labels": [True] * 20}, "no list of ints"),
    "too few labels": ({"labels": [0] * 19}, "20 images and 19 labels"),
    "no labels": ({"labels": None}, "no list of ints"),
    "no image": ({"labels": [], "data": np.empty((0, 3072), np.uint8)}, "0 images"),
    "floats": ({"data": np.zeros((20, 3072), np.float32)}, "no uint8 array"),
    "objects": ({"data": np.array([[None] * 3072] * 20)}, "no uint8 array"),
    "wrong size": ({"data": np.zeros((20, 3000), np.uint8)}, "3072 bytes"),
    "one image": ({"data": np.zeros(3072, np.uint8)}, "no uint8 array"),
    "a list": ({"data": [[0] * 3072] * 20}, "no uint8 array"),
}


@pytest.mark.parametrize(("changes", "word"), BAD_BATCHES.values(), ids=BAD_BATCHES)
@pytest.mark.parametrize("fake", ["cifar10"], indirect=True)
def test_a_batch_of_wrong_content_is_refused(fake, changes, word):
    write(path_of(fake), batch(20, "labels", 10, seed=1, **changes), protocol=4)
    refuse(fake, str(path_of(fake)), word)


@pytest.mark.parametrize("key", ["data", "labels"])
@pytest.mark.parametrize("fake", ["cifar10"], indirect=True)
def test_a_missing_key_is_named(fake, key):
    content = batch(20, "labels", 10, seed=1)
    del content[key]
    write(path_of(fake), content)
    refuse(fake, f"'{key}' is missing")


@pytest.mark.parametrize("fake", ["cifar10"], indirect=True)
def test_a_list_in_place_of_a_dict_is_refused(fake):
    write(path_of(fake), [1, 2])
    refuse(fake, "a list in place of a dict")


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (None, "no list of names"),
        (["a"] * 10, "1 class names"),
        ([*"abcdefghi"], "9 class names"),
        ([1] * 10, "no list"),
    ],
)
@pytest.mark.parametrize("fake", ["cifar10"], indirect=True)
def test_class_names_are_checked_before_anything_is_loaded(fake, names, word):
    write(path_of(fake, "meta"), {"label_names": names})
    with pytest.raises(DataError, match=word):
        open_source(fake)


@pytest.mark.parametrize("file", ["train", "test", "meta"])
def test_an_absent_file_is_named_with_both_ways_out(fake, file):
    path_of(fake, file).unlink()
    refuse(fake, str(path_of(fake, file)), "--data.root", "--data.download", LAYOUT[fake.name][0])


def test_an_absent_root_is_refused_and_not_made(tmp_path):
    refuse(DataConfig(name="cifar10", root=str(tmp_path / "none")), "--data.root", "--data.download")
    assert not (tmp_path / "none").exists()


def test_a_failed_download_names_the_other_way(tmp_path, monkeypatch):
    def fail(url, root, **_):
        raise OSError(f"no route\nto {url}")

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", fail)
    refuse(
        DataConfig(name="cifar10", root=str(tmp_path), download=True),
        "no route to http",
        "--data.root",
        "cifar-10-batches-py is there",
    )


def test_a_download_that_brings_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", lambda *_, **__: None)
    refuse(DataConfig(name="cifar100", root=str(tmp_path), download=True), "cifar-100-python", "--data.root")


def test_a_download_is_used(fake, tmp_path, monkeypatch):
    def fetch(url, root, *, filename, md5):
        assert (url.rsplit("/", 1)[1], len(md5)) == (filename, 32)
        folder = Path(fake.root) / LAYOUT[fake.name][0]
        (Path(root) / folder.name).mkdir(parents=True)
        for file in folder.iterdir():
            (Path(root) / folder.name / file.name).write_bytes(file.read_bytes())

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", fetch)
    there = replace(fake, root=str(tmp_path / "fetched"), download=True)
    assert open_source(there).digest == open_source(fake).digest


def test_present_files_are_not_downloaded(fake, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", None)
    assert open_source(replace(fake, download=True)) == open_source(fake)


def rows(images: Images) -> set[bytes]:
    return {bytes(image.numpy().tobytes()) for image in images.images}


def test_splits_are_disjoint_and_cover_the_training_set(fake):
    whole = load_splits(fake, 0)
    parts = load_splits(replace(fake, val_images=30), 0)
    assert (len(parts.train), len(parts.val)) == (70, 30)
    assert not rows(parts.train) & rows(parts.val)
    assert rows(parts.train) | rows(parts.val) == rows(whole.train)
    by_image = dict(zip((i.numpy().tobytes() for i in whole.train.images), whole.train.labels.tolist(), strict=True))
    assert [by_image[i.numpy().tobytes()] for i in parts.val.images] == parts.val.labels.tolist()


def test_a_part_of_the_images_is_drawn_for_each_seed(fake):
    part = replace(fake, val_images=30, train_images=20)
    one, again, other = (load_splits(part, seed) for seed in (1, 1, 2))
    assert torch.equal(one.train.images, again.train.images)
    assert torch.equal(one.val.images, other.val.images)
    assert not rows(one.train) & rows(one.val)
    assert 0 < len(rows(one.train) & rows(other.train)) < 20, "two draws of 20 from 70"


def test_all_images_are_the_same_for_all_seeds_and_held_once(fake):
    whole = replace(fake, val_images=30)
    assert load_splits(whole, 1) is load_splits(whole, 2)


def test_every_image_is_drawn_by_some_seed():
    drawn = [datasets.split_indices("x", 100, train_images=20, val_images=10, seed=s)[0] for s in range(40)]
    held_out = datasets.split_indices("x", 100, train_images=20, val_images=10, seed=0)[1]
    assert set(np.concatenate(drawn)) == set(range(100)) - set(held_out)


def test_fewer_images_are_the_beginning_of_more(fake):
    more = load_splits(replace(fake, val_images=30, train_images=50), 0)
    fewer = load_splits(replace(fake, val_images=30, train_images=20, test_images=7), 0)
    assert torch.equal(fewer.train.images, more.train.images[:20])
    assert torch.equal(fewer.val.images, more.val.images)
    assert torch.equal(fewer.test.labels, more.test.labels[:7])


def test_validation_images_are_spread_and_fixed():
    train, val = datasets.split_indices("cifar10", 50_000, train_images=None, val_images=5_000, seed=0)
    assert sorted([*train, *val]) == list(range(50_000))
    assert np.histogram(val, bins=5, range=(0, 50_000))[0].min() > 900
    assert val[:3].tolist() == [15029, 43782, 25063]


@pytest.mark.parametrize(
    ("sizes", "word"),
    [
        ({"train_images": 101}, "need 101 training images, there are 100"),
        ({"train_images": 80, "val_images": 21}, "need 101 training images, there are 100"),
        ({"val_images": 100}, "need 101 training images, there are 100"),
        ({"test_images": 21}, "data.test_images=21, there are 20"),
    ],
)
def test_too_few_images_are_refused_with_numbers(fake, sizes, word):
    refuse(replace(fake, **sizes), word)


def test_splits_are_kept_in_the_process_and_follow_the_files(fake):
    first = load_splits(fake, 0)
    assert load_splits(replace(fake, download=True), 0) is first
    write(path_of(fake), batch(19, LAYOUT[fake.name][4], 10, seed=77))
    assert len(load_splits(fake, 0).test) == 19


def test_a_users_own_data_set_is_one_function():
    def blank(config):
        images = Images(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4))
        return Source(
            "blank",
            tuple("abcd"),
            image_size=8,
            train_images=4,
            test_images=4,
            digest="0" * 32,
            load=lambda: (images, images),
        )

    DATASETS.register("blank")(blank)
    try:
        assert len(load_splits(DataConfig(name="blank", val_images=1), 0).train) == 3
    finally:
        del DATASETS._entries["blank"]


def test_cluttershapes_through_the_registry(tmp_path):
    config = DataConfig(name="cluttershapes", root=str(tmp_path / "none"), train_images=20, val_images=5, test_images=8)
    source, splits = open_source(config), load_splits(config, 0)
    assert (source.num_classes, source.image_size, len(source.digest)) == (10, 16, 32)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (20, 5, 8)
    assert not rows(splits.train) & rows(splits.val)
    assert splits.train.images.is_contiguous()
    assert open_source(replace(config, difficulty=0.25)).digest != source.digest
    assert open_source(replace(config, difficulty=cluttershapes.DIFFICULTY)) == source
    assert not (tmp_path / "none").exists()
    refuse(replace(config, test_images=2001), "there are 2000")


def test_cluttershapes_of_two_difficulties_are_not_confused(tmp_path):
    config = DataConfig(name="cluttershapes", root=str(tmp_path), train_images=4, test_images=4)
    easy, hard = (load_splits(replace(config, difficulty=difficulty), 0) for difficulty in (0.0, 1.0))
    assert not torch.equal(easy.train.images, hard.train.images)


@needs_cifar10
def test_official_cifar10(caplog):
    config = DataConfig(name="cifar10", root=str(REAL), val_images=5_000, train_images=100)
    source = open_source(config)
    assert source.digest == OFFICIAL_CIFAR10
    assert source.classes[:2] == ("airplane", "automobile")
    splits = load_splits(config, 0)
    assert not caplog.records
    assert splits.test.labels.bincount().tolist() == [1000] * 10
    assert splits.test.labels[:5].tolist() == [3, 8, 8, 0, 6]  # cat, ship, ship, airplane, frog
    # The published channel means of the training images, (0.4914, 0.4822, 0.4465), of which these are a sample.
    mean = splits.val.images.double().mean((0, 2, 3)) / 255
    assert mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.01)
