"""Image folders: what is listed, split and normalised, and what is refused."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as reference

from ran.config import DataConfig
from ran.data import decode, listing
from ran.data.datasets import load_splits, open_source, split_indices
from ran.errors import DataError

CLASSES = ("n01", "n02", "n10", "n11")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = 28  # of a crop; in a test from a shorter side of 32


def picture(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def square(path, side):
    """The centre of an image as it is tested."""
    return torch.tensor(decode.centre(str(path), side, side / round(side * 8 / 7))).permute(2, 0, 1)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """4 classes, 6 + 3 images of each, of 29 to 60 pixels a side. The classes are made in disorder."""
    rng = np.random.default_rng(0)
    for split, count in (("val", 3), ("train", 6)):
        for name in CLASSES[::-1]:
            for i in range(count):
                width, height = rng.integers(29, 61, 2).tolist()
                save(tmp_path / "imagenet" / split / name / f"{name}_{i}.png", picture(width, height, rng))
    return tmp_path


@pytest.fixture
def config(folder):
    return DataConfig(name="imagenet", root=str(folder), image_size=SIZE)


def files(folder, split):
    return sorted(str(p) for p in (folder / "imagenet" / split).rglob("*.png"))


def refuse(config, *words):
    """Asserts that loading fails with one line that holds `words`."""
    with pytest.raises(DataError) as caught:
        load_splits(config)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


# What is listed
def test_a_folder_says_what_it_is(config):
    source = open_source(config)
    assert (source.name, source.classes) == ("imagenet", CLASSES)
    assert (source.train_images, source.test_images) == (24, 12)
    assert (source.image_size, source.test_size) == (SIZE, SIZE)
    usual = open_source(replace(config, image_size=None, test_size=320))
    assert (usual.image_size, usual.test_size) == (224, 320)
    assert re.fullmatch("[0-9a-f]{32}", source.digest)
    assert usual.digest == source.digest, "sizes are the config's, and in the fingerprint as such"


@pytest.mark.parametrize("name", ["a.JPEG", "b.jpg", "c.PNG", "d.webp", "e.bmp", "f.ppm", "g.tif"])
def test_every_kind_of_image_is_listed(name, config, folder):
    save(folder / "imagenet" / "train" / "n01" / name, picture(40, 40), format=Image.registered_extensions()[
        Path(name).suffix.lower()
    ])  # fmt: skip
    assert open_source(config).train_images == 25
    assert len(load_splits(config).train) == 25


def test_other_files_are_not_images(config, folder):
    before = open_source(config)
    for name in (".hidden.png", "notes.txt", "n01"):
        (folder / "imagenet" / "train" / "n01" / name).write_text("x")
    (folder / "imagenet" / "train" / ".cache").mkdir()
    (folder / "imagenet" / "train" / "classes.json").write_text("{}")
    listing._list.cache_clear()
    assert open_source(config) == before


def test_the_digest_is_of_paths_and_sizes(config, folder, tmp_path_factory):
    def digest(root=folder):
        listing._list.cache_clear()
        return open_source(replace(config, root=str(root))).digest

    before, path = digest(), folder / "imagenet" / "val" / "n02" / "n02_1.png"
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    os.symlink(folder / "imagenet", elsewhere / "imagenet")
    assert digest(elsewhere) == before
    content = path.read_bytes()
    path.write_bytes(content[::-1])
    assert digest() == before
    path.write_bytes(content + b"\0")
    assert digest() != before
    path.write_bytes(content)
    path.rename(path.with_name("n02_9.png"))
    assert digest() != before
    path.with_name("n02_9.png").rename(path.parents[1] / "n01" / "n02_1.png")
    assert digest() != before
    (path.parents[1] / "n01" / "n02_1.png").rename(path)
    assert digest() == before


def test_a_file_that_came_is_seen_without_a_new_process(config, folder):
    before = open_source(config)
    new = folder / "imagenet" / "train" / "n11" / "new.png"
    save(new, picture(40, 40))
    os.utime(new.parent, ns=(0, 0))  # a clock too coarse to tell the two moments apart
    assert open_source(config).train_images == before.train_images + 1


# Splits
def test_the_splits_are_the_files(config, folder):
    splits = load_splits(replace(config, val_images=5, test_size=21))
    paths = files(folder, "train")
    places = split_indices("imagenet", 24, train_images=None, val_images=5)
    for split, found, side in zip((splits.train, splits.val), places, (SIZE, SIZE), strict=True):
        images = split.images.read()
        assert images.shape == (len(found), 3, side, side)
        for image, label, i in zip(images, split.labels, found, strict=True):
            assert torch.equal(image, square(paths[i], side))
            assert CLASSES[label] in paths[i]
    decoded = {square(path, 21).numpy().tobytes(): path for path in files(folder, "val")}
    tested = [decoded.pop(image.numpy().tobytes()) for image in splits.test.images.read()]
    assert not decoded
    assert all(CLASSES[label] in path for label, path in zip(splits.test.labels, tested, strict=True))


def test_the_first_test_images_are_of_all_classes_and_the_same_each_time(config):
    few, all_ = load_splits(replace(config, test_images=6)), load_splits(config)
    assert len(set(few.test.labels.tolist())) > 2
    assert few.test.images.names == all_.test.images.names[:6]
    assert torch.equal(few.test.labels, all_.test.labels[:6])


def test_nothing_is_decoded_before_it_is_wanted(config, monkeypatch):
    monkeypatch.setattr(decode, "centre", None)
    monkeypatch.setattr(decode, "crop", None)
    assert len(load_splits(config).train) == 24


def test_sizes_are_not_confused(config):
    shapes = {
        (size, tested): (splits.train.images.side, splits.val.images.side, splits.test.images.side)
        for size, tested in ((None, None), (28, None), (28, 40), (None, 299), (63, 63))
        for splits in [load_splits(replace(config, image_size=size, test_size=tested, train_images=2, val_images=1))]
    }
    assert shapes == {
        (None, None): (224, 224, 224), (28, None): (28, 28, 28), (28, 40): (28, 28, 40), (None, 299): (224, 224, 299),
        (63, 63): (63, 63, 63),
    }  # fmt: skip


@pytest.mark.parametrize(("side", "scaled"), [(224, 256), (299, 342), (320, 366)])
def test_a_test_images_shorter_side_is_8_7_of_the_crop(side, scaled, config):
    images = load_splits(replace(config, test_size=side, test_images=2)).test.images
    assert images.share == side / scaled
    assert images.read().shape == (2, 3, side, side)


def test_normalisation_is_the_papers(config):
    """Scaled to [0, 1], mean subtracted, divided by the standard deviation (section 4.2)."""
    splits = load_splits(config)
    images = splits.test.images.read()
    expected = reference.normalize(images.double() / 255, MEAN, STD)
    torch.testing.assert_close(splits.pixels.normalize(images).double(), expected, rtol=0, atol=1e-6)


# What is refused
@pytest.mark.parametrize("split", ["train", "val"])
def test_an_absent_folder_says_what_to_put_where(split, config, folder):
    (folder / "imagenet" / split).rename(folder / "away")
    root = folder / "imagenet"
    refuse(config, f"no folder {root / split}", f"{root}/train/<class>/<image>", f"{root}/val/<class>", "--data.root")


@pytest.mark.parametrize(("split", "other"), [("train", "val"), ("val", "train")])
def test_both_splits_need_the_same_classes(split, other, config, folder):
    save(folder / "imagenet" / split / "n99" / "x.png", picture(40, 40))
    refuse(config, str(folder / "imagenet" / split / "n99"), f"{folder / 'imagenet' / other} has no such class")


def test_images_that_are_not_sorted_into_classes_are_refused(config, folder):
    (folder / "imagenet" / "val").rename(folder / "away")
    save(folder / "imagenet" / "val" / "x.png", picture(40, 40))
    refuse(config, f"{folder / 'imagenet' / 'val'} holds no folders", "sort the images into them")


def test_an_empty_class_is_refused(config, folder):
    for split in ("train", "val"):
        (folder / "imagenet" / split / "n99").mkdir()
    refuse(config, str(folder / "imagenet" / "train" / "n99"), "holds no images", ".jpeg")


def test_a_link_to_nowhere_is_named(config, folder):
    path = folder / "imagenet" / "train" / "n02" / "away.png"
    path.symlink_to(folder / "nowhere.png")
    refuse(config, f"{path}: cannot be read")


@pytest.mark.parametrize(
    ("sizes", "word"),
    [
        ({"train_images": 25}, "need 25 training images, there are 24"),
        ({"val_images": 24}, "need 25 training images, there are 24"),
        ({"test_images": 13}, "data.test_images=13, there are 12"),
    ],
)
def test_too_few_images_are_refused_with_numbers(sizes, word, config):
    refuse(replace(config, **sizes), word)


@pytest.mark.parametrize("sizes", [{"image_size": 32}, {"test_size": 32}])
def test_other_data_sets_have_one_size(sizes, tmp_path):
    refuse(DataConfig(name="cluttershapes", root=str(tmp_path), **sizes), "image folders", "cluttershapes has one size")
