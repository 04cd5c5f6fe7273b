"""torch.fx traces every network, and torchvision's feature extractors work on it."""

from dataclasses import replace

import pytest
import torch
from test_api import TINY, VARIANTS
from torch import fx
from torchvision.models.feature_extraction import create_feature_extractor

from ran.kernels.ops import using
from ran.models.network import build
from ran.models.zoo import NETWORKS, create_model
from records.errors import UserError


def images(height: int, width: int) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_graph_computes_the_same_at_any_size(variant):
    network = build(VARIANTS[variant], num_classes=3).eval()
    traced = fx.symbolic_trace(network)
    for shape in ((19, 17), (32, 24)):
        with using(fused=False):
            assert torch.equal(traced(images(*shape)), network(images(*shape)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_traced(name):
    with torch.device("meta"):
        network = create_model(name, num_classes=10).eval()
        traced = fx.symbolic_trace(network)
        assert traced(torch.empty(2, 3, 64, 64)).shape == (2, 10)


def test_a_graph_learns_as_the_network_does():
    network = build(TINY, num_classes=3)
    gradients = []
    for one in (network, fx.symbolic_trace(network)):
        network.zero_grad()
        with using(fused=False):
            one(images(16, 16)).square().sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(network.parameters()))
    assert all(map(torch.equal, *gradients))


def test_features_of_stages_and_masks():
    network = build(replace(TINY, mask_activation="channel"), num_classes=3).eval()
    nodes = {"stages.0": "first", "stages.1.attention.0.mask": "mask", "head": "logits"}
    found = create_feature_extractor(network, nodes)(images(16, 16))
    assert {name: tuple(x.shape) for name, x in found.items()} == {
        "first": (2, 8, 16, 16), "mask": (2, 8, 8, 8), "logits": (2, 3),
    }  # fmt: skip
    with using(fused=False):
        assert torch.equal(found["first"], network.stage_outputs(images(16, 16))[0])
    torch.testing.assert_close(found["mask"].norm(dim=1), torch.ones(2, 8, 8))


def test_a_graph_refuses_small_images_too():
    traced = fx.symbolic_trace(build(TINY, num_classes=3).eval())
    with pytest.raises(UserError, match="images of 4x3 are too small for this network: the smallest are 4x4"):
        traced(torch.randn(1, 3, 4, 3))
