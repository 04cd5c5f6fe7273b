"""The record of a study: what is read, what is refused, and one record made of two."""

import json
from typing import Any

import pytest
from golden import study_json
from hypothesis import given
from hypothesis import strategies as st

from analysis.read.record import Network, RecordError, add_records, parse_study, read_record, unite_records

NETWORK = {
    "name": "attention56", "width": 0.5, "mask_structure": "encoder_decoder", "num_classes": 10, "image_size": 32,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema 2, this version reads 1"),
        ({"axes": [{"name": "depth", "header": "d", "values": [1], "labels": []}]}, "1 values and 0 labels"),
        ({"compare": {"axis": "learning", "baseline": "gone"}}, "no axis has"),
        ({"runs": [{"fingerprint": "f", "cell": {"depth": 56}, "seed": 0}]}, "does not name the axes"),
        ({"runs": [{"fingerprint": "f", "cell": {"depth": 1, "learning": "arl"}, "seed": 0}]}, "not a value of axis"),
        ({"title": None}, "'title' is None, not str"),
        ({"runs": "none"}, "not list"),
        ({"command": 3}, "'command' is 3, not str"),
        ({"cells": [{"cell": {"depth": 1, "learning": "arl"}, "network": None}]}, "not a value of axis"),
        ({"cells": [{"cell": {"depth": 56, "learning": "arl"}, "network": {"name": "a"}}]}, "no 'width'"),
        (
            {"cells": [{"cell": {"depth": 56, "learning": "arl"}, "network": NETWORK | {"width": "half"}}]},
            "'width' is 'half', not a number",
        ),
    ],
)
def test_contradictory_records_are_refused(make_study: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message) as caught:
        make_study(**changes)
    assert "\n" not in str(caught.value)


def test_records_that_are_no_objects_are_refused() -> None:
    for text in ("", "[]", "3", json.dumps({"schema": "1"})):
        with pytest.raises(RecordError):
            parse_study(text)


def test_a_later_entry_replaces_an_earlier_one(make_study: Any) -> None:
    cell = {"depth": 56, "learning": "arl"}
    study = make_study(runs=[{"fingerprint": f, "cell": cell, "seed": 0} for f in ("old", "new")])
    assert study.cells() == {(56, "arl"): {0: "new"}}


def test_command_and_networks(make_study: Any) -> None:
    old = make_study()
    assert (old.command, old.networks) == (None, {})
    cells = [
        {"cell": {"learning": "arl", "depth": 56}, "network": NETWORK},
        {"cell": {"learning": "nal", "depth": 56}, "network": None},
    ]
    study = make_study(command="python run_ablation.py --study arl_vs_nal", cells=cells)
    assert study.command == "python run_ablation.py --study arl_vs_nal"
    assert study.networks == {(56, "arl"): Network("attention56", 0.5, "encoder_decoder", 10, 32)}


DEPTHS = (56, 92, 128)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    values = draw(st.lists(st.sampled_from(DEPTHS), min_size=1, unique=True))
    planned = draw(st.dictionaries(st.tuples(st.sampled_from(values), st.integers(0, 3)), st.sampled_from("abc")))
    return study_json(
        axes=[{"name": "depth", "header": "depth", "values": values, "labels": [f"d{value}" for value in values]}],
        compare=None,
        title=draw(st.sampled_from(("one", "other"))),
        runs=[
            {"fingerprint": f"{letter}{depth}{seed}", "cell": {"depth": depth}, "seed": seed}
            for (depth, seed), letter in planned.items()
        ],
        cells=[{"cell": {"depth": value}, "network": draw(st.sampled_from((None, NETWORK)))} for value in values],
    )


@given(records(), records())
def test_two_records_become_one_that_holds_both(newer: dict[str, Any], older: dict[str, Any]) -> None:
    new, old, both = read_record(newer), read_record(older), read_record(unite_records(newer, older))
    assert both.title == new.title

    def planned(study: Any) -> dict[Any, str]:
        return {(cell, seed): f for cell, seeds in study.cells().items() for seed, f in seeds.items()}

    assert planned(both) == planned(old) | planned(new)
    assert both.axes[0].values[: len(new.axes[0].values)] == new.axes[0].values
    assert set(both.axes[0].values) == set(new.axes[0].values) | set(old.axes[0].values)
    assert [run.seed for run in both.runs] == sorted(run.seed for run in both.runs)
    assert set(both.networks) == set(new.networks) | {c for c in old.networks if c[0] not in new.axes[0].values}
    again = unite_records(newer, unite_records(newer, older))
    assert read_record(again) == both


def test_what_only_the_older_record_says_is_kept() -> None:
    both = unite_records(study_json(title="new"), study_json(title="old", command="python run_ablation.py"))
    assert (both["title"], both["command"]) == ("new", "python run_ablation.py")


def test_a_plan_alone_replaces_no_result() -> None:
    """The same cells under new fingerprints, planned on another machine: what has run stays until they have run."""
    older = study_json()
    newer = study_json(runs=[run | {"fingerprint": f"new {i}"} for i, run in enumerate(older["runs"])])
    over = {run["fingerprint"] for run in older["runs"][:5]}
    found = {run["fingerprint"] for run in unite_records(newer, older, over)["runs"]}
    assert over <= found
    assert len(found) == len(older["runs"])
    assert {run["fingerprint"] for run in unite_records(newer, older)["runs"]} == {f"new {i}" for i in range(12)}
    both = over | {f"new {i}" for i in range(12)}
    assert {run["fingerprint"] for run in unite_records(newer, older, both)["runs"]} == {f"new {i}" for i in range(12)}


def test_records_with_other_axes_are_not_united() -> None:
    depth, learning = study_json()["axes"]
    runs = [{"fingerprint": "f", "cell": {"learning": "arl"}, "seed": 0}]
    held = {}
    assert add_records(held, [study_json()]) == []
    problems = add_records(held, [study_json(axes=[learning], runs=runs)])
    assert problems == [
        "two records of study arl_vs_nal have other axes: learning and depth, learning; the later counts"
    ]
    (record,) = held.values()
    assert record["runs"] == runs
    # The order of the axes is no difference: a cell names its axes.
    both = unite_records(study_json(axes=[learning, depth]), study_json())
    assert read_record(both).cells().keys() == {(a, d) for d in (56, 92) for a in ("arl", "nal")}


def test_other_overrides_are_another_study() -> None:
    held = {}
    add_records(held, [study_json(), study_json(overrides={"train.steps": 10}), study_json(profile="paper-1")])
    assert len(held) == 3
