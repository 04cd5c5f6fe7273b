"""Costs by stage and branch against formulas by hand."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from ran.config import ModelConfig
from ran.models import cost as module
from ran.models import zoo
from ran.models.cost import Part, breakdown, cost, main, stage_names
from ran.models.masks import MASK_STRUCTURES
from ran.models.network import build
from ran.models.zoo import create_model, network_spec
from records.command import entry


class Gate(nn.Module):
    """Named as an attention module; its mask is a pooling and a 1x1 convolution with bias."""

    def __init__(self) -> None:
        super().__init__()
        self.pre = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False))
        self.trunk = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU())
        self.mask = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 8, 1), nn.Upsample(scale_factor=2))
        self.post = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pre(x)
        return self.trunk(x) * self.mask(x)


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 5, stride=2, padding=2)
        self.stages = nn.ModuleList([nn.Module()])
        self.stages[0].units = nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False)
        self.stages[0].attention = nn.ModuleList([Gate()])
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages[0].units(self.stem(x))
        x = self.stages[0].attention[0](x).mean((2, 3))
        return self.head(x) + x @ x.new_ones(8, 10)  # arithmetic of the network's own, in no module


def conv_macs(c_in: int, c_out: int, kernel: int, side: int, groups: int = 1) -> int:
    return c_out * (c_in // groups) * kernel * kernel * side * side


def test_breakdown_by_hand() -> None:
    network = Toy().train()
    network.stages[0].attention[0].eval()
    # 16 px -> 8 behind the stem -> 4 in the stage -> 2 behind the mask's pooling
    assert breakdown(network, image_size=16) == [
        Part(None, "head", 8 * 10 + 10, 8 * 10 + 10, 2 * 8 * 10),
        Part(None, "stem", 3 * 4 * 25 + 4, 3 * 4 * 25 + 4, conv_macs(3, 4, 5, 8)),
        Part(1, "units", 4 * 8 * 9, 4 * 8 * 9, conv_macs(4, 8, 3, 4)),
        Part(1, "trunk", 8 * 2 * 9 + 16, 8 * 2 * 9 + 32, conv_macs(8, 8, 3, 4, groups=4)),
        Part(1, "mask", 8 * 8 + 8, 8 * 8 + 8, conv_macs(8, 8, 1, 2)),
    ]
    # the modes are as they were
    assert network.training
    assert network.stages[0].units.training
    assert not network.stages[0].attention[0].training
    assert not network.stages[0].attention[0].mask.training
    # a frozen weight is no trainable parameter, and still costs
    network.stem.requires_grad_(False)
    stem = next(part for part in breakdown(network, image_size=16) if part.branch == "stem")
    assert (stem.params, stem.macs) == (0, conv_macs(3, 4, 5, 8))


def test_modes_are_restored_where_the_network_fails() -> None:
    network = Toy().train()
    with pytest.raises(RuntimeError):
        breakdown(network, image_size=1)
    assert network.training


def test_masks_by_stage() -> None:
    """architecture.md's networks with a single module: what the mask of each stage costs."""
    with torch.device("meta"):
        parts = breakdown(create_model("attention56"), image_size=32)
    assert [(p.stage, p.branch) for p in parts] == [
        (None, "stem"),
        *((stage, branch) for stage in (1, 2, 3) for branch in ("units", "trunk", "mask")),
        (None, "head"),
    ]
    masks = [p for p in parts if p.branch == "mask"]
    assert [p.macs for p in masks] == [12_705_792, 12_288_000, 10_616_832]
    assert sum(p.params for p in masks) == 439_936
    # first unit of stage 1: projection 16 -> 64 beside 16 -> 16 -> 16 -> 64, then an identity unit
    side = 32
    first = conv_macs(16, 64, 1, side) + conv_macs(16, 16, 1, side) + conv_macs(16, 16, 3, side)
    first += conv_macs(16, 64, 1, side)
    second = conv_macs(64, 16, 1, side) + conv_macs(16, 16, 3, side) + conv_macs(16, 64, 1, side)
    assert (parts[0].macs, parts[1].macs) == (conv_macs(3, 16, 3, side), first + second)
    assert parts[-1].params == 256 * 10 + 10 + 2 * 256
    assert parts[-1].params_with_bn == parts[-1].params + 2 * 256


