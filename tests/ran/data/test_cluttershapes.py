"""The built-in data set: a pure function of (split, index, difficulty), labels that nothing but shape gives away."""

import hashlib
import itertools
import re

import numpy as np
import pytest
import torch

from ran.data import cluttershapes
from ran.data.cluttershapes import CLASSES, Pictures, digest, draw, file_of, render, sample


@pytest.fixture
def few(monkeypatch):
    """A whole data set of 12 + 6 images, so that drawing and keeping it takes no time."""
    monkeypatch.setattr(cluttershapes, "COUNTS", {"train": 12, "test": 6})
    cluttershapes._whole.cache_clear()


def pictures(root, *positions, split="train", difficulty=0.5, afresh=True):
    """Pictures at these positions, all of them without; `afresh`: as a new process would find them."""
    if afresh:
        cluttershapes._whole.cache_clear()
    whole = Pictures(split, root, difficulty)
    return whole[torch.tensor(positions or range(len(whole)))].numpy()


def test_an_image_does_not_depend_on_what_is_drawn_with_it():
    pixels, labels = draw("train", range(300), 0.7)  # more than two batches
    for indices in (range(5), [299, 7, 130], np.array([128])):
        some, some_labels = draw("train", indices, 0.7)
        assert np.array_equal(some, pixels[list(indices)])
        assert np.array_equal(some_labels, labels[list(indices)])


def test_shapes_and_dtypes():
    pixels, labels = draw("test", range(3), 0.5)
    assert (pixels.shape, pixels.dtype) == ((3, 3, 32, 32), np.uint8)
    assert (labels.shape, labels.dtype) == ((3,), np.int64)


def test_splits_and_neighbours_are_different_pictures():
    pixels = np.concatenate([draw(split, range(50), 0.3)[0] for split in ("train", "test")])
    assert len(np.unique(pixels.reshape(100, -1), axis=0)) == 100


def test_the_pictures_are_those_of_this_generator_version():
    pixels, labels = draw("train", range(30), 0.5)
    content = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    assert (cluttershapes.GENERATOR_VERSION, content[:16]) == (1, "103c859abb8225e7"), "raise GENERATOR_VERSION"


def test_digest_stands_for_version_and_difficulty(monkeypatch):
    before = digest(0.5)
    assert re.fullmatch("[0-9a-f]{32}", before)
    assert before == digest(0.5) != digest(0.25)
    assert digest(1) == digest(1.0)
    monkeypatch.setattr(cluttershapes, "GENERATOR_VERSION", cluttershapes.GENERATOR_VERSION + 1)
    assert digest(0.5) != before


@pytest.mark.parametrize("split", ["train", "test"])
def test_classes_are_balanced(split):
    assert set(np.bincount(sample(split, range(200), 0.5).labels)) == {20}


def test_nothing_but_shape_tells_the_class():
    scenes = sample("train", range(3000), 0.6)
    seen = {
        "size": scenes.size,
        "centre": scenes.centre,
        "turn": scenes.turn,
        "ground": scenes.ground,
        "colour": scenes.colour,
        "contrast": abs(scenes.colour - scenes.ground),
        "shading": scenes.shading,
        "texture": scenes.gratings.reshape(3000, -1),
        "noise": scenes.noise,
        "distractors": scenes.distractor_shown.sum(1),
        "strokes": scenes.stroke_shown.sum(1),
    }
    for name, values in seen.items():
        columns = values.reshape(3000, -1).astype(float)
        z = (columns - columns.mean(0)) / columns.std(0)
        means = np.stack([z[scenes.labels == label].mean(0) for label in range(10)])
        # 300 images a class: the standard error is 0.058, and some 250 means are looked at.
        assert abs(means).max() < 4.5 * 0.058, name


