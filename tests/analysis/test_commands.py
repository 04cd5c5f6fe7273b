"""What make_tables, make_figures and make_report do alike, as processes: a script and a module, with nothing there."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = ["make_tables", "make_figures", "make_report"]
HEAVY = ("matplotlib", "mlflow", "pandas", "scipy", "torch", "numpy")


@pytest.mark.parametrize("form", ["script", "module"])
@pytest.mark.parametrize("name", COMMANDS)
def test_without_anything_one_line_and_no_file(empty_folder: Path, name: str, form: str) -> None:
    # A script must find the package by itself, the module form is run where the package can be found.
    command = [str(ROOT / "analysis" / f"{name}.py")] if form == "script" else ["-m", f"analysis.{name}"]
    environment: dict[str, Any] = os.environ | ({"PYTHONPATH": str(ROOT)} if form == "module" else {})
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"{name}: no tracking store at ./mlflow.db: run `python run_ablation.py")
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_nothing_heavy(name: str) -> None:
    code = (
        f"import sys, analysis.{name} as m\n"
        "try: m.main(['--help'])\nexcept SystemExit: pass\nprint(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert [heavy for heavy in HEAVY if f"'{heavy}'" in done.stdout] == []


def test_an_output_that_cannot_be_written_is_one_line(empty_folder: Path) -> None:
    command = [sys.executable, "-m", "analysis.make_tables", "--table", "2", "--archive", "none"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "make_tables: the output cannot be written (No space left on device)"
    assert "Traceback" not in done.stderr


def test_a_terminal_without_signs_gets_the_table(empty_folder: Path) -> None:
    command = [sys.executable, "-m", "analysis.archive", "show", "--out", str(ROOT / "results" / "archive")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_a_reader_that_leaves_early_gets_every_file_written(empty_folder: Path, encoding: str) -> None:
    command = f"{sys.executable} -m analysis.make_tables --table 2,networks --archive none"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} 2>stderr | head -1"], capture_output=True, env=environment
    )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    written = Path("stderr").read_text().replace("wrote ", "").replace("\n", ", ").strip(", ").split(", ")
    assert len(written) == 10
    assert all(Path(path).is_file() for path in written)


@pytest.mark.parametrize("name", [*COMMANDS, "plan", "archive"])
def test_python_without_docstrings(name: str) -> None:
    command = [sys.executable, "-OO", "-m", f"analysis.{name}", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
