"""A part of CIFAR-10 in sheets: written and read as it was, and refused where it is damaged."""

import shutil

import pytest
import torch
from PIL import Image

from benchmarks import sheets
from benchmarks.stages import Work
from benchmarks.stages import training as stage
from ran.config import DataConfig
from ran.data.source import Images
from records.errors import DataError


def drawn(count, seed):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 3, (count, 3, 8, 8), dtype=torch.uint8, generator=generator) * 100
    pixels = pixels.repeat_interleave(4, 2).repeat_interleave(4, 3)  # WebP takes seconds for noise
    return Images(pixels, torch.randint(0, 10, (count,), generator=generator))


@pytest.fixture(scope="module")
def originals():
    return {"train": drawn(1500, 0), "test": drawn(500, 1)}


@pytest.fixture(scope="module")
def written(originals, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    for name, count in (("train", 3), ("test", 1)):
        sheets.write(originals[name], folder, name, count)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "sheets")


def test_what_was_written_is_read(folder, originals):
    for name, images in originals.items():
        found = sheets.read(folder, name)
        assert torch.equal(found.images, images.images)
        assert torch.equal(found.labels, images.labels)


@pytest.mark.parametrize("count", [-1, 0, 4])
def test_sheets_that_the_set_does_not_have_are_refused(count, originals, tmp_path):
    with pytest.raises(DataError, match=f"--train {count}: there are 1 to 3 sheets"):
        sheets.write(originals["train"], tmp_path, "train", count)
    assert not list(tmp_path.iterdir())


def test_sheets_that_are_left_are_read(folder, originals):
    (folder / "train" / "001.webp").unlink()
    found = sheets.read(folder, "train")
    kept = torch.cat((torch.arange(500), torch.arange(1000, 1500)))
    assert torch.equal(found.images, originals["train"].images[kept])
    assert torch.equal(found.labels, originals["train"].labels[kept])
    assert len(sheets.read(folder, "train", most=1)) == 500


def test_the_splits_of_a_run_from_a_part(folder):
    config = DataConfig(name="cifar10", val_images=100, train_images=200, test_images=50)
    splits = sheets.part(config, 0, folder=folder)
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [200, 100, 50]
    other = sheets.part(config, 1, folder=folder)
    assert torch.equal(splits.val.images, other.val.images), "the same for all seeds"
    assert not torch.equal(splits.train.images, other.train.images)
    with pytest.raises(DataError, match="need 1700 training images, there are 1500"):
        sheets.part(DataConfig(name="cifar10", val_images=1500, train_images=200), 0, folder=folder)
    with pytest.raises(DataError, match="test_images=600, there are 500"):
        sheets.part(DataConfig(name="cifar10", val_images=10, test_images=600), 0, folder=folder)


def test_an_error_names_the_damaged_file(folder, tmp_path):
    with pytest.raises(DataError, match="no sheets"):
        sheets.read(tmp_path / "elsewhere", "train")
    (folder / "train" / "000.webp").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"000\.webp: cannot be read"):
        sheets.read(folder, "train")
    Image.new("RGB", (32, 64)).save(folder / "train" / "000.webp", lossless=True)
    with pytest.raises(DataError, match=r"000\.webp: 32 x 64 pixels"):
        sheets.read(folder, "train")
    (folder / "train" / "000.webp").rename(folder / "train" / "007.webp")
    with pytest.raises(DataError, match=r"007\.webp: 1500 labels are too few"):
        sheets.read(folder, "train")
    (folder / "test.tsv.gz").write_bytes(b"12")
    with pytest.raises(DataError, match=r"test\.tsv\.gz: no list of labels"):
        sheets.read(folder, "test")


def test_the_stage_says_which_images_it_takes(folder, tmp_path, monkeypatch):
    work = Work(torch.device("cpu"), 10, tmp_path)
    monkeypatch.setattr(sheets, "FOLDER", folder)
    config, splits, said = stage.images(work)
    assert (config.data.name, splits.train.images.shape) == ("cifar10", (40, 3, 32, 32))
    assert said.startswith("cifar10, the part in")
    assert said.endswith("40 training, 20 validation, 20 test images")
    monkeypatch.setattr(sheets, "FOLDER", folder / "absent")
    config, splits, said = stage.images(work)
    assert (config.data.name, len(splits.train)) == ("cluttershapes", 40)
    assert said.startswith("cluttershapes: no absent, and a rehearsal")
