"""The fast network against the slow literal one, and the mistakes that this comparison must notice."""

from dataclasses import replace

import pytest
import reference
import torch
from torch import nn
from torch.nn import functional as F

from ran.models import masks
from ran.models.attention import LEARNING, AttentionModule
from ran.models.masks import MASK_ACTIVATIONS, MASK_STRUCTURES
from ran.models.network import NetworkSpec, StageSpec, build
from ran.models.units import PreActBottleneck

TOLERANCE = 1e-12
SIZES = [(16, 16), (9, 13), (13, 10)]
BASE = NetworkSpec(
    stem_channels=4,
    stages=(
        StageSpec(8, 4, stride=1, units=2, modules=1, poolings=3),
        StageSpec(8, 4, stride=2, units=1, modules=1, poolings=2),
        StageSpec(8, 4, stride=2, units=1, modules=1, poolings=1),
    ),
)


def one_module(poolings: int, **changes) -> NetworkSpec:
    return replace(BASE, stages=(StageSpec(8, 4, stride=1, units=1, modules=1, poolings=poolings),), **changes)


def randomized(spec: NetworkSpec, seed: int = 0) -> nn.Module:
    """The network in float64, with BatchNorm parameters and statistics that are not the neutral ones."""
    generator = torch.Generator().manual_seed(seed)
    network = build(spec, num_classes=5).double()
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator, dtype=value.dtype)
            if key.endswith("running_var"):
                value.copy_(noise.exp())
            elif value.ndim == 1:  # around 1 for slopes, 0 for the rest
                value.copy_(0.3 * noise + ("weight" in key))
            else:
                value.copy_(noise / value[0].numel() ** 0.5)
    return network


