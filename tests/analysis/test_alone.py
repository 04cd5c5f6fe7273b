"""Analysis stands without the rest: no experiments/, no ran/, no torch."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic import study_lines, write_archive

ROOT = Path(__file__).parents[2]
# Whatever imports torch or a part of ours that is not there fails, and what was imported is told at the end.
RUN = """
import sys
sys.modules["torch"] = None
from analysis.{module} import main
status = main({arguments})
print("experiments" in sys.modules, "ran" in sys.modules, status)
"""


SLOW = pytest.param("make_report", marks=pytest.mark.slow)


@pytest.mark.parametrize("module", ["make_tables", "make_figures", SLOW, "archive"])
def test_it_runs_without_experiments_and_torch(module, tmp_path):
    for package in ("analysis", "records"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    write_archive(tmp_path / "runs", study_lines("mask_type", seeds=(0,)))
    arguments = ["show", "--out", "runs"] if module == "archive" else ["--archive", "runs", "--out", "out"]
    if module == "make_figures":
        arguments += ["--figure", "4,depth,cost", "--formats", "png"]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")}
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(module=module, arguments=arguments)],
        cwd=tmp_path, env={**environment, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False False 0", done.stderr
