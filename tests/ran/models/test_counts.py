"""Golden depth, parameters and multiply-adds of the CIFAR networks, counted from the architecture's description."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from ran.models.attention import AttentionModule
from ran.models.cost import cost
from ran.models.network import NetworkSpec, StageSpec, build, initialize
from ran.models.zoo import network_spec

# modules a stage, parameters for 10 and 100 classes, with BatchNorm's statistics for 10, MACs of a 32x32 image for 10,
# convolution parameters and MACs of the masks
TABLE = {
    "attention56": (1, 1_030_362, 1_053_492, 1_045_242, 122_825_216, 433_152, 35_610_624),
    "attention92": (2, 1_841_242, 1_864_372, 1_868_282, 211_913_216, 866_304, 71_221_248),
    "attention128": (3, 2_652_122, 2_675_252, 2_691_322, 301_001_216, 1_299_456, 106_831_872),
    "attention164": (4, 3_463_002, 3_486_132, 3_514_362, 390_089_216, 1_732_608, 142_442_496),
}

# Networks with a single attention module, and the two readings of Attention-452.
# (modules by stage), (p, t, r), depth, then as above
VARIANTS = {
    "32A": ((1, 0, 0), (1, 2, 1), 32, 282_458, 305_588, 287_738, 64_268_800, 43_008, 12_705_792),
    "32B": ((0, 1, 0), (1, 2, 1), 32, 412_890, 436_020, 419_578, 63_851_008, 119_808, 12_288_000),
    "32C": ((0, 0, 1), (1, 2, 1), 32, 773_978, 797_108, 782_330, 62_179_840, 270_336, 10_616_832),
    "236": ((6, 6, 6), (1, 2, 1), 236, 5_084_762, 5_107_892, 5_160_442, 568_265_216, 2_598_912, 213_663_744),
    "452": ((6, 6, 6), (2, 4, 3), 452, 10_181_210, 10_204_340, 10_339_834, 984_386_048, None, None),
    "452, r = 2": ((6, 6, 6), (2, 4, 2), 452, 8_745_818, 8_768_948, 8_879_098, 936_757_760, None, None),
    "ResNet-164": ((0, 0, 0), (1, 2, 1), 164, 1_703_258, 1_726_388, 1_727_482, 247_646_720, 0, 0),
}


def variant(name: str) -> NetworkSpec:
    modules, (p, t, r), *_ = VARIANTS[name]
    spec = network_spec("attention56", p=p, t=t, r=r)
    units = 18 if name == "ResNet-164" else 2
    stages = tuple(replace(s, modules=m, units=units) for s, m in zip(spec.stages, modules, strict=True))
    return replace(spec, stages=stages)


@cache
def meta(spec: NetworkSpec) -> nn.Module:
    """The network for 100 classes, without storage."""
    with torch.device("meta"):
        return build(spec, num_classes=100).eval()


def masks(network: nn.Module) -> list[nn.Module]:
    return [m.mask for m in network.modules() if isinstance(m, AttentionModule)]


def statistics(network: nn.Module) -> int:
    return sum(b.numel() for name, b in network.named_buffers() if name.endswith(("running_mean", "running_var")))


def mask_macs(network: nn.Module) -> int:
    """Counted by hand: weights times positions, of every convolution in a mask."""
    macs = 0

    def count(module: nn.Module, args: tuple, out: torch.Tensor) -> None:
        nonlocal macs
        macs += module.weight.numel() * out.shape[2] * out.shape[3]

    convs = [m for mask in masks(network) for m in mask.modules() if isinstance(m, nn.Conv2d)]
    handles = [c.register_forward_hook(count) for c in convs]
    network(torch.empty(1, 3, 32, 32, device="meta"))
    for handle in handles:
        handle.remove()
    return macs


def check_counts(spec, params, params100, with_statistics, macs, mask_params, mask_cost):
    found = cost(spec, num_classes=10, image_size=32)
    assert (found.params, found.macs) == (params, macs)
    network = meta(spec)
    assert sum(p.numel() for p in network.parameters()) == params100
    assert params + statistics(network) == with_statistics
    if mask_params is not None:
        convs = [m for mask in masks(network) for m in mask.modules() if isinstance(m, nn.Conv2d)]
        assert sum(c.weight.numel() for c in convs) == mask_params
        assert all(c.bias is None for c in convs)
        assert mask_macs(network) == mask_cost


@pytest.mark.parametrize("name", TABLE)
def test_named_networks(name):
    modules, *counts = TABLE[name]
    spec = network_spec(name)
    assert [s.modules for s in spec.stages] == [modules] * 3
    assert spec.trunk_depth == 36 * modules + 20 == int(name.removeprefix("attention"))
    check_counts(spec, *counts)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name[0] in "24" else ()) for name in VARIANTS]
)
def test_variants(name):
    _, _, depth, *counts = VARIANTS[name]
    spec = variant(name)
    assert spec.trunk_depth == depth
    check_counts(spec, *counts)


@pytest.mark.parametrize("name", TABLE)
def test_trunk_depth_is_counted_along_the_trunk(name):
    network = meta(network_spec(name))
    weights = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    beside = [m for mask in masks(network) for m in mask.modules()]
    shortcuts = [m for key, m in network.named_modules() if key.endswith("shortcut") and m is not None]
    assert len(shortcuts) == 3
    assert sum(all(m is not b for b in (*beside, *shortcuts)) for m in weights) == network_spec(name).trunk_depth


@pytest.mark.parametrize(("stage", "d", "units"), [(0, 3, 8), (1, 2, 5), (2, 1, 2)])
def test_units_and_poolings_of_each_mask(stage, d, units):
    """2rd + d - 1 units, each with three convolutions, then the head's two."""
    spec = network_spec("attention56")
    assert spec.stages[stage].poolings == d
    (mask,) = masks(meta(replace(spec, stages=spec.stages[stage : stage + 1])))
    assert sum(isinstance(m, nn.Conv2d) for m in mask.modules()) == 3 * units + 2


