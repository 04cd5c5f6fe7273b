"""A store filled from the archive: it says what the archive says, and what it held before stays."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from golden import HALF_DONE, fingerprint, study_json

from analysis import archive, make_tables
from analysis import restore as restoring
from analysis.read.archive_file import read_file
from analysis.read.mlflow_store import read_contents
from records import names
from records.study_json import StudyRecord

FILE = Path("kept/cluttershapes-quick-1.jsonl")
NEW = "sqlite:///new.db"
BASELINE = fingerprint(56, "arl", 0)


@pytest.fixture
def archived(store_folder: Path, migrated_store: Path) -> Path:
    """The golden store archived in FILE, and an empty store new.db."""
    assert archive.main(["export", "--profile", "quick-1", "--data", "cluttershapes", "--out", "kept"]) == 0
    shutil.copy(migrated_store, "new.db")
    return store_folder


def restore(*files: Path) -> int:
    return archive.main(["restore", "--tracking-uri", NEW, *map(str, files or (FILE,))])


def counts() -> list[int]:
    """The rows of every table that runs are in."""
    with sqlite3.connect("new.db") as connection:
        tables = ("runs", "tags", "params", "metrics", "latest_metrics", "experiments")
        return [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]


def table(*options: str) -> str:
    assert make_tables.main(["--table", "3", "--out", "made", *options]) == 0
    return Path("made/table3-cluttershapes-quick-1.txt").read_text()


def without_masks(path: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in json.loads(line).items() if k != "masks"} for line in path.read_text().splitlines()]


def test_the_store_says_what_the_archive_says(archived: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert restore() == 0
    said = capsys.readouterr()
    assert said.out == f"{FILE}: added to {NEW}: studies 2, runs 12; runs there before: 0\n"
    assert said.err == "weights are not archived: evaluate, predict and export need the store that trained them\n"
    ours = table("--tracking-uri", NEW, "--archive", "none")
    (archived / "mlflow.db").unlink()
    assert table("--archive", "kept") == ours
    assert "1 failed, 1 killed" in ours.replace("\n", " ")
    assert archive.main(["export", "--profile", "quick-1", "--data", "cluttershapes", "--tracking-uri", NEW,
                         "--out", "again"]) == 0  # fmt: skip
    assert (Path("again") / FILE.name).read_bytes() == FILE.read_bytes()


def test_statuses_names_and_times(archived: Path) -> None:
    from mlflow import MlflowClient

    assert restore() == 0
    client = MlflowClient(NEW)
    experiment = client.get_experiment_by_name("ran/cluttershapes")
    assert experiment is not None
    assert experiment.artifact_location == f"file://{archived.resolve()}/mlruns/cluttershapes"
    runs = client.search_runs([experiment.experiment_id])
    parents = {run.info.run_id: run for run in runs if names.PARENT in run.data.tags}
    assert {run.info.run_name for run in parents.values()} == {f"arl_vs_nal {'a' * 16}", f"arl_vs_nal {'b' * 16}"}
    assert {run.data.tags["mlflow.note.content"] for run in parents.values()} == {"About the study."}
    children = [run for run in runs if run.info.run_id not in parents]
    assert len(children) == len(HALF_DONE)
    statuses = {names.FINISHED: "FINISHED", names.DIVERGED: "FINISHED", names.FAILED: "FAILED", names.KILLED: "KILLED"}
    for run in children:
        assert run.info.status == statuses[run.data.tags[names.OUTCOME]]
        assert run.info.end_time - run.info.start_time == 60_000
        assert run.info.run_name == f"run {run.data.tags[names.FINGERPRINT][:4]}"
        assert parents[run.data.tags["mlflow.parentRunId"]].data.tags[names.OVERRIDES] == "{}"


def test_again_adds_nothing(archived: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert restore() == 0
    before = counts()
    capsys.readouterr()
    assert restore() == 0
    assert capsys.readouterr().out == f"{FILE}: added to {NEW}: studies 0, runs 0; runs there before: 12\n"
    assert counts() == before


def test_nothing_is_added_to_the_store_that_was_archived(archived: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert archive.main(["restore", str(FILE)]) == 0
    assert (
        capsys.readouterr().out == f"{FILE}: added to sqlite:///mlflow.db: studies 0, runs 0; runs there before: 12\n"
    )


def test_another_result_in_the_store_stays_alone(archived: Path) -> None:
    assert restore() == 0
    with sqlite3.connect("new.db") as connection:
        of = "run_uuid IN (SELECT run_uuid FROM tags WHERE value = ?)"
        changed = f"UPDATE latest_metrics SET value = 7 WHERE key = ? AND {of}"
        assert connection.execute(changed, (names.FINAL_TEST_ERR, BASELINE)).rowcount == 1
        other = "DELETE FROM tags WHERE key = ? AND run_uuid NOT IN (SELECT run_uuid FROM tags WHERE value = ?)"
        connection.execute(other, (names.FINGERPRINT, BASELINE))  # of all other runs
    assert restore() == 0
    found = [run for run in read_contents(NEW).runs if run.fingerprint == BASELINE]
    assert [run.metrics[names.FINAL_TEST_ERR] for run in found] == [7.0]
    assert len(read_contents(NEW).runs) == 12, "the others were restored again"


@pytest.mark.parametrize("at", [1, 4, 8, 12])
def test_an_interrupted_restore_is_completed(archived: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    written = []

    def interrupted(writer: Any, run_id: str, run: Any) -> None:
        written.append(run_id)
        if len(written) == at:
            raise KeyboardInterrupt
        artifacts(writer, run_id, run)

    artifacts = restoring._Writer._artifacts
    with monkeypatch.context() as patch:
        patch.setattr(restoring._Writer, "_artifacts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            restore()
    assert restore() == 0
    outcomes = [run.outcome for run in read_contents(NEW).runs]
    assert sorted(outcomes) == sorted(run.outcome for run in read_file(FILE).runs)
    shutil.move("mlflow.db", "first.db")
    assert archive.main(["export", "--profile", "quick-1", "--data", "cluttershapes", "--tracking-uri", NEW,
                         "--out", "again"]) == 0  # fmt: skip
    assert without_masks(Path("again") / FILE.name) == without_masks(FILE)


def test_archives_without_parents_give_their_runs(archived: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in FILE.read_text().splitlines()]
    later = ("parent", "name", "end_time", "test_correct")
    old = [{key: value for key, value in line.items() if key not in later} for line in lines]
    FILE.write_text("".join(f"{json.dumps(line)}\n" for line in old))
    capsys.readouterr()
    assert restore() == 0
    said = capsys.readouterr()
    assert said.out == f"{FILE}: added to {NEW}: studies 0, runs 12; runs there before: 0\n"
    assert said.err.splitlines()[0] == (
        f"warning: {FILE}: 2 of 2 studies were archived without their parent runs: only the runs of these are "
        "restored, and the next launch of each makes its parent"
    )
    assert restore() == 0
    assert "studies 0, runs 0; runs there before: 12" in capsys.readouterr().out
    assert read_contents(NEW).parents == ()


def test_lines_without_a_start_are_added_once(archived: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in FILE.read_text().splitlines()]
    FILE.write_text("".join(f"{json.dumps(line | {'start_time': None})}\n" for line in lines if line["kind"] == "run"))
    for number, there in ((9, 0), (0, 9)):
        capsys.readouterr()
        assert restore() == 0
        assert (
            capsys.readouterr().out == f"{FILE}: added to {NEW}: studies 0, runs {number}; runs there before: {there}\n"
        )


def test_a_parent_that_is_there_lists_the_archived_plan_too(archived: Path) -> None:
    lines = [json.loads(line) for line in FILE.read_text().splitlines()]
    cell = {"depth": 56, "learning": "arl"}
    other = study_json(runs=[{"fingerprint": "5e7e", "cell": cell, "seed": 7}])
    first = [line | {"study": other} if line["kind"] == "study" else line for line in lines]
    earlier = Path("kept/earlier.jsonl")
    earlier.write_text("".join(f"{json.dumps(line)}\n" for line in first if line.get("study", other) == other))
    assert restore(earlier) == 0
    assert restore() == 0
    found = {found.parent.key: found.record for found in read_contents(NEW).parents}
    planned = {run.fingerprint for run in StudyRecord.from_json(study_json()).runs}
    assert {run.fingerprint for run in found["a" * 16].runs} == planned | {"5e7e"}


def test_what_cannot_be_restored_is_one_line(archived: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect("other.db") as connection:
        connection.execute("CREATE TABLE trials (id INTEGER)")
    cases = (
        (["--tracking-uri", NEW, "nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (["--tracking-uri", NEW, "."], ". is a folder; name its files"),
        (["--tracking-uri", "sqlite:///other.db", str(FILE)], "other.db is another program's database"),
        (["--tracking-uri", "sqlite:///no/new.db", str(FILE)], "there is no folder no"),
        (["--tracking-uri", NEW], "no archive in results/archive"),
    )
    for arguments, message in cases:
        capsys.readouterr()
        assert archive.main(["restore", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("archive: ")
        assert error.count("\n") == 1
