"""What a finished run keeps for the figures, against the probes that it is made of."""

import base64
import json
import math

import numpy as np
import pytest
import torch

from ran import snapshot
from ran.data.augment import cifar_normalization
from ran.models.network import initialize
from ran.models.zoo import create_model
from ran.probe import receptive_field, soft_masks, stage_responses

WIDTH = 0.125
CLASSES = [f"class {i}" for i in range(10)]


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def normalization(images):
    return cifar_normalization(images)


def network(name="attention56", **options):
    made = create_model(name, width=WIDTH, **options)
    initialize(made, 0)
    return made


def test_probes_are_json_of_what_the_probes_say(images, normalization):
    net = network()
    kept = json.loads(json.dumps(snapshot.probes(net, images, normalization), allow_nan=False))
    assert kept["response"] == {"split": "test", "images": 20, "mean_abs": stage_responses(net, images, normalization)}
    fields = kept["receptive_fields"]
    assert [(f["stage"], f["branch"]) for f in fields] == [(s, b) for s in (1, 2, 3) for b in ("trunk", "mask")]
    for kept_field in (fields[1], fields[4]):
        name = f"{kept_field['module']}.{kept_field['branch']}"
        field = receptive_field(net, images[: snapshot.FIELD_IMAGES], normalization, name)
        assert kept_field["radius"] == field.radius()
        assert tuple(kept_field["centre"]) == field.centre
        gradient = kept_field["gradient"]
        levels = np.frombuffer(base64.b64decode(gradient["uint8"]), np.uint8).reshape(gradient["shape"])
        assert levels.max() == 255
        unpacked = levels / 255 * gradient["max"]
        assert np.abs(unpacked - field.gradient.numpy()).max() <= gradient["max"] / 510 * 1.001


def test_networks_without_masks_keep_what_they_have(images, normalization):
    plain = network("resnet164")
    assert snapshot.probes(plain, images, normalization)["receptive_fields"] == []
    assert snapshot.masks(plain, images, torch.arange(20) % 10, CLASSES, normalization) is None
    no_mask = network(mask_structure="none")
    fields = snapshot.probes(no_mask, images, normalization)["receptive_fields"]
    assert [(f["stage"], f["branch"]) for f in fields] == [(1, "trunk"), (2, "trunk"), (3, "trunk")]
    assert snapshot.masks(no_mask, images, torch.arange(20) % 10, CLASSES, normalization) is None


def test_masks_show_the_channel_that_varies_most(images, normalization, tmp_path):
    net, labels = network("attention92"), torch.arange(20) // 2
    kept = snapshot.masks(net, images, labels, CLASSES, normalization)
    np.savez(tmp_path / "masks.npz", allow_pickle=False, **kept)
    with np.load(tmp_path / "masks.npz", allow_pickle=False) as file:
        kept = {key: file[key] for key in file.files}
    assert kept["labels"].tolist() == [0, 1, 2, 3, 4, 5], "the first image of each of six classes"
    assert np.array_equal(kept["images"], images[[0, 2, 4, 6, 8, 10]].numpy())
    assert kept["modules"].tolist() == ["stages.0.attention.0", "stages.2.attention.1"]
    for i, size in enumerate((32, 8)):
        maps = soft_masks(net, images[[0, 2, 4, 6, 8, 10]], normalization, [str(kept["modules"][i])])
        mask = maps[str(kept["modules"][i])].mask
        spread = [float(np.std(mask[:, c].numpy(), axis=(1, 2)).mean()) for c in range(mask.shape[1])]
        channel = int(kept[f"channel_{i}"])
        assert spread[channel] == pytest.approx(max(spread))
        assert kept[f"mask_{i}"].shape == (6, size, size)
        before, after = (kept[f"{key}_{i}"].astype(float) for key in ("before", "after"))
        assert after == pytest.approx(before * (1 + kept[f"mask_{i}"].astype(float)), rel=2e-2, abs=2e-3), "ARL"


def test_one_module_is_shown_once(images, normalization):
    kept = snapshot.masks(network("attention32b"), images, torch.arange(20) % 3, CLASSES, normalization)
    assert kept["modules"].tolist() == ["stages.1.attention.0"]
    assert kept["labels"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("structure", ["se", "eca", "cbam"])
def test_gates_are_kept_like_masks(structure, images, normalization):
    net = network(mask_structure=structure)
    kept = snapshot.masks(net, images, torch.arange(20) % 10, CLASSES, normalization)
    assert kept["mask_0"].shape == kept["before_0"].shape
    assert all(math.isfinite(f["radius"]) for f in snapshot.probes(net, images, normalization)["receptive_fields"])