def test_parts_sum_to_the_cost() -> None:
    spec = network_spec("attention56", width=0.25, t=1)
    with torch.device("meta"):
        network = build(spec, num_classes=7)
    for size in (32, 48):
        parts = breakdown(network, image_size=size)
        found = cost(spec, num_classes=7, image_size=size)
        assert (sum(p.params for p in parts), sum(p.macs for p in parts)) == (found.params, found.macs)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "structure"), [
    *(("attention56", structure) for structure in MASK_STRUCTURES),
    *((name, "encoder_decoder") for name in ("attentioninception56_imagenet", "attentionnext56_imagenet", "wrn16_8")),
])  # fmt: skip
def test_counted_as_by_torchs_counter(name: str, structure: str) -> None:
    spec = zoo.config_spec(ModelConfig(name=name, mask_structure=structure, width=0.25))
    with torch.device("meta"):
        network = build(spec, num_classes=10).eval()
    expected = module._count(network, 64).get_total_flops() // 2
    assert module._macs_of_known(network, 64) == expected
    assert cost(spec, num_classes=10, image_size=64).macs == expected


class Mixing(nn.Module):
    """A mask of a user's own, which multiplies matrices that are neither a convolution nor a layer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(2)
        return (flat @ flat.transpose(1, 2) @ flat).view(x.shape).sigmoid()


def test_what_is_not_known_is_left_to_torchs_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MASK_STRUCTURES._entries, "mixing", lambda parts: Mixing())
    sizes = {
        structure: cost(
            zoo.config_spec(ModelConfig(name="attention32c", mask_structure=structure)), num_classes=10, image_size=32
        ).macs
        for structure in ("none", "mixing")
    }  # fmt: skip
    assert sizes["mixing"] > sizes["none"]


def test_a_network_of_torchvision() -> None:
    with torch.device("meta"):
        network = resnet18()
    assert stage_names(network) == ["layer1", "layer2", "layer3", "layer4"]
    parts = breakdown(network, image_size=224)
    assert [(p.stage, p.branch) for p in parts] == [
        (None, "stem"), (1, "units"), (2, "units"), (3, "units"), (4, "units"), (None, "head"),
    ]  # fmt: skip
    assert sum(p.params for p in parts) == 11_689_512  # torchvision's own number
    assert parts[0].macs == conv_macs(3, 64, 7, 112)
    assert parts[1].macs == 4 * conv_macs(64, 64, 3, 56)
    assert parts[2].macs == conv_macs(64, 128, 3, 28) + 3 * conv_macs(128, 128, 3, 28) + conv_macs(64, 128, 1, 28)
    assert parts[-1].macs == 512 * 1000


def test_one_network_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attention56", "--size", "64", "--classes", "7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "attention56, 7 classes, 64x64 RGB"
    assert lines[1].split() == ["stage", "branch", "parameters", "with", "BN", "statistics", "MACs", "of", "MACs"]
    assert lines[6].split() == ["1", "mask", "44,800", "46,592", f"{4 * 12_705_792:,}", "10.3", "%"]
    assert lines[-1].split()[:2] == ["all", "1,029,591"]
    assert len({len(line) for line in lines[1:]}) == 1, "numbers are right-aligned"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["attention57"], "unknown network 'attention57'. Did you mean 'attention56'?"),
        (["attention56", "--size", "0"], "--size must be at least 1, got 0"),
        (["attention56", "--classes", "0"], "--classes must be at least 1, got 0"),
        (["attention56", "--size", "3"], "images of 3x3 are too small"),
        (["--size", "32"], "the following arguments are required: name"),
    ],
)
def test_refusals(capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        entry("ran.models.cost", lambda: main(argv))
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