def image(height: int, width: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(3, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distance(network: nn.Module, spec: NetworkSpec, x: torch.Tensor, training: bool) -> float:
    """Returns the largest difference of the logits to the reference's; the reference must be alive."""
    state = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        expected = reference.network(state, x, spec, training)
        found = network.train(training)(x)
    assert expected.isfinite().all()
    assert expected.std() > 0.01  # logits that say something
    return (found - expected).abs().max().item()


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("learning", LEARNING)
@pytest.mark.parametrize("activation", MASK_ACTIVATIONS)
@pytest.mark.parametrize("poolings", [1, 2, 3])
def test_attention_module_agrees(poolings, activation, learning, training):
    spec = one_module(poolings, mask_activation=activation, learning=learning)
    network = randomized(spec)
    for size in SIZES:
        assert distance(network, spec, image(*size), training) < TOLERANCE, size


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("p", "t", "r"), [(1, 2, 2), (2, 4, 3), (2, 1, 1), (1, 1, 3)])
def test_numbers_of_units_agree(p, t, r, training):
    spec = one_module(2, p=p, t=t, r=r)
    assert distance(randomized(spec), spec, image(11, 8), training) < TOLERANCE


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("learning", LEARNING)
@pytest.mark.parametrize("activation", MASK_ACTIVATIONS)
@pytest.mark.parametrize("size", [(16, 16), (13, 15)])
def test_three_stages_agree(size, activation, learning, training):
    spec = replace(BASE, mask_activation=activation, learning=learning)
    assert distance(randomized(spec), spec, image(*size), training) < TOLERANCE


def structures():
    """Every registered structure with every activation that it takes."""
    for structure in MASK_STRUCTURES:
        for activation in MASK_ACTIVATIONS:
            if activation == "mixed" or structure not in ("se", "eca", "cbam"):
                yield structure, activation


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("learning", LEARNING)
@pytest.mark.parametrize(("structure", "activation"), structures())
def test_every_structure_agrees(structure, activation, learning, training):
    spec = replace(BASE, mask_structure=structure, mask_activation=activation, learning=learning)
    assert distance(randomized(spec), spec, image(13, 15), training) < TOLERANCE


def test_training_moves_the_statistics_by_a_tenth_towards_the_batch():
    spec = one_module(1)
    network = randomized(spec)
    x = image(9, 9)
    norm = network.stages[0].units[0].norm1
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    h = reference.conv(network.stem.weight.detach(), x).transpose(0, 1).flatten(1)  # (C, B*H*W)
    network.train()(x)
    torch.testing.assert_close(norm.running_mean, 0.9 * mean + 0.1 * h.mean(1))
    torch.testing.assert_close(norm.running_var, 0.9 * var + 0.1 * h.var(1))


# The mistakes, each made in the fast network by hooks or by a patch. Most were made by some earlier implementation.
def modules(network, kind):
    return [m for m in network.modules() if isinstance(m, kind)]


def padded_pools(network, monkeypatch):
    monkeypatch.setattr(nn.MaxPool2d, "forward", lambda self, x: F.max_pool2d(x, 3, 2, padding=1))


def interpolation(**options):
    def mutate(network, monkeypatch):
        monkeypatch.setattr(masks, "interpolate", lambda x, size: F.interpolate(x, list(size), **options))

    return mutate


def trunk_added_into_the_mask(network, monkeypatch):
    for m in modules(network, AttentionModule):
        seen = {}
        m.trunk.register_forward_hook(lambda _, args, out, seen=seen: seen.update(trunk=out))
        m.mask.head.register_forward_pre_hook(lambda _, args, seen=seen: (args[0] + seen["trunk"],))


def mask_input_added_into_the_mask(network, monkeypatch):
    for m in modules(network, AttentionModule):
        seen = {}
        m.mask.register_forward_pre_hook(lambda _, args, seen=seen: seen.update(x=args[0]))
        m.mask.head.register_forward_pre_hook(lambda _, args, seen=seen: (args[0] + seen["x"],))


def skip_counted_twice(network, monkeypatch):
    for m in modules(network, AttentionModule):
        for skip in m.mask.skip:
            skip.register_forward_hook(lambda _, args, out: out + args[0])


def skip_without_its_unit(network, monkeypatch):
    for m in modules(network, AttentionModule):
        for skip in m.mask.skip:
            skip.register_forward_hook(lambda _, args, out: args[0])


def no_skip(network, monkeypatch):
    for m in modules(network, AttentionModule):
        for skip in m.mask.skip:
            skip.register_forward_hook(lambda _, args, out: torch.zeros_like(out))


def shortcut_reads_raw_input(network, monkeypatch):
    for m in modules(network, PreActBottleneck):
        if m.shortcut is not None:
            seen = {}
            m.register_forward_pre_hook(lambda _, args, seen=seen: seen.update(x=args[0]))
            m.shortcut.register_forward_pre_hook(lambda _, args, seen=seen: (seen["x"],))


def identity_reads_activated_input(network, monkeypatch):
    for m in modules(network, PreActBottleneck):
        if m.shortcut is None:
            m.register_forward_hook(lambda m, args, out: out - args[0] + reference.relu(m.norm1(args[0])))


def mask_reads_the_modules_input(network, monkeypatch):
    for m in modules(network, AttentionModule):
        seen = {}
        m.register_forward_pre_hook(lambda _, args, seen=seen: seen.update(x=args[0]))
        m.mask.register_forward_pre_hook(lambda _, args, seen=seen: (seen["x"],))


def mask_reads_the_trunk(network, monkeypatch):
    for m in modules(network, AttentionModule):
        seen = {}
        m.trunk.register_forward_hook(lambda _, args, out, seen=seen: seen.update(trunk=out))
        m.mask.register_forward_pre_hook(lambda _, args, seen=seen: (seen["trunk"],))


def without_head_layers(*positions):
    def mutate(network, monkeypatch):
        for m in modules(network, AttentionModule):
            for position in positions:
                m.mask.head[position] = nn.Identity()

    return mutate


def no_post_unit(network, monkeypatch):
    for m in modules(network, AttentionModule):
        m.post = nn.Identity()


def skips_in_the_wrong_order(network, monkeypatch):
    """The levels of the mask in the wrong order: skips of the coarse level on the fine one."""
    for m in modules(network, AttentionModule):
        m.mask.skip = nn.ModuleList(reversed(m.mask.skip))


# name -> mutation and the least number of poolings at which it can show
MUTATIONS = {
    "padded pools": (padded_pools, 1),
    "corners not aligned": (interpolation(mode="bilinear", align_corners=False), 1),
    "nearest up-sampling": (interpolation(mode="nearest"), 1),
    "trunk added into the mask": (trunk_added_into_the_mask, 1),
    "mask input added into the mask": (mask_input_added_into_the_mask, 1),
    "skip counted twice": (skip_counted_twice, 2),
    "skip without its unit": (skip_without_its_unit, 2),
    "no skip": (no_skip, 2),
    "skips in the wrong order": (skips_in_the_wrong_order, 3),
    "shortcut reads the raw input": (shortcut_reads_raw_input, 1),
    "identity reads the activated input": (identity_reads_activated_input, 1),
    "mask reads the module's input": (mask_reads_the_modules_input, 1),
    "mask reads the trunk": (mask_reads_the_trunk, 1),
    "no BN-ReLU before the first 1x1": (without_head_layers(0, 1), 1),
    "no BN-ReLU before the second 1x1": (without_head_layers(3, 4), 1),
    "no ReLU before the 1x1s": (without_head_layers(1, 4), 1),
    "no post unit": (no_post_unit, 1),
}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("name", "poolings"), [(name, d) for name, (_, least) in MUTATIONS.items() for d in range(least, 4)]
)
def test_mistakes_are_noticed(name, poolings, training, monkeypatch):
    spec, x = one_module(poolings), image(*SIZES[-1])
    network = randomized(spec)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    mutate, _ = MUTATIONS[name]
    mutate(network, monkeypatch)
    with torch.no_grad():
        found = network.train(training)(x)
        expected = reference.network(state, x, spec, training)
    assert (found - expected).abs().max() > 1e6 * TOLERANCE


@pytest.mark.parametrize("size", range(2, 20))
def test_pool_and_resize_are_caffes(size):
    x = image(size, 21 - size)
    pooled = F.max_pool2d(x, 3, 2, ceil_mode=True)
    assert torch.equal(reference.max_pool(x), pooled)
    resized = F.interpolate(pooled, size=x.shape[2:], mode="bilinear", align_corners=True)
    torch.testing.assert_close(reference.resize(pooled, *x.shape[2:]), resized, rtol=0, atol=1e-14)
