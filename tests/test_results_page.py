"""What docs/results.md and docs/statistics.md say of the runs in words, against the archive."""

import json
import math
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from analysis.claims.verdicts import JudgedClaim, judge_all
from analysis.options import select
from analysis.read.archive_file import read_file
from analysis.read.published import published_value
from analysis.read.results import read_results
from analysis.repeats import repeats
from analysis.stats import SUPPORTED, UNDECIDED
from analysis.tables.cell_results import collect, index_runs
from analysis.tables.contrasts import MeasuredContrast
from records import names

ROOT = Path(__file__).parent.parent
FILE, QUICK = (ROOT / "results" / "archive" / f"{name}.jsonl" for name in ("cifar10-short-2", "cluttershapes-quick-3"))
RESULTS, STATISTICS = (" ".join((ROOT / "docs" / name).read_text().split()) for name in ("results.md", "statistics.md"))
DEPTHS = (56, 92, 128, 164)


def judged(file: Path, lines: list[dict[str, Any]]) -> dict[str, JudgedClaim]:
    """The claims that these lines of an archive's file have runs of, by id."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where no tracking store is
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        (Path(folder) / file.name).write_text("\n".join(map(json.dumps, lines)) + "\n")
        results = read_results(None, Path(folder), named=True)
        data, _, profile = file.stem.partition("-")
        found = judge_all(results, select(results.studies, profile=profile, data=data))
    return {one.claim.id: one for one in found if one.study is not None}


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def later_results(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines without those results that a later one of the same fingerprint repeats."""
    runs = [line for line in lines if line["kind"] == "run"]
    last = {run["fingerprint"]: run for run in sorted(runs, key=lambda run: int(run["start_time"]))}
    return [line for line in lines if line["kind"] != "run"] + list(last.values())


@pytest.fixture(scope="module")
def claims() -> dict[str, JudgedClaim]:
    return judged(FILE, read(FILE))


def mean(claims: dict[str, JudgedClaim], name: str, which: int = 0) -> float:
    measured = claims[name].measured[which]
    assert measured.contrast is not None
    return measured.contrast.mean


def test_no_verdict_depends_on_which_of_two_results_counts(claims: dict[str, JudgedClaim]) -> None:
    lines = read(FILE)
    kept = later_results(lines)
    assert len(lines) - len(kept) == 14, "results.md: each of the 14 runs that have two"
    found = [one for one in repeats(read_file(FILE).runs) if not one.same_way]
    apart = [one.apart for one in found]
    assert len(apart) == 5
    assert f"end {min(apart):.1f} to {max(apart):.1f} points away, {fmean(apart):.1f} on average" in RESULTS
    later = judged(FILE, kept)
    assert {name: one.verdict for name, one in later.items()} == {name: one.verdict for name, one in claims.items()}
    assert mean(later, "arl_beats_nal", 1) != mean(claims, "arl_beats_nal", 1), "a result that differs was exchanged"


def test_what_rounding_does_to_quick_3_in_words() -> None:
    lines = read(QUICK)
    kept = later_results(lines)
    assert len(lines) - len(kept) == 24
    errors: dict[str, list[float]] = {"ARL": [], "NAL": []}
    for way, means in errors.items():
        for depth in DEPTHS:
            cell = [run for run in kept if str(run.get("name")).startswith(f"d{depth} {way.lower()} ")]
            means.append(fmean(run["metrics"][names.FINAL_TEST_ERR] for run in cell))
            assert len(cell) == 3
    said = ", ".join(f"{way} {', '.join(f'{x:.2f}' for x in x3)} and {x:.2f} %" for way, (*x3, x) in errors.items())
    assert said in RESULTS
    first, later = judged(QUICK, lines), judged(QUICK, kept)
    growths = []
    for one in (first, later):
        contrast = one["gap_grows_with_depth"].measured[0].contrast
        assert contrast is not None
        assert contrast.low is not None
        assert contrast.high is not None
        growths.append(f"{contrast.mean:+.2f} [{contrast.low:+.2f}, {contrast.high:+.2f}]")
    before, after = growths
    assert f"{before} points per 36 layers here, {after} there" in RESULTS
    other = {
        name: (one.verdict, later[name].verdict) for name, one in first.items() if one.verdict != later[name].verdict
    }
    assert other == {"arl_beats_nal": (UNDECIDED, SUPPORTED)}


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
