"""A trained network with all that its use takes: written, read, and refused."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import ran
from ran.config import RunConfig, flatten, override
from ran.data.augment import Normalization
from ran.data.datasets import load_splits, open_source
from ran.engine import checkpoint
from ran.engine.checkpoint import Header, write_tensors
from ran.engine.checkpoint import save as save_checkpoint
from ran.engine.device import Arithmetic
from ran.engine.evaluate import evaluate
from ran.engine.optim import sgd
from ran.models.network import build, initialize
from ran.models.zoo import config_spec
from ran.trained import FORMAT, Interface, ModelError, Trained, from_run, load, save
from records import names


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> RunConfig:
    return override(RunConfig(), {
        "model.name": "attention32c", "model.width": 0.125, "data.name": "cluttershapes", "seed": 3,
        "data.root": str(tmp_path_factory.mktemp("data")), "data.train_images": 8, "data.test_images": 6,
        "train.precision": "float32",
    })  # fmt: skip


@pytest.fixture
def run_folder(config, tmp_path) -> Path:
    folder = tmp_path / "run"
    network = build(config_spec(config.model), num_classes=10)
    initialize(network, 3)
    write_tensors(folder / names.WEIGHTS, network.state_dict(), {"fingerprint": "0123"})
    (folder / names.CONFIG_JSON).write_text(json.dumps(flatten(config)))
    face = Interface.of(open_source(config.data), load_splits(config.data, 0).normalization)
    (folder / names.MODEL_JSON).write_text(json.dumps(face.to_json()))
    return folder


def test_a_runs_files_give_its_own_test_error(run_folder, config):
    trained = ran.load(run_folder)
    splits = load_splits(config.data, 0)
    assert str(trained) == "attention32c arl width=0.125 cluttershapes steps=160000 seed=3"
    assert (trained.fingerprint, trained.interface.classes[0], trained.interface.size) == ("0123", "circle", 16)
    assert not trained.network.training
    network = build(config_spec(config.model), num_classes=10)
    initialize(network, 3)
    score = evaluate(network.to(memory_format=torch.channels_last), splits.test.images, splits.test.labels,
                     splits.normalization, Arithmetic())  # fmt: skip
    logits = trained.logits(splits.test.images)
    assert torch.nn.functional.cross_entropy(logits, splits.test.labels).item() == pytest.approx(score.loss)


def test_weights_of_the_layout_before_are_read(run_folder):
    """Each field of the metadata was an entry of the file."""
    path, before = run_folder / names.WEIGHTS, load(run_folder)
    tensors, head = load_file(path), {"fingerprint": "0123"}
    save_file(tensors, path, head | {"sha256": checkpoint._digest(tensors, head)})
    trained = load(run_folder)
    assert trained.fingerprint == "0123"
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(trained.logits(images), before.logits(images))


def test_one_file_holds_all(run_folder, tmp_path):
    trained = load(run_folder)
    save(trained, tmp_path / "one.safetensors")
    again = load(tmp_path / "one.safetensors")
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(again.logits(images), trained.logits(images))
    assert (again.config, again.fingerprint) == (trained.config, trained.fingerprint)
    assert again.interface.classes == trained.interface.classes


def test_a_checkpoints_network(run_folder, tmp_path):
    trained = load(run_folder)
    optimizer = sgd(trained.network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0)
    save_checkpoint(tmp_path, Header("0123", 7, 1.0), trained.network, optimizer, {"loss": torch.zeros(())})
    (path,) = tmp_path.glob("step-*.safetensors")
    found = from_run(flatten(trained.config), trained.interface.to_json(), path)
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(found.logits(images), trained.logits(images))
    with pytest.raises(ModelError, match="checkpoint, which does not say of what network"):
        load(path)


@pytest.mark.parametrize("scale", [255.0, torch.tensor([[[50.0]], [[51.0]], [[52.5]]])])
def test_interface_round_trip(scale):
    """To the last bit, through JSON."""
    face = Interface("set", ("a", "b"), 8, 0.875, Normalization(torch.rand(3, 8, 8) * 255, scale, pad=4))
    again = Interface.from_json(json.loads(json.dumps(face.to_json())))
    assert {**vars(again), "normalization": None} == {**vars(face), "normalization": None}
    assert torch.equal(again.normalization.mean, face.normalization.mean)
    assert torch.equal(torch.as_tensor(again.normalization.scale), torch.as_tensor(scale))
    assert again.normalization.pad == 0


def test_an_image_file_of_the_right_size_is_read_as_it_is(run_folder, tmp_path):
    pixels = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "a.png")
    assert torch.equal(load(run_folder).interface.read(str(tmp_path / "a.png")), pixels.permute(2, 0, 1))


def test_another_size_of_test_image(run_folder):
    one = load(run_folder)
    with pytest.raises(ModelError, match="was trained on images of one size, 16"):
        one.with_test_size(64)
    face = dataclasses.replace(one.interface, normalization=Normalization(torch.zeros(3, 1, 1), 255.0, pad=0))
    other = dataclasses.replace(one, interface=face).with_test_size(48)
    assert (other.interface.size, other.interface.share) == (48, 48 / 55)
    assert other.logits(torch.zeros(2, 3, 48, 48, dtype=torch.uint8)).shape == (2, 10)
    with pytest.raises(ModelError, match="size=1: the smallest image"):
        other.with_test_size(1)


def spoil(folder: Path, what: str) -> None:
    config, model, weights = (folder / name for name in (names.CONFIG_JSON, names.MODEL_JSON, names.WEIGHTS))
    match what:
        case "no config":
            config.unlink()
        case "list":
            config.write_text("[]")
        case "garbled":
            model.write_text("{")
        case "schema":
            model.write_text(json.dumps(json.loads(model.read_text()) | {"schema": 99}))
        case "field":
            config.write_text(json.dumps(json.loads(config.read_text()) | {"optim.rho": 1}))
        case "no weights":
            weights.unlink()
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "no scale":
            model.write_text(json.dumps({k: v for k, v in json.loads(model.read_text()).items() if k != "scale"}))
        case "classes":
            model.write_text(json.dumps(json.loads(model.read_text()) | {"classes": ["a", "b"]}))
        case "nan":
            trained: Trained = load(folder)
            state = trained.network.state_dict()
            state["head.bias"][0] = float("nan")
            write_tensors(weights, state, {})


@pytest.mark.parametrize(("what", "message"), [
    ("no config", "contains no finished run: config.json: "),
    ("list", "config.json contains no JSON object"),
    ("garbled", "contains no finished run: model.json: "),
    ("schema", "model.json of another version"),
    ("field", "a configuration of another version"),
    ("no weights", "weights.safetensors is not a safetensors file|is damaged"),
    ("cut", "is damaged|is not a safetensors file"),
    ("no scale", "model.json is damaged .KeyError: 'scale'"),
    ("classes", r"does not fit attention32c with 2 classes: .*head\.weight"),
    ("nan", "not finite; the run diverged"),
])  # fmt: skip
def test_refused(run_folder, what, message):
    spoil(run_folder, what)
    with pytest.raises(ModelError, match=message) as caught:
        load(run_folder)
    assert "\n" not in str(caught.value)


def test_a_damaged_header_is_refused(run_folder, tmp_path):
    one = load(run_folder)
    for damage in ({"config": "{"}, {"model": ""}, {"model": json.dumps({"schema": 1})}):
        header = {"format": FORMAT, "config": json.dumps(flatten(one.config)), "model": "{}", **damage}
        write_tensors(tmp_path / "one.safetensors", one.network.state_dict(), header)
        with pytest.raises(ModelError, match="damaged"):
            load(tmp_path / "one.safetensors")


def test_a_file_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ModelError, match="not a safetensors file"):
        load(tmp_path / "text")
    write_tensors(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, {})
    with pytest.raises(ModelError, match="not a network saved by this program"):
        load(tmp_path / "other.safetensors")
