"""A study that begins on one machine and goes on on another: its archive, restored, is to a launch what it trained."""

import sqlite3
from pathlib import Path

import pytest
from lab import EXPERIMENT, Lab
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from analysis import archive
from analysis.read.archive_file import ArchiveFile, add
from analysis.read.archive_line import StudyLine, run_line
from analysis.read.mlflow_store import read_contents
from experiments.runner import execute
from records import names


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("this launch should train nothing")


def archived(lab: Lab, path: Path) -> Path:
    """An archive file of everything in the lab's store."""
    store = read_contents(lab.uri)
    studies = [StudyLine(found.record, found.parent) for found in store.parents]
    empty = ArchiveFile(path=path, study_lines=(), runs=(), lines=())
    add(empty, studies, [run_line(run, masks=True) for run in store.runs])
    return path


Points = dict[str, list[tuple[int, float]]]


def are_close(points: Points, expected: Points) -> None:
    """The archive keeps six digits of a curve, at its steps."""
    assert points.keys() == expected.keys()
    for key, curve in points.items():
        assert [step for step, _ in curve] == [step for step, _ in expected[key]], key
        assert [value for _, value in curve] == pytest.approx([value for _, value in expected[key]], rel=1e-5), key


@pytest.mark.slow
def test_a_launch_goes_on_from_a_restored_archive(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = lab.launch()
    assert said.status == 0
    path = archived(lab, tmp_path / "kept" / "cluttershapes-smoke-1.jsonl")
    (tmp_path / "other").mkdir()
    other = Lab(tmp_path / "other")
    assert archive.main(["restore", "--tracking-uri", other.uri, str(path)]) == 0
    with sqlite3.connect(other.store) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    experiment = other.client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    assert experiment.artifact_location == f"file://{other.folder}/mlruns/cluttershapes"
    (parent,) = other.parents()
    assert (parent.info.run_name, parent.info.status) == ("smoke smoke-1", "FINISHED")
    for name, run in lab.children().items():
        restored = other.children()[name]
        assert restored.data.metrics == {key: v for key, v in run.data.metrics.items() if not key.startswith("system/")}
        assert restored.data.params == run.data.params | {"data.root": "…/data"}, (
            "folders of the machine are not archived"
        )
        assert restored.data.tags[MLFLOW_PARENT_RUN_ID] == parent.info.run_id
        ours = {key: value for key, value in run.data.tags.items() if key.startswith("ran.")}
        assert {key: value for key, value in restored.data.tags.items() if key.startswith("ran.")} == ours
        assert (restored.info.start_time, restored.info.end_time) == (run.info.start_time, run.info.end_time)
        assert restored.info.status == "FINISHED"
        are_close(other.points(restored), lab.points(run))
        assert {names.SPEC_JSON, names.PROBES_JSON, names.MASKS_NPZ} <= other.files(restored)
        assert names.WEIGHTS not in other.files(restored)

    monkeypatch.setattr(execute, "train", refuse)
    again = other.launch()
    assert (again.status, again.out) == (0, said.out)
    assert "0 of 2 runs to do" in again.err
    assert [run.info.run_id for run in other.parents()] == [parent.info.run_id]
