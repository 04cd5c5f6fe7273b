"""The command: what it prints, what it writes, and one line with exit 2 for what it refuses."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import fingerprint, study_json
from results_lab import fill, results_of, study_with_runs

from analysis.make_tables import PAPER, STUDIES, all_tables, main
from analysis.options import select
from analysis.tables.cells import Difference
from experiments.catalog import load_study, study_names
from records import names

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = ("csv", "html", "md", "tex", "txt")


def written(folder: Path) -> list[str]:
    return sorted({path.stem for path in folder.iterdir()})


def titles(text: str) -> list[str]:
    """The tables printed, by what stands before a colon in their first line."""
    return re.findall(r"^(Claims of the paper|Every network|Table \d)(?=:|$)", text, re.MULTILINE)


def test_claims_first_then_the_papers_tables(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert titles(out) == [
        "Claims of the paper", "Table 2", "Table 3", "Table 6", "Table 7",
    ]  # fmt: skip
    assert "11.00 ± 0.71, div. 1/3" in out
    assert "Overrides" not in out
    stems = ["claims-cluttershapes-quick-1", "table2", "table3-cluttershapes-quick-1", "table6", "table7"]
    assert written(store_folder / "results") == stems
    assert len(list((store_folder / "results").iterdir())) == len(stems) * len(SUFFIXES)
    lines = err.splitlines()
    assert "read sqlite:///mlflow.db: 10 runs" in lines
    assert [line for line in lines if line.startswith("no runs")] == [
        f"no runs yet of Table {number}: python run_ablation.py --study {STUDIES[number]}" for number in "14567"
    ]


def test_every_study_of_a_table_is_known() -> None:
    for name in study_names():
        study = load_study(name)
        if study.table is not None:
            assert STUDIES[study.table] == name
    assert set(PAPER) == {*STUDIES, "2"}


@pytest.mark.parametrize(
    "argv", [["--table", "3"], ["--table", "arl_vs_nal,3"], ["--profile", "quick"], ["--profile", "quick-1"]]
)
def test_selections(store_folder: Path, capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert main([*argv, "--data", "cluttershapes", "--formats", "md", "--out", "there"]) == 0
    assert capsys.readouterr().out.count("Table 3:") == 1
    assert "table3-cluttershapes-quick-1" in written(Path("there"))
    assert {path.suffix for path in Path("there").iterdir()} == {".md"}
    if "--table" in argv:
        assert written(Path("there")) == ["table3-cluttershapes-quick-1"]


def test_the_command_of_a_missing_table_names_the_profile(
    store_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--profile", "quick-1"]) == 0
    assert (
        "no runs yet of Table 1: python run_ablation.py --study mask_type --profile quick\n" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("claims", ["Claims of the paper"]),
        ("2,claims", ["Claims of the paper", "Table 2"]),
        ("6", ["Table 6"]),
        ("7,3,networks", ["Table 3", "Table 7", "Every network"]),
        ("arl_vs_nal", ["Table 3"]),
    ],
)
def test_some_tables(store_folder: Path, capsys: pytest.CaptureFixture[str], wanted: str, expected: list[str]) -> None:
    assert main(["--table", wanted, "--formats", "text"]) == 0
    assert titles(capsys.readouterr().out) == expected


def test_overrides_are_shown_when_asked_for(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--overrides"]) == 0
    assert capsys.readouterr().out.count("Overrides: train.steps = 10.") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--table", "8"], "no table '8'. Valid: claims, 1, 2, 3, 4, 5, 6, 7, networks, arl_vs_nal."),
        (["--table", "3,smoke"], "no table 'smoke'"),
        (["--table", "1"], "no runs yet of Table 1: python run_ablation.py --study mask_type"),
        (["--profile", "paper"], "no runs of profile 'paper'. There is: quick-1."),
        (["--data", "cifar10"], "no runs on data set 'cifar10'. There is: cluttershapes."),
        (["--experiment", "ran/cifar10"], "'ran/cifar10'. There is: ran/cluttershapes."),
        (["--archive", "nowhere"], "no archive folder nowhere"),
        (["--formats", "pdf"], "unknown format pdf. Valid: text, md, tex, csv, html."),
        (["--formats", ","], "unknown format"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--tracking-uri", "sqlite:///gone.db"], "no tracking store at ./gone.db"),
        (["--table", "6", "--tracking-uri", "sqlite:///gone.db"], "no tracking store at ./gone.db"),
        (["--out", "mlflow.db/results"], "mlflow.db is not a folder"),
    ],
)
def test_refusals(store_folder: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    try:
        status = main(argv)
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    err = capsys.readouterr().err
    assert (status, err.count("\n")) == (2, 1)
    assert message in err
    assert not (store_folder / "results").exists()


@pytest.mark.slow
def test_analysis_needs_neither_torch_nor_experiments(store_folder: Path) -> None:
    code = (
        "import sys\nfor name in ('torch', 'experiments', 'optuna'): sys.modules[name] = None\n"
        "from analysis.make_tables import main\nsys.exit(main(['--formats', 'md']))"
    )
    environment: dict[str, Any] = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert "Table 3:" in done.stdout


def test_tables_outlive_the_store(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The archive alone gives the same table, with the attempts that failed and the second results."""
    from analysis import archive

    assert main(["--table", "3", "--archive", "none", "--out", "before"]) == 0
    said = capsys.readouterr().out
    assert "Of 12 runs: 1 diverged, 1 failed, 1 killed, 2 not run. 1 run has two results; the first counts." in (
        said.replace("\n", " ")
    )
    assert archive.main(["export", "--profile", "quick-1", "--data", "cluttershapes"]) == 0
    Path("mlflow.db").unlink()
    capsys.readouterr()
    assert main(["--table", "3"]) == 0
    out, err = capsys.readouterr()
    assert "read results/archive/cluttershapes-quick-1.jsonl: 10 runs" in err
    assert "\n1 run has two results; the first counts\n" in err
    assert out == said
    for path in Path("before").iterdir():
        assert (Path("results") / path.name).read_bytes() == path.read_bytes()


