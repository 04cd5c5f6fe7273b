"""What the README says is done: its two commands, its list of deviations, its examples."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import make_tables

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_there_are_exactly_two_set_up_commands() -> None:
    assert [line.partition(" && ")[0] for line in README.splitlines() if line.startswith("pip install")] == [
        "pip install -e '.[cluster]'",
        "pip install -e '.[test]'",
    ]


def test_the_deviations_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red after a new mark: python docs/deviations.py"""
    monkeypatch.syspath_prepend(ROOT / "docs")
    import deviations

    assert deviations.DOCUMENT.read_text() == deviations.document()
    code = [path.read_text() for package in ("ran", "experiments") for path in (ROOT / package).rglob("*.py")]
    assert len(deviations.deviations()) == sum(text.count("# Deviation:") for text in code)


def _tables() -> list[tuple[str, str]]:
    """Every command of the documents that makes a table, with what stands below as its output."""
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for commands, said in re.findall(r"```bash\n((?:[^`]*\n)?)```\n\n```text\n(.*?)```", path.read_text(), re.S):
            made = [line for line in commands.splitlines() if "make_tables.py" in line]
            found += [(made[-1], said)] if made else []
    return found


@pytest.mark.parametrize(("command", "said"), _tables(), ids=[command for command, _ in _tables()])
def test_a_table_is_that_of_the_archive(command, said, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(command, comments=True)[2:]
    assert make_tables.main([*arguments, "--archive", str(ROOT / "results/archive"), "--formats", "text"]) == 0
    assert said.strip() in capsys.readouterr().out


def test_such_tables_are_found() -> None:
    assert len(_tables()) >= 4


def _example(mark: str) -> str:
    return next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if mark in block)


def _run(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    command = [sys.executable, str(ROOT / "run_ablation.py"), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_study_of_ones_own_with_a_mask_of_ones_own(tmp_path: Path) -> None:
    study = _example("STUDY = ").replace('"spatial"', '"softplus"')
    (tmp_path / "my_study.py").write_text(study)
    (tmp_path / "my_masks.py").write_text(_example("MASK_ACTIVATIONS.register"))
    said = _run(tmp_path, "--study", "my_study.py", "--import", "my_masks", "--profile", "smoke", "--dry-run")
    assert "softplus 2 s2" in said
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix) == ["my_masks.py", "my_study.py"]


PARTS = ("MASK_STRUCTURES.register", "UNITS.register", "DATASETS.register")


def test_all_parts_of_ones_own_train_together(tmp_path: Path) -> None:
    (tmp_path / "my_parts.py").write_text("\n".join(map(_example, PARTS)))
    (tmp_path / "mine.py").write_text(
        '"""A mask."""\nfrom experiments.study import Study, axis\n'
        'STUDY = Study(name="mine", title="A mask", profile="smoke", seeds=(0,), dataset="stripes",\n'
        '    axes=(axis("mask", ("shallow",), field="model.mask_structure"),))\n'
    )
    network = ("--model.name", "attention56_depthwise")
    said = _run(tmp_path, "--study", "mine.py", "--import", "my_parts", "--data.name", "stripes", *network)
    assert "Data: stripes" in said
