"""Store and archive as one: each run once, each study once, and what is large only when it is asked for."""

import json
import math
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from golden import COMMIT, HALF_DONE, fingerprint, probes_json, study_json
from results_lab import fill

from analysis import archive
from analysis.read.archive_file import read_file
from analysis.read.mlflow_store import RUN_COLUMNS, StoreError
from analysis.read.results import Results, read_results
from records import names
from records.schema import CURRENT, schema_of

FILE = Path("results/archive/cluttershapes-quick-1.jsonl")
TWICE = "1 run has two results; the first counts"
DONE = {row["fingerprint"] for row in HALF_DONE if row.get("outcome", "finished") in ("finished", "diverged")}


@pytest.fixture
def archived(store_folder: Path) -> Path:
    """The golden store, all of its results archived."""
    assert archive.main(["export", "--profile", "quick-1", "--data", "cluttershapes"]) == 0
    return store_folder


def line(change: Callable[[dict[str, Any]], Any], chosen: str) -> None:
    """Changes the archived line of one run."""
    lines = [json.loads(text) for text in FILE.read_text().splitlines()]
    for content in lines:
        if content.get("fingerprint") == chosen:
            change(content)
    FILE.write_text("".join(f"{json.dumps(content)}\n" for content in lines))


def same(ours: pd.DataFrame, expected: pd.DataFrame, columns: list[str]) -> None:
    """Compares the rows that `ours` has; both are indexed by fingerprint."""
    pd.testing.assert_frame_equal(ours[columns], expected.loc[ours.index, columns], check_dtype=False)


def sql(statement: str, *values: str) -> None:
    with sqlite3.connect("mlflow.db") as connection:
        assert connection.execute(statement, values).rowcount > 0


def test_a_store_alone(store_folder: Path, half_done: Any) -> None:
    results = read_results()
    assert results.sources == ("sqlite:///mlflow.db: 10 runs",)
    assert (results.problems, results.remarks) == ((), (TWICE,))
    assert tuple(results.runs.columns) == RUN_COLUMNS
    assert list(results.runs["fingerprint"]) == sorted({row["fingerprint"] for row in HALF_DONE})
    expected = half_done.set_index("fingerprint")
    ours = results.runs.set_index("fingerprint")
    same(ours, expected, ["outcome", "seed", "test_err", "start_time", "commit"])
    twice = ours.loc[fingerprint(56, "nal", 1)]  # neither the second result nor the newer attempt
    assert (twice["outcome"], twice["test_err"]) == ("finished", 11.5)
    assert (twice["results"], twice["failed"], twice["killed"]) == (2, 0, 1)
    assert twice["metrics"] == {names.TRAIN_LOSS: 2 / 3, names.FINAL_TEST_ERR: 11.5}
    assert (twice["params"], twice["commit"]) == ({"optim.lr": "0.5"}, COMMIT)
    assert [study.canonical_overrides for study in results.studies] == ['{"train.steps": 10}', "{}"]


def test_what_a_run_left(store_folder: Path) -> None:
    results = read_results()
    finished, diverged = fingerprint(92, "nal", 0), fingerprint(56, "nal", 2)
    assert results.curves(finished) == {names.TRAIN_LOSS: [(1, 2.0), (2, 1.0), (3, 2 / 3)]}
    assert results.spec(finished) == {"stem_channels": 16}
    assert results.probes(finished) == probes_json(finished)
    masks = results.masks(finished)
    assert masks is not None
    assert list(masks["classes"]) == ["cat", "dog"]
    assert (masks["images"] == int(finished[:2], 16)).all()
    assert (results.spec(diverged), results.probes(diverged), results.masks(diverged)) == (None, None, None)
    assert results.curves(diverged) != {}
    for nobody in ("", "0" * 64):
        assert (results.curves(nobody), results.spec(nobody), results.masks(nobody)) == ({}, None, None)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"\xff\xfe", b"PK\x03\x04 not a zip"])
def test_missing_and_broken_artifacts_are_none(own_artifacts: Path, content: bytes | None) -> None:
    chosen = fingerprint(56, "arl", 0)
    for name in (names.SPEC_JSON, names.PROBES_JSON, names.MASKS_NPZ):
        for path in own_artifacts.rglob(name):
            path.unlink() if content is None else path.write_bytes(content)
    results = read_results()
    assert (results.spec(chosen), results.probes(chosen), results.masks(chosen)) == (None, None, None)


def test_masks_are_never_unpickled(own_artifacts: Path) -> None:
    for path in own_artifacts.rglob(names.MASKS_NPZ):
        np.savez(path, images=np.array([{"an": "object"}], dtype=object))
    assert read_results().masks(fingerprint(56, "arl", 0)) is None


