"""A trained network with all that its use takes: written, read, and refused."""

import dataclasses
import json
import math
import os
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import ran
from ran import tensor_file
from ran.config import RunConfig, flatten, override
from ran.data.augment import Normalization
from ran.data.datasets import load_splits, open_source
from ran.engine.checkpoint import Header
from ran.engine.checkpoint import save as save_checkpoint
from ran.engine.device import Arithmetic
from ran.engine.evaluate import evaluate
from ran.engine.optim import sgd
from ran.models.network import build, initialize
from ran.models.zoo import config_spec
from ran.tensor_file import write_tensors
from ran.trained import FORMAT, Interface, ModelError, Trained, companions, from_run, load, save
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
    face = Interface.of(open_source(config.data), load_splits(config.data, 0).normalization)
    header = {"fingerprint": "0123", **companions(flatten(config), face.to_json())}
    write_tensors(folder / names.WEIGHTS, network.state_dict(), header)
    (folder / names.CONFIG_JSON).write_text(json.dumps(flatten(config)))
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


def test_images_of_another_kind_are_refused(run_folder):
    """Normalised images would be answered with nonsense."""
    trained, images = load(run_folder), torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    wrong = {
        "float32 (2, 3, 16, 16)": images / 255, "uint8 (3, 16, 16)": images[0], "uint8 (2, 1, 16, 16)": images[:, :1],
        "uint8 (2, 3, 8, 8)": images[..., :8, :8], "uint8 (0, 3, 16, 16)": images[:0], "ndarray": images.numpy(),
    }  # fmt: skip
    for said, one in wrong.items():
        with pytest.raises(ModelError) as caught:
            trained.logits(one)
        assert str(caught.value) == (
            f"images must be a uint8 tensor (N, 3, 16, 16) of values from 0 to 255, got {said}"
        )


def test_new_classes_are_trained_saved_and_loaded(run_folder, tmp_path):
    trained = load(run_folder)
    trained.network.reset_classifier(2)
    with pytest.raises(ModelError, match="the network has 2 classes, its interface 10: name them"):
        save(trained, tmp_path / "tuned.safetensors")
    with pytest.raises(ModelError, match="different classes are needed, got cat, cat"):
        load(run_folder).with_classes(["cat", "cat"])
    tuned = load(run_folder).with_classes(["cat", "dog"], dataset="pets")
    network = tuned.network.train()
    images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    loss = network(tuned.interface.normalization.normalize(images)).logsumexp(1).sum()
    loss.backward()
    optimizer.step()
    save(tuned, tmp_path / "tuned.safetensors")
    again = load(tmp_path / "tuned.safetensors")
    assert (again.interface.classes, again.interface.dataset, again.fingerprint) == (("cat", "dog"), "pets", "")
    assert torch.equal(again.logits(images), tuned.logits(images))
    assert again.logits(images).shape == (8, 2)
    assert not torch.equal(again.network.stem.weight, load(run_folder).network.stem.weight)


def test_weights_of_the_layout_before_are_read(run_folder):
    """Each field of the metadata was an entry of the file."""
    path, before = run_folder / names.WEIGHTS, load(run_folder)
    tensors, head = load_file(path), {"fingerprint": "0123"}
    save_file(tensors, path, head | {"sha256": tensor_file._digest(tensors, head)})
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


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_that_a_processor_only_emulates_is_float32_in_use(native, run_folder, monkeypatch):
    monkeypatch.setattr("ran.trained.has_bf16", lambda device: native)
    one = load(run_folder)
    assert one.with_native_precision() is one, "float32 is native everywhere"
    config = dataclasses.replace(one.config, train=dataclasses.replace(one.config.train, precision="bf16"))
    other = dataclasses.replace(one, config=config)
    x = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(other.with_native_precision().logits(x), (other if native else one).logits(x))
    assert not torch.equal(other.logits(x), one.logits(x)), "else this test shows nothing"
    assert other.config.train.precision == "bf16"


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
            write_tensors(weights, load_file(weights), {})  # they do not say to what files they belong
        case "deep":
            config.write_text("[" * 100_000 + "]" * 100_000)
        case "null":
            model.write_text("null")
        case "pipe":
            config.unlink()
            os.mkfifo(config)
        case "changed config":
            config.write_text(json.dumps(json.loads(config.read_text()) | {"seed": 4}))
        case "changed model":
            content = json.loads(model.read_text())
            model.write_text(json.dumps(content | {"classes": content["classes"][::-1]}))
        case "nan":
            trained: Trained = load(folder)
            state = trained.network.state_dict()
            state["head.bias"][0] = float("nan")
            write_tensors(weights, state, {})


