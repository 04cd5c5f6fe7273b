"""Tables of networks' sizes and costs: what stands there, what the notes say, and that nothing else is needed."""

# ruff: noqa: RUF001 - tables print a true minus sign and en dash

import csv
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from results_lab import CIFAR_NETWORKS, IMAGENET_NETWORKS, is_expected, network, results_of, study_with_runs

from analysis.make_tables import main
from analysis.tables import network_table
from analysis.tables.captions import OFFICIAL_IMAGES
from analysis.tables.cell_results import index_runs
from analysis.tables.cells import Table, format_cell
from analysis.tables.formats import FORMATS, to_csv, to_text
from analysis.tables.network_runs import fits, network_runs
from analysis.tables.network_table import COST_TABLES, CostsError, at_full_width, cost_table, read_costs
from records import names
from records.study_json import NetworkKey

ROOT = Path(__file__).resolve().parents[3]


def counts(params: int, with_bn: int, macs: int, depth: int | None = None, masks: tuple[int, int] = (0, 0)) -> dict:
    found = {
        "depth": depth,
        "params": params,
        "params_with_bn": with_bn,
        "macs": macs,
        "mask_params": masks[0],
        "mask_macs": masks[1],
    }
    return {key: value for key, value in found.items() if value is not None}


# Counted from the authors' files, and from the description of the CIFAR networks.
COSTS = {
    at_full_width("resnet164", 10, 32): counts(1_703_258, 1_727_482, 247_646_720, 164),
    at_full_width("attention92", 10, 32): counts(1_841_242, 1_868_282, 211_913_216, 92, (879_872, 71_221_248)),
    at_full_width("attention92", 100, 32): counts(1_864_372, 1_891_412, 211_936_256, 92, (879_872, 71_221_248)),
    NetworkKey("attention92", 0.5, "encoder_decoder", 10, 32): counts(467_826, 481_346, 53_089_536, 92),
    NetworkKey("resnet164", 0.5, "encoder_decoder", 10, 32): counts(432_626, 444_738, 62_022_912, 164),
    at_full_width("attention452", 10, 32): counts(10_181_210, 10_339_834, 984_386_048, 452),
    at_full_width("attention56_imagenet", 1000, 224): counts(
        31_810_728, 31_883_432, 6_270_836_736, 56, (14_000_000, 10**9)
    ),
    at_full_width("attention92_imagenet", 1000, 224): counts(52_466_344, 52_599_976, 10_533_789_696, 92),
    at_full_width("attention92_imagenet", 1000, 320): counts(52_466_344, 52_599_976, 21_500_000_000, 92),
    at_full_width("resnet152_imagenet", 1000, 224): counts(60_192_808, 60_344_232, 11_513_626_624),
}


def rows(table: Table) -> dict[str, list[str]]:
    return {format_cell(row[0]): [format_cell(cell) for cell in row[1:]] for row in table.rows}


def note(table: Table, start: str) -> str:
    (found,) = [sentence for sentence in table.caption if sentence.startswith(start)]
    return found


def test_table_2() -> None:
    table = cost_table("2", COSTS)
    assert to_text(table).startswith("Table 2: ImageNet networks\n")
    assert rows(table) == {
        "Attention-56": ["56", "56", "31.81", "31.9", "6.27", "6.2", "14.00", "1.00"],
        "Attention-92": ["92", "92", "52.47", "51.3", "10.53", "10.4", "0.00", "0.00"],
    }
    assert note(table, "Attention-92:") == (
        "Attention-92: 52.47 M against the paper's 51.3 M (+2.3 %), 10.53 G against the paper's 10.4 G (+1.3 %); "
        "the authors' network file has 52,466,344 parameters, the paper's are of another network."
    )
    assert note(table, "Attention-56:") == (
        "Attention-56: 31.81 M against the paper's 31.9 M (−0.3 %), 6.27 G against the paper's 6.2 G (+1.1 %); "
        "with BatchNorm's running statistics 31.88 M; counted from the authors' network file; "
        "the paper's Table 7 says 6.3 G."
    )


def test_table_6() -> None:
    table = cost_table("6", COSTS)
    found = rows(table)
    assert list(found) == [
        "ResNet-164", "ResNet-1001", "WRN-16-8", "WRN-28-10", "Attention-92", "Attention-236", "Attention-452",
    ]  # fmt: skip
    assert found["ResNet-164"] == ["1.70", "1.7", "0.25", "–", "–", "5.46", "–", "24.33"]
    assert found["Attention-236"] == ["–", "5.1", "–", "–", "–", "4.14", "–", "21.16"]
    assert found["Attention-452"][:2] == ["10.18", "8.6"]
    said = note(table, "Attention-452")
    assert "10.18 M against the paper's 8.6 M (+18.4 %)" in said
    assert "r = 2 would give 8.75 M" in said
    # what rounds to the paper's number needs no word
    assert not any(sentence.startswith("ResNet-164") for sentence in table.caption)


