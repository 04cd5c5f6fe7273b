"""study.json: what is written and read, what is refused, and one record made of two."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.study_json import (
    AxisRecord,
    ComparisonRecord,
    NetworkKey,
    RecordError,
    RunEntry,
    StudyRecord,
    add_records,
    unite,
)

ARCHIVE = Path(__file__).parents[2] / "results" / "archive"
ARCHIVED = [
    record
    for path in sorted(ARCHIVE.rglob("*.jsonl"))
    for line in path.read_text().splitlines()
    if (record := json.loads(line)).get("kind") == "study"
]
NETWORK = {
    "name": "attention56", "width": 0.5, "mask_structure": "encoder_decoder", "num_classes": 10, "image_size": 32,
}  # fmt: skip
KEY = NetworkKey(**NETWORK)
DEPTH = {"name": "depth", "header": "network", "values": [56, 92], "labels": ["Attention-56", "Attention-92"]}
LEARNING = {"name": "learning", "header": "learning", "values": ["arl", "nal"], "labels": ["ARL", "NAL"]}


def content(**changes: Any) -> dict[str, Any]:
    """A study.json of four cells at three seeds."""
    cells = [{"depth": depth, "learning": learning} for depth in (56, 92) for learning in ("arl", "nal")]
    return {
        "schema": 1,
        "study": "arl_vs_nal",
        "title": "ARL against NAL",
        "table": "3",
        "profile": "quick-1",
        "dataset": "cluttershapes",
        "overrides": {},
        "selection": "test error at the last step",
        "axes": [DEPTH, LEARNING],
        "compare": {"axis": "learning", "baseline": "arl"},
        "runs": [
            {"fingerprint": f"{cell['depth']} {cell['learning']} {seed}".encode().hex(), "cell": cell, "seed": seed}
            for seed in (0, 1, 2)
            for cell in cells
        ],
    } | changes


def read(**changes: Any) -> StudyRecord:
    return StudyRecord.from_json(content(**changes))


def prints(record: StudyRecord) -> set[str]:
    return {run.fingerprint for run in record.runs}


def test_archived_records_are_written_as_they_were_read() -> None:
    assert len(ARCHIVED) >= 12
    for line in ARCHIVED:
        assert StudyRecord.from_json(line["study"]).to_json() == line["study"]


def test_a_record_has_these_keys_in_this_order() -> None:
    record = StudyRecord(
        name="arl_vs_nal",
        title="ARL against NAL",
        table="3",
        profile="quick-1",
        dataset="cluttershapes",
        overrides={"train.steps": 10},
        selection="test error at the last step",
        axes=(AxisRecord(name="depth", header="network", values=(56, 92), labels=("a", "b")),),
        compare=ComparisonRecord("depth", 56),
        command="python run_ablation.py --study arl_vs_nal",
        planned_seeds=(0, 2, 1),
        networks={(56,): KEY, (92,): None},
        runs=(RunEntry("f", (92,), 1),),
    )
    assert json.dumps(record.to_json()) == (
        '{"schema": 1, "study": "arl_vs_nal", "title": "ARL against NAL", "table": "3", "profile": "quick-1", '
        '"dataset": "cluttershapes", "overrides": {"train.steps": 10}, "selection": "test error at the last step", '
        '"axes": [{"name": "depth", "header": "network", "values": [56, 92], "labels": ["a", "b"]}], '
        '"compare": {"axis": "depth", "baseline": 56}, "command": "python run_ablation.py --study arl_vs_nal", '
        '"planned_seeds": [0, 2, 1], '
        '"cells": [{"cell": {"depth": 56}, "network": {"name": "attention56", "width": 0.5, '
        '"mask_structure": "encoder_decoder", "num_classes": 10, "image_size": 32}}, '
        '{"cell": {"depth": 92}, "network": null}], "runs": [{"fingerprint": "f", "cell": {"depth": 92}, "seed": 1}]}'
    )
    assert StudyRecord.from_json(record.to_json()) == record


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
        ({"planned_seeds": 3}, "'planned_seeds' is 3, not list"),
        ({"planned_seeds": [0, "1"]}, "are not all integers"),
        ({"planned_seeds": [0, True]}, "are not all integers"),
        ({"cells": [{"cell": {"depth": 1, "learning": "arl"}, "network": None}]}, "not a value of axis"),
        ({"cells": [{"cell": {"depth": 56, "learning": "arl"}, "network": {"name": "a"}}]}, "no 'width'"),
        (
            {"cells": [{"cell": {"depth": 56, "learning": "arl"}, "network": NETWORK | {"width": "half"}}]},
            "'width' is 'half', not a number",
        ),
    ],
)
def test_contradictory_records_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message) as caught:
        read(**changes)
    assert "\n" not in str(caught.value)


def test_records_that_are_no_objects_are_refused() -> None:
    for text in ("", "[]", "3", json.dumps({"schema": "1"})):
        with pytest.raises(RecordError):
            StudyRecord.from_json(json.loads(text or "null"))


def test_a_later_entry_replaces_an_earlier_one() -> None:
    cell = {"depth": 56, "learning": "arl"}
    study = read(runs=[{"fingerprint": f, "cell": cell, "seed": 0} for f in ("01d", "2e3")])
    assert study.cells() == {(56, "arl"): {0: "2e3"}}


def test_command_and_networks() -> None:
    old = read()
    assert (old.command, old.networks) == (None, {})
    cells = [
        {"cell": {"learning": "arl", "depth": 56}, "network": NETWORK},
        {"cell": {"learning": "nal", "depth": 56}, "network": None},
    ]
    study = read(command="python run_ablation.py --study arl_vs_nal", cells=cells)
    assert study.command == "python run_ablation.py --study arl_vs_nal"
    assert study.networks == {(56, "arl"): KEY, (56, "nal"): None}


DEPTHS = (56, 92, 128)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    values = draw(st.lists(st.sampled_from(DEPTHS), min_size=1, unique=True))
    planned = draw(st.dictionaries(st.tuples(st.sampled_from(values), st.integers(0, 3)), st.sampled_from("abc")))
    return content(
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
    new, old = StudyRecord.from_json(newer), StudyRecord.from_json(older)
    assert (new.to_json(), old.to_json()) == (newer, older)
    both = unite(new, old)
    assert StudyRecord.from_json(both.to_json()) == both
    assert both.title == new.title

    def planned(study: Any) -> dict[Any, str]:
        return {(cell, seed): f for cell, seeds in study.cells().items() for seed, f in seeds.items()}

    assert planned(both) == planned(old) | planned(new)
    assert both.axes[0].values[: len(new.axes[0].values)] == new.axes[0].values
    assert set(both.axes[0].values) == set(new.axes[0].values) | set(old.axes[0].values)
    assert [run.seed for run in both.runs] == sorted(run.seed for run in both.runs)
    assert set(both.networks) == set(new.networks) | {c for c in old.networks if c[0] not in new.axes[0].values}
    assert unite(new, both) == both


@given(records(), records())
def test_a_launch_keeps_the_other_seeds_of_its_cells(newer: dict[str, Any], older: dict[str, Any]) -> None:
    new, old = StudyRecord.from_json(newer), StudyRecord.from_json(older)
    both, ours = unite(new, old, same_cells=True), {run.cell for run in new.runs}
    planned = {(run.cell, run.seed): run.fingerprint for run in (*old.runs, *new.runs) if run.cell in ours}
    assert {(run.cell, run.seed): run.fingerprint for run in both.runs} == planned
    assert [run.seed for run in both.runs] == sorted(run.seed for run in both.runs)
    assert (both.axes, both.networks, both.title) == (new.axes, new.networks, new.title)


def test_what_only_the_older_record_says_is_kept() -> None:
    both = unite(read(title="new"), read(title="old", command="python run_ablation.py"))
    assert (both.title, both.command) == ("new", "python run_ablation.py")


def test_the_planned_seeds_are_those_of_the_newer_record() -> None:
    assert read().planned_seeds == ()
    older = read(planned_seeds=[0, 1])
    for same_cells in (False, True):
        both = unite(read(planned_seeds=[0, 1, 2]), older, same_cells=same_cells)
        assert both.planned_seeds == (0, 1, 2)
        assert unite(read(), older, same_cells=same_cells).planned_seeds == (0, 1)


def test_a_plan_alone_replaces_no_result() -> None:
    """The same cells under new fingerprints, planned on another machine: what has run stays until they have run."""
    older = read()
    newer = read(runs=[run | {"fingerprint": f"4e{i}"} for i, run in enumerate(content()["runs"])])
    over = {run.fingerprint for run in older.runs[:5]}
    found = prints(unite(newer, older, over))
    assert over <= found
    assert len(found) == len(older.runs)
    assert prints(unite(newer, older)) == prints(newer)
    assert prints(unite(newer, older, over | prints(newer))) == prints(newer)


def test_records_with_other_axes_are_not_united() -> None:
    other = read(axes=[LEARNING], runs=[{"fingerprint": "f", "cell": {"learning": "arl"}, "seed": 0}])
    held: dict[Any, StudyRecord] = {}
    assert add_records(held, [read()]) == []
    problems = add_records(held, [other])
    assert problems == [
        "two records of study arl_vs_nal have other axes: learning and depth, learning; the later counts"
    ]
    assert list(held.values()) == [other]
    assert unite(other, read(), same_cells=True) == other
    # The order of the axes is no difference: a cell names its axes.
    for same_cells in (False, True):
        both = unite(read(axes=[LEARNING, DEPTH]), read(runs=content()["runs"][:4]), same_cells=same_cells)
        assert both.cells().keys() == {(a, d) for d in (56, 92) for a in ("arl", "nal")}


def test_other_overrides_are_another_study() -> None:
    held: dict[Any, StudyRecord] = {}
    add_records(held, [read(), read(overrides={"train.steps": 10}), read(profile="paper-1")])
    assert len(held) == 3
