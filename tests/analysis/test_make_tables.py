"""The command: what it prints, what it writes, and one line with exit 2 for what it refuses."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analysis.make_tables import main

ROOT = Path(__file__).resolve().parents[2]


def test_default_shows_the_runs_without_overrides(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert out.count("Table 3:") == 1
    assert "Overrides" not in out
    assert "11.00 ± 0.71, div. 1/3" in out
    written = sorted(path.name for path in (store_folder / "results").iterdir())
    assert written == [f"table3-cluttershapes-quick-1.{suffix}" for suffix in ("csv", "html", "md", "tex", "txt")]


@pytest.mark.parametrize(
    "argv", [["--table", "3"], ["--table", "arl_vs_nal,3"], ["--profile", "quick"], ["--profile", "quick-1"]]
)
def test_selections(store_folder: Path, capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert main([*argv, "--data", "cluttershapes", "--formats", "md", "--out", "there"]) == 0
    assert capsys.readouterr().out.count("Table 3:") == 1
    assert [path.name for path in Path("there").iterdir()] == ["table3-cluttershapes-quick-1.md"]


def test_overrides_are_shown_when_asked_for(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--overrides"]) == 0
    assert capsys.readouterr().out.count("Overrides: train.steps = 10.") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--table", "8"], "no table '8' in sqlite:///mlflow.db. It holds: 3 (arl_vs_nal)."),
        (["--table", "3,smoke"], "no table 'smoke'"),
        (["--profile", "paper"], "no runs of profile 'paper'. There is: quick-1."),
        (["--data", "cifar10"], "no runs on data set 'cifar10'. There is: cluttershapes."),
        (["--formats", "pdf"], "unknown format pdf. Valid: text, md, tex, csv, html."),
        (["--formats", ","], "unknown format"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--tracking-uri", "sqlite:///gone.db"], "no tracking store at ./gone.db"),
        (["--out", "mlflow.db/results"], "cannot write under mlflow.db/results"),
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


@pytest.mark.parametrize("command", [[str(ROOT / "analysis" / "make_tables.py")], ["-m", "analysis.make_tables"]])
def test_without_a_store_one_line_and_no_file(empty_folder: Path, command: list[str]) -> None:
    # A script must find the package by itself, the module form is run where the package can be found.
    environment: dict[str, Any] = os.environ | ({"PYTHONPATH": str(ROOT)} if command[0] == "-m" else {})
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("make_tables: no tracking store at ./mlflow.db: run `python run_ablation.py")
    assert (done.stderr.count("\n"), done.stdout) == (1, "")
    assert list(empty_folder.iterdir()) == []


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, analysis.make_tables as m\n"
        "try: m.main(['--help'])\nexcept SystemExit: pass\nprint(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    for heavy in ("mlflow", "pandas", "scipy", "torch", "numpy"):
        assert f"'{heavy}'" not in done.stdout


def test_analysis_needs_neither_torch_nor_experiments(store_folder: Path) -> None:
    code = (
        "import sys\nfor name in ('torch', 'experiments', 'optuna'): sys.modules[name] = None\n"
        "from analysis.make_tables import main\nsys.exit(main(['--formats', 'md']))"
    )
    environment: dict[str, Any] = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert "Table 3:" in done.stdout