def test_an_archive_alone_says_what_the_store_said(archived: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = read_results(archive=None)
    (archived / "mlflow.db").unlink()
    ours = read_results()
    assert ours.sources == (f"{FILE}: 10 runs",)
    assert set(ours.runs["fingerprint"]) == set(store.runs["fingerprint"])
    assert ours.studies == store.studies
    rows, expected = (frame.set_index("fingerprint") for frame in (ours.runs, store.runs))
    same(rows, expected, [name for name in RUN_COLUMNS if name not in ("fingerprint", "run_id", "source")])
    for chosen in DONE:
        assert ours.curves(chosen)[names.TRAIN_LOSS] == [(1, 2.0), (2, 1.0), (3, 0.666667)]
        assert ours.spec(chosen) == store.spec(chosen)
        assert ours.probes(chosen) == store.probes(chosen)
    masks = ours.masks(fingerprint(56, "arl", 0))
    assert masks is not None
    assert masks["images"].dtype == np.uint8
    assert ours.masks(fingerprint(56, "arl", 1)) is None


def test_each_run_counts_once_and_the_store_wins_a_tie(archived: Path) -> None:
    both = read_results()
    assert both.sources == ("sqlite:///mlflow.db: 10 runs", f"{FILE}: 0 runs")
    assert both.runs.drop(columns="metrics").equals(read_results(archive=None).runs.drop(columns="metrics"))
    assert len(both.studies) == 2


def test_the_first_of_two_results_counts_wherever_it_is(archived: Path) -> None:
    first, second, timeless = (fingerprint(56, "arl", seed) for seed in range(3))
    for chosen, later in ((first, -1), (second, 1)):
        line(lambda run, by=later: run.update(start_time=run["start_time"] + by, metrics={}), chosen)
    line(lambda run: run.pop("start_time"), timeless)  # as in the first archives: the same metrics are the same run
    results = read_results()
    store = "sqlite:///mlflow.db: 9 runs; 1 other has an earlier result elsewhere"
    assert results.sources == (store, f"{FILE}: 1 run; 1 other has an earlier result elsewhere")
    rows = results.runs.set_index("fingerprint")
    found = rows.loc[[first, second, timeless], ["source", "results"]].values.tolist()
    assert found == [[str(FILE), 2], ["sqlite:///mlflow.db", 2], ["sqlite:///mlflow.db", 1]]
    alone = "--archive none shows the results of the store alone"
    assert (results.problems, results.remarks) == ((), ("3 runs have two results; the first counts", alone))
    assert [len(results.kept[chosen]) for chosen in (first, second, timeless)] == [1, 1, 2]


def test_nothing_is_taken_from_a_second_result(archived: Path, own_artifacts: Path) -> None:
    chosen = fingerprint(56, "arl", 0)
    for path in own_artifacts.rglob(names.PROBES_JSON):
        path.unlink()
    assert read_results().probes(chosen) == probes_json(chosen), "of the same run, from the archive"
    line(lambda run: run.update(start_time=run["start_time"] + 1), chosen)
    assert read_results().probes(chosen) is None


def test_an_archived_result_counts_before_a_later_attempt(archived: Path) -> None:
    chosen = fingerprint(56, "arl", 0)
    sql("UPDATE tags SET value = 'killed' WHERE key = ? AND run_uuid IN (SELECT run_uuid FROM tags WHERE value = ?)",
        names.OUTCOME, chosen)  # fmt: skip
    row = read_results().runs.set_index("fingerprint").loc[chosen]
    assert (row["outcome"], row["source"]) == ("finished", str(FILE))


def test_the_archive_fills_in_what_the_store_has_lost(archived: Path, own_artifacts: Path) -> None:
    chosen = fingerprint(56, "arl", 0)
    shutil.rmtree(own_artifacts)
    results = read_results()
    assert results.runs.set_index("fingerprint").loc[chosen, "source"] == "sqlite:///mlflow.db"
    assert results.probes(chosen) == probes_json(chosen)
    assert results.masks(chosen) is not None
    assert [problem.split(":")[0][:10] for problem in results.problems] == ["parent run"] * 2
    assert results.remarks == (TWICE,)
    assert len(results.studies) == 2  # their records are in the archive


def test_studies_are_united(archived: Path) -> None:
    cell = {"depth": 56, "learning": "arl"}
    record = study_json(runs=[{"fingerprint": f, "cell": cell, "seed": s} for s, f in ((0, "07e5"), (7, "5e7e"))])
    lines = FILE.read_text().splitlines()
    assert json.loads(lines[1])["study"]["overrides"] == {}
    FILE.write_text("\n".join([lines[0], json.dumps({"kind": "study", "study": record}), *lines[2:]]) + "\n")
    (study,) = (study for study in read_results().studies if not study.overrides)
    assert len(study.runs) == 13
    assert study.cells()[56, "arl"] == {s: fingerprint(56, "arl", s) for s in range(3)} | {7: "5e7e"}


def test_the_first_archives_are_read(archived: Path) -> None:
    """They have neither kinds nor records of studies, times, specifications and probes."""
    lines = [json.loads(text) for text in FILE.read_text().splitlines()]
    kept = ("curves", "fingerprint", "metrics", "params", "tags")
    old = [{k: run[k] for k in kept} for run in lines[2:] if run["kind"] == "run"]
    FILE.write_text("".join(f"{json.dumps(run)}\n" for run in old))
    with_store = read_results()
    assert with_store.sources == ("sqlite:///mlflow.db: 10 runs", f"{FILE}: 0 runs")
    assert (with_store.problems, with_store.remarks) == ((), (TWICE,))
    (archived / "mlflow.db").unlink()
    results = read_results()
    assert results.runs["start_time"].isna().all()
    assert set(results.runs["fingerprint"]) == DONE
    assert results.curves(fingerprint(56, "arl", 0))[names.TRAIN_LOSS][0] == (1, 2.0)
    assert results.spec(fingerprint(56, "arl", 0)) is None
    assert results.studies == ()
    stray = f"{FILE} is in no table: no study's record here lists any of its 8 runs"
    assert (results.problems, results.remarks) == ((stray,), (TWICE,))


COMMITTED = Path(__file__).parents[3] / "results" / "archive"


@pytest.mark.parametrize("path", COMMITTED.rglob("*.jsonl"), ids=lambda path: str(path.relative_to(COMMITTED)))
def test_the_committed_archives_are_read(path: Path) -> None:
    file = read_file(path)
    assert file.runs
    assert {f"{run.tags[names.DATASET]}-{run.tags[names.PROFILE]}" for run in file.runs} == {path.stem}
    old = path.parent.name == "schema-1"
    assert {schema_of(run.tags) for run in file.runs} == {1 if old else CURRENT}
    assert all(math.isfinite(run.metrics[names.FINAL_TEST_ERR]) for run in file.runs if run.outcome == names.FINISHED)


def test_the_default_store_may_be_missing_or_empty_where_the_archive_has_runs(archived: Path) -> None:
    before = sorted(archived.rglob("*"))
    (archived / "mlflow.db").write_bytes(b"")
    assert read_results().sources == (f"{FILE}: 10 runs",)
    (archived / "mlflow.db").unlink()
    assert read_results().sources == (f"{FILE}: 10 runs",)
    assert sorted(archived.rglob("*")) == [path for path in before if path.name != "mlflow.db"]


@pytest.mark.parametrize("named", ["argument", "environment"])
def test_a_named_store_must_hold_runs(archived: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    if named == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///gone.db")
    with pytest.raises(StoreError, match=r"no tracking store at \./gone\.db"):
        read_results("sqlite:///gone.db" if named == "argument" else None)
    sql("UPDATE experiments SET name = 'of another tool' WHERE name LIKE 'ran/%'")
    with pytest.raises(StoreError, match=r"no runs of ours in sqlite:///mlflow\.db"):
        read_results("sqlite:///mlflow.db")


def test_a_broken_default_store_is_no_missing_one(archived: Path) -> None:
    (archived / "mlflow.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="cannot be read as a tracking store"):
        read_results()


def test_neither_store_nor_archive(empty_folder: Path) -> None:
    with pytest.raises(StoreError, match=r"no tracking store at \./mlflow.db: run `python run_ablation.py"):
        read_results()
    assert list(empty_folder.iterdir()) == []


def test_one_experiment(archived: Path) -> None:
    sql("UPDATE experiments SET name = 'ran/cifar10' WHERE name = 'ran/cluttershapes'")
    ours = read_results(experiment="ran/cluttershapes")
    assert ours.sources == ("sqlite:///mlflow.db: 0 runs", f"{FILE}: 10 runs")
    theirs = read_results(experiment="ran/cifar10")
    assert theirs.sources == ("sqlite:///mlflow.db: 10 runs",)
    for wrong in ("ran/cifar100", "cifar10", "not ours"):
        with pytest.raises(StoreError) as caught:
            read_results(experiment=wrong)
        assert str(caught.value) == f"no runs in experiment {wrong!r}. There is: ran/cifar10, ran/cluttershapes."


def test_a_study_without_a_readable_record_is_a_problem(own_artifacts: Path) -> None:
    sql(
        "UPDATE runs SET artifact_uri = '/nowhere' WHERE run_uuid = (SELECT run_uuid FROM tags WHERE value = ?)",
        "a" * 16,
    )
    results = read_results()
    assert len(results.studies) == 1
    (problem,) = results.problems
    assert results.remarks == (TWICE,)
    assert problem.startswith("parent run ")
    assert "study arl_vs_nal is left out" in problem


def test_results_can_be_made_of_parts(make_study: Any, half_done: Any) -> None:
    results = Results((), (make_study(),), half_done, ())
    assert (results.curves("f"), results.probes("f"), results.spec("f"), results.masks("f")) == ({}, None, None, None)


@pytest.mark.slow
def test_a_thousand_runs_take_seconds(store_folder: Path) -> None:
    fill(store_folder / "mlflow.db", runs=1000, points=50)
    read_results(archive=None)  # imports
    start = time.process_time()
    results = read_results()
    read = time.process_time() - start
    assert len(results.runs) == 1010
    start = time.process_time()
    for chosen in results.runs["fingerprint"]:
        assert len(results.curves(chosen)) in (1, 4)
    drawn = time.process_time() - start
    # Half a second each on an idle core; curves through MLflow's client alone take 20.
    assert read < 4
    assert drawn < 4
