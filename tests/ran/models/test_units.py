"""Residual units against their definitions, written out. (The pre-activation bottleneck: test_reference.py.)"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ran.models import units
from ran.models.units import UNITS
from records.errors import UserError


def randomized(module: nn.Module) -> nn.Module:
    """In float64 and eval mode, with BatchNorm's parameters and statistics away from 1 and 0."""
    generator = torch.Generator().manual_seed(0)
    module = module.double().eval()
    for key, value in module.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator, dtype=value.dtype)
            value.copy_(0.5 + noise if key.endswith(("norm.weight", "running_var")) else noise - 0.4)
    return module


def image(channels: int, height: int = 9, width: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, height, width, generator=generator, dtype=torch.float64)


def norm(state: dict, key: str, x: torch.Tensor) -> torch.Tensor:
    mean, var, weight, bias = (
        state[f"{key}.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def conv(state: dict, key: str, x: torch.Tensor, stride: int = 1, groups: int = 1) -> torch.Tensor:
    weight = state[f"{key}.weight"]
    return F.conv2d(x, weight, None, stride, [k // 2 for k in weight.shape[2:]], groups=groups)


def basic(s, x, stride, groups):
    a = norm(s, "norm1", x).relu()
    h = conv(s, "conv2", norm(s, "norm2", conv(s, "conv1", a, stride)).relu())
    return h + (conv(s, "shortcut", a, stride) if "shortcut.weight" in s else x)


def bottleneck(s, x, stride, groups):
    a = norm(s, "norm1", x).relu()
    h = norm(s, "norm2", conv(s, "conv1", a)).relu()
    h = conv(s, "conv3", norm(s, "norm3", conv(s, "conv2", h, stride, groups)).relu())
    return h + (conv(s, "shortcut", a, stride) if "shortcut.weight" in s else x)


def postact(s, x, stride, groups):
    h = norm(s, "norm1", conv(s, "conv1", x)).relu()
    h = norm(s, "norm2", conv(s, "conv2", h, stride, groups)).relu()
    h = norm(s, "norm3", conv(s, "conv3", h))
    has_shortcut = "shortcut.conv.weight" in s
    return (h + (norm(s, "shortcut.norm", conv(s, "shortcut.conv", x, stride)) if has_shortcut else x)).relu()


def inception(*branches):
    def reference(s, x, stride, groups):
        a = norm(s, "norm", x).relu()
        outs = []
        for b, kernels in enumerate(branches):
            h = a
            for i, kernel in enumerate(kernels):
                key = f"branches.{b}.{2 * i}"  # a ReLU stands between two
                assert tuple(s[f"{key}.conv.weight"].shape[2:]) == kernel
                h = norm(s, f"{key}.norm", conv(s, f"{key}.conv", h, stride if i == len(kernels) - 1 else 1)).relu()
            outs.append(h)
        return conv(s, "join", torch.cat(outs, 1)) + (conv(s, "shortcut", a, stride) if "shortcut.weight" in s else x)

    return reference


# unit -> what it computes, layers on its longest path, whether it leaves a raw sum
REFERENCES = {
    "preact_bottleneck": (bottleneck, 3, True),
    "preact_basic": (basic, 2, True),
    "postact_bottleneck": (postact, 3, False),
    "inception_a": (inception([(1, 1)], [(1, 1), (3, 3)], [(1, 1), (3, 3), (3, 3)]), 4, True),
    "inception_b": (inception([(1, 1)], [(1, 1), (1, 7), (7, 1)]), 4, True),
    "inception_c": (inception([(1, 1)], [(1, 1), (1, 3), (3, 1)]), 4, True),
}
IN_GROUPS = ("preact_bottleneck", "postact_bottleneck")


def test_every_unit_has_a_reference():
    assert set(REFERENCES) == set(UNITS)


@pytest.mark.parametrize(
    ("in_channels", "stride"), [(12, 1), (12, 2), (5, 1), (5, 2)], ids=["identity", "halves", "widens", "both"]
)
@pytest.mark.parametrize(("name", "groups"), [*((name, 1) for name in UNITS), *((name, 2) for name in IN_GROUPS)])
def test_units_compute_their_definition(name, groups, in_channels, stride):
    reference, layers, preactivated = REFERENCES[name]
    unit = randomized(UNITS[name](in_channels, 12, 4, stride=stride, groups=groups))
    x = image(in_channels)
    before = x.clone()
    found = unit(x)
    assert torch.equal(x, before)  # the input is read again, by the mask or the shortcut
    torch.testing.assert_close(found, reference(unit.state_dict(), x, stride, groups), rtol=0, atol=1e-11)
    assert found.shape == (2, 12, *(-(-n // stride) for n in x.shape[2:]))
    projects = in_channels != 12 or stride != 1
    assert any("shortcut" in key for key in unit.state_dict()) == projects
    assert (UNITS[name].layers, UNITS[name].preactivated) == (layers, preactivated)
    assert bool((found >= 0).all()) != preactivated


@pytest.mark.parametrize("name", sorted(set(REFERENCES) - set(IN_GROUPS)))
def test_units_without_grouped_convolutions_refuse_groups(name):
    with pytest.raises(UserError, match=r"groups must be 1.*got 2"):
        UNITS[name](8, 8, 4, groups=2)


@pytest.mark.parametrize("side", [(8, 8), (9, 6), (1, 1)])
def test_a_strided_projection_of_few_channels_is_the_plain_one(side):
    strided = units.conv(7, 14, 1, stride=2).double()
    x = image(7, *side).requires_grad_()
    expected = F.conv2d(x, strided.weight, stride=2)
    assert torch.allclose(strided(x), expected, rtol=0, atol=1e-14)
    (gradient,) = torch.autograd.grad(strided(x).square().sum(), x)
    assert torch.allclose(gradient, torch.autograd.grad(expected.square().sum(), x)[0], rtol=0, atol=1e-12)
    assert type(units.conv(8, 16, 1, stride=2)) is nn.Conv2d, "what has enough channels keeps its bits"


@pytest.mark.slow
def test_a_strided_projection_of_few_channels_keeps_to_its_memory():
    """Torch's own, on the CPU in float32 with channels_last, aborts the process: so in one of its own."""
    code = (
        "import torch; from ran.models.units import conv; torch.set_num_threads(1)\n"
        "for n in (2, 7):\n"
        "    c = conv(n, 2 * n, 1, stride=2).to(memory_format=torch.channels_last)\n"
        "    for _ in range(12):\n"
        "        x = torch.rand(32, n, 32, 32).contiguous(memory_format=torch.channels_last).requires_grad_()\n"
        "        y = c(x); y.backward(torch.rand_like(y))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