def test_data_sets_profiles_and_overrides_never_mix() -> None:
    done: Any = {("resnet164",): {0: 5.0, 1: 5.1}, ("attention92",): {0: 4.0, 1: 4.1}}
    parts = [
        study_with_runs("cifar", done, profile=profile, dataset=dataset, overrides=overrides)
        for profile in ("paper-1", "short-1")
        for dataset in ("cifar10", "cifar100", "cluttershapes")
        for overrides in ({}, {"optim.lr": 0.2}, {"optim.lr": 0.3})
    ]
    results = results_of(*parts)
    for with_overrides, sets in ((False, [""]), (True, ["0.2", "0.3"])):
        made = all_tables(results, select(results.studies, overrides=with_overrides), ["6"])
        named = sorted((one.table.stem, [study.dataset for study in one.studies]) for one in made)
        expected = [
            (name, datasets)
            for name, datasets in (
                ("table6-cluttershapes-paper-1", ["cluttershapes"]),
                ("table6-cluttershapes-short-1", ["cluttershapes"]),
                ("table6-paper-1", ["cifar10", "cifar100"]),
                ("table6-short-1", ["cifar10", "cifar100"]),
            )
            for _ in sets
        ]
        assert len({stem for stem, _ in named}) == len(expected)
        assert [datasets for _, datasets in named] == [datasets for _, datasets in expected]
        for (stem, _), (name, _) in zip(named, expected, strict=True):
            assert stem == name if not with_overrides else re.fullmatch(rf"{name}-[0-9a-f]{{8}}", stem)
        for one in made:
            assert len({(study.profile, study.canonical_overrides) for study in one.studies}) == 1
        said = {sentence for one in made for sentence in one.table.caption if sentence.startswith("Overrides")}
        assert said == {f"Overrides: optim.lr = {rate}." for rate in sets if rate}


def test_two_studies_of_one_table_have_files_of_their_own() -> None:
    first, runs = study_with_runs("mask_type", {("mixed",): {0: 5.0}})
    second = dataclasses.replace(first, name="mine")
    made = all_tables(results_of((first, runs), (second, [])), [first, second], ["1"])
    assert [one.table.stem for one in made] == ["table1-cifar10-quick-1-mask_type", "table1-cifar10-quick-1-mine"]


@pytest.mark.slow
def test_all_tables_of_a_thousand_runs_take_seconds(own_artifacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(Path("mlflow.db"), runs=1000, points=50)  # 200 points each
    cells = [{"depth": depth, "learning": way} for depth in (56, 92) for way in ("arl", "nal")]
    planned = [{"fingerprint": f"a{i:063x}", "cell": cells[i % 4], "seed": 100 + i // 4} for i in range(1000)]
    for path in own_artifacts.rglob(names.STUDY_JSON):
        record = json.loads(path.read_text())
        path.write_text(
            json.dumps(record | {"runs": record["runs"] + planned, "planned_seeds": [0, 1, 2, *range(100, 350)]})
        )
    assert main([]) == 0  # imports
    assert "252/253" in capsys.readouterr().out.replace(" ", "  ")
    start = time.process_time()
    assert main([]) == 0
    # A second on an idle core.
    assert time.process_time() - start < 5


def test_a_thousand_runs_with_results_per_image_take_seconds() -> None:
    draw = np.random.default_rng(0)
    wrong = {(depth, way): draw.random((5, 10_000)) < 0.4 for depth in (56, 92, 128, 164) for way in ("arl", "nal")}
    parts = [
        study_with_runs("arl_vs_nal", {}, seeds=range(5), wrong=wrong, overrides={"optim.lr": 0.1 + k})
        for k in range(25)
    ]
    results = results_of(*parts)
    start = time.process_time()
    made = all_tables(results, results.studies)
    assert time.process_time() - start < 5
    intervals = [c.contrast for one in made for row in one.table.rows for c in row if isinstance(c, Difference)]
    assert sum(found is not None and found.images == 10_000 for found in intervals) >= 25 * 4


def test_the_golden_study_is_the_papers() -> None:
    cells = [dict(cell.values) for cell in load_study("arl_vs_nal").cells]
    assert all(run["cell"] in cells for run in study_json()["runs"])
    assert fingerprint(56, "arl", 0) in {run["fingerprint"] for run in study_json()["runs"]}
