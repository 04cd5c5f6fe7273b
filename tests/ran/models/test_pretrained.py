"""The trained weights that the package contains, in every form in which they are used."""

import dataclasses
import hashlib
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import ran
from ran.config import ConfigError, ModelConfig, RunConfig, override
from ran.data.augment import Normalization
from ran.data.datasets import load_splits
from ran.engine.evaluate import predict
from ran.models import pretrained
from ran.models.network import build
from ran.models.pretrained import pretrained_files
from ran.models.zoo import config_spec, create_model, list_models
from ran.trained import Interface, ModelError, Trained, load, save
from records.errors import DataError

FILES = pretrained_files()
every_file = pytest.mark.parametrize(
    "name", list(FILES) or [pytest.param("", marks=pytest.mark.skip(reason="the package contains no weights yet"))]
)


def card(name: str) -> str:
    return FILES[name].with_suffix(".md").read_text()


@every_file
def test_a_file_is_small_and_its_card_tells_of_it(name):
    content = FILES[name].read_bytes()
    assert len(content) < 5e6
    assert hashlib.sha256(content).hexdigest() in card(name)
    assert ran.load(name).fingerprint in card(name)


@every_file
def test_a_file_names_no_folder_of_the_machine_that_made_it(name):
    assert not os.path.isabs(ran.load(name).config.data.root)


@every_file
def test_every_form_is_one_network(name):
    trained = ran.load(name)
    network = create_model(**dataclasses.asdict(trained.config.model), pretrained=name)
    assert network.training  # as every new network
    weights = trained.network.state_dict()
    assert weights.keys() == network.state_dict().keys()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in network.state_dict().items())
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network.eval()(x), trained.network(x), rtol=1e-4, atol=1e-4)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Fills a folder that stands for the package's with networks of an eighth of the width."""

    def fill(**files):
        for name, (classes, fields) in files.items():
            model = ModelConfig(**{"width": 0.125} | fields)
            config = override(RunConfig(), {f"model.{key}": value for key, value in dataclasses.asdict(model).items()})
            interface = Interface(
                dataset="x", classes=tuple(map(str, range(classes))), size=32, share=1.0,
                normalization=Normalization(torch.zeros(3, 1, 1), 255.0, pad=0),
            )  # fmt: skip
            network = build(config_spec(model), num_classes=classes)
            trained = Trained(network=network, config=config, interface=interface, fingerprint="0123")
            save(trained, tmp_path / f"{name.replace('_', '-')}.safetensors")

    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path)
    return fill


def test_a_file_is_the_network_that_its_header_says(folder):
    """Whatever its name is: weights of naive attention learning have the same names and shapes."""
    folder(attention56_cifar10=(10, {"learning": "nal"}), plain=(10, {"name": "resnet164"}))
    assert set(list_models(pretrained=True)) == {"attention56", "resnet164"}
    with pytest.raises(ConfigError, match="attention56-cifar10 has learning=nal"):
        create_model("attention56", width=0.125, pretrained=True)
    network = create_model("attention56", width=0.125, learning="nal", pretrained=True).eval()
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(network(x), load("attention56-cifar10").network(x), rtol=1e-4, atol=1e-4)
    assert create_model("resnet164", width=0.125, pretrained="plain").num_classes == 10


def test_on_the_meta_device_there_is_nothing_to_load(folder, recwarn):
    folder(attention56_ten=(10, {}))
    with torch.device("meta"):
        assert create_model("attention56", width=0.125, pretrained=True).num_classes == 10
    assert not recwarn.list


