"""Probes against values by hand, on networks small enough for it, and what they must leave as it was."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ran import probe
from ran.data.augment import Normalization
from ran.models.network import NetworkSpec, StageSpec, build, initialize
from records.errors import UserError

MODULE = "stages.0.attention.0"


def images(n: int = 3, side: int = 16) -> Tensor:
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def minus_100(side: int = 16) -> Normalization:
    return Normalization(torch.full((3, side, side), 100.0), 255, pad=4)


def tiny(**options: Any) -> nn.Module:
    spec = NetworkSpec(
        stem_channels=8, stages=(StageSpec(8, 4, stride=1, units=1, modules=2, poolings=3),) * 2, **options
    )
    network = build(spec, num_classes=5)
    initialize(network, 0)
    return network


class Times(nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Stages(nn.Module):
    """Three stages that multiply, behind a stem that takes the mean of the colours."""

    def __init__(self, named_as_torchvision: bool):
        super().__init__()
        self.stem = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.constant_(self.stem.weight, 1 / 3)
        self.named_as_torchvision = named_as_torchvision
        made = [Times(2.0), Times(-0.25), nn.Sequential(nn.AvgPool2d(4), Times(4.0))]
        if named_as_torchvision:
            for i, stage in enumerate(made):
                self.add_module(f"layer{i + 1}", stage)
        else:
            self.stages = nn.ModuleList(made)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        stages = [self.layer1, self.layer2, self.layer3] if self.named_as_torchvision else self.stages
        for stage in stages:
            x = stage(x)
        return x


@pytest.mark.parametrize("named_as_torchvision", [False, True])
def test_responses_by_hand(named_as_torchvision: bool) -> None:
    pixels = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    pixels[0] = 100 + 51  # (151 - 100) / 255 = 0.2
    pixels[1] = 100 - 51
    pixels[2, :, :2] = 100 + 51  # half of it 0.2, half of it -0.2: stage 3's average is 0
    pixels[2, :, 2:] = 100 - 51
    network = Stages(named_as_torchvision)
    for batch in (1, 2, 3):  # the last batch of two is a smaller one: it must not weigh more
        responses = probe.stage_responses(network, pixels, minus_100(4), batch=batch)
        assert responses == pytest.approx([0.4, 0.1, 0.4 * 2 / 3], rel=1e-6)
    assert probe.relative(responses) == pytest.approx([1, 0.25, 2 / 3], rel=1e-6)


def test_relative_response_of_nothing_is_no_number() -> None:
    assert all(math.isnan(r) for r in probe.relative([0.0, 1.0]))
    assert probe.relative([]) == []
    with pytest.raises(UserError, match="at least one image"):
        probe.stage_responses(Stages(False), images(0), minus_100())


def test_response_is_of_the_raw_sum_of_the_last_unit() -> None:
    network = tiny().eval()
    x = network.stem((images().float() - 100) / 255)
    expected = []
    with torch.no_grad():
        for stage in network.stages:
            x = stage(x)
            expected.append(x.abs().double().mean().item())
    assert probe.stage_responses(network, images(), minus_100()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("learning", ["arl", "nal"])
def test_soft_masks_are_what_the_module_computes(learning: str) -> None:
    network = tiny(learning=learning).eval()
    assert probe.attention_names(network) == [f"stages.{i}.attention.{j}" for i in range(2) for j in range(2)]
    seen = probe.soft_masks(network, images(), minus_100())
    assert list(seen) == probe.attention_names(network)
    with torch.no_grad():
        x = network.stages[0].units(network.stem((images().float() - 100) / 255))
        module = network.stages[0].attention[0]
        x = module.pre(x)
        trunk, mask = module.trunk(x), module.mask(x)
    view = seen[MODULE]
    assert view.mask.shape == (3, 8, 16, 16)
    for found, expected in (
        (view.input, x),
        (view.before, trunk),
        (view.mask, mask),
        (view.after, (1 + mask) * trunk if learning == "arl" else mask * trunk),
    ):
        assert not found.requires_grad
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert list(probe.soft_masks(network, images(), minus_100(), [MODULE])) == [MODULE]


def test_masks_of_networks_without_any() -> None:
    assert probe.soft_masks(Stages(False), images(), minus_100()) == {}
    network = tiny()
    network.stages[0].attention[0].mask = None  # no branch: the trunk goes on alone
    network.stages[0].attention[0].forward = lambda x: x
    assert list(probe.soft_masks(network, images(), minus_100())) == probe.attention_names(network)[1:]
    with pytest.raises(UserError, match=r"'stages.0' is not an attention module. Valid: stages.0.attention.0, "):
        probe.soft_masks(network, images(), minus_100(), ["stages.0"])


def test_a_gate_of_one_value_a_channel_is_spread_over_the_map() -> None:
    network = tiny()
    network.stages[0].attention[0].mask = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Sigmoid())
    mask = probe.soft_masks(network, images(), minus_100(), [MODULE])[MODULE].mask
    assert mask.shape == (3, 8, 16, 16)
    assert torch.equal(mask[..., 0, 0], mask[..., 7, 9])


def convs(depth: int) -> nn.Sequential:
    """3x3 convolutions with weights of 1, the first from three colours."""
    made = [nn.Conv2d(3 if i == 0 else 1, 1, 3, padding=1, bias=False) for i in range(depth)]
    for conv in made:
        nn.init.ones_(conv.weight)
    return nn.Sequential(*made)


@pytest.mark.parametrize(("depth", "line"), [(1, [1, 1, 1]), (2, [1, 2, 3, 2, 1]), (3, [1, 3, 6, 7, 6, 3, 1])])
def test_receptive_field_of_plain_convolutions_is_the_theorys(depth: int, line: list[int]) -> None:
    field = probe.receptive_field(convs(depth), images(), minus_100(), output=str(depth - 1))
    expected = torch.zeros(16, 16, dtype=torch.float64)
    ends = slice(8 - depth, 9 + depth)
    expected[ends, ends] = torch.outer(torch.tensor(line), torch.tensor(line)).double()
    torch.testing.assert_close(field.gradient, expected, rtol=1e-6, atol=0)
    assert field.centre == (8, 8)
    assert field.radius(1.0) == pytest.approx(depth * math.sqrt(2))


def test_receptive_field_from_a_module_in_between() -> None:
    field = probe.receptive_field(convs(3), images(), minus_100(), output="2", input="1")
    assert (field.gradient > 0).sum() == 25
    assert probe.receptive_field(convs(3), images(), minus_100(), output="1", input="1").gradient.max() == 1


def test_receptive_field_is_the_mean_over_images_of_absolute_gradients() -> None:
    network = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.ReLU(inplace=True))
    # Signs differ over the colours: absolute values come before the mean, which is 5.
    network[0].weight.data = torch.tensor([-6.0, 6.0, -3.0]).view(1, 3, 1, 1)
    pixels = torch.full((4, 3, 16, 16), 200, dtype=torch.uint8)
    pixels[0] = 0  # the only image whose unit is not cut off by the ReLU
    for batch in (1, 3, 4):
        field = probe.receptive_field(network, pixels, minus_100(), output="1", batch=batch)
        assert field.gradient.sum() == field.gradient[8, 8] == 5 / 4
    # in place upon the input of a module
    assert probe.receptive_field(network, pixels, minus_100(), output="1", input="1").gradient[8, 8] == 1 / 4


def test_radius_by_hand() -> None:
    gradient = torch.zeros(7, 9)
    gradient[2:5, 3:6] = 1  # 1 at distance 0, 4 at 1, 4 at the square root of 2
    field = probe.ReceptiveField(gradient, (3, 4))
    assert [field.radius(share) for share in (0.1, 0.5, 0.55)] == [0, 1, 1]
    assert field.radius() == field.radius(1.0) == pytest.approx(math.sqrt(2))
    assert probe.ReceptiveField(gradient, (3, 0)).radius(1.0) == pytest.approx(math.hypot(1, 5))


def test_centre_follows_strides() -> None:
    network = nn.Sequential(nn.Conv2d(3, 1, 3, stride=4, padding=1, bias=False))
    nn.init.ones_(network[0].weight)
    field = probe.receptive_field(network, images(), minus_100(), output="0")
    assert field.centre == (8, 8)
    assert field.radius(1.0) == pytest.approx(math.sqrt(2))
    pooled = probe.receptive_field(nn.Sequential(nn.AdaptiveAvgPool2d(1)), images(), minus_100(), output="0")
    assert pooled.centre == (8, 8)
    assert pooled.gradient.max() == pooled.gradient.min() > 0


def test_the_mask_sees_further_than_the_trunk() -> None:
    """Figure 3. Three 3x3 convolutions lie behind the module's input in the trunk: p = 1 and t = 2 units."""
    network = tiny()
    pixels, less = images(4, 32), minus_100(32)
    trunk = probe.receptive_field(network, pixels, less, f"{MODULE}.trunk", MODULE)
    mask = probe.receptive_field(network, pixels, less, f"{MODULE}.mask", MODULE)
    seen = trunk.gradient.nonzero()
    assert (seen.amin(0).tolist(), seen.amax(0).tolist()) == ([13, 13], [19, 19])
    assert mask.radius() > 2 * trunk.radius() > 0
    assert (mask.gradient > 0).sum() > 400