def tiny(learning: str) -> nn.Module:
    stages = (StageSpec(8, 4, stride=1, units=1, modules=1, poolings=2),)
    return build(NetworkSpec(stem_channels=4, stages=stages, learning=learning), num_classes=10)


def test_learnings_have_equal_parameters_and_initial_weights():
    arl, nal, other = tiny("arl"), tiny("nal"), tiny("arl")
    for network, seed in ((arl, 5), (nal, 5), (other, 6)):
        initialize(network, seed)
    ours, theirs, others = (network.state_dict() for network in (arl, nal, other))
    assert list(ours) == list(theirs)
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key
    weights = [key for key, p in arl.named_parameters() if p.ndim > 1]
    assert weights
    assert not any(torch.equal(ours[key], others[key]) for key in weights)


def test_initial_weights_are_he_and_forget_what_was_there():
    network = build(network_spec("attention56"), num_classes=10)
    for p in network.parameters():
        nn.init.constant_(p, 7.0)
    initialize(network, 3)
    for key, m in network.named_modules():
        if isinstance(m, nn.Conv2d) and m.weight.numel() > 4000:
            fan_in = m.in_channels * m.kernel_size[0] * m.kernel_size[1]
            assert m.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05), key
        elif isinstance(m, nn.BatchNorm2d):
            state = [m.weight, m.bias, m.running_mean, m.running_var]
            assert [t.unique().tolist() for t in state] == [[1.0], [0.0], [0.0], [1.0]], key
    assert network.head.weight.std().item() == pytest.approx(256**-0.5, rel=0.05)
    assert not network.head.bias.any()


def test_initial_weights_ignore_the_global_generator():
    first, second = tiny("arl"), tiny("arl")
    torch.manual_seed(0)
    initialize(first, 1)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    initialize(second, 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