def test_the_main_shape_is_the_largest_uncut_and_of_another_class():
    scenes = sample("train", range(2000), 1.0)
    assert (scenes.distractor_labels != scenes.labels[:, None]).all()
    assert set(scenes.distractor_labels.ravel()) == set(range(10))
    assert (scenes.distractor_size <= 0.6001 * scenes.size[:, None]).all()
    reach = scenes.size * cluttershapes._REACH.max()
    assert (scenes.centre >= reach[:, None]).all()
    assert (scenes.centre <= 32 - reach[:, None]).all()


@pytest.mark.parametrize("label", range(10), ids=CLASSES)
def test_size_is_the_mean_of_reach_and_extent(label):
    side = np.linspace(-1.1, 1.1, 801, dtype=np.float32)
    x, y = np.meshgrid(side, side)
    inside = list(cluttershapes._SHAPES.values())[label](x, y) < 0
    reach = np.hypot(x, y)[inside].max()
    extent = np.sqrt(inside.mean() * 2.2**2 / np.pi)
    assert reach == pytest.approx(1, abs=0.012)
    assert cluttershapes._REACH[label] == pytest.approx(np.sqrt(1 / extent), rel=0.01)
    # So a distractor, at most 0.6 of the size, is smaller in reach and in area, whatever its class.
    assert cluttershapes._REACH[label] > 0.6 * cluttershapes._REACH.max()
    assert cluttershapes._REACH[label] * extent > 0.6  # the disc covers most for its size: its radius


def test_difficulty_0_is_one_clean_shape():
    scenes = sample("train", range(200), 0.0)
    assert not scenes.distractor_shown.any()
    assert not scenes.stroke_shown.any()
    assert not scenes.noise.any()
    assert not scenes.gratings[..., 3].any()


def test_difficulty_only_adds():
    clutter = [sample("train", range(300), difficulty) for difficulty in (0, 0.25, 0.5, 0.75, 1)]
    for easy, hard in itertools.pairwise(clutter):
        assert np.array_equal(easy.centre, hard.centre)
        assert (easy.distractor_shown <= hard.distractor_shown).all()
        assert easy.stroke_shown.sum() < hard.stroke_shown.sum()
        assert (easy.noise < hard.noise).all()
        assert np.array_equal(easy.colour > easy.ground, hard.colour > hard.ground)  # fades, never jumps
        assert abs(easy.colour - easy.ground).mean() > abs(hard.colour - hard.ground).mean()


def test_difficulty_is_continuous():
    low, high = (render(sample("train", range(64), difficulty)).astype(float) for difficulty in (0.5, 0.5001))
    assert abs(low - high).mean() < 0.2  # levels of 255


def test_the_whole_set_is_kept_and_read_again(few, tmp_path, monkeypatch):
    first = [pictures(tmp_path / "new", split=split) for split in ("train", "test")]
    assert [p.name for p in (tmp_path / "new").iterdir()] == [f"cluttershapes-{digest(0.5)[:12]}.npz"]
    drawn = []
    monkeypatch.setattr(
        cluttershapes, "draw", lambda split, which, *how: (drawn.append(split), draw(split, which, *how))[1]
    )
    again = [pictures(tmp_path / "new", split=split) for split in ("train", "test")]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert drawn == ["train", "test"] * 2, "one picture of each, to compare"
    assert np.array_equal(pictures(tmp_path / "new", 4), first[0][4:5])


def rewrite(path, **changes):
    """A file under the right name and digest, with a hash that fits, whose pictures are others."""
    with np.load(path) as file:
        content = {**file, **changes}
    pixels = {split: np.asarray(content[f"{split}_pixels"]) for split in ("train", "test")}
    np.savez(path, **{**content, "sha256": cluttershapes._sha256(pixels)})