def test_what_a_field_is_refused_for() -> None:
    network = tiny()
    for output, start, message in (
        ("stages.0.mask", None, "no module 'stages.0.mask'"),
        ("stages.0", "stages.9", "no module 'stages.9'"),
        ("head", None, "has no feature map"),
        ("stages.0", "stages.1", "does not reach 'stages.0'"),
    ):
        with pytest.raises(UserError, match=message):
            probe.receptive_field(network, images(), minus_100(), output, start)
    with pytest.raises(UserError, match="at least one image"):
        probe.receptive_field(network, images(0), minus_100(), "stages.0")


def hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def test_nothing_is_left_behind() -> None:
    network = tiny().train()
    network.stages[1].eval()  # as where BatchNorm is frozen
    network.head.weight.grad = torch.ones_like(network.head.weight)
    network.stem.weight.requires_grad_(False)
    mine = network.stages[0].register_forward_hook(lambda *_: None)
    modes = [m.training for m in network.modules()]
    state = {key: value.clone() for key, value in network.state_dict().items()}
    generator = torch.get_rng_state()

    def look(pixels: Tensor) -> None:
        probe.soft_masks(network, pixels, minus_100())
        probe.stage_responses(network, pixels, minus_100())
        probe.receptive_field(network, pixels, minus_100(), f"{MODULE}.mask", MODULE)

    def unchanged() -> bool:
        grads = [name for name, p in network.named_parameters() if p.grad is not None]
        assert hooks(network) == 1
        assert [m.training for m in network.modules()] == modes
        assert grads == ["head.weight"]
        assert bool((network.head.weight.grad == 1).all())
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
        assert torch.equal(torch.get_rng_state(), generator)
        return torch.is_grad_enabled()

    look(images())
    assert unchanged()
    for probing in (probe.soft_masks, probe.stage_responses):
        with pytest.raises(RuntimeError):
            probing(network, images(side=8), minus_100())  # sizes do not agree
    with pytest.raises(RuntimeError):
        probe.receptive_field(network, images(side=8), minus_100(), f"{MODULE}.mask", MODULE)
    assert unchanged()
    mine.remove()
