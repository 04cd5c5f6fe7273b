"""The drawing of a specification against the network that torch builds of it."""

import dataclasses
import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text
from synthetic import IMAGENET92, spec
from torch import nn

from analysis.figures.network_diagram.draw import draw
from analysis.figures.network_diagram.layout import UNITS, NetworkLayout, SpecError, form_key, read_spec
from analysis.figures.style import styled
from ran.models.attention import LEARNING, AttentionModule
from ran.models.masks import MASK_ACTIVATIONS, MASK_STRUCTURES
from ran.models.network import NetworkSpec, StageSpec, build
from ran.models.stems import STEMS
from ran.models.units import UNITS as REAL_UNITS
from ran.models.units import PostActBottleneck, PreActBasic, PreActBottleneck, PreActInception
from ran.models.zoo import NETWORKS, network_spec

UNIT_TYPES = (PreActBottleneck, PreActBasic, PostActBottleneck, PreActInception)


def as_json(network: NetworkSpec) -> dict[str, Any]:
    """What a run writes to spec.json."""
    return json.loads(json.dumps(dataclasses.asdict(network)))


def units_in(module: nn.Module) -> int:
    return sum(isinstance(one, UNIT_TYPES) for one in module.modules())


def maps_of(network: nn.Module, size: int) -> tuple[list[int], dict[str, int]]:
    """The side of each stage's output and, by name, of each unit's."""
    sides: dict[str, int] = {}
    handles = [
        module.register_forward_hook(lambda _m, _i, out, name=name: sides.__setitem__(name, out.shape[-1]))
        for name, module in network.named_modules()
        if isinstance(module, UNIT_TYPES)
    ]
    outputs = network.stage_outputs(torch.empty(1, 3, size, size, device="meta"))  # type: ignore[operator]
    for handle in handles:
        handle.remove()
    return [out.shape[-1] for out in outputs], sides


def agrees(network_spec_: NetworkSpec, size: int) -> None:
    """The layout has the units, maps and depth of the network, stage by stage and in each mask."""
    layout = read_spec(as_json(network_spec_), size)
    with torch.device("meta"):
        network = build(network_spec_, num_classes=10, image_size=size).eval()
    outputs, sides = maps_of(network, size)
    assert [stage.size for stage in layout.stages] == outputs
    assert layout.trunk_depth == network_spec_.trunk_depth
    assert layout.preactivated == (network.norm is not None)
    for i, stage in enumerate(layout.stages):
        real = network.get_submodule(f"stages.{i}")
        assert stage.units == units_in(real.get_submodule("units"))
        modules = [one for one in real.modules() if isinstance(one, AttentionModule)]
        assert stage.modules == len(modules)
        for k, module in enumerate(modules):
            assert (layout.p, layout.t) == (units_in(module.pre), units_in(module.trunk))
            assert (stage.mask is None) == (module.mask is None)
            if stage.mask is None or module.mask is None:
                continue
            assert stage.mask.units == units_in(module.mask)
            found = sorted(side for name, side in sides.items() if name.startswith(f"stages.{i}.attention.{k}.mask."))
            drawn = [block.size for block in stage.mask.path for _ in range(block.units)]
            drawn += [stage.mask.path[skip.start].size for skip in stage.mask.skips for _ in range(skip.units)]
            assert sorted(size for size in drawn if size is not None) == found


FEW = ("attention56", "attention92_imagenet", "attentioninception56_imagenet", "resnet164")


@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in sorted(NETWORKS)]
)
def test_every_named_network_is_drawn_as_it_is(name: str) -> None:
    agrees(network_spec(name), 224 if name.endswith("_imagenet") else 32)


stages = st.lists(
    st.builds(
        StageSpec,
        channels=st.sampled_from([32, 64]),
        bottleneck=st.sampled_from([16, 32]),
        stride=st.integers(1, 2),
        units=st.integers(1, 2),
        modules=st.integers(0, 2),
        poolings=st.integers(1, 3),
        unit=st.sampled_from([None, "inception_b"]),
    ),
    min_size=1,
    max_size=2,
)


def may_follow(network: NetworkSpec) -> bool:
    """Whether no stage of post-activation units reads the raw sums of pre-activation ones (refused by ``build``)."""
    preactivated = [REAL_UNITS[network.unit_of(stage)].preactivated for stage in network.stages]
    return preactivated == sorted(preactivated)


@settings(max_examples=10, deadline=None)
@given(
    st.builds(
        NetworkSpec,
        stem_channels=st.just(8),
        stages=stages.map(tuple),
        unit=st.sampled_from(["preact_bottleneck", "preact_basic", "postact_bottleneck"]),
        p=st.integers(1, 2),
        t=st.integers(1, 3),
        r=st.integers(1, 3),
        learning=st.sampled_from(sorted(LEARNING)),
        mask_structure=st.sampled_from(["encoder_decoder", "local_conv", "none", "se", "cbam"]),
        stem=st.sampled_from(sorted(STEMS)),
    ).filter(may_follow),
    st.integers(150, 190),
)
def test_any_specification_is_drawn_as_it_is(network: NetworkSpec, size: int) -> None:
    agrees(network, size)


