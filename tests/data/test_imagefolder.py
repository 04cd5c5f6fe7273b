"""Image folders: what is listed, how an image is decoded, cropped and normalised, and what is refused."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as reference

from ran.config import DataConfig
from ran.data import datasets, imagefolder
from ran.data.datasets import DataError, load_splits, open_source, split_indices
from ran.data.imagefolder import decode
from ran.data.loader import TrainBatches

CLASSES = ("n01", "n02", "n10", "n11")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = 28  # of a crop; it is taken from 32x32


def picture(width, height, seed=0, mode="RGB"):
    rng = np.random.default_rng(seed)
    channels = {"RGB": (3,), "L": (), "CMYK": (4,), "RGBA": (4,), "LA": (2,)}[mode]
    return Image.fromarray(rng.integers(0, 256, (height, width, *channels), dtype=np.uint8), mode)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """4 classes, 6 + 3 images of each, of 29 to 60 pixels a side. The classes are made in disorder."""
    datasets._split.cache_clear()  # every test's folder has the same digest
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
    imagefolder._list.cache_clear()
    assert open_source(config) == before


def test_the_digest_is_of_paths_and_sizes(config, folder, tmp_path_factory):
    def digest(root=folder):
        imagefolder._list.cache_clear()
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


# How an image is decoded
def resampled(pixels, box, side):
    """Rows of the triangle filter's weighted means over `box` (first, last) of the first axis, as wide as the step."""
    step = (box[1] - box[0]) / side
    reach = max(step, 1.0)
    out = []
    for i in range(side):
        middle = box[0] + (i + 0.5) * step
        weights = np.array([max(0.0, 1 - abs(x + 0.5 - middle) / reach) for x in range(len(pixels))])
        out.append(np.tensordot(weights / weights.sum(), pixels, 1))
    return np.stack(out)


@pytest.mark.parametrize("share", [1.0, 0.875, 7 / 9])
@pytest.mark.parametrize(("width", "height"), [(32, 32), (37, 53), (91, 40), (12, 20), (9, 9), (200, 33), (1, 5)])
def test_decoding_is_the_literal_filter(width, height, share, tmp_path):
    save(tmp_path / "x.png", picture(width, height))
    kept = min(width, height) * share
    pixels = np.asarray(picture(width, height)).astype(float)  # (H, W, 3)
    rows, cols = (((side - kept) / 2, (side + kept) / 2) for side in (height, width))
    once = resampled(pixels.transpose(1, 0, 2), cols, 24)
    expected = resampled(once.transpose(1, 0, 2), rows, 24)
    found = decode(str(tmp_path / "x.png"), 24, share)
    assert found.shape == (3, 24, 24)
    assert found.dtype == torch.uint8
    assert np.abs(found.permute(1, 2, 0).numpy() - expected).max() <= 1.01  # rounded after each direction


@pytest.mark.parametrize(("size", "scaled", "crop"), [(512, 256, 224), (384, 384, 336), (128, 256, 224)])
def test_a_test_image_is_torchvisions_resize_and_centre_crop(size, scaled, crop, tmp_path):
    image = picture(size, size)
    save(tmp_path / "x.png", image)
    bilinear = reference.InterpolationMode.BILINEAR
    expected = reference.center_crop(reference.resize(image, scaled, bilinear), crop)
    assert torch.equal(decode(str(tmp_path / "x.png"), crop, crop / scaled), reference.pil_to_tensor(expected))


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "LA", "P", "1"])
def test_every_kind_of_colour_becomes_rgb(mode, tmp_path):
    made = picture(40, 30, mode=mode) if mode not in ("P", "1") else picture(40, 30).convert(mode)
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    save(path, made)
    with Image.open(path) as kept:
        assert kept.mode == mode
        rgb = kept.convert("RGB")
    save(tmp_path / "rgb.png", rgb)
    found = decode(str(path), 20, 1.0)
    assert torch.equal(found, decode(str(tmp_path / "rgb.png"), 20, 1.0))
    assert mode != "L" or torch.equal(found[0], found[2])


# Splits
def test_the_splits_are_the_files(config, folder):
    splits = load_splits(replace(config, val_images=5, test_size=21))
    train, val = split_indices("imagenet", 24, train_images=None, val_images=5)
    paths = files(folder, "train")
    assert splits.train.images.shape == (19, 3, 32, 32)
    assert splits.train.images.is_contiguous()
    for image, label, i in zip(splits.train.images, splits.train.labels, train, strict=True):
        assert torch.equal(image, decode(paths[i], 32, 1.0))
        assert CLASSES[label] in paths[i]
    assert splits.val.images.shape == (5, 3, SIZE, SIZE)
    for image, label, i in zip(splits.val.images, splits.val.labels, val, strict=True):
        assert torch.equal(image, decode(paths[i], 32, 1.0)[:, 2:30, 2:30])
        assert CLASSES[label] in paths[i]
    assert splits.test.images.shape == (12, 3, 21, 21)
    decoded = {decode(path, 21, 0.875).numpy().tobytes(): path for path in files(folder, "val")}
    found = [decoded.pop(image.numpy().tobytes()) for image in splits.test.images]
    assert not decoded
    assert all(CLASSES[label] in path for label, path in zip(splits.test.labels, found, strict=True))


