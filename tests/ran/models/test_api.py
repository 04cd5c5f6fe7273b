"""What a user of the library calls: as in timm, with torch.compile and torch.export; and what is refused."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from ran.models.masks import MASK_STRUCTURES
from ran.models.network import NetworkSpec, StageSpec, build
from ran.models.units import UNITS
from ran.models.zoo import create_model, list_models, network_spec
from records.errors import UserError

TINY = NetworkSpec(
    stem_channels=4,
    stages=(
        StageSpec(8, 4, stride=1, units=1, modules=1, poolings=2),
        StageSpec(8, 4, stride=2, units=1, modules=1, poolings=1),
    ),
)


def test_list_models_filters_by_a_shell_pattern():
    assert list_models("attention32?") == ["attention32a", "attention32b", "attention32c"]
    assert list_models("*inception*") == ["attentioninception56_imagenet"]
    assert list_models("none of it") == []


def test_numbers_of_classes_and_channels():
    network = create_model("attention32c", num_classes=7, in_channels=1, width=0.25).eval()
    assert (network.num_classes, network.in_channels, network.num_features) == (7, 1, 64)
    assert network(torch.zeros(1, 1, 9, 9)).shape == (1, 7)
    with torch.device("meta"):
        assert create_model("attention32c").num_classes == 10
        assert create_model("attention56_imagenet").num_classes == 1000


@pytest.mark.parametrize("name", ["attention32a", "attentionnext56_imagenet"])
def test_features_then_head_are_the_network(name):
    network = create_model(name, num_classes=7, width=0.25).eval()
    x = torch.randn(2, 3, 40, 33)
    features = network.forward_features(x)
    assert features.ndim == 4
    assert (features >= 0).all()
    assert torch.equal(network.forward_head(features), network(x))
    assert torch.equal(network.forward_head(features, pre_logits=True), features.mean((2, 3)))


def test_stage_outputs_are_what_the_stages_return():
    network = create_model("attention56", num_classes=7, width=0.25).eval()
    seen = []
    for stage in network.stages:
        stage.register_forward_hook(lambda _, args, out: seen.append(out))
    x = torch.randn(2, 3, 32, 32)
    outputs = network.stage_outputs(x)
    assert len(outputs) == len(seen) == 3
    assert all(torch.equal(a, b) for a, b in zip(outputs, seen, strict=True))
    assert outputs[-1].min() < 0  # raw sums
    assert torch.equal(network.norm(outputs[-1]).relu(), network.forward_features(x))


@pytest.mark.parametrize("name", ["attention56", "attentionnext56_imagenet", "resnet152_imagenet", "wrn16_8"])
def test_feature_info_says_where_and_how_large(name):
    with torch.device("meta"):
        network = create_model(name).eval()
        outputs = network.stage_outputs(torch.empty(1, 3, 64, 64))
    for info, out in zip(network.feature_info, outputs, strict=True):
        assert out.shape == (1, info["num_chs"], 64 // info["reduction"], 64 // info["reduction"])
        assert isinstance(network.get_submodule(info["module"]), nn.Module)
    assert network.num_features == outputs[-1].shape[1]


def test_reset_classifier():
    network = create_model("attention32a", num_classes=7, width=0.25).double().eval()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    features = network.forward_features(x)
    network.reset_classifier(4)
    assert (network.num_classes, network(x).shape, network(x).dtype) == (4, (2, 4), torch.float64)
    assert network.get_classifier() is network.head
    network.reset_classifier(0)
    assert torch.equal(network(x), features.mean((2, 3)))
    assert "head.weight" not in network.state_dict()


def test_options_reach_the_network():
    one, other = (create_model("attention32a", width=0.25, learning=name).eval() for name in ("arl", "nal"))
    other.load_state_dict(one.state_dict())
    x = torch.randn(2, 3, 16, 16)
    assert not torch.equal(one(x), other(x))
    assert len(create_model("attention32a", width=0.25, t=3).stages[0].attention[0].trunk) == 3


# Every registered part is in one of these; none may break the graph.
ONE = replace(TINY, t=1, stages=TINY.stages[:1])
VARIANTS = {
    **{name: replace(ONE, mask_structure=name) for name in MASK_STRUCTURES},
    "units": replace(
        ONE,
        stages=tuple(
            # those that are not preactivated first: none may read raw sums
            replace(ONE.stages[0], modules=0, unit=unit)
            for unit in sorted(UNITS, key=lambda u: UNITS[u].preactivated)
        ),
    ),
    "encoder_decoder": replace(ONE, mask_activation="spatial"),
    "local_conv": replace(ONE, mask_structure="local_conv", mask_activation="channel", learning="nal"),
    "se": replace(ONE, mask_structure="se", stem="conv7_pool"),
    "eca": replace(ONE, mask_structure="eca", unit="postact_bottleneck", groups=2),
    "none": replace(ONE, mask_structure="none", stem="conv7_padded_pool"),
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_compiles_without_a_graph_break(variant):
    torch._dynamo.reset()
    network = build(VARIANTS[variant], num_classes=3).eval()
    x = torch.randn(2, 3, 19, 17)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), network(x))


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_exports_with_any_number_of_images(variant):
    network = build(VARIANTS[variant], num_classes=3).eval()
    batch = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}
    program = torch.export.export(network, (torch.randn(2, 3, 19, 17),), dynamic_shapes=batch)
    x = torch.randn(5, 3, 19, 17)
    torch.testing.assert_close(program.module()(x), network(x))


def test_compiled_network_refuses_small_images_too():
    torch._dynamo.reset()
    network = torch.compile(build(TINY, num_classes=3).eval(), backend="eager")
    with pytest.raises(UserError, match="smallest are 4x4"):
        network(torch.randn(1, 3, 4, 3))


# The least side of an image
SMALLEST = {"attention56": 8, "attention32b": 7, "attention32c": 5, "attention56_imagenet": 31,
            "attentionnext92_imagenet": 31, "resnet164": 1, "resnext101_32x4d_imagenet": 1}  # fmt: skip


@pytest.mark.parametrize("name", SMALLEST)
def test_smallest_image(name):
    size = SMALLEST[name]
    with torch.device("meta"):
        network = create_model(name, num_classes=10, image_size=size).eval()
        assert network(torch.empty(1, 3, size, size + 1)).shape == (1, 10)
        if size == 1:
            return
        for shape in ((size - 1, size), (size, size - 1)):
            with pytest.raises(UserError, match=rf"{shape[0]}x{shape[1]} are too small.*smallest are {size}x{size}"):
                network(torch.empty(1, 3, *shape))
        # The bound is no larger than it must be.
        network.smallest_input = 1
        with pytest.raises(RuntimeError, match="too small"):
            network(torch.empty(1, 3, size - 1, size - 1))


@pytest.mark.parametrize("structure", ["local_conv", "se", "eca", "cbam", "none"])
def test_only_pooling_masks_need_large_maps(structure):
    network = build(replace(TINY, mask_structure=structure), num_classes=3)
    size = network.smallest_input
    assert size == (3 if structure == "local_conv" else 1)
    assert network(torch.randn(2, 3, size, size)).shape == (2, 3)


def refused(name: str = "attention56", **options) -> str:
    with pytest.raises(UserError) as error:
        create_model(name, **options)
    return str(error.value)


REFUSED = {
    "network": (lambda: refused("attention57"), ["attention56", "Valid:", "wrn28_10"]),
    "option": (lambda: refused(depth=3), ["'depth'", "Valid: width", "mask_structure", "groups"]),
    "unit": (lambda: refused(unit="basic"), ["residual unit 'basic'", "preact_basic"]),
    "stem": (lambda: refused(stem="conv"), ["stem 'conv'", "conv3", "conv7_pool"]),
    "structure": (lambda: refused(mask_structure="sse"), ["'sse'", "'se'", "encoder_decoder", "local_conv_macs"]),
    "activation": (lambda: refused(mask_activation="soft"), ["'soft'", "mixed, channel, spatial"]),
    "learning": (lambda: refused(learning="arn"), ["'arn'", "arl, nal"]),
    "unit of a stage": (
        lambda: refused(stages=(replace(TINY.stages[0], unit="post"),)),
        ["residual unit 'post'", "postact_bottleneck"],
    ),
    "width": (lambda: refused(width=0.0), ["width must be above 0", "0.0"]),
    "p": (lambda: refused(p=0), ["p must be at least 1", "0"]),
    "poolings": (
        lambda: refused(stages=(replace(TINY.stages[0], poolings=0),)),
        ["stages[0].poolings must be at least 1, got 0"],
    ),
    "stages": (lambda: refused(stages=()), ["stages"]),
    "classes": (lambda: refused(num_classes=-1), ["num_classes must not be negative, got -1"]),
    "channels": (lambda: refused(in_channels=0), ["in_channels must be at least 1, got 0"]),
    "groups": (lambda: refused(groups=3), ["groups=3", "[16, 32, 64]", "1, 2, 4, 8, 16"]),
    "groups and width": (
        lambda: refused("attentionnext56_imagenet", width=0.3),
        ["width=0.3", "groups=32", "Multiples of 0.25", "0.25 or 0.5"],
    ),
    "groups and a small width": (
        lambda: refused("resnext101_32x4d_imagenet", width=0.1),
        ["width=0.1", "groups=32", "Multiples of 0.25", "e.g. 0.25."],
    ),
    "grouped basic unit": (lambda: refused(unit="preact_basic", groups=2), ["groups must be 1", "preact_basic"]),
    "deep masks": (
        lambda: refused("attention56", image_size=7),
        ["image_size=7", "stages[0].poolings=3", "7x7", "smallest image_size is 8"],
    ),
    "deep masks on ImageNet": (
        lambda: refused("attention56_imagenet", width=0.125, image_size=30),
        ["image_size=30", "stages[0].poolings=3", "7x7", "smallest image_size is 31"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_with_what_would_work(case):
    refuse, parts = REFUSED[case]
    message = refuse()
    assert [part for part in parts if part not in message] == [], message
    assert "\n" not in message


@pytest.mark.parametrize("width", [0.25, 0.5, 2.0])
def test_widths_named_in_the_refusal_work(width):
    with torch.device("meta"):
        network = create_model("attentionnext56_imagenet", width=width, num_classes=10).eval()
        assert network(torch.empty(1, 3, 64, 64)).shape == (1, 10)
    spec = network_spec("attentionnext56_imagenet", width=width)
    assert spec.stem_channels == 64 * width
    assert [(s.channels, s.bottleneck) for s in spec.stages] == [
        (256 * width * 2**i, 128 * width * 2**i) for i in range(4)
    ]
