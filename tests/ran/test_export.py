"""Exports, loaded back: every format, the folding of BatchNorm, and what refuses."""

import dataclasses
import importlib.util
import sys

import pytest
import torch
from torch import nn

from ran import list_models
from ran.config import RunConfig, override
from ran.data.augment import Normalization
from ran.engine.device import Arithmetic
from ran.engine.evaluate import predict
from ran.export import FORMATS, Classifier, ExportError, difference, export, fold_batchnorm, program
from ran.models.network import build, initialize
from ran.models.zoo import config_spec
from ran.trained import Interface, Trained

IMAGES = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def trained(name="attention32c", size=32, width=0.125, **model) -> Trained:
    """A network whose statistics are not those of a new one, for a BatchNorm of 0 and 1 is folded however wrongly.

    Weights are below 1: above, the logits of the deepest reach 1e9, and half of their digits are rounding.
    """
    values = {"model.name": name, "model.width": width, "train.precision": "float32"}
    config = override(RunConfig(), {**values, **{f"model.{k}": v for k, v in model.items()}})
    network = build(config_spec(config.model), num_classes=6)
    initialize(network, 0)
    generator = torch.Generator().manual_seed(1)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor, low, high in ((norm.weight, 0.2, 0.6), (norm.bias, -0.5, 0.5), (norm.running_mean, -0.2, 0.2),
                                      (norm.running_var, 0.5, 2.0)):  # fmt: skip
                tensor.data.uniform_(low, high, generator=generator)
    pixels = Normalization(torch.rand(3, size, size, generator=generator) * 255, 255.0, pad=0)
    network.eval().to(memory_format=torch.channels_last)
    return Trained(network, config, Interface("set", tuple("abcdef"), size, 1.0, pixels), "0123")


def needed(name: str) -> None:
    if name == "onnx" and not all(map(importlib.util.find_spec, ("onnxscript", "onnxruntime"))):
        pytest.skip("needs the extra export")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "onnx" else n for n in FORMATS])
def test_what_is_loaded_computes_the_same_for_any_number_of_images(name, tmp_path):
    needed(name)
    one = trained()
    loaded = export(one, tmp_path / "inner" / f"one{FORMATS[name].suffix}", name)
    assert difference(one, loaded, IMAGES) < 1e-5
    assert torch.allclose(loaded(IMAGES[:1]), loaded(IMAGES)[:1], atol=1e-5)
    assert one.network.head.weight.requires_grad  # the network itself is as it was


@pytest.mark.slow
@pytest.mark.parametrize(("learning", "activation"), [("nal", "mixed"), ("arl", "channel"), ("arl", "spatial")])
def test_every_mask_as_a_graph(learning, activation):
    one = trained(learning=learning, mask_activation=activation)
    exported = program(one)
    assert difference(one, exported.module(), IMAGES) < 1e-5


@pytest.mark.parametrize("name", [
    name if name == "attention32c" else pytest.param(name, marks=pytest.mark.slow)
    for name in list_models() if name not in ("resnet1001", "attention452", "attention452_r2")
])  # fmt: skip
def test_every_network_as_a_graph_folded(name):
    """But for the three deepest, whose units are those of others."""
    size = 64 if name.endswith("_imagenet") else 32
    one = trained(name, size=size, width=0.25 if "next" in name or "32x4d" in name else 0.125)
    exported = program(one, fold=False)
    norms = len(exported.graph.find_nodes(op="call_function", target=torch.ops.aten.batch_norm.default))
    assert 0 < fold_batchnorm(exported) <= norms
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert difference(one, exported.module(), images) < 1e-5


def test_a_norm_whose_input_others_read_stays():
    """h = conv(x); relu(norm(h)) + h: folding would change the second term."""

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)

        def forward(self, x):
            h = self.conv(x)
            return self.norm(h).relu() + h

    exported = torch.export.export(Both().eval(), (torch.randn(1, 3, 4, 4),))
    assert fold_batchnorm(exported) == 0


@pytest.mark.slow
def test_an_export_that_computes_something_else_is_refused(tmp_path):
    one, other = trained(), trained(learning="nal")
    loaded = export(other, tmp_path / "other.pt2", "pt2")
    with pytest.raises(ExportError, match="computes something else"):
        difference(one, loaded, IMAGES)
    nan = torch.full((3, 6), float("nan"))
    with pytest.raises(ExportError, match="computes something else"):
        difference(one, lambda images: nan[: len(images)], IMAGES)


def test_probabilities_that_float32_does_not_know_are_no_difference():
    """What an MLflow model gives: the logarithm of a probability of 0 is -inf."""
    one = trained()
    with torch.no_grad():
        one.network.head.weight.mul_(1e4)

    def probabilities(images):
        logits = predict(one.network, images, one.interface.normalization, Arithmetic())
        return logits.softmax(1).log()

    assert probabilities(IMAGES).isinf().any()
    assert difference(one, probabilities, IMAGES) <= 1e-4


def test_normalisation_is_part_of_it():
    one = trained()
    face = dataclasses.replace(one.interface, normalization=Normalization(torch.zeros(3, 32, 32), 1.0, pad=0))
    bare = dataclasses.replace(one, interface=face)
    with torch.no_grad():
        assert torch.allclose(Classifier(one)(IMAGES), one.logits(IMAGES), atol=1e-5)
        assert not torch.allclose(Classifier(bare)(IMAGES), one.logits(IMAGES), atol=1e-2)


def test_a_missing_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r"this needs onnxscript: pip install -e '\.\[export\]'"):
        export(trained(), tmp_path / "one.onnx", "onnx")
    assert not list(tmp_path.iterdir())