def test_the_first_test_images_are_of_all_classes_and_the_same_each_time(config):
    few, all_ = load_splits(replace(config, test_images=6)), load_splits(config)
    assert len(set(few.test.labels.tolist())) > 2
    assert torch.equal(few.test.images, all_.test.images[:6])
    assert torch.equal(few.test.labels, all_.test.labels[:6])


def test_only_the_images_of_the_run_are_decoded(config, folder, monkeypatch):
    seen = []
    monkeypatch.setattr(imagefolder, "decode", lambda path, *args: seen.append(path) or decode(path, *args))
    splits = load_splits(replace(config, train_images=3, val_images=2, test_images=4))
    assert (len(splits.train), len(splits.val), len(splits.test)) == (3, 2, 4)
    assert len(seen) == 9
    whole = load_splits(replace(config, val_images=2))
    assert torch.equal(splits.train.images, whole.train.images[:3])
    assert torch.equal(splits.val.images, whole.val.images)


def test_sizes_are_not_confused(config):
    shapes = {
        (size, tested): (splits.train.images.shape[-1], splits.val.images.shape[-1], splits.test.images.shape[-1])
        for size, tested in ((None, None), (28, None), (28, 40), (None, 299), (63, 63))
        for splits in [load_splits(replace(config, image_size=size, test_size=tested, train_images=2, val_images=1))]
    }
    assert shapes == {
        (None, None): (256, 224, 224), (28, None): (32, 28, 28), (28, 40): (32, 28, 40), (None, 299): (256, 224, 299),
        (63, 63): (72, 63, 63),
    }  # fmt: skip


# Crops and normalisation
def test_batches_are_literal_crops_flipped_and_normalised(config):
    splits = load_splits(config)
    batches = TrainBatches(splits.train.images, splits.train.labels, splits.pixels, batch_size=24, seed=3)
    places = set()
    for step in range(20):
        images, labels = batches(step)
        assert images.shape == (24, 3, SIZE, SIZE)
        index = batches.indices(step)
        assert torch.equal(labels, splits.train.labels[index])
        for image, i in zip(images, index, strict=True):
            levels = torch.stack([(255 * (c * s + m)).round() for c, m, s in zip(image, MEAN, STD, strict=True)])
            fits = [
                (row, col, flip)
                for row in range(5)
                for col in range(5)
                for flip in (False, True)
                for crop in [splits.train.images[i][:, row : row + SIZE, col : col + SIZE]]
                if torch.equal(crop.flip(-1) if flip else crop, levels)
            ]
            assert len(fits) == 1
            places |= set(fits)
    assert len(places) == 50, "every offset, with and without a flip"


def test_normalisation_is_the_papers(config):
    """Scaled to [0, 1], mean subtracted, divided by the standard deviation (section 4.2)."""
    splits = load_splits(config)
    expected = reference.normalize(splits.test.images.double() / 255, MEAN, STD)
    torch.testing.assert_close(splits.pixels.normalize(splits.test.images).double(), expected, rtol=0, atol=1e-6)


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


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"no image", lambda b: b[9:]])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_damaged_image_is_named(split, damage, config, folder):
    path = folder / "imagenet" / split / "n02" / "n02_1.png"
    path.write_bytes(damage(path.read_bytes()))
    imagefolder._list.cache_clear()
    refuse(config, f"{path}: not an image that can be read", "fetch it anew")


def test_a_link_to_nowhere_is_named(config, folder):
    path = folder / "imagenet" / "train" / "n02" / "away.png"
    path.symlink_to(folder / "nowhere.png")
    refuse(config, f"{path}: cannot be read")


def test_more_than_memory_holds_is_refused_before_any_is_decoded(config, monkeypatch):
    monkeypatch.setattr(imagefolder, "decode", None)
    # 24 of 32x32 and 12 of 28x28, three bytes a pixel, in half of what is available.
    need = 3 * (24 * 32**2 + 12 * 28**2)
    memory = type("Memory", (), {"available": 2 * need - 1})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    refuse(config, "imagenet: 0.0 GiB of decoded images", "0.0 GiB are available", "50%", "--data.train_images")
    memory.available = 2 * need
    with pytest.raises(TypeError, match="NoneType"):
        load_splits(config)
    memory.available = 2 * 3 * (5 * 32**2 + 4 * 28**2)
    fits = {"train_images": 3, "val_images": 2, "test_images": 4}
    with pytest.raises(TypeError, match="NoneType"):
        load_splits(replace(config, **fits))
    for more in fits:
        refuse(replace(config, **{**fits, more: fits[more] + 1}), "--data.test_images")


def test_imagenet_itself_is_refused_on_a_small_machine(config, monkeypatch):
    """1,281,167 images of 256x256 and 50,000 of 224x224 are 242 GiB."""
    split = imagefolder._Split
    whole = imagefolder._Folder(CLASSES, split(("x",) * 1_281_167, ()), split(("x",) * 50_000, ()), "0" * 32)
    monkeypatch.setattr(imagefolder, "_list", lambda folder, changes: whole)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 64 * 2**30}))
    refuse(replace(config, image_size=None), "241.6 GiB of decoded images", "64.0 GiB are available")


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
