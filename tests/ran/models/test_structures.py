"""Mask structures: every combination learns; what each computes and costs. (The encoder-decoder: test_reference.py.)"""

import itertools
import math
from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ran.models.attention import LEARNING, AttentionModule
from ran.models.masks import MASK_ACTIVATIONS, MASK_STRUCTURES, MaskParts, mask_head
from ran.models.network import NetworkSpec, StageSpec, build, initialize
from ran.models.units import UNITS
from ran.models.zoo import network_spec
from records.errors import UserError

GATES = ("se", "eca", "cbam")  # their papers' sigmoid only


def one_module(channels: int = 32, **options) -> NetworkSpec:
    stage = StageSpec(channels, 8, stride=1, units=1, modules=1, poolings=2)
    return NetworkSpec(stem_channels=4, stages=(stage,), **options)


def masks(network: nn.Module) -> list[nn.Module]:
    return [m.mask for m in network.modules() if isinstance(m, AttentionModule)]


def allowed(structure: str, activation: str) -> bool:
    return structure not in GATES or activation == "mixed"


COMBINATIONS = [c for c in itertools.product(UNITS, MASK_STRUCTURES, MASK_ACTIVATIONS) if allowed(*c[1:])]


@pytest.mark.parametrize(("unit", "structure", "activation"), COMBINATIONS)
def test_every_combination_learns(unit, structure, activation):
    """Finite, every parameter used exactly once a forward and given a gradient: DDP needs no find_unused_parameters."""
    channels = 128 if structure in GATES else 16  # gates squeeze to a sixteenth: with few, all may be dead
    for learning in LEARNING:
        spec = one_module(channels, unit=unit, mask_structure=structure, mask_activation=activation, learning=learning)
        network = build(spec, num_classes=3)
        initialize(network, 0)
        torch.manual_seed(0)
        used: list[nn.Module] = []
        owners = [m for m in network.modules() if any(True for _ in m.parameters(recurse=False))]
        for m in owners:
            m.register_forward_hook(lambda m, args, out, used=used: used.append(m))
        logits = network(torch.randn(3, 3, 9, 7))
        F.cross_entropy(logits, torch.tensor([0, 1, 2])).backward()
        assert logits.isfinite().all()
        assert Counter(used) == Counter(owners)
        for key, p in network.named_parameters():
            assert p.grad is not None, key
            assert p.grad.isfinite().all(), key
            assert p.grad.any(), key


# Attention-56 with each structure, ten classes: parameters, MACs at 32x32
GOLDEN = {
    "encoder_decoder": (1_030_362, 122_825_216),
    "local_conv": (1_042_458, 152_488_448),
    "local_conv_macs": (819_855, 122_382_272),
    "none": (1_030_362 - 439_936, 122_825_216 - 35_610_624),
}


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def macs(module: nn.Module, *shape: int) -> int:
    """Weights times positions, of every convolution and the classifier."""
    total = 0

    def count(module: nn.Module, _: tuple, out: torch.Tensor) -> None:
        nonlocal total
        total += module.weight.numel() * math.prod(out.shape[2:])

    handles = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.inference_mode():
        module.eval()(torch.empty(1, *shape, device="meta"))
    for handle in handles:
        handle.remove()
    return total


def attention56(structure: str, **options) -> nn.Module:
    with torch.device("meta"):
        return build(network_spec("attention56", mask_structure=structure, **options), num_classes=10)


@pytest.mark.parametrize("structure", GOLDEN)
def test_counts(structure):
    network = attention56(structure)
    assert (count(network), macs(network, 3, 32, 32)) == GOLDEN[structure]


