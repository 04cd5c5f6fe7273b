"""Tables of networks' sizes and costs: what stands there, what the notes say, and that nothing else is needed."""

# ruff: noqa: RUF001 - tables print a true minus sign and en dash

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import cost_tables
from analysis.cells import Measure, Table, format_cell
from analysis.cost_tables import COST_TABLES, CostsError, cost_table, read_costs
from analysis.make_tables import main
from analysis.render import FORMATS, to_csv, to_text
from analysis.stats import MeanStd

ROOT = Path(__file__).resolve().parents[2]


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
    ("resnet164", 10, 32): counts(1_703_258, 1_727_482, 247_646_720, 164),
    ("attention92", 10, 32): counts(1_841_242, 1_868_282, 211_913_216, 92, (879_872, 71_221_248)),
    ("attention92", 100, 32): counts(1_864_372, 1_891_412, 211_936_256, 92, (879_872, 71_221_248)),
    ("attention452", 10, 32): counts(10_181_210, 10_339_834, 984_386_048, 452),
    ("attention56_imagenet", 1000, 224): counts(31_810_728, 31_883_432, 6_270_836_736, 56, (14_000_000, 10**9)),
    ("attention92_imagenet", 1000, 224): counts(52_466_344, 52_599_976, 10_533_789_696, 92),
    ("attention92_imagenet", 1000, 320): counts(52_466_344, 52_599_976, 21_500_000_000, 92),
    ("resnet152_imagenet", 1000, 224): counts(60_192_808, 60_344_232, 11_513_626_624),
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
    assert list(found) == list(dict.fromkeys(name for name, _, _ in COSTS))
    assert found["attention92"] == ["32", "92", "1.84", "1.9", "0.21", "–", "0.88", "0.07"]
    assert found["resnet152_imagenet"] == ["224", "–", "60.19", "60.2", "11.51", "11.3", "0.00", "0.00"]


def test_a_published_number_without_ours_is_not_said_to_differ() -> None:
    assert [sentence.split(":")[0] for sentence in cost_table("7", {}).caption] == [
        "Counted with 1000 classes at 224x224 RGB. Parameters",
        "Paper",
        "px",
        "Attention-56",
    ]


def test_errors_of_runs_take_their_places() -> None:
    errors = {
        ("attention92", "cifar10_err"): Measure(MeanStd(5.0, 0.1, 3), 0, 3),
        ("attention92", "cifar100_err"): Measure(MeanStd(22.0, 0.2, 3), 1, 4),
    }
    table = cost_table("6", COSTS, errors)
    assert rows(table)["Attention-92"][4:] == ["5.00 ± 0.10", "4.99", "22.00 ± 0.20, div. 1/4", "21.71"]
    row = next(row for row in csv.DictReader(io.StringIO(to_csv(table))) if row["network"] == "attention92")
    assert (row["params"], row["params_published"], row["macs"]) == ("1.841242", "1.9", "0.211913216")
    assert (row["cifar10_err_mean"], row["cifar10_err_published"]) == ("5.0", "4.99")
    assert (row["cifar100_err_mean"], row["cifar100_err_diverged"]) == ("22.0", "1")


@pytest.mark.parametrize("name", COST_TABLES)
@pytest.mark.parametrize("costs", [COSTS, {}])
def test_every_format_and_width(name: str, costs: dict) -> None:
    table = cost_table(name, costs)
    assert all(isinstance(render(table), str) for _, render in FORMATS.values())
    assert max(map(len, to_text(table).splitlines())) <= 100


def test_the_file_of_costs_is_read(tmp_path: Path) -> None:
    costs = read_costs()
    assert costs["attention92", 10, 32] == COSTS["attention92", 10, 32]
    path = tmp_path / "costs.csv"
    with pytest.raises(CostsError, match=r"no .*costs.csv: `python -m ran.models.cost` writes it"):
        read_costs(path)
    for text in ("name,num_classes\nx,10\n", "name,num_classes,image_size,params\nx,10,32,many\n", "a\n1,2\n"):
        path.write_text(text)
        with pytest.raises(CostsError, match="damaged"):
            read_costs(path)


def test_command_needs_neither_store_nor_torch(empty_folder: Path) -> None:
    code = (
        "import sys\nfor name in ('torch', 'mlflow', 'pandas', 'experiments'): sys.modules[name] = None\n"
        "from analysis.make_tables import main\nsys.exit(main(['--table', '2,6', '--table', '7']))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("Table ") and ":" in line] == [
        "Table 2: ImageNet networks", "Table 6: CIFAR networks", "Table 7: ImageNet networks, single crop",
    ]  # fmt: skip
    assert sorted(path.name for path in (empty_folder / "results").iterdir()) == sorted(
        f"table{number}.{suffix}" for number in (2, 6, 7) for suffix in ("csv", "html", "md", "tex", "txt")
    )


def test_command_mixes_them_with_studies(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--table", "3,2", "--formats", "md"]) == 0
    out = capsys.readouterr().out
    assert (out.count("Table 2:"), out.count("Table 3:")) == (1, 1)
    assert main(["--table", "8,2"]) == 2
    assert "Without a store there are 2, 6, 7, networks." in capsys.readouterr().err


def test_command_without_costs(
    empty_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_tables, "COSTS_CSV", empty_folder / "costs.csv")
    assert main(["--table", "2"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("make_tables: no ")
    assert error.count("\n") == 1
    assert list(empty_folder.iterdir()) == []
