"""Image folders: what is listed, split and normalised, and what is refused."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refuse
from torchvision.datasets import ImageFolder
from torchvision.transforms import functional as reference

from ran.config import DataConfig
from ran.data.datasets import load_splits, open_source, split_indices
from ran.data.image_folder import dataset, decode, listing
from ran.data.image_folder.__main__ import main
from records.command import entry
from records.errors import DataError
from records.files import WriteError

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
    assert len(load_splits(config, 0).train) == 25


def test_other_files_are_not_images(config, folder):
    before = open_source(config)
    for name in (".hidden.png", "notes.txt", "n01"):
        (folder / "imagenet" / "train" / "n01" / name).write_text("x")
    (folder / "imagenet" / "train" / ".cache").mkdir()
    (folder / "imagenet" / "train" / "classes.json").write_text("{}")
    listing._list.cache_clear()
    assert open_source(config) == before


def test_images_deeper_in_a_class_folder_count_as_in_torchvision(config, folder):
    train = folder / "imagenet" / "train"
    save(train / "n01" / "second camera" / "n01_9.png", picture(40, 40))
    save(train / "n10" / "a" / "b" / "n10_9.png", picture(40, 40))
    save(train / "n10" / ".cache" / "n10_9.png", picture(40, 40))
    (train / "n10" / "a" / "loop").symlink_to(train / "n10")
    (train / "n11" / "folder.jpg").mkdir()
    listing._list.cache_clear()
    names = listing.list_images(train).names
    assert set(names) - {path.relative_to(train).as_posix() for path in train.glob("*/*.png")} == {
        "n01/second camera/n01_9.png",
        "n10/a/b/n10_9.png",
    }
    (train / "n10" / "a" / "loop").unlink()  # torchvision would follow it 40 times
    expected = {Path(path).relative_to(train).as_posix() for path, _ in ImageFolder(train).samples}
    assert set(names) == {name for name in expected if "/." not in name}
    source = open_source(config)
    assert source.train_images == 26
    load_splits(replace(config, val_images=5), 0)
    (folder / "list.txt").write_text("n10_9.png\n")
    assert listing.read_exclusions(str(folder / "list.txt"), listing.list_images(train)) == {"n10/a/b/n10_9.png"}


def test_a_list_with_a_byte_order_mark(folder):
    (folder / "list.txt").write_text("n01_0.png\n", encoding="utf-8-sig")
    val = listing.list_images(folder / "imagenet" / "val")
    assert listing.read_exclusions(str(folder / "list.txt"), val) == {"n01/n01_0.png"}


def test_pictures_of_other_formats_are_named(config, folder, caplog):
    for name in ("a.heic", "b.HEIC", "c.gif", "notes.txt"):
        (folder / "imagenet" / "train" / "n01" / name).write_text("x")
    listing._list.cache_clear()
    assert open_source(config).train_images == 24
    open_source(config)
    assert [message.partition(": ")[2] for message in caplog.messages] == [
        "3 pictures of other formats (1 .gif, 2 .heic) are not used; convert them, for example to .png"
    ]


def test_one_class_is_refused(config, folder):
    for split in ("train", "val"):
        for name in CLASSES[1:]:
            shutil.rmtree(folder / "imagenet" / split / name)
    with pytest.raises(DataError, match=r"imagenet \(.*imagenet\) has one class, n01: a network needs at least two"):
        open_source(config)


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


def test_the_digest_is_of_the_pipeline_too(config, monkeypatch):
    before = open_source(config).digest
    monkeypatch.setattr(dataset, "PIPELINE", dataset.PIPELINE + 1)
    assert open_source(config).digest != before


def test_a_file_that_came_is_seen_without_a_new_process(config, folder):
    before = open_source(config)
    new = folder / "imagenet" / "train" / "n11" / "new.png"
    save(new, picture(40, 40))
    os.utime(new.parent, ns=(0, 0))  # a clock too coarse to tell the two moments apart
    assert open_source(config).train_images == before.train_images + 1


# Splits
def test_the_splits_are_the_files(config, folder):
    splits = load_splits(replace(config, val_images=5, test_size=21), 0)
    paths = files(folder, "train")
    places = split_indices("imagenet", 24, train_images=None, val_images=5, seed=0)
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
    few, all_ = load_splits(replace(config, test_images=6), 0), load_splits(config, 0)
    assert len(set(few.test.labels.tolist())) > 2
    assert few.test.images.names == all_.test.images.names[:6]
    assert torch.equal(few.test.labels, all_.test.labels[:6])


def test_nothing_is_decoded_before_it_is_wanted(config, monkeypatch):
    monkeypatch.setattr(decode, "centre", None)
    monkeypatch.setattr(decode, "crop", None)
    assert len(load_splits(config, 0).train) == 24


def test_the_same_images_elsewhere_are_read_there(config, folder, tmp_path_factory):
    there = tmp_path_factory.mktemp("there")
    shutil.copytree(folder / "imagenet", there / "imagenet")
    one, other = (load_splits(replace(config, root=str(root)), 0) for root in (folder, there))
    assert (one.train.images.folder, other.train.images.folder) == tuple(
        r / "imagenet" / "train" for r in (folder, there)
    )


def test_sizes_are_not_confused(config):
    shapes = {
        (size, tested): (splits.train.images.side, splits.val.images.side, splits.test.images.side)
        for size, tested in ((None, None), (28, None), (28, 40), (None, 299), (63, 63))
        for splits in [load_splits(replace(config, image_size=size, test_size=tested, train_images=2, val_images=1), 0)]
    }
    assert shapes == {
        (None, None): (224, 224, 224), (28, None): (28, 28, 28), (28, 40): (28, 28, 40), (None, 299): (224, 224, 299),
        (63, 63): (63, 63, 63),
    }  # fmt: skip


@pytest.mark.parametrize(("side", "scaled"), [(224, 256), (299, 342), (320, 366)])
def test_a_test_images_shorter_side_is_8_7_of_the_crop(side, scaled, config):
    images = load_splits(replace(config, test_size=side, test_images=2), 0).test.images
    assert images.share == side / scaled
    assert images.read().shape == (2, 3, side, side)


def test_normalisation_is_the_papers(config):
    """Scaled to [0, 1], mean subtracted, divided by the standard deviation (section 4.2)."""
    splits = load_splits(config, 0)
    images = splits.test.images.read()
    expected = reference.normalize(images.double() / 255, MEAN, STD)
    torch.testing.assert_close(splits.normalization.normalize(images).double(), expected, rtol=0, atol=1e-6)


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


@pytest.mark.parametrize(("sizes", "said"), [
    ({"image_size": 33}, "drawn with sides of 32, 16, 8, not 33"),
    ({"image_size": 32, "test_size": 16}, "cluttershapes has images of 32 pixels"),
])  # fmt: skip
def test_other_data_sets_have_one_size(sizes, said, tmp_path):
    refuse(DataConfig(name="cluttershapes", root=str(tmp_path), **sizes), said)


# What is left out
def spoil(folder, *names):
    for name in names:
        path = folder / "imagenet" / name
        path.write_bytes(path.read_bytes()[:100])
    listing._list.cache_clear()


def records(folder):
    return {path.name.split("-")[1]: path.read_text().split() for path in (folder / "imagenet").glob("damaged-*.txt")}


def test_a_damaged_file_is_refused_where_it_is_read_first(config, folder):
    spoil(folder, "train/n02/n02_1.png")
    splits = load_splits(config, 0)
    with pytest.raises(DataError, match=r"train/n02/n02_1\.png: not an image that can be read .*leave it out"):
        splits.train.images.read()


def test_damaged_files_are_skipped_told_once_and_change_the_digest(config, folder, caplog):
    spoil(folder, "train/n02/n02_1.png", "train/n11/n11_5.png", "val/n01/n01_0.png")
    refusing, skipping = open_source(config), open_source(replace(config, damaged="skip"))
    assert (skipping.train_images, skipping.test_images) == (22, 11)
    assert skipping.digest != refusing.digest
    assert [r.getMessage().partition(": ")[2] for r in caplog.records] == [
        "damaged and left out: 2 (n02/n02_1.png, n11/n11_5.png)", "damaged and left out: 1 (n01/n01_0.png)",
    ]  # fmt: skip
    assert records(folder) == {"train": ["n02/n02_1.png", "n11/n11_5.png"], "val": ["n01/n01_0.png"]}
    splits = load_splits(replace(config, damaged="skip"), 0)
    assert len(splits.train.images.read()) == 22
    assert len(splits.test.images.read()) == 11
    assert len(caplog.records) == 2
    # It is the folder without them, by hand.
    for name in ("train/n02/n02_1.png", "train/n11/n11_5.png", "val/n01/n01_0.png"):
        (folder / "imagenet" / name).unlink()
    listing._list.cache_clear()
    assert open_source(config).digest == skipping.digest


def test_an_undamaged_folder_is_the_same_with_skip(config, folder, caplog):
    assert open_source(replace(config, damaged="skip")).digest == open_source(config).digest
    assert not caplog.records
    assert records(folder) == {"train": [], "val": []}


def test_all_images_are_read_once_for_all_processes(config, folder, monkeypatch, caplog):
    spoil(folder, "val/n02/n02_2.png")
    read, damage = [], decode.damage
    monkeypatch.setattr(decode, "damage", lambda path: read.append(path) or damage(path))
    first = open_source(replace(config, damaged="skip"))
    assert sorted(read) == sorted([*files(folder, "train"), *files(folder, "val")])
    listing._list.cache_clear()  # another process
    assert open_source(replace(config, damaged="skip")) == first
    assert read[36:] == [str(folder / "imagenet" / "val" / "n02" / "n02_2.png")], "it may have been mended"
    assert len(caplog.records) == 2
    save(folder / "imagenet" / "train" / "n01" / "new.png", picture(40, 40))
    os.utime(folder / "imagenet" / "train" / "n01", ns=(0, 0))
    open_source(replace(config, damaged="skip"))
    assert len(read) == 37 + 25


def test_a_mended_file_counts_again(config, folder):
    path = folder / "imagenet" / "val" / "n02" / "n02_2.png"
    whole, times = path.read_bytes(), path.parent.stat()
    path.write_bytes(bytes(len(whole)))
    before = open_source(config).digest
    assert open_source(replace(config, damaged="skip")).test_images == 11
    path.write_bytes(whole)
    assert path.parent.stat().st_mtime_ns == times.st_mtime_ns
    listing._list.cache_clear()  # another process
    mended = open_source(replace(config, damaged="skip"))
    assert (mended.test_images, mended.digest) == (12, before)
    assert records(folder)["val"] == []


@pytest.mark.parametrize("content", [b"\xff\xfe", b"no/such.png\n", b""])
def test_a_record_that_is_not_of_this_folder_is_made_anew(content, config, folder):
    spoil(folder, "val/n02/n02_2.png")
    open_source(replace(config, damaged="skip"))
    (record,) = (folder / "imagenet").glob("damaged-val-*.txt")
    if content:
        record.write_bytes(content)
    else:
        record.unlink()
    listing._list.cache_clear()
    assert open_source(replace(config, damaged="skip")).test_images == 11
    assert records(folder)["val"] == ["n02/n02_2.png"]


def test_names_that_are_no_text(config, folder):
    name = os.fsdecode(b"caf\xe9.png")
    save(folder / "imagenet" / "val" / "n01" / name, picture(40, 40))
    listing._list.cache_clear()
    assert open_source(config).test_images == 13
    (folder / "imagenet" / "val" / "n01" / name).write_bytes(b"x")
    listing._list.cache_clear()
    assert open_source(replace(config, damaged="skip")).test_images == 12


def test_a_folder_that_cannot_be_written_is_skipped_in_alike(config, folder, monkeypatch):
    def fail(path, content):
        raise WriteError("read-only")

    monkeypatch.setattr(dataset, "write_whole", fail)
    spoil(folder, "val/n02/n02_2.png")
    assert open_source(replace(config, damaged="skip")).test_images == 11


def test_a_folder_of_damaged_images_alone_is_refused(config, folder):
    spoil(folder, *(path.split("imagenet/")[1] for path in files(folder, "val")))
    refuse(replace(config, damaged="skip"), str(folder / "imagenet" / "val"), "all of its images are left out")


@pytest.fixture
def exclude(folder, config):
    """Returns the config that leaves the images of some lines out of the test."""

    def config_with(*lines):
        (folder / "list.txt").write_text("\n".join(lines))
        return replace(config, exclude=str(folder / "list.txt"))

    return config_with


def test_excluded_images_are_left_out_of_the_test(exclude, config, folder):
    whole, part = load_splits(config, 0), exclude("# comment", "n02/n02_1.png", "", "n11_0.png  # by name")
    splits, source = load_splits(part, 0), open_source(part)
    assert set(whole.test.images.names) - set(splits.test.images.names) == {"n02/n02_1.png", "n11/n11_0.png"}
    assert (source.test_images, source.train_images, len(splits.test)) == (10, 24, 10)
    assert all(CLASSES[label] in name for label, name in zip(splits.test.labels, splits.test.images.names, strict=True))
    assert source.digest != open_source(config).digest
    (folder / "list.txt").rename(folder / "renamed.txt")
    assert open_source(replace(config, exclude=str(folder / "renamed.txt"))).digest == source.digest
    assert open_source(exclude("n11/n11_0.png", "n02_1.png", "n02_1.png")).digest == source.digest
    assert open_source(exclude()).digest == open_source(config).digest


def test_imagenets_numbers_are_those_of_its_files(exclude, folder):
    for number, name in ((36, "n01"), (50_000, "n02"), (7, "n02")):
        save(folder / "imagenet" / "val" / name / f"ILSVRC2012_val_{number:08}.JPEG", picture(20, 20))
    listing._list.cache_clear()
    names = load_splits(exclude("36", "00050000"), 0).test.images.names
    assert [name for name in names if "ILSVRC" in name] == ["n02/ILSVRC2012_val_00000007.JPEG"]
    refuse(exclude("36", "37"), "line 2 of", "'37'", f"matches no image of {folder / 'imagenet' / 'val'}")


def test_lines_that_fit_no_image_or_several_are_refused(exclude, config, folder):
    refuse(exclude("n02_1.png", "n02/n02_9.png"), "data.exclude: line 2 of", "'n02/n02_9.png'", "matches no image of")
    refuse(exclude("n02"), "'n02'", "matches no image of")
    for name in CLASSES[:2]:
        save(folder / "imagenet" / "val" / name / "same.png", picture(20, 20))
    listing._list.cache_clear()
    refuse(exclude("same.png"), "line 1 of", "matches 2 images of", "write <class>/same.png")
    assert open_source(exclude("n01/same.png")).test_images == 13
    refuse(exclude(*(path.split("val/")[1] for path in files(folder, "val"))), "all of its images are left out")


def test_a_list_that_cannot_be_read_is_refused(config, folder):
    refuse(replace(config, exclude=str(folder / "none.txt")), "none.txt cannot be read (No such file")
    refuse(replace(config, exclude=str(folder)), "cannot be read (it is a folder)")
    (folder / "binary").write_bytes(b"\xff\xfe\x00")
    refuse(replace(config, exclude=str(folder / "binary")), "cannot be read (not text)")


@pytest.mark.parametrize("settings", [{"damaged": "skip"}, {"exclude": "x.txt"}])
def test_other_data_sets_leave_nothing_out(settings, tmp_path):
    refuse(DataConfig(name="cluttershapes", root=str(tmp_path), **settings), "image folders, not of cluttershapes")


# The command
def test_the_command_names_damaged_files_and_counts(folder, capsys):
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out == "0 of 36 images are damaged\n"
    spoil(folder, "val/n01/n01_0.png", "train/n10/n10_2.png")
    assert main([str(folder / "imagenet")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines[:2]] == [
        str(folder / "imagenet" / name) for name in ("train/n10/n10_2.png", "val/n01/n01_0.png")
    ]
    assert lines[2:] == ["2 of 36 images are damaged"]
    assert not records(folder)


def test_the_command_refuses_what_holds_no_image(folder, tmp_path, capsys):
    for path in (tmp_path / "none", folder / "imagenet" / "val" / "n01" / "n01_0.png"):
        with pytest.raises(SystemExit) as ended:
            entry("ran.data.image_folder", lambda path=path: main([str(path)]))
        assert ended.value.code == 2
        assert capsys.readouterr().err == f"ran.data.image_folder: {path}: no such folder, or no image in it\n"
