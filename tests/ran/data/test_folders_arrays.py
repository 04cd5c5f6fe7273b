"""Test sets other than a run's own: folders named after classes, and arrays as they are published."""

import numpy as np
import pytest
from PIL import Image

from ran.data.arrays import array_sets, read_arrays
from ran.data.image_folder.class_folders import class_folders
from ran.data.image_folder.listing import image_files
from ran.data.image_folder.reader import loaded
from records.errors import DataError


def image(path, value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(path)


def test_classes_are_known_by_their_folders_names(tmp_path):
    """Not by their order, nor need all be there."""
    image(tmp_path / "dog" / "b.png", 7)
    image(tmp_path / "dog" / "a.PNG", 8)
    image(tmp_path / "cat" / "c.png", 9)
    image(tmp_path / "cat" / ".hidden.png")
    (tmp_path / "cat" / "notes.txt").write_text("")
    found = class_folders(tmp_path, ("ape", "dog", "cat"), side=2, share=1.0)
    assert found.labels.tolist() == [2, 1, 1]
    assert found.images.shape == (3, 3, 2, 2)
    assert loaded(found.images)[:, 0, 0, 0].tolist() == [9, 8, 7]
    (tmp_path / "list").write_text("b.png\n")
    fewer = class_folders(tmp_path, ("ape", "dog", "cat"), side=2, share=1.0, exclude=str(tmp_path / "list"))
    assert fewer.images.names == ("cat/c.png", "dog/a.PNG")


def test_files_at_any_depth(tmp_path):
    image(tmp_path / "b.png")
    image(tmp_path / "a" / "deep" / "c.jpg")
    image(tmp_path / ".thumbnails" / "d.png")
    image(tmp_path.with_name("elsewhere") / "e.png")
    (tmp_path / "a" / "linked").symlink_to(tmp_path.with_name("elsewhere"))
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    assert image_files(tmp_path) == ["a/deep/c.jpg", "a/linked/e.png", "b.png"]


def test_folders_that_do_not_fit(tmp_path):
    with pytest.raises(DataError, match="holds no folders, one for each class"):
        class_folders(tmp_path, ("a",), side=2, share=1.0)
    image(tmp_path / "b" / "x.png")
    with pytest.raises(DataError, match=r"1 of its 1 classes are none of the network's 1 \(b\)"):
        class_folders(tmp_path, ("a",), side=2, share=1.0)


def arrays(folder, **named):
    for name, values in named.items():
        np.save(folder / f"{name}.npy", values)


PIXELS = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
LABELS = np.array([1, 0])


def test_corrupted_sets_share_their_labels(tmp_path):
    arrays(tmp_path, fog=PIXELS, snow=PIXELS, labels=LABELS)
    found = array_sets(tmp_path)
    assert list(found) == ["fog", "snow"]
    images = read_arrays(*found["snow"], size=4, num_classes=2)
    assert images.labels.tolist() == [1, 0]
    assert images.images.shape == (2, 3, 4, 4)
    assert images.images[1, 2, 3, 0] == PIXELS[1, 3, 0, 2]
    assert images.images.is_contiguous()


def test_a_new_test_set_has_labels_of_its_own(tmp_path):
    arrays(tmp_path, v6_data=PIXELS, v6_labels=LABELS, v4_data=PIXELS, v4_labels=1 - LABELS)
    found = array_sets(tmp_path)
    assert list(found) == ["v4", "v6"]
    assert read_arrays(*found["v4"], size=4, num_classes=2).labels.tolist() == [0, 1]


@pytest.mark.parametrize(("pixels", "labels", "message"), [
    (PIXELS, None, "has no labels: put them beside it, as labels.npy"),
    (PIXELS[:, :3], LABELS, r"wanted is uint8 \(N, 4, 4, 3\)"),
    (PIXELS.astype(np.float32), LABELS, r"fog.npy holds float32 .*wanted is uint8"),
    (PIXELS, LABELS[:1], "wanted are 2 integers"),
    (PIXELS, LABELS.astype(float), "wanted are 2 integers"),
    (PIXELS, LABELS + 1, "labels from 1 to 2; there are 2 classes"),
    (PIXELS, LABELS - 1, "labels from -1 to 0; there are 2 classes"),
    (np.array([{}, {}]), LABELS, "not a readable NumPy array"),
], ids=str)  # fmt: skip
def test_arrays_that_do_not_fit(pixels, labels, message, tmp_path):
    arrays(tmp_path, fog=pixels)
    if labels is not None:
        arrays(tmp_path, labels=labels)
    with pytest.raises(DataError, match=message):
        read_arrays(*array_sets(tmp_path)["fog"], size=4, num_classes=2)
