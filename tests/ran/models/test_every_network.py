"""The networks of Table 3 with every activation and learning, and what unknown names are answered with.

The other networks and mask structures are walked in test_zoo and test_structures.
"""

import itertools

import pytest
import torch
from torch.nn import functional as F

from ran.config import ConfigError
from ran.models.attention import LEARNING
from ran.models.masks import MASK_ACTIVATIONS, MASK_STRUCTURES
from ran.models.network import initialize
from ran.models.units import UNITS
from ran.models.zoo import NETWORKS, create_model, list_models, network_spec
from ran.registry import UnknownNameError

WIDTH = 1 / 8  # stem 2, stages 8, 16, 32: no narrower, or whole layers die
NAMES = ("attention56", "attention92", "attention128", "attention164")
MASKS = list(itertools.product(MASK_ACTIVATIONS, LEARNING))


def run_once(network: torch.nn.Module, height: int, width: int) -> None:
    """Asserts finite logits and a finite, nowhere absent gradient."""
    initialize(network, 0)
    generator = torch.Generator().manual_seed(0)
    logits = network(torch.randn(4, 3, height, width, generator=generator))
    assert logits.shape == (4, 10)
    assert logits.isfinite().all()
    F.cross_entropy(logits, torch.arange(4)).backward()
    for key, p in network.named_parameters():
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key
        assert p.grad.any(), key


@pytest.mark.parametrize(("activation", "learning"), MASKS)
@pytest.mark.parametrize("name", NAMES)
def test_every_network_learns_with_every_mask(name, activation, learning):
    run_once(create_model(name, width=WIDTH, mask_activation=activation, learning=learning), 16, 16)


@pytest.mark.parametrize(("activation", "learning"), MASKS)
def test_odd_and_oblong_images(activation, learning):
    run_once(create_model("attention56", width=WIDTH, mask_activation=activation, learning=learning), 33, 31)


@pytest.mark.parametrize(("p", "t", "r"), [(2, 4, 3), (1, 1, 2)])
def test_other_numbers_of_units(p, t, r):
    run_once(create_model("attention56", width=WIDTH, p=p, t=t, r=r), 16, 16)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("stride", [1, 2])
def test_every_unit_keeps_or_halves_the_size(unit, stride):
    x = torch.randn(2, 4, 9, 7)
    out = UNITS[unit](4, 8, 2, stride=stride)(x)
    assert out.shape == ((2, 8, 9, 7) if stride == 1 else (2, 8, 5, 4))


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_input_is_left_as_it_was(channels_last):
    """Units apply ReLU in place, on tensors of their own only."""
    x = torch.randn(2, 3, 16, 16)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    kept = x.clone()
    network = create_model("attention56", width=WIDTH)
    network(x)
    assert torch.equal(x, kept)
    h = torch.randn(2, 8, 16, 16)
    kept = h.clone()
    for module in network.stages[0].attention[0].modules():
        if type(module).__name__ in ("PreActBottleneck", "AttentionModule", "EncoderDecoder"):
            module(h)
            assert torch.equal(h, kept), type(module).__name__


def test_classes_and_input_channels():
    network = create_model("attention56", width=WIDTH, num_classes=7, in_channels=1)
    assert network(torch.randn(2, 1, 16, 16)).shape == (2, 7)


@pytest.mark.parametrize(
    ("option", "registry"),
    [
        ("name", NETWORKS),
        ("unit", UNITS),
        ("learning", LEARNING),
        ("mask_activation", MASK_ACTIVATIONS),
        ("mask_structure", MASK_STRUCTURES),
    ],
)
def test_unknown_names_list_the_valid_ones(option, registry):
    with pytest.raises(UnknownNameError) as caught:
        create_model(**{"name": "attention56", option: "nonsense"})
    message = str(caught.value)
    assert "\n" not in message
    assert "'nonsense'" in message
    assert message.endswith(f"Valid: {', '.join(registry)}.")


def test_unknown_option_lists_the_valid_ones():
    with pytest.raises(ConfigError, match=r"attention56 has no option 'masks'.*mask_activation"):
        create_model("attention56", masks="mixed")


def test_none_leaves_an_option_as_the_network_has_it():
    assert network_spec("attention56", p=None, t=None, r=None) == NETWORKS["attention56"]
    assert network_spec("attention56", t=3).t == 3


def test_width_scales_every_width_and_nothing_else():
    spec, half = network_spec("attention92"), network_spec("attention92", width=0.5)
    assert half.stem_channels == 8
    assert [(s.channels, s.bottleneck) for s in half.stages] == [(32, 8), (64, 16), (128, 32)]
    assert half.trunk_depth == spec.trunk_depth
    least = network_spec("attention92", width=1e-9)
    assert {least.stem_channels, *(s.channels for s in least.stages), *(s.bottleneck for s in least.stages)} == {1}


def test_list_models_takes_a_pattern():
    assert list_models() == list(NETWORKS)
    assert {"attention56", "attention92", "attention128", "attention164"} <= set(list_models("attention*"))
    assert list_models("*56") == [name for name in NETWORKS if name.endswith("56")]
    assert list_models("resnot*") == []