@pytest.mark.parametrize(("what", "message"), [
    ("no config", "is not the folder of a finished run's artifacts: config.json: "),
    ("list", "config.json: it holds no JSON object, but a list"),
    ("garbled", "is not the folder of a finished run's artifacts: model.json: "),
    ("schema", "model.json of another version"),
    ("field", "a configuration that this program cannot use"),
    ("no weights", "weights.safetensors is not a safetensors file|is damaged"),
    ("cut", "is damaged|is not a safetensors file"),
    ("no scale", "model.json is damaged .KeyError: 'scale'"),
    ("classes", r"does not fit attention32c with 2 classes: .*head\.weight"),
    ("nan", "not finite; the run diverged"),
    ("deep", "config.json: it is nested too deeply"),
    ("null", "model.json: it holds no JSON object, but null"),
    ("pipe", "config.json: it is no regular file"),
    ("changed config", "belongs to another config.json: that file was changed"),
    ("changed model", "belongs to another model.json: that file was changed"),
])  # fmt: skip
def test_refused(run_folder, what, message):
    spoil(run_folder, what)
    with pytest.raises(ModelError, match=message) as caught:
        load(run_folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(("file", "field", "value"), [
    *((names.CONFIG_JSON, key, value) for key, value in {
        "model.t": 1_000_000, "model.width": 1e300, "data.test_images": 0, "data.difficulty": 9, "seed": -1,
        "data.image_size": 10**9, "train.batch_size": 10**5_000, "data.root": "a\x1b[2Jb", "data.name": "x" * 10**6,
        "optim.lr": "0.1",
    }.items()),
    *((names.MODEL_JSON, key, value) for key, value in {
        "scale": 0, "mean": [[[math.nan]]] * 3, "size": 10**9, "share": -1, "classes": ["a"] * 10, "dataset": 5,
        "data_digest": [1], "schema": [],
    }.items()),
    (names.MODEL_JSON, "scale", [1.0, 2.0]), (names.MODEL_JSON, "scale", "x"), (names.MODEL_JSON, "mean", [1, [2]]),
    (names.MODEL_JSON, "mean", 10**400), (names.MODEL_JSON, "scale", 1e999),
    *((names.MODEL_JSON, "classes", classes) for classes in (
        "abcdefghij", ["x" * 10**5, *"bcdefghij"], ["a\u202e", *"bcdefghij"])),
], ids=lambda value: str(value)[:20] if isinstance(value, (str, float)) else type(value).__name__)  # fmt: skip
def test_values_that_no_launch_accepts_are_refused(run_folder, file, field, value, monkeypatch):
    """A million units took hours to build; others ended in tracebacks or in wrong predictions."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    content = json.dumps(json.loads((run_folder / file).read_text()) | {field: value})
    sys.set_int_max_str_digits(limit)
    (run_folder / file).write_text(content)
    tensors = load_file(run_folder / names.WEIGHTS)
    write_tensors(run_folder / names.WEIGHTS, tensors, {"fingerprint": "0123"})  # whoever made it left the hashes out
    with pytest.raises(ModelError) as caught:
        load(run_folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1_000


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
