"""What the README says is done: its two commands, its list of deviations, its examples."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_there_are_exactly_two_set_up_commands() -> None:
    assert [line.partition(" && ")[0] for line in README.splitlines() if line.startswith("pip install")] == [
        "pip install -e '.[cluster]'",
        "pip install -e '.[test]'",
    ]


def _deviations() -> list[str]:
    found = []
    for path in sorted([*(ROOT / "ran").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]):
        # The first clause of the comment that the mark begins, which may run over several lines.
        for text in re.findall(r"# Deviation: ((?:.*\n\s*# (?!Deviation))*.*)", path.read_text()):
            found.append(re.split(r"[;.](?:\s|$)", re.sub(r"\s*\n\s*# ", " ", text))[0])
    return found


@pytest.mark.parametrize("deviation", _deviations())
def test_every_deviation_is_listed(deviation: str) -> None:
    assert deviation.lower() in " ".join(README.split()).lower()


def test_there_are_deviations() -> None:
    assert len(_deviations()) >= 6


def test_the_examples_run(tmp_path: Path) -> None:
    study, mask = (
        next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if mark in block)
        for mark in ("STUDY = ", "MASK_ACTIVATIONS.register")
    )
    (tmp_path / "my_study.py").write_text(study.replace('"spatial"', '"softplus"'))
    (tmp_path / "my_masks.py").write_text(mask)
    command = [sys.executable, str(ROOT / "run_ablation.py"), "--study", "my_study.py", "--import", "my_masks"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [*command, "--profile", "smoke", "--dry-run"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "softplus 2 s2" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix) == ["my_masks.py", "my_study.py"]
