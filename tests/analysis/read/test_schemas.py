"""Runs of two schema versions never stand in one table, and what is left out is said in one line."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from golden import fingerprint
from synthetic import study_lines, write_archive

from analysis import archive, make_figures, make_tables
from analysis.read.archive_file import read_file
from analysis.read.mlflow_store import StoreError
from analysis.read.results import read_results
from records import names
from records.schema import CURRENT, schema_of

FOLDER = Path("results/archive")
OLD, NEW = "cifar10-short-1.jsonl", "cifar10-quick-1.jsonl"


def write(file: str, schema: int, *, folder: Path = FOLDER, seeds: tuple[int, ...] = (0, 1)) -> int:
    """Writes an archive file of the study mask_type; returns its number of runs."""
    profile = file.removeprefix("cifar10-").removesuffix(".jsonl")
    lines = study_lines("mask_type", seeds, profile=profile, schema=schema)
    write_archive(folder, lines, file=file)
    return len(lines) - 1


@pytest.mark.parametrize(
    ("tags", "schema"), [({}, 1), ({names.SCHEMA: "2"}, 2), ({names.SCHEMA: "13"}, 13), ({names.SCHEMA: "two"}, 0)]
)
def test_the_tag(tags: dict[str, str], schema: int) -> None:
    assert schema_of(tags) == schema


def test_runs_of_another_schema_are_left_out(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new, old = write(NEW, CURRENT), write(OLD, 1, seeds=(0, 1, 2))
    results = read_results()
    assert len(results.runs) == new
    assert set(results.runs["schema"]) == {CURRENT}
    assert [study.profile for study in results.studies] == ["quick-1"]
    assert results.problems == (
        f"{old} runs of schema 1 are left out: here are those of schema 2, and no table has both",
    )
    assert make_tables.main(["--table", "1"]) == 0
    said = capsys.readouterr()
    assert "schema" not in said.out
    assert said.err.count("runs of schema 1 are left out") == 1


@pytest.mark.parametrize("place", [FOLDER, FOLDER / "schema-1"])
def test_the_line_names_the_archive_of_the_others(
    empty_folder: Path, capsys: pytest.CaptureFixture[str], place: Path
) -> None:
    old = write(OLD, 1, folder=place)
    said = f"{old} runs of schema 1 are left out; name their archive with --archive {place} to table them"
    with pytest.raises(StoreError) as caught:
        read_results()
    assert str(caught.value) == said
    if place != FOLDER:
        write(NEW, CURRENT)
        found = read_results()
        assert (found.problems, found.remarks) == ((), (said,))
        assert f"\n{said}\n" in "\n".join(["", *found.notes, ""])
    capsys.readouterr()
    assert make_tables.main(["--table", "1", "--archive", str(place)]) == 0
    assert "Profile: short-1. Selection: test error at the last step. Runs of schema 1; the current is 2." in (
        capsys.readouterr().out.replace("\n", " ")
    )
    assert make_tables.main(["--table", "claims", "--archive", str(place)]) == 0
    assert "Runs of schema 1; the current is 2." in capsys.readouterr().out.replace("\n", " ")
    assert make_figures.main(["--figure", "curves", "--formats", "png", "--archive", str(place)]) == 0
    assert "Runs of schema 1; the current is 2." in capsys.readouterr().out


def test_a_named_archive_of_two_schemas_gives_the_current(empty_folder: Path) -> None:
    new, old = write(NEW, CURRENT), write(OLD, 1)
    results = read_results(archive=FOLDER, named=True)
    assert (len(results.runs), set(results.runs["schema"])) == (new, {CURRENT})
    assert results.problems[0].startswith(f"{old} runs of schema 1 are left out")


def test_a_named_archive_leaves_the_store_out_if_that_is_of_another_schema(store_folder: Path) -> None:
    old = write(OLD, 1)
    results = read_results(archive=FOLDER, named=True)
    assert (len(results.runs), set(results.runs["schema"])) == (old, {1})
    assert [study.name for study in results.studies] == ["mask_type"]
    assert results.problems == ("10 runs of schema 2 are left out: here are those of schema 1, and no table has both",)


@pytest.fixture
def with_old(store_folder: Path) -> Path:
    """The golden store, of whose runs three are of schema 1: a cell of the study without overrides."""
    with sqlite3.connect("mlflow.db") as connection:
        of = "run_uuid IN (SELECT run_uuid FROM tags WHERE value IN (?, ?, ?))"
        cell = [fingerprint(56, "arl", seed) for seed in range(3)]
        done = connection.execute(f"DELETE FROM tags WHERE key = ? AND {of}", (names.SCHEMA, *cell))
        assert done.rowcount == 3
    return store_folder


def test_a_store_of_two_schemas(with_old: Path) -> None:
    results = read_results()
    assert len(results.runs) == 7
    assert results.problems[0].startswith("3 runs of schema 1 are left out: here are those of schema 2")
    assert len(results.studies) == 2


def test_an_export_leaves_the_others_out(with_old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert archive.main(["export", "--profile", "quick-1", "--data", "cluttershapes"]) == 0
    assert "warning: 3 runs of schema 1 are left out" in capsys.readouterr().err
    file = read_file(FOLDER / "cluttershapes-quick-1.jsonl")
    assert {run.schema for run in file.runs} == {CURRENT}
    assert len(file.results) == 5


def test_an_export_does_not_mix_a_file(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = FOLDER / "cluttershapes-quick-1.jsonl"
    write(path.name, 1)
    before = path.read_bytes()
    assert archive.main(["export", "--profile", "quick-1", "--data", "cluttershapes"]) == 2
    assert capsys.readouterr().err == (
        f"archive: {path} has runs of schema 1, and a file holds one schema: move it to {FOLDER}/schema-1 first\n"
    )
    assert path.read_bytes() == before


def test_a_study_of_another_schema_adds_no_cells(empty_folder: Path) -> None:
    """Its record has the same name, profile and data set, and more seeds, none of which is a missing run now."""
    new = write(OLD, CURRENT, folder=Path("new"), seeds=(0,))
    old = write(OLD, 1, folder=Path("old"), seeds=(0, 1, 2))
    FOLDER.mkdir(parents=True)
    for name in ("new", "old"):
        text = (Path(name) / OLD).read_text()
        if name == "old":  # other fingerprints, as a schema gives them
            lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
            marks = [run["fingerprint"] for run in lines[0]["study"]["runs"]]
            for mark in marks:
                text = text.replace(mark, mark[::-1])
        (FOLDER / f"{name}.jsonl").write_text(text)
    results = read_results()
    (study,) = results.studies
    assert (len(study.runs), len(results.runs)) == (new, new)
    assert results.problems[0].startswith(f"{old} runs of schema 1 are left out")