@pytest.mark.parametrize("change", [
    lambda pixels: 255 - pixels, lambda pixels: pixels[:3], lambda pixels: pixels.astype(np.float32),
    lambda pixels: pixels[:, :2], lambda pixels: pixels[::-1],
], ids=["others", "fewer", "floats", "two channels", "another order"])  # fmt: skip
def test_a_file_is_not_trusted_by_its_name(few, tmp_path, change):
    """It trained under the fingerprint of the set that would be drawn."""
    expected = pictures(tmp_path)
    (path,) = tmp_path.iterdir()
    rewrite(path, train_pixels=change(expected))
    assert np.array_equal(pictures(tmp_path), expected)


@pytest.mark.parametrize("difficulty", [0.0, cluttershapes.DIFFICULTY])
def test_the_sets_that_everybody_uses_are_known(difficulty, tmp_path):
    pixels = {split: draw(split, range(count), difficulty, 16)[0] for split, count in cluttershapes.COUNTS.items()}
    content = digest(difficulty, 16)
    assert cluttershapes.KNOWN[content] == cluttershapes._sha256(pixels)
    path = tmp_path / "set.npz"
    cluttershapes._write(path, content, pixels)
    assert cluttershapes._read(path, content, difficulty, 16) is not None
    changed = pixels["train"].copy()
    changed[17, 0, 0, 0] ^= 1
    rewrite(path, train_pixels=changed)
    assert cluttershapes._read(path, content, difficulty, 16) is None


def test_few_images_are_those_of_the_whole_set_and_not_kept(few, tmp_path):
    some, of_test = pictures(tmp_path / "new", 7, 0, 2), pictures(tmp_path / "new", 5, split="test")
    assert not (tmp_path / "new").exists()
    assert np.array_equal(some, pictures(tmp_path)[[7, 0, 2]])
    assert np.array_equal(of_test, pictures(tmp_path, split="test")[[5]])


def test_labels_are_known_without_drawing(few, tmp_path):
    assert np.array_equal(Pictures("test", tmp_path, 0.5).labels, draw("test", range(6), 0.5)[1])


@pytest.mark.parametrize("side", cluttershapes.SIDES)
def test_a_smaller_picture_is_the_rounded_mean_over_squares(side):
    whole, small = (draw("train", range(4), 0.5, s)[0] for s in (32, side))
    n = 32 // side
    assert (small.shape, small.dtype) == ((4, 3, side, side), np.uint8)
    for image, channel, y, x in itertools.product(range(4), range(3), range(0, side, 3), range(0, side, 3)):
        square = whole[image, channel, n * y : n * y + n, n * x : n * x + n].astype(float)
        assert small[image, channel, y, x] == np.floor(square.mean() + 0.5)


def test_each_size_is_a_data_set_of_its_own(tmp_path):
    assert len({digest(0.5, side) for side in cluttershapes.SIDES}) == 3
    assert len({file_of(tmp_path, 0.5, side) for side in cluttershapes.SIDES}) == 3


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "other"])
def test_a_damaged_file_is_drawn_anew(few, tmp_path, damage):
    expected = pictures(tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    if damage == "other":  # a file of another difficulty under this one's name
        pictures(tmp_path / "elsewhere", difficulty=0.75)
        (other,) = (tmp_path / "elsewhere").iterdir()
        content = other.read_bytes()
    else:
        middle = len(whole) // 3
        flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
        content = {"truncated": whole[:-900], "flipped": flipped, "empty": b"", "text": b"no archive"}[damage]
    path.write_bytes(content)
    assert np.array_equal(pictures(tmp_path), expected)
    assert path.read_bytes() != content
    assert np.array_equal(pictures(tmp_path), expected)


def test_an_unwritable_root_keeps_nothing_and_raises_nothing(few, tmp_path):
    (tmp_path / "file").write_text("a root below this cannot be made, not even by root")
    assert len(pictures(tmp_path / "file" / "data")) == 12


def test_a_full_disk_leaves_no_half_file(few, tmp_path, monkeypatch):
    def full(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert len(pictures(tmp_path)) == 12
    assert not list(tmp_path.iterdir())