def test_table_7() -> None:
    table = cost_table("7", COSTS)
    found = rows(table)
    assert found["Attention-56"] == ["31.81", "31.9", "6.27", "6.3", "224", "–", "21.76", "–", "5.90"]
    assert found["Attention-92"] == ["52.47", "51.3", "10.53", "10.4", "320", "–", "19.50", "–", "4.80"]
    assert found["Inception-ResNet-v1"] == ["–", "–", "–", "–", "299", "–", "21.30", "–", "5.50"]
    said = note(table, "Attention-56:")  # 6.27 rounds to this table's 6.3
    assert said.endswith("the paper's Table 2 says 6.2 G.")
    assert "6.27 G" not in said
    assert "MACs there: Attention-92 21.50 G at 320 px." in note(table, "px")
    assert "+1.9 %); as in torchvision, the stride" in note(table, "ResNet-152:")


def test_every_network_stands_once_with_what_the_paper_says_of_it() -> None:
    found = rows(cost_table("networks", COSTS))
    assert list(found) == list(dict.fromkeys(network.name for network in COSTS))
    assert found["attention92"] == ["32", "92", "1.84", "1.9", "0.21", "–", "0.88", "0.07"]
    assert found["resnet152_imagenet"] == ["224", "–", "60.19", "60.2", "11.51", "11.3", "0.00", "0.00"]


def test_a_published_number_without_ours_is_not_said_to_differ() -> None:
    assert [sentence.split(":")[0] for sentence in cost_table("7", {}).caption] == [
        "Counted with 1000 classes at 224x224 RGB. Parameters",
        "Paper",
        "px",
        "Attention-56",
    ]


def runs_of(*parts: Any) -> Any:
    results = results_of(*parts)
    return network_runs([study for study, _ in parts], index_runs(results.runs), COSTS)


CIFAR10 = {
    ("resnet164",): {0: 40.0, 1: 41.0, 2: 42.5},
    ("attention92",): {0: 38.0, 1: 39.5, 2: 40.2},
    ("attention236",): {0: 37.0, 1: "diverged", 2: "running"},
    ("attention452",): {0: 36.0},
}
CIFAR100 = {("resnet164",): {0: 70.0, 1: 71.0, 2: 72.5}, ("attention92",): {0: 71.0, 1: 72.5, 2: 73.0}}


def narrow(num_classes: int) -> dict[Any, Any]:
    return {(name,): network(name, 0.5, num_classes=num_classes) for name in CIFAR_NETWORKS}


def test_table_6_has_both_data_sets_side_by_side() -> None:
    ten = study_with_runs("cifar", CIFAR10, profile="short-1", networks=narrow(10))
    hundred = study_with_runs("cifar", CIFAR100, profile="short-1", dataset="cifar100", networks=narrow(100))
    table = cost_table("6", COSTS, runs_of(ten, hundred))
    is_expected("table6-short", table)
    assert table.stem == "table6-short-1"
    row = next(row for row in csv.DictReader(io.StringIO(to_csv(table))) if row["network"] == "attention92")
    assert (row["params"], row["params_published"], row["macs"]) == ("0.467826", "1.9", "0.053089536")
    assert (row["cifar10_err_mean"], row["cifar10_err_published"]) == ("39.233333333333334", "4.99")
    assert (row["cifar100_err_mean"], row["cifar100_err_difference_pairs"]) == ("72.16666666666667", "3")


def test_table_6_is_one_family_over_both_data_sets() -> None:
    ten = study_with_runs("cifar", CIFAR10, profile="short-1")
    hundred = study_with_runs("cifar", CIFAR100, profile="short-1", dataset="cifar100")
    both = {place: difference.contrast for place, difference in runs_of(ten, hundred).differences.items()}
    alone = {place: difference.contrast for place, difference in runs_of(ten).differences.items()}
    place = "attention92", "cifar10_err"
    assert both[place] == alone[place], "the interval is the contrast's own, whatever stands beside it"
    assert len(both) == 2 * len(alone) == 12


def test_table_6_of_one_data_set_has_dashes_for_the_other() -> None:
    table = cost_table("6", COSTS, runs_of(study_with_runs("cifar", CIFAR100, dataset="cifar100")))
    found = rows(table)["Attention-92"]
    assert found[4:8] == ["–", "–", "4.99", ""]
    assert found[8:11] == ["3", "72.17 ± 1.04", "21.71"]
    assert "Data: CIFAR-100." in table.caption[0]


def test_at_full_width_the_remarks_on_the_counts_stand() -> None:
    whole = {(name,): network(name) for name in CIFAR_NETWORKS}
    table = cost_table("6", COSTS, runs_of(study_with_runs("cifar", CIFAR10, profile="paper-1", networks=whole)))
    assert rows(table)["Attention-92"][:2] == ["1.84", "1.9"]
    assert note(table, "Attention-452").startswith("Attention-452: 10.18 M against the paper's 8.6 M")
    assert table.stem == "table6-cifar10-paper-1"


