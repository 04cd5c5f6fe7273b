"""The costs that the studies' docstrings state, against those of the archived runs."""

import re
from pathlib import Path

import pytest

from analysis.read.results import Results, read_results
from analysis.tables.cell_results import index_runs
from experiments.catalog import load_study, study_names
from experiments.profiles import PROFILES
from records import names

ROOT = Path(__file__).parent.parent
MACHINES = 2.0  # factor between the machines that trained the archive
STATED = re.compile(r"(quick|short) ([\d.]+) to ([\d.]+) min")


@pytest.fixture(scope="module")
def archive() -> Results:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(ROOT / "results")
        return read_results(None, Path("archive"))


def _stated(name: str) -> dict[str, tuple[float, float]]:
    """Minutes of a run on a core by profile, as the study's docstring says."""
    doc = " ".join(load_study(name).doc.split())
    return {profile: (float(low), float(high)) for profile, low, high in STATED.findall(doc)}


def test_studies_state_their_costs() -> None:
    assert {name for name in study_names() if _stated(name)} >= {
        "arl_vs_nal", "mask_type", "mask_structure", "depth_response", "controls", "gates", "noisy_labels",
    }  # fmt: skip


@pytest.mark.parametrize("name", [name for name in study_names() if _stated(name)])
def test_the_stated_minutes_are_those_of_the_archive(name: str, archive: Results) -> None:
    runs = index_runs(archive.runs)
    for profile, (low, high) in _stated(name).items():
        minutes = [
            60 * runs[planned.fingerprint].metrics[names.COST_CPU_HOURS]
            for study in archive.studies
            if (study.name, study.profile) == (name, PROFILES[profile].tag) and not study.overrides
            for planned in study.runs
            if planned.fingerprint in runs and names.COST_CPU_HOURS in runs[planned.fingerprint].metrics
            and runs[planned.fingerprint].outcome == names.FINISHED
        ]  # fmt: skip
        if minutes:  # else the study states an estimate, from runs of like networks
            assert min(minutes) >= low / MACHINES, (profile, min(minutes))
            assert max(minutes) <= high * MACHINES, (profile, max(minutes))