def test_its_own_options_may_be_said_again(folder):
    folder(attention56_cifar10=(10, {"width": 1.0}))
    assert create_model("attention56", learning="arl", width=1.0, mask_activation=None, pretrained=True).num_classes


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("attention92", {}, "attention92 has no pretrained weights .*attention56-cifar10.*authors.*ran.load"),
        (
            "attention56",
            {"pretrained": "attention56-mnist"},
            "no pretrained weights 'attention56-mnist'",
        ),
        ("attention56", {"num_classes": 5}, r"are for 10 \(attention56-cifar10\) classes.*reset_classifier\(5\)"),
        ("attention56", {"in_channels": 1}, "are for 3 input channels, got 1"),
        ("attention56", {"learning": "nal"}, "with these options: attention56-cifar10 has learning=arl; leave the"),
        ("attention56", {"width": 0.5, "r": 2}, "with these options: attention56-cifar10 has width=1.0, r=None; leave"),
        ("attention56", {"stem_channels": 8}, "with these options: attention56-cifar10 has none of them; leave"),
    ],
)
def test_networks_that_the_weights_are_not_of_are_refused(name, options, words, folder):
    folder(attention56_cifar10=(10, {"width": 1.0}))
    with pytest.raises(ConfigError, match=words) as refused:
        create_model(name, **{"pretrained": True} | options)
    assert "\n" not in str(refused.value)


def test_the_number_of_classes_or_the_name_chooses_between_files(folder):
    folder(attention56_ten=(10, {}), attention56_three=(3, {}))
    assert create_model("attention56", width=0.125, num_classes=3, pretrained=True).num_classes == 3
    assert create_model("attention56", width=0.125, pretrained="attention56-three").num_classes == 3
    with pytest.raises(ConfigError, match="several pretrained weights: attention56-ten, attention56-three; say which"):
        create_model("attention56", width=0.125, pretrained=True)
    with pytest.raises(ConfigError, match=r"are for 10 \(attention56-ten\) or 3 \(attention56-three\) classes"):
        create_model("attention56", width=0.125, num_classes=4, pretrained=True)


@pytest.mark.parametrize("spoiled", ["cut", "another program's"])
def test_a_damaged_file_is_one_line(spoiled, folder, tmp_path):
    folder(attention56_ten=(10, {}))
    path = tmp_path / "attention56-ten.safetensors"
    if spoiled == "cut":
        path.write_bytes(path.read_bytes()[:-8])
    else:
        save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ConfigError, match=r"attention56-ten.safetensors is no file of weights, or damaged \(\w+\)"):
        create_model("attention56", width=0.125, pretrained=True)


def test_a_changed_weight_is_noticed(folder, tmp_path):
    folder(attention56_cifar10=(10, {}))
    path = tmp_path / "attention56-cifar10.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is no file of weights, or damaged"):
        create_model("attention56", width=0.125, pretrained=True)
    with pytest.raises(ModelError, match="is damaged"):
        load("attention56-cifar10")


def test_a_file_or_folder_of_that_name_hides_no_weights(folder, tmp_path, monkeypatch):
    folder(attention56_cifar10=(10, {}))
    (tmp_path / "attention56-cifar10").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert load("attention56-cifar10").interface.dataset == "x"
    with pytest.raises(ModelError, match="not a safetensors file"):
        load("./attention56-cifar10")


def test_a_wrong_name_is_answered_with_those_that_there_are(folder):
    folder(attention56_cifar10=(10, {}))
    with pytest.raises(
        ModelError, match=r"no file or folder atention56.*weights of the package \(attention56-cifar10\)"
    ):
        load("atention56")
    named = r"create_model\('attention56', pretrained='attention56-cifar10'\)"
    with pytest.raises(ConfigError, match=f"attention56-cifar10 are weights, not a network: {named}"):
        create_model("attention56-cifar10", pretrained=True)


@every_file
def test_a_card_states_the_errors_of_the_first_test_images(name):
    """In float32; of a thousand images a few may be decided otherwise by another processor's rounding."""
    trained = ran.load(name).with_data(str(Path(__file__).resolve().parents[3] / "data"))
    try:
        test = load_splits(trained.test_data(), 0).test
    except DataError as error:
        pytest.skip(str(error))
    (stated,) = re.findall(r"first 1,000 test images in float32: (\d+) errors", card(name))
    arithmetic = dataclasses.replace(trained.arithmetic, precision="float32")
    logits = predict(trained.network, test.images[:1000], trained.interface.normalization, arithmetic)
    assert (logits.argmax(1) != test.labels[:1000]).sum().item() == pytest.approx(int(stated), abs=3)