def test_everything_registered_is_known() -> None:
    assert set(REAL_UNITS) == set(UNITS)
    assert all((UNITS[n].layers, UNITS[n].preactivated) == (u.layers, u.preactivated) for n, u in REAL_UNITS.items())
    for structure in sorted(MASK_STRUCTURES):
        for activation in sorted(MASK_ACTIVATIONS):
            for learning in sorted(LEARNING):
                changes = {"mask_structure": structure, "mask_activation": activation, "learning": learning}
                layout = read_spec(spec(**changes), 32)
                assert layout.combined != learning
                mask = layout.stages[0].mask
                texts = [block.text for block in mask.path] if mask else []
                assert structure not in texts
                assert activation not in texts
                assert (mask is None) == (structure == "none")


def said(layout: NetworkLayout) -> list[str]:
    with styled():
        figure = draw(layout, "title", "subtitle", classes=10)
    return [" ".join(text.get_text().split()) for text in figure.findobj(Text) if text.get_text()]


def test_the_drawing_says_what_the_paper_labels() -> None:
    texts = said(read_spec(spec("attention452"), 32))
    # p and p, t; r twice a level but the lowest, 2r once a mask, one skip a level but the lowest.
    expected = {"p": 6, "t": 3, "r": 4 + 2, "2r": 3, "skip": 2 + 1, "(1 + M) · T": 3, "sigmoid": 3, "pool": 6, "up": 6}
    assert {label: texts.count(label) for label in expected} == expected
    assert texts.count("6 units") == 3
    assert texts.count("6 attention modules") == 3
    assert {"64 (16) 32×32", "128 (32) 16×16", "256 (64) 8×8", "10 classes"} <= set(texts)  # noqa: RUF001
    assert texts.count("4×4") == 3  # noqa: RUF001


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "there", "gone"),
    [
        ({"learning": "nal"}, "M · T", "(1 + M) · T"),
        ({"mask_activation": "channel"}, "L2 norm over channels", "sigmoid"),
        ({"mask_structure": "local_conv"}, "3 units", "pool"),
        ({"mask_structure": "se"}, "C to C/16 to C", "1×1 conv, twice"),  # noqa: RUF001
        ({"mask_structure": "none"}, "t", "M"),
        ({"mask_structure": "of_my_own"}, "of my own", "pool"),
        ({"t": 5}, "5 units", "2r = 2"),
        ({"r": 4}, "8 units", "6 units"),
        ({"stem": "of_my_own", "unit": "u"}, "unit: u.", "conv 3×3"),  # noqa: RUF001
    ],
)
def test_another_specification_is_another_drawing(changes: dict[str, Any], there: str, gone: str) -> None:
    before, after = said(read_spec(spec(), 32)), said(read_spec(spec(**changes), 32))
    assert there in after
    assert there not in before or changes == {"mask_structure": "none"}
    assert gone not in after


def test_imagenet_has_four_stages_and_modules_in_three() -> None:
    texts = said(read_spec(IMAGENET92, 224))
    assert texts.count("7×7") == 3  # noqa: RUF001
    assert "2048 (512) 7×7" in texts  # noqa: RUF001
    assert [text for text in texts if text.startswith("attention module of stage")] == [
        "attention module of stage 1: 256 (64), 56×56",  # noqa: RUF001
        "attention module of stage 2: 512 (128), 28×28",  # noqa: RUF001
        "attention module of stage 3: 1024 (256), 14×14",  # noqa: RUF001
    ]


def test_an_unknown_size_is_left_out() -> None:
    layout = read_spec(spec(), None)
    assert {stage.size for stage in layout.stages} == {None}
    assert not [text for text in said(layout) if text in ("32×32", "16×16", "NonexNone", "None×None")]  # noqa: RUF001


@pytest.mark.parametrize("broken", [{}, {"stem": "conv3", "stages": []}, {"stem": "conv3", "stages": 3}])
def test_no_specification_is_refused_in_one_line(broken: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as refused:
        read_spec(broken, 32)
    assert "\n" not in str(refused.value)


def test_networks_of_one_form_share_a_drawing() -> None:
    assert form_key(spec("attention56")) == form_key(spec("attention236"))
    assert form_key(spec("resnet164")) == form_key(spec("resnet1001", p=2))
    others = [
        spec(), spec(learning="nal"), spec(mask_activation="channel"), spec(mask_structure="se"), spec(p=2), spec(r=2),
        spec("resnet164"), spec("wrn16_8"), IMAGENET92, spec(mask_structure="none"),
    ]  # fmt: skip
    assert len({form_key(one) for one in others}) == len(others)
    assert form_key(spec(mask_structure="none")) == form_key(spec(mask_structure="none", learning="nal"))
