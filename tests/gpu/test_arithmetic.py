"""What a GPU computes: the CPU's numbers in each precision, from the CPU's initial weights."""

import copy

import pytest
import torch
from gpu_runs import REHEARSED, config

from ran.distributed.group import ALONE
from ran.engine.device import Arithmetic, device_capabilities
from ran.engine.setup import make_network
from ran.models.interpolate import interpolate
from ran.models.masks import MASK_ACTIVATIONS, MASK_STRUCTURES
from ran.models.network import initialize
from ran.models.zoo import NETWORKS, create_model

pytestmark = pytest.mark.gpu

EVERY_NETWORK = ["attention32c", "wrn16_8"] if REHEARSED else list(NETWORKS)
SHALLOW = ["attention32a", "attention32c", "attention56", "wrn16_8", "wrn28_10"]
MASKS = [
    (structure, activation)
    for structure in MASK_STRUCTURES
    for activation in MASK_ACTIVATIONS
    if activation == "mixed" or structure not in ("se", "eca", "cbam", "none")
]
CPU = torch.device("cpu")
FLOAT32_FACTOR, BF16_FACTOR = 30, 4
"""Rounding of a GPU against the CPU's own: sums are taken in another order. TF32 rounds 8,000 times as coarsely as
float32, so it fails by far."""


def error(network, images, exact, arithmetic, device):
    """Returns the largest error of the logits in training mode, relative to the largest logit."""
    network = copy.deepcopy(network).to(device).to(memory_format=torch.channels_last)
    with arithmetic.on(device), torch.no_grad():
        logits = network(images.to(device).contiguous(memory_format=torch.channels_last)).double().cpu()
    return ((logits - exact).abs().max() / exact.abs().max()).item()


def errors(precision, device, name, **options):
    """Returns the error on the device and the CPU's own, against float64."""
    network = create_model(name, num_classes=10, width=0.25, **options).train()
    initialize(network, 0)
    side = max(32, network.smallest_input)
    images = torch.randn(8, 3, side, side)
    exact = copy.deepcopy(network).double()(images.double()).detach()
    arithmetic = Arithmetic(precision)
    plain = Arithmetic("float32" if precision == "tf32" else precision)
    return error(network, images, exact, arithmetic, device), error(network, images, exact, plain, CPU)


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_float32_is_ieee(name, device):
    found, own = errors("float32", device, name)
    assert found <= FLOAT32_FACTOR * max(own, 1e-7)


@pytest.mark.parametrize(("structure", "activation"), MASKS[:: 6 if REHEARSED else 1])
def test_float32_is_ieee_in_every_mask(structure, activation, device):
    found, own = errors("float32", device, "attention32c", mask_structure=structure, mask_activation=activation)
    assert found <= FLOAT32_FACTOR * max(own, 1e-7)


@pytest.mark.parametrize("name", ["wrn16_8"] if REHEARSED else SHALLOW)
def test_bf16_is_autocasts(name, device):
    """In deeper networks bfloat16 leaves no digit to compare."""
    found, own = errors("bf16", device, name)
    assert found <= BF16_FACTOR * own
    assert found > 1e-3, "it is not float32"


def test_tf32_is_another_precision(cuda):
    if not device_capabilities(cuda).tf32:
        pytest.skip("the device has no TF32")
    found, own = errors("tf32", cuda, "attention56")
    assert 100 * own < found < 0.1


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_initial_weights_have_the_cpus_bits(name, device):
    settings = config(model__name=name)
    far, near = (make_network(settings, 10, where, ALONE).state_dict() for where in (device, CPU))
    assert [key for key in near if not torch.equal(far[key].cpu(), near[key])] == []


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_interpolation_and_its_gradient(layout, device):
    x, grad = torch.randn(2, 8, 4, 5), torch.randn(2, 8, 9, 7)
    found = []
    for where, dtype in ((CPU, torch.float64), (device, torch.float32), (device, torch.float32)):
        leaf = x.clone().to(where, dtype).contiguous(memory_format=layout).requires_grad_()
        y = interpolate(leaf, (9, 7))
        y.backward(grad.to(where, dtype))
        found.append((y.detach().cpu(), leaf.grad.cpu()))
    exact, one, two = found
    for a, b, c in zip(exact, one, two, strict=True):
        assert torch.allclose(a.float(), b, atol=1e-5)
        assert torch.equal(b, c), "the same bits each time"
