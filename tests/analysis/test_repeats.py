"""Runs that were trained twice: which results were the same."""

import json
from dataclasses import replace

import pytest

from analysis import archive
from analysis.read.runs import RunData
from analysis.repeats import Repeat, repeats, repeats_text
from records import names

AVX2, AVX512 = (f"cpu {kind}, 1 thread, fused, channels_last, torch 2.14.1" for kind in ("AVX2", "AVX512"))


def result(
    fingerprint: str, start: int, error: float, *, how: str = AVX512, weights: str | None = "aa", profile: str = "p-1"
) -> RunData:
    outcome = names.FINISHED if weights else names.DIVERGED
    tags = {names.OUTCOME: outcome, names.STUDY: "gates", names.PROFILE: profile, names.HOW: how}
    tags |= {names.WEIGHTS_SHA256: weights} if weights else {}
    return RunData(
        fingerprint=fingerprint, source="", run_id="", start_time=start * 86_400_000, tags=tags, params={},
        metrics={names.FINAL_TEST_ERR: error}, curves=dict, artifact=lambda name: None,
        name=f"cell {fingerprint} s0 · {error} %",
    )  # fmt: skip


def test_each_further_result_is_compared_with_the_first():
    runs = [
        result("b", 3, 41.0), result("b", 1, 40.0), result("b", 2, 40.0), result("c", 1, 10.0), result("a", 2, 9.0),
        result("a", 1, 9.0),
    ]  # fmt: skip
    found = repeats(runs)
    assert [(one.first.start_time, one.again.start_time) for one in found] == [
        (86_400_000, 172_800_000), (86_400_000, 172_800_000), (86_400_000, 259_200_000)
    ]  # fmt: skip
    assert [one.apart for one in found] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("first", "again", "row", "summary"),
    [
        ({}, {}, "the same  equal", "p-1 in the same way: 1 again, 1 equal in error and weights"),
        ({}, {"weights": "bb"}, "the same  differ", "in the same way: 1 again, 0 equal in error and weights"),
        ({"how": AVX2}, {}, "cpu AVX2 -> cpu AVX512  equal", "p-1 in another way: 1 again, 1 equal"),
        ({"how": AVX2}, {"how": f"{AVX2}, 2 gpus"}, "less -> 2 gpus  equal", "in another way"),
        ({"weights": None}, {}, "the same  -", "in the same way: 1 again, 0 equal in error and weights"),
    ],
)
def test_a_row_says_how_and_whether_equal(first, again, row, summary):
    repeat = Repeat(result("a", 1, 12.5, **first), result("a", 2, 12.5, **again))
    header, _, shown, _, said = repeats_text([repeat]).splitlines()
    assert header.split() == ["run", "trained", "error", "%", "again", "error", "%", "way", "weights"]
    assert " ".join(shown.split()) == " ".join(f"gates p-1 cell a s0 1970-01-02 12.50 1970-01-03 12.50 {row}".split())
    assert summary in said
    assert said.endswith("0.00 points apart on average, 0.00 at most")


def test_two_makers_of_one_instruction_set_are_two_ways():
    """Their libraries round differently. Early runs name the processor in provenance.json, later ones in the tag."""

    def on(processor: str, start: int, how: str) -> RunData:
        content = json.dumps({"attempts": [{"machine": {"processor": processor}}] * 2}).encode()
        return replace(result("a", start, 12.5, how=how), artifact={names.PROVENANCE_JSON: content}.get)

    early, later = on("AMD EPYC", 1, AVX512), on("AMD EPYC", 2, f"{AVX512}, AMD EPYC")
    assert Repeat(early, later).same_way
    odd = "Intel(R) Core(TM) i7,  4 GHz"
    assert Repeat(on(odd, 1, AVX512), on(odd, 2, f"{AVX512}, Intel(R) Core(TM) i7 4 GHz")).same_way
    assert not Repeat(early, on("AMD", 2, f"{AVX512}, AMD")).same_way
    other = repeats_text([Repeat(early, on("Xeon", 2, AVX512))])
    assert "  AMD EPYC -> Xeon  " in other
    assert not Repeat(replace(early, artifact={names.PROVENANCE_JSON: b"["}.get), later).same_way


def test_how_far_errors_are_apart_is_said_of_each_profile():
    found = [
        Repeat(result("a", 1, 12.5), result("a", 2, 12.9, weights="bb")),
        Repeat(result("b", 1, 12.5), result("b", 2, 12.3, weights="bb")),
        Repeat(result("c", 1, 40.0, profile="p-2"), result("c", 2, 40.0)),
    ]
    assert repeats_text(found).splitlines()[-2:] == [
        "p-1 in the same way: 2 again, 0 equal in error and weights, 0.30 points apart on average, 0.40 at most",
        "p-2 in the same way: 1 again, 1 equal in error and weights, 0.00 points apart on average, 0.00 at most",
    ]


def test_runs_that_diverged_have_no_errors_to_compare():
    diverged = result("a", 1, float("nan"), weights=None)
    *_, row, _, said = repeats_text([Repeat(diverged, replace(diverged, start_time=2))]).splitlines()
    assert row.split()[-7:] == ["1970-01-02", "-", "1970-01-01", "-", "the", "same", "-"]
    assert said == "p-1 in the same way: 1 again, 0 equal in error and weights"


def test_a_row_names_the_profile_too():
    run = result("a", 1, 9.0)
    run = replace(run, tags={**run.tags, names.PROFILE: "quick-1"})
    assert "\ngates quick-1 cell a s0  " in repeats_text([Repeat(run, run)])


def test_a_start_that_is_not_on_record():
    run = result("a", 1, 9.0)
    assert (run.day, replace(run, start_time=None).day) == ("1970-01-02", "-")


def test_the_command(store_folder, capsys):
    assert archive.main(["export", "--profile", "quick-1", "--data", "cluttershapes", "--out", "kept"]) == 0
    capsys.readouterr()
    assert archive.main(["repeats", "--out", "kept"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("run ")
    assert out[-1].startswith("quick-1 in the same way: 1 again, 0 equal")
    assert archive.main(["repeats", "--out", "none"]) == 2
    assert "no archive in none" in capsys.readouterr().err
