"""What docs/results.md and docs/statistics.md say of the runs in words, against the archive."""

import json
import math
from pathlib import Path

import pytest

from analysis.claims.verdicts import JudgedClaim, judge_all
from analysis.options import select
from analysis.read.published import published_value
from analysis.read.results import read_results
from analysis.tables.cell_results import collect, index_runs
from analysis.tables.contrasts import MeasuredContrast

ROOT = Path(__file__).parent.parent
FILE = ROOT / "results" / "archive" / "cifar10-short-2.jsonl"
RESULTS, STATISTICS = (" ".join((ROOT / "docs" / name).read_text().split()) for name in ("results.md", "statistics.md"))
DEPTHS = (56, 92, 128, 164)


def judged(folder: Path) -> dict[str, JudgedClaim]:
    """The claims that have runs of short-2 on CIFAR-10, by id."""
    results = read_results(None, folder, named=True)
    found = judge_all(results, select(results.studies, profile="short-2", data="cifar10"))
    return {one.claim.id: one for one in found if one.study is not None}


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> dict[str, JudgedClaim]:
    folder = tmp_path_factory.mktemp("first")
    (folder / FILE.name).write_bytes(FILE.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where no tracking store is
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return judged(folder)


def mean(claims: dict[str, JudgedClaim], name: str, which: int = 0) -> float:
    measured = claims[name].measured[which]
    assert measured.contrast is not None
    return measured.contrast.mean


def test_no_verdict_depends_on_which_of_two_results_counts(
    claims: dict[str, JudgedClaim], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.loads(line) for line in FILE.read_text().splitlines()]
    runs = [line for line in lines if line["kind"] == "run"]
    last = {run["fingerprint"]: run for run in sorted(runs, key=lambda run: int(run["start_time"]))}
    assert len(runs) - len(last) == 10, "results.md: each of the ten runs that have two"
    kept = [line for line in lines if line["kind"] != "run"] + list(last.values())
    (tmp_path / FILE.name).write_text("\n".join(map(json.dumps, kept)) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    later = judged(tmp_path)
    assert {name: one.verdict for name, one in later.items()} == {name: one.verdict for name, one in claims.items()}
    assert mean(later, "arl_beats_nal", 1) != mean(claims, "arl_beats_nal", 1), "a result that differs was exchanged"


def test_differences_in_words(claims: dict[str, JudgedClaim]) -> None:
    for name, which, unit, words in (
        ("gap_grows_with_depth", 0, 1, "by {:.1f} points per 36 layers"),
        ("encoder_decoder_beats_local_macs", 0, -1, "supported, by {:.1f} points"),
        ("masks_help", 0, -1, "both means as claimed ({:.1f} and"),
        ("not_the_compute", 0, -1, "and {:.1f} points). With four seeds"),
    ):
        assert words.format(unit * mean(claims, name, which)) in RESULTS
    assert round(mean(claims, "mixed_is_best", 1)) == 2, "two points below mixed attention's"
    stage3 = math.exp(mean(claims, "arl_responds_like_resnet", 1))
    assert f"in stage 3 it has {math.floor(100 * stage3) / 100} times ResNet-164's response" in RESULTS
    arl = [math.exp(mean(claims, "nal_vanishes", which)) for which in (2, 3)]
    assert "under ARL with {:.1f} and {:.1f} of it".format(*arl) in RESULTS
    assert max(math.exp(mean(claims, "nal_vanishes", which)) for which in (0, 1)) < 0.01


def test_errors_in_words(claims: dict[str, JudgedClaim]) -> None:
    study = claims["arl_beats_nal"].study
    assert study is not None
    results = read_results(None, FILE.parent, named=True)
    cells = collect(study, index_runs(results.runs, results.kept))
    errors = {key: list(of.values().values()) for key, of in cells.items()}
    means = {key: sum(of_cell) / len(of_cell) for key, of_cell in errors.items()}
    ours = ", ".join(f"{means[depth, 'nal'] / means[depth, 'arl']:.2f}" for depth in DEPTHS)
    paper = {
        (depth, way): published_value("3", {"depth": depth, "learning": way}, "test_err") or math.nan
        for depth in DEPTHS
        for way in ("arl", "nal")
    }
    theirs = ", ".join(f"{paper[depth, 'nal'] / paper[depth, 'arl']:.2f}" for depth in DEPTHS)
    assert f"NAL/ARL here {ours}; the paper {theirs})" in RESULTS
    arl = [means[depth, "arl"] for depth in DEPTHS]
    assert max(arl) - min(arl) < 1, "its four means are within a point"


def test_standard_errors_in_words(claims: dict[str, JudgedClaim]) -> None:
    found: list[MeasuredContrast] = [one for claim in claims.values() for one in claim.measured]
    contrasts = [one.contrast for one in found if one.contrast is not None and one.contrast.images]
    images, whole = [one.se_images or 0.0 for one in contrasts], [one.se or 0.0 for one in contrasts]
    assert f"is {min(images):.0f} to {max(images):.2f} points in the contrasts of `short-2`" in STATISTICS
    assert f"the smallest here is {min(whole):.2f}" in STATISTICS