IMAGENET: dict[Any, Any] = {
    ("resnet152_imagenet",): {0: (22.0, 6.1), 1: (22.2, 6.2), 2: (22.1, 6.3)},
    ("attention56_imagenet",): {0: (21.8, 5.9), 1: (21.7, 5.8), 2: (21.7, 6.1)},
    ("resnext101_32x4d_imagenet",): {0: (21.0, 5.5), 1: (21.2, 5.7)},
    ("attentionnext56_imagenet",): {0: (21.3, 5.6), 1: (21.1, 5.4)},
    ("attention92_imagenet",): {0: (19.6, 4.9)},
}


def imagenet(num_classes: int, size: int, width: float, images: int, **options: Any) -> Any:
    cells = {
        cell: {s: {names.FINAL_TEST_ERR: top1, names.FINAL_TEST_ERR5: top5} for s, (top1, top5) in seeds.items()}
        for cell, seeds in IMAGENET.items()
    }
    networks = {(n,): network(n, width, num_classes=num_classes, image_size=size) for n in IMAGENET_NETWORKS}
    params = {OFFICIAL_IMAGES: str(images)}
    return study_with_runs("imagenet", cells, dataset="imagenet", networks=networks, params=params, **options)


def test_table_7_compares_the_pairs_of_the_paper() -> None:
    runs = runs_of(imagenet(1000, 224, 1.0, 1_281_167, profile="paper-1"))
    assert set(runs.differences) == {
        (name, error)
        for name in ("attention56_imagenet", "attentionnext56_imagenet")
        for error in ("top1_err", "top5_err")
    }
    table = cost_table("7", COSTS, runs)
    is_expected("table7-paper", table)
    assert "Data: ImageNet." in table.caption[0]
    rows = {row["network"]: row for row in csv.DictReader(io.StringIO(to_csv(table)))}
    assert (rows["attention56_imagenet"]["n"], rows["attention56_imagenet"]["planned"]) == ("3", "3")
    assert rows["resnet200_imagenet"]["n"] == "", "a network that we lack"


def test_table_7_of_a_sample_says_that_it_is_one() -> None:
    table = cost_table("7", COSTS, runs_of(imagenet(10, 64, 0.25, 1000)))
    is_expected("table7-sample", table)
    assert "Data: an image folder of 10 classes." in table.caption[0]
    assert table.caption[1].startswith("No ImageNet results: these data have 10 classes, 1,000 training images;")


def test_which_studies_fit() -> None:
    for study, fitting in (
        (study_with_runs("cifar", {}), True),
        (study_with_runs("cifar", {}, dataset="cifar100"), True),
        (study_with_runs("cifar", {}, dataset="cluttershapes"), False),
        (study_with_runs("imagenet", {}, dataset="imagenet"), True),
        (study_with_runs("arl_vs_nal", {}), False),
        (study_with_runs("controls", {}), False),
    ):
        assert fits(study[0]) == fitting


@pytest.mark.parametrize("name", COST_TABLES)
@pytest.mark.parametrize("costs", [COSTS, {}])
def test_every_format_and_width(name: str, costs: dict) -> None:
    table = cost_table(name, costs)
    assert all(isinstance(render(table), str) for _, render in FORMATS.values())
    assert max(map(len, to_text(table).splitlines())) <= 100


def test_the_file_of_costs_is_read(tmp_path: Path) -> None:
    costs = read_costs()
    for known in COSTS:
        if known.name in ("attention92", "resnet164"):
            assert costs[known].items() >= {key: COSTS[known][key] for key in ("depth", "params", "macs")}.items()
    path = tmp_path / "costs.csv"
    with pytest.raises(CostsError, match=r"no .*costs.csv: `python -m benchmarks.network_costs` writes it"):
        read_costs(path)
    head = "name,width,mask_structure,num_classes,image_size"
    for text in ("name,num_classes\nx,10\n", f"{head},params\nx,1,none,10,32,many\n", f"{head}\nx,1\n", "a\n1,2\n"):
        path.write_text(text)
        with pytest.raises(CostsError, match="damaged"):
            read_costs(path)


def test_command_needs_neither_store_nor_torch(empty_folder: Path) -> None:
    code = (
        "import sys\nfor name in ('torch', 'mlflow', 'pandas', 'experiments'): sys.modules[name] = None\n"
        "from analysis.make_tables import main\nsys.exit(main(['--table', 'networks', '--table', '2']))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith(("Table ", "Every "))] == [
        "Table 2: ImageNet networks", "Every network",
    ]  # fmt: skip
    assert sorted(path.name for path in (empty_folder / "results").iterdir()) == sorted(
        f"{stem}.{suffix}" for stem in ("networks", "table2") for suffix in ("csv", "html", "md", "tex", "txt")
    )


def test_command_without_costs(
    empty_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_table, "COSTS_CSV", empty_folder / "costs.csv")
    assert main(["--table", "2"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("make_tables: no ")
    assert error.count("\n") == 1
    assert list(empty_folder.iterdir()) == []
