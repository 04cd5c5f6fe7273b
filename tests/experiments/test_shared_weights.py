"""Cells of one seed start from the same weights wherever they have weights of one name and shape in common."""

import hashlib
import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from experiments.catalog import load_study, study_names
from ran.config import ModelConfig, RunConfig, override
from ran.models.network import build, initialize
from ran.models.zoo import config_spec


def _models() -> dict[str, ModelConfig]:
    """Every network that some cell of some study trains, at a quarter of its width."""
    found = {}
    for study in map(load_study, study_names()):
        for cell in study.cells:
            fields = {key: value for key, value in cell.settings.items() if key.startswith("model.")}
            found[f"{study.name} {cell}"] = replace(override(study.base, fields).model, width=0.25)
    distinct = {model: cell for cell, model in reversed(found.items())}
    return {cell: model for model, cell in distinct.items()}


MODELS = _models()
LARGE = ("attention452", "attention236", "resnet1001", "_imagenet")
SOME = {cell: model for cell, model in MODELS.items() if not model.name.endswith(LARGE)}


def weights(model: ModelConfig, seed: int = 0) -> dict[tuple[str, tuple[int, ...]], bytes]:
    """The hash of each weight that is drawn, by its name and shape."""
    network = build(config_spec(model), num_classes=10)
    initialize(network, seed)
    return {
        (name, tuple(p.shape)): hashlib.sha256(p.detach().numpy().tobytes()).digest()
        for name, p in network.named_parameters()
        if p.ndim > 1
    }


def agree(models: dict[str, ModelConfig]) -> None:
    """Asserts it for all pairs: each weight has one value in all networks that have it."""
    values: dict[object, dict[bytes, list[str]]] = {}
    for cell, model in models.items():
        for key, digest in weights(model).items():
            values.setdefault(key, {}).setdefault(digest, []).append(cell)
    assert {key: list(held.values()) for key, held in values.items() if len(held) > 1} == {}


def test_all_pairs_of_cells_share_what_they_have_in_common():
    assert len(SOME) > 15
    agree(SOME)


@pytest.mark.slow
def test_all_pairs_of_cells_share_what_they_have_in_common_the_large_ones_too():
    agree(MODELS)


@pytest.mark.parametrize(("one", "other", "least"), [
    ({}, {"model.name": "attention92"}, 0.99),
    ({}, {"model.mask_structure": "none"}, 0.4),
    ({}, {"model.mask_structure": "local_conv"}, 0.4),
    ({}, {"model.learning": "nal"}, 1.0),
    ({"model.name": "attention128"}, {"model.name": "attention164"}, 0.99),
])  # fmt: skip
def test_how_much_two_networks_share(one, other, least):
    """Of the first one's weights; from one sequential stream it was 3 to 7 %, a prefix."""
    ours, theirs = (weights(override(RunConfig(), {"model.width": 0.25, **m}).model) for m in (one, other))
    assert sum(key in theirs for key in ours) / len(ours) >= least


def test_two_seeds_share_nothing():
    ours, theirs = (weights(ModelConfig(width=0.25), seed) for seed in (0, 1))
    assert not set(ours.values()) & set(theirs.values())


def test_no_two_weights_of_a_network_are_alike():
    """Equal shapes must not be equal numbers: the name is part of the stream."""
    network = build(config_spec(ModelConfig()), num_classes=10)
    initialize(network, 0)
    drawn = [m.weight.flatten()[:9] for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert not any(torch.allclose(a / a.norm(), b / b.norm()) for a, b in itertools.pairwise(drawn))


def test_moments_are_those_of_a_normal_distribution():
    network = build(config_spec(ModelConfig()), num_classes=10)
    initialize(network, 0)
    drawn = torch.cat([
        (m.weight * (m.weight[0].numel() / 2) ** 0.5).flatten()
        for m in network.modules()
        if isinstance(m, nn.Conv2d)
    ]).double()  # fmt: skip
    n = len(drawn)
    assert n > 1_000_000
    assert abs(drawn.mean()) < 4 / n**0.5
    assert abs(drawn.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((drawn**3).mean()) < 4 * (15 / n) ** 0.5
    assert abs((drawn**4).mean() - 3) < 4 * (96 / n) ** 0.5
