"""Every named network: its numbers to the digit, its names, that it runs and learns."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from ran.config import ConfigError, ModelConfig
from ran.models.network import NetworkSpec, build, initialize
from ran.models.zoo import NETWORKS, config_spec, create_model, list_models, network_spec

DOCUMENT = (Path(__file__).parents[3] / "docs" / "networks.md").read_text()

# The architecture's tables, counted by hand from the paper and from the files of its authors; of the baselines, the
# literature's. Parameters, MACs of one image (convolutions and classifier).
# CIFAR: parameters with 10 and with 100 classes, with BatchNorm's statistics (10), MACs at 32x32 (10)
CIFAR = {
    "attention32a": (282_458, 305_588, 287_738, 64_268_800),
    "attention32b": (412_890, 436_020, 419_578, 63_851_008),
    "attention32c": (773_978, 797_108, 782_330, 62_179_840),
    "attention56": (1_030_362, 1_053_492, 1_045_242, 122_825_216),
    "attention56_trunk": (780_442, 803_572, 791_418, 118_409_728),
    "attention92": (1_841_242, 1_864_372, 1_868_282, 211_913_216),
    "attention128": (2_652_122, 2_675_252, 2_691_322, 301_001_216),
    "attention164": (3_463_002, 3_486_132, 3_514_362, 390_089_216),
    "attention236": (5_084_762, 5_107_892, 5_160_442, 568_265_216),
    "attention452": (10_181_210, 10_204_340, 10_339_834, 984_386_048),
    "attention452_r2": (8_745_818, 8_768_948, 8_879_098, 936_757_760),
    "resnet164": (1_703_258, 1_726_388, 1_727_482, 247_646_720),
    "resnet1001": (10_327_706, 10_350_836, 10_476_922, 1_490_995_712),
    "wrn16_8": (10_961_370, 11_007_540, 10_968_570, 1_548_145_664),
    "wrn28_10": (36_479_194, 36_536_884, 36_497_146, 5_243_328_768),
}
# ImageNet, 1000 classes: parameters, with BatchNorm's statistics, MACs at 224x224
IMAGENET = {
    "attention56_imagenet": (31_810_728, 31_883_432, 6_270_836_736),
    "attention92_imagenet": (52_466_344, 52_599_976, 10_533_789_696),
    "attentionnext56_imagenet": (31_318_824, 31_417_256, 6_419_106_816),
    "attentionnext92_imagenet": (52_102_952, 52_274_088, 10_704_337_920),
    "attentioninception56_imagenet": (31_641_448, 31_723_192, 6_187_759_392),
    "resnet152_imagenet": (60_192_808, 60_344_232, 11_513_626_624),
    "resnext101_32x4d_imagenet": (44_177_704, 44_315_560, 7_969_996_800),
}
# Million parameters and billion MACs in the papers, where ours lie within 1 % (Inception: 3 %, its design is ours).
PUBLISHED = {
    "resnet1001": (10.3, None, 0.01),
    "wrn16_8": (11.0, None, 0.01),
    "wrn28_10": (36.5, None, 0.01),
    "attention56_imagenet": (31.9, 6.3, 0.01),
    "attentioninception56_imagenet": (31.9, 6.3, 0.03),
    "resnet152_imagenet": (60.2, None, 0.01),
}
DEPTHS = {
    **{f"attention{d}": d for d in (56, 92, 128, 164, 236, 452)},
    **{f"attention32{letter}": 32 for letter in "abc"},
    **{f"attention{kind}{d}_imagenet": d for kind in ("", "next") for d in (56, 92)},
    "attention56_trunk": 77, "attention452_r2": 452, "resnet164": 164, "resnet1001": 1001,
    "resnet152_imagenet": 152, "resnext101_32x4d_imagenet": 101,
    "wrn16_8": 14, "wrn28_10": 26,  # its paper counts the projections too, and not the classifier: 6n+4
    "attentioninception56_imagenet": 2 + 4 * 18,  # the longest path through its units has four layers
}  # fmt: skip


def meta(spec: NetworkSpec, num_classes: int) -> nn.Module:
    with torch.device("meta"):
        return build(spec, num_classes=num_classes).eval()


def params(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def statistics(network: nn.Module) -> int:
    return sum(b.numel() for name, b in network.named_buffers() if name.endswith(("running_mean", "running_var")))


def macs(network: nn.Module, size: int) -> int:
    """Weights times positions, of every convolution and the classifier."""
    total = 0

    def count(module: nn.Module, _: tuple, out: torch.Tensor) -> None:
        nonlocal total
        total += module.weight.numel() * math.prod(out.shape[2:])

    for m in network.modules():
        if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            m.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.empty(1, 3, size, size, device="meta"))
    return total


DEEP = ("attention452", "attention452_r2", "attention236", "resnet1001")  # seconds each


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in CIFAR]
)
def test_cifar_counts(name):
    params10, params100, with_statistics, cost = CIFAR[name]
    network = meta(network_spec(name), 10)
    assert params(network) == params10
    assert params(network) + statistics(network) == with_statistics
    assert macs(network, 32) == cost
    network.reset_classifier(100)
    assert params(network) == params100


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_counts(name):
    network = meta(network_spec(name), 1000)
    found = params(network), params(network) + statistics(network), macs(network, 224)
    assert found == IMAGENET[name]


def test_every_network_has_a_golden_row():
    assert {*CIFAR, *IMAGENET} == set(list_models()) == set(DEPTHS)
    assert not {*CIFAR} & {*IMAGENET}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_document_has_the_golden_row(name):
    (row,) = (line for line in DOCUMENT.splitlines() if line.startswith(f"| `{name}` |"))
    params, middle, *_, cost = (CIFAR | IMAGENET)[name]
    numbers = (params, middle, cost) if name in CIFAR else (params, cost)
    assert row.endswith("| " + " | ".join(f"{n:,}" for n in numbers) + " |")


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_near_the_published(name):
    millions, billions, tolerance = PUBLISHED[name]
    counts = (CIFAR | IMAGENET)[name]
    assert counts[0] / 1e6 == pytest.approx(millions, rel=tolerance)
    assert billions is None or counts[-1] / 1e9 == pytest.approx(billions, rel=tolerance)


@pytest.mark.parametrize("name", DEPTHS)
def test_trunk_depth(name):
    assert network_spec(name).trunk_depth == DEPTHS[name]


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("resnet152_imagenet", torchvision.models.resnet152),
        ("resnext101_32x4d_imagenet", lambda: tv_resnet([3, 4, 23, 3], num_classes=1000, groups=32, width_per_group=4)),
    ],
    ids=["resnet152", "resnext101"],
)
def test_resnets_have_torchvisions_layers(name, theirs):
    ours = meta(network_spec(name), 1000).state_dict()
    with torch.device("meta"):
        expected = theirs().state_dict()
    assert [v.shape for v in ours.values()] == [v.shape for v in expected.values()]


def tv_resnet(layers: list[int], **options) -> nn.Module:
    return torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, layers, **options)


@pytest.mark.parametrize("groups", [1, 32])
def test_resnets_compute_what_torchvisions_do(groups):
    spec = network_spec("resnext101_32x4d_imagenet" if groups > 1 else "resnet152_imagenet")
    ours = build(replace(spec, stages=tuple(replace(s, units=2) for s in spec.stages)), num_classes=7)
    torch.manual_seed(0)
    theirs = tv_resnet([2, 2, 2, 2], num_classes=7, groups=groups, width_per_group=4 if groups > 1 else 64)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(2, 3, 45, 33)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    assert ours(x).std() > 0.01


def shortened(name: str, width: float) -> NetworkSpec:
    """At most two units and two modules a stage: what a deeper network repeats."""
    spec = network_spec(name, width=width)
    stages = tuple(replace(s, units=min(s.units, 2), modules=min(s.modules, 2)) for s in spec.stages)
    return replace(spec, stages=stages)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_learns_from_odd_images(name):
    torch.manual_seed(0)
    spec = shortened(name, 0.25 if NETWORKS[name].groups > 1 else 0.125)
    size = (47, 38) if name.endswith("_imagenet") else (15, 10)
    network = build(spec, num_classes=5)
    initialize(network, 0)
    logits = network(torch.randn(2, 3, *size))
    assert logits.shape == (2, 5)
    nn.functional.cross_entropy(logits, torch.tensor([0, 3])).backward()
    for key, p in network.named_parameters():
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("attention56", (33, 31)),
        ("attention56_imagenet", (224, 192)),
        ("attention92_imagenet", (320, 320)),
        ("attentionnext56_imagenet", (299, 299)),
        ("attentioninception56_imagenet", (299, 299)),
    ],
)
def test_sizes_of_images(name, size):
    network = meta(network_spec(name), 10)
    assert network(torch.empty(1, 3, *size, device="meta")).shape == (1, 10)


@pytest.mark.parametrize("name", NETWORKS)
def test_initialize_sets_every_weight_from_the_seed(name):
    """NaN left anywhere would be a weight that comes from no seed."""
    check_initialize(shortened(name, 0.25))


@pytest.mark.parametrize("structure", ["local_conv", "local_conv_macs", "none", "se", "eca", "cbam"])
def test_initialize_sets_every_weight_of_the_masks(structure):
    check_initialize(network_spec("attention56", width=0.5, mask_structure=structure))


def check_initialize(spec: NetworkSpec) -> None:
    network = build(spec, num_classes=3)
    with torch.no_grad():
        for p in network.parameters():
            p.fill_(math.nan)
    initialize(network, 0)
    assert [key for key, p in network.named_parameters() if p.isnan().any()] == []


def test_names_of_weights_read_like_the_design():
    keys = set(create_model("attention56", width=0.25).state_dict())
    assert {
        "stem.weight",
        "stages.0.units.0.shortcut.weight",
        "stages.0.attention.0.pre.0.conv1.weight",
        "stages.0.attention.0.trunk.1.norm3.running_var",
        "stages.0.attention.0.mask.down.1.0.conv2.weight",
        "stages.0.attention.0.mask.bottom.1.conv2.weight",
        "stages.0.attention.0.mask.skip.1.conv2.weight",
        "stages.1.attention.0.mask.up.0.0.conv2.weight",
        "stages.2.attention.0.mask.head.5.weight",
        "stages.2.attention.0.post.0.conv3.weight",
        "norm.weight",
        "head.bias",
    } <= keys
    keys = set(create_model("attentionnext56_imagenet", width=0.25).state_dict())
    assert {"stem.conv.weight", "stem.norm.weight", "stages.0.units.0.shortcut.norm.weight"} <= keys
    # The sums have been through a ReLU: neither the tail nor the masks' heads begin with BN and ReLU.
    assert "norm.weight" not in keys
    heads = [key for key in keys if "mask.head" in key and key.endswith("weight")]
    assert {key.rpartition("head.")[2] for key in heads} == {"0.weight", "1.weight", "3.weight"}


# Finished runs carry these names in their weights, in this order, which also decides the initial weights.
def test_order_of_weights_is_kept():
    names = [key for key, _ in create_model("attention56", width=0.25).named_parameters() if "attention.0" in key]
    per_module = [key.removeprefix("stages.1.attention.0.") for key in names if key.startswith("stages.1")]
    unit = ["norm1.weight", "norm1.bias", "conv1.weight", "norm2.weight", "norm2.bias", "conv2.weight",
            "norm3.weight", "norm3.bias", "conv3.weight"]  # fmt: skip
    places = ["pre.0", "trunk.0", "trunk.1", "mask.down.0.0", "mask.bottom.0", "mask.bottom.1", "mask.skip.0",
              "mask.up.0.0", "mask.head", "post.0"]  # fmt: skip
    head = ["0.weight", "0.bias", "2.weight", "3.weight", "3.bias", "5.weight"]
    assert per_module == [f"{place}.{key}" for place in places for key in (head if place == "mask.head" else unit)]


def test_a_run_never_replaces_what_a_registered_network_says():
    """Its config has a learning and masks, too, which would train another network than `create_model` returns."""
    mine = replace(NETWORKS["attention56"], learning="nal", mask_structure="se")
    with NETWORKS.holding("mine", mine):
        said = ModelConfig("mine", learning="nal", mask_structure="se")
        assert config_spec(said) == network_spec("mine")
        with pytest.raises(ConfigError, match=r"registered with learning=nal.*--model.learning nal"):
            config_spec(ModelConfig("mine"))
        with pytest.raises(ConfigError, match=r"registered with mask_structure=se"):
            config_spec(replace(said, mask_structure="encoder_decoder"))
        assert config_spec(replace(said, mask_structure="local_conv")).mask_structure == "local_conv"


def test_hooks_on_stages_are_called_while_they_are_recomputed():
    network = create_model("attention32c", width=0.125)
    network.set_grad_checkpointing()
    seen = []
    for stage in network.stages:
        stage.register_forward_hook(lambda *_: seen.append(1))
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    assert len(seen) == len(network.stages)


def test_raw_sums_are_never_read_without_norm_and_relu():
    spec = network_spec("attention32c")
    post = replace(spec.stages[1], unit="postact_bottleneck")
    with pytest.raises(ConfigError, match=r"stages\[1\] has post-activation units after a stage of pre-activation"):
        build(replace(spec, stages=(spec.stages[0], post, *spec.stages[2:])), num_classes=10)
