"""costs.csv against the networks, and the command that writes it."""

import csv
from pathlib import Path

import pytest
import torch

from benchmarks import network_costs
from benchmarks.network_costs import COSTS_CSV, FIELDS, WIDTHS, Setting, main, settings
from experiments.profiles import PROFILES
from ran.models import zoo
from ran.models.cost import cost
from ran.models.masks import MASK_STRUCTURES
from ran.models.zoo import create_model, list_models, network_spec


def rows() -> list[dict[str, str]]:
    with COSTS_CSV.open(newline="") as file:
        return list(csv.DictReader(file))


def key(row: dict[str, str]) -> tuple[str, Setting]:
    classes, size, width = int(row["num_classes"]), int(row["image_size"]), float(row["width"])
    return row["name"], Setting(classes, size, width, row["mask_structure"])


@pytest.mark.slow
def test_costs_csv_holds_every_network() -> None:
    """Names and settings agree, and the parameters in each network's first row; `pytest -m long` counts every row."""
    assert tuple(rows()[0]) == FIELDS
    there = {key(row): row for row in rows()}
    assert list(there) == [(name, setting) for name in list_models() for setting in settings(name)]
    assert len(there) == len(rows())
    for name in list_models():
        usual = settings(name)[0]
        with torch.device("meta"):
            network = create_model(name, num_classes=usual.num_classes)
        assert int(there[name, usual]["params"]) == sum(p.numel() for p in network.parameters()), name


def test_costs_csv_covers_what_the_profiles_make_of_the_networks() -> None:
    there = {key(row): row for row in rows()}
    for profile in PROFILES.values():
        width = profile.settings.get("model.width", 1.0)
        assert ("attention164", Setting(10, 32, width)) in there, profile.name
    structures = {(s.width, s.mask_structure) for name, s in there if name == "attention56"}
    assert {structure for _, structure in structures} == set(MASK_STRUCTURES)
    # too narrow for three units that cost no more than the encoder-decoder
    assert {(w, m) for w in WIDTHS for m in MASK_STRUCTURES} - structures == {(0.125, "local_conv_macs")}


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("attention56", Setting(100, 32, 0.5, "local_conv_macs")),
        ("attention56", Setting(10, 32, 0.25, "none")),
        ("wrn16_8", Setting(10, 32, 0.125)),
    ],
)
def test_a_line_is_what_the_network_costs(name: str, setting: Setting) -> None:
    (line,) = [row for row in rows() if key(row) == (name, setting)]
    spec = network_spec(name, width=setting.width, mask_structure=setting.mask_structure)
    found = cost(spec, num_classes=setting.num_classes, image_size=setting.image_size)
    assert (int(line["params"]), int(line["macs"])) == (found.params, found.macs)
    assert int(line["depth"]) == spec.trunk_depth


@pytest.mark.long
def test_costs_csv_is_fresh() -> None:
    """Takes minutes: each network classifies an image at each width."""
    assert main(["--check"]) == 0


@pytest.fixture
def one_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "costs.csv"
    monkeypatch.setattr(network_costs, "COSTS_CSV", path)
    monkeypatch.setattr(network_costs, "WIDTHS", (1.0, 0.5))
    monkeypatch.setattr(zoo, "list_models", lambda: ["attention32a"])
    return path


@pytest.mark.slow
def test_write_and_check(one_network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 1
    assert main([]) == 0
    assert one_network.read_text() == (
        "name,width,mask_structure,num_classes,image_size,depth,params,params_with_bn,macs,mask_params,mask_macs\n"
        "attention32a,1,encoder_decoder,10,32,32,282458,287738,64268800,44800,12705792\n"
        "attention32a,1,encoder_decoder,100,32,32,305588,310868,64291840,44800,12705792\n"
        "attention32a,1,encoder_decoder,10,16,32,282458,287738,16069120,44800,3176448\n"
        "attention32a,0.5,encoder_decoder,10,32,32,72690,75330,16178432,11648,3176448\n"
        "attention32a,0.5,encoder_decoder,100,32,32,84300,86940,16189952,11648,3176448\n"
        "attention32a,0.5,encoder_decoder,10,16,32,72690,75330,4045568,11648,794112\n"
    )
    assert [path.name for path in one_network.parent.iterdir()] == ["costs.csv"]
    assert main(["--check"]) == 0
    one_network.write_text(one_network.read_text().replace("64268800", "64268801"))
    capsys.readouterr()
    assert main(["--check"]) == 1
    error = capsys.readouterr().err
    assert "stale (attention32a,1,encoder_decoder,10,32,32,282458,287738,64268800" in error
    assert error.count("\n") == 1