def test_counts_of_gates():
    trunk, _ = GOLDEN["none"]
    channels = (64, 128, 256)
    excitation = sum(2 * c * (c // 16) for c in channels)
    assert count(attention56("se")) - trunk == excitation
    assert count(attention56("eca")) - trunk == 3 + 5 + 5  # kernels of eq. 12
    assert count(attention56("cbam")) - trunk == excitation + 3 * 2 * 7 * 7


def test_local_conv_is_three_units_of_the_trunks_widths():
    for mask, bottleneck in zip(masks(attention56("local_conv")), (16, 32, 64), strict=True):
        assert [unit.conv2.out_channels for unit in mask.units] == [bottleneck] * 3
        assert len(mask.head) == 6


def test_local_conv_macs_is_narrower():
    found = [[u.conv2.out_channels for u in mask.units] for mask in masks(attention56("local_conv_macs"))]
    assert found == [[7] * 3, [13] * 3, [17] * 3]


# (unit, channels, bottleneck, groups)
WIDTHS = [
    ("preact_bottleneck", 16, 4, 1), ("preact_bottleneck", 24, 6, 1), ("preact_bottleneck", 64, 16, 4),
    ("preact_basic", 32, 32, 1), ("postact_bottleneck", 64, 32, 8), ("postact_bottleneck", 256, 128, 32),
    ("inception_a", 64, 8, 1), ("inception_b", 64, 8, 1), ("inception_c", 64, 8, 1),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("r", [1, 5])
@pytest.mark.parametrize("poolings", [1, 2, 3])
@pytest.mark.parametrize(("unit", "channels", "bottleneck", "groups"), WIDTHS)
def test_local_conv_macs_is_matched_at_any_width(unit, channels, bottleneck, groups, poolings, r):
    """The largest width that costs no more, counted on the whole branches."""
    chosen = []

    def made(width: int) -> nn.Module:
        chosen.append(width)
        return UNITS[unit](channels, channels, width, groups=groups)

    def mask(structure: str) -> nn.Module:
        with torch.device("meta"):
            return MASK_STRUCTURES[structure](parts)

    parts = MaskParts(
        channels=channels, bottleneck=bottleneck, unit=made, groups=groups, poolings=poolings, r=r,
        head=lambda: mask_head(channels), activation=MASK_ACTIVATIONS["mixed"],
    )  # fmt: skip
    shape = (channels, 16, 16)
    limit = macs(mask("encoder_decoder"), *shape)
    with torch.device("meta"):
        head, narrowest = macs(mask_head(channels), *shape), macs(made(groups), *shape)
    if head + 3 * narrowest > limit:
        with pytest.raises(UserError, match=r"local_conv_macs.*Raise width.*'local_conv'"):
            mask("local_conv_macs")
        return
    matched = macs(mask("local_conv_macs"), *shape)
    width = chosen[-1]
    with torch.device("meta"):
        wider = macs(made(width + groups), *shape) - macs(made(width), *shape)
    assert matched <= limit < matched + 3 * wider
    assert width % groups == 0


def test_local_conv_macs_refuses_where_nothing_fits():
    with pytest.raises(UserError, match=r"local_conv_macs.*Raise width.*'local_conv'"):
        build(network_spec("attention56", width=1 / 16, mask_structure="local_conv_macs"), num_classes=10)


@pytest.mark.parametrize("activation", MASK_ACTIVATIONS)
@pytest.mark.parametrize("structure", ["local_conv", "local_conv_macs"])
def test_local_conv_is_activation_of_head_of_units(structure, activation):
    network = build(one_module(mask_structure=structure, mask_activation=activation), num_classes=3).eval()
    (mask,) = masks(network)
    x = torch.randn(2, 32, 5, 6)
    expected = x
    for unit in mask.units:
        expected = unit(expected)
    for layer in mask.head:
        expected = layer(expected)
    assert torch.equal(mask(x), MASK_ACTIVATIONS[activation](expected))
    assert not any(isinstance(m, nn.MaxPool2d) for m in mask.modules())


def test_without_a_mask_the_trunk_is_passed_on_alone():
    network = build(one_module(mask_structure="none", p=2, t=3), num_classes=3).eval()
    (module,) = (m for m in network.modules() if isinstance(m, AttentionModule))
    assert {name for name, _ in module.named_children()} == {"pre", "trunk", "post"}
    x = torch.randn(2, 32, 5, 6)
    expected = x
    for unit in (*module.pre, *module.trunk, *module.post):
        expected = unit(expected)
    assert torch.equal(module(x), expected)


def test_without_a_mask_the_learning_has_no_effect():
    outputs = []
    for learning in LEARNING:
        network = build(one_module(mask_structure="none", learning=learning), num_classes=3)
        initialize(network, 0)
        outputs.append(network(torch.ones(2, 3, 8, 8)))
    assert torch.equal(*outputs)


def excite(mask: nn.Module, v: torch.Tensor) -> torch.Tensor:
    """W2 ReLU(W1 v) of vectors (B, C)."""
    w1, w2 = (mask.excitation[i].weight.flatten(1) for i in (0, 2))
    return (v @ w1.T).relu() @ w2.T


def se(mask, x):
    return excite(mask, x.mean((2, 3))).sigmoid()[:, :, None, None]


def eca(mask, x):
    weight, means = mask.conv.weight.flatten(), x.mean((2, 3))
    k, channels = len(weight), means.shape[1]
    padded = F.pad(means, (k // 2, k // 2))
    gate = torch.stack([(padded[:, i : i + k] * weight).sum(1) for i in range(channels)], 1)
    return gate.sigmoid()[:, :, None, None]


def cbam(mask, x):
    channels = (excite(mask, x.mean((2, 3))) + excite(mask, x.amax((2, 3)))).sigmoid()[:, :, None, None]
    x = x * channels
    described = torch.cat((x.mean(1, keepdim=True), x.max(1, keepdim=True).values), 1)
    return channels * F.conv2d(described, mask.position.weight, padding=3).sigmoid()


@pytest.mark.parametrize(("name", "reference"), [("se", se), ("eca", eca), ("cbam", cbam)])
def test_gates_compute_their_papers_equations(name, reference):
    network = build(one_module(mask_structure=name), num_classes=3).double()
    (mask,) = masks(network)
    torch.manual_seed(0)
    x = torch.randn(2, 32, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(mask(x), reference(mask, x), rtol=0, atol=1e-12)
    assert mask(x).std() > 0.001


@pytest.mark.parametrize(("channels", "kernel"), [(1, 1), (16, 3), (64, 3), (128, 5), (256, 5), (512, 5), (2048, 7)])
def test_ecas_kernel_grows_with_the_channels(channels, kernel):
    """k = |log2(C)/2 + 1/2| made odd; 5 at 256 and 512 in its paper's implementation."""
    stage = StageSpec(channels, 1, stride=1, units=1, modules=1, poolings=1)
    with torch.device("meta"):
        network = build(NetworkSpec(stem_channels=1, stages=(stage,), mask_structure="eca"), num_classes=1)
    (mask,) = masks(network)
    assert mask.conv.kernel_size == (kernel,)
    assert math.log2(channels) / 2 - 1 <= kernel <= math.log2(channels) / 2 + 2


@pytest.mark.parametrize("structure", GATES)
def test_gates_refuse_other_activations(structure):
    for activation in set(MASK_ACTIVATIONS) - {"mixed"}:
        with pytest.raises(UserError, match=rf"mask_structure='{structure}'.*mask_activation must be 'mixed'"):
            build(one_module(mask_structure=structure, mask_activation=activation), num_classes=3)
