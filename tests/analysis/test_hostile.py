"""Archives and stores that somebody made to harm: no traceback, no file outside --out, nothing active in any format.

Every field of a study, a run and a search gets every value of hostile.py in the long form; some of them in the short.
RAN_HOSTILE: number of examples.
"""

import contextlib
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hostile import (
    EVERY,
    NUMBERS,
    TEXTS,
    active_csv,
    active_html,
    active_tex,
    controls,
    dumped,
    leaves,
    replaced,
    wrong_in,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import study_lines

from analysis import archive, make_figures, make_report, make_tables
from analysis.read import mlflow_store
from analysis.read.archive_file import read_file
from analysis.read.mlflow_client import StoreError
from analysis.read.mlflow_store import read_contents
from analysis.tables.cells import Column, Count, Judgement, Label, Table
from analysis.tables.formats import FORMATS, file_stem, write
from records.sane import OutOfRangeError
from records.search_json import SearchRecord
from records.study_json import RecordError, StudyRecord
from records.text import plain

EXAMPLES = int(os.environ.get("RAN_HOSTILE", "0"))
LINES = study_lines("mask_type", seeds=(0, 1))
STUDY, RUN = LINES[0], LINES[1]
PLACES = [(number, path) for number, line in ((0, STUDY), (1, RUN)) for path in leaves(line) if path]


def archived(folder: Path, changes: list[tuple[int, tuple[Any, ...], Any]]) -> Path:
    lines: list[Any] = list(LINES)
    for number, path, value in changes:
        with contextlib.suppress(
            KeyError, IndexError, TypeError, AttributeError
        ):  # an earlier change removed the place
            lines[number] = replaced(lines[number], path, value)
    folder.mkdir()
    (folder / "a.jsonl").write_text("".join(f"{dumped(line)}\n" for line in lines))
    return folder


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def walk(folder: Path, capsys: pytest.CaptureFixture[str], *, figures: bool) -> list[str]:
    """Every reader and writer on the archive in `folder`; returns what is wrong with what they print and write."""
    where = ["--archive", str(folder / "in")]
    before, out = files(folder), folder / "deep" / "out"
    commands: list[Callable[[], int]] = [
        lambda: archive.main(["show", "--out", str(folder / "in")]),
        lambda: make_tables.main([*where, "--out", str(out)]),
    ]
    if figures:
        commands += [
            lambda: make_report.main([*where, "--out", str(out)]),
            lambda: make_figures.main([*where, "--out", str(out), "--formats", "svg"]),
        ]
    wrong = []
    for command in commands:
        status = command()
        said = capsys.readouterr()
        wrong += controls(said.out) + controls(said.err)
        if status not in (0, 2) or (status == 2 and len(said.err.splitlines()) > 1 and "warning" not in said.err):
            wrong.append(f"exit {status}: {said.err[:300]}")
    for path in files(folder) - before:
        wrong += wrong_in(path)
        if not path.is_relative_to(out):
            wrong.append(f"wrote {path}")
    return wrong


changes = st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(EVERY)), min_size=1, max_size=4).map(
    lambda found: [(number, path, value) for (number, path), value in found]
)


@pytest.fixture
def alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@given(found=changes)
@settings(max_examples=EXAMPLES or 12, suppress_health_check=quiet, derandomize=not EXAMPLES)
def test_an_archive_through_tables(found, alone, capsys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    archived(folder / "in", found)
    assert walk(folder, capsys, figures=False) == []


@pytest.mark.slow
@given(found=changes)
@settings(max_examples=EXAMPLES or 15, suppress_health_check=quiet, derandomize=not EXAMPLES)
def test_an_archive_through_report_and_figures(found, alone, capsys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    archived(folder / "in", found)
    assert walk(folder, capsys, figures=True) == []


def refusal(read: Callable[[], Any], *errors: type[Exception]) -> str:
    """What a reader says of content that it refuses, "" for content that it takes; any other error passes."""
    try:
        read()
    except errors as error:
        return str(error)
    return ""


@pytest.mark.slow
def test_every_field_of_an_archive_is_read_or_refused(tmp_path):
    """Every value in every place, through the reader alone."""
    path = tmp_path / "a.jsonl"
    for number, place in PLACES:
        for value in EVERY:
            lines = list(map(dumped, LINES[:2]))
            lines[number] = dumped(replaced(LINES[number], place, value))
            path.write_text("\n".join(lines))
            said = refusal(lambda: said_of(read_file(path)), StoreError, OutOfRangeError)
            assert not said or said.startswith(
                (f"{path} is damaged in line {number + 1}: ", f"{path}: line {number + 1} is")
            )
            assert "\n" not in said
            assert len(said) < 500
            assert controls(said) == []


def said_of(file):
    """Raises what an archive file says of the line that it leaves out."""
    assert len(file.runs) + len(file.study_lines) + len(file.problems) == 2
    for problem in file.problems:
        raise OutOfRangeError(problem)


RECORD = STUDY["study"]


def test_every_field_of_a_study_is_read_or_refused():
    for place in leaves(RECORD):
        for value in EVERY:
            content = replaced(RECORD, place, value)
            said = refusal(partial(StudyRecord.from_json, content), RecordError, OutOfRangeError)
            assert len(said) < 500
            assert controls(said) == []
            if not said:
                assert controls(json.dumps(StudyRecord.from_json(content).to_json(), ensure_ascii=False)) == []


SEARCH = {
    "schema": 1, "search": "s", "title": "T", "profile": "quick-1", "dataset": "cifar10", "overrides": {},
    "objectives": ["error"], "seeds": [0], "pruner": "none", "evaluations": 3, "total": 2, "command": "run",
    "confirm": "c",
    "space": {"optim.lr": {"type": "float", "low": 0.1, "high": 1, "log": True, "step": None},
              "model.p": {"type": "int", "low": 1, "high": 3, "log": False, "step": 1},
              "model.learning": {"type": "categorical", "choices": ["arl", None]}},
    "derived": {"a": "b"}, "derived_fields": ["a"], "base": {"optim.lr": 0.1}, "base_macs": 1.0, "best": 0,
    "front": [0],
    "importances": {"error": {"optim.lr": 1.0}},
    "trials": [{"number": 0, "state": "complete", "outcome": "finished", "params": {"optim.lr": 0.1}, "settings": {},
                "values": [5.0], "errors": [5.0], "macs": 1.0, "fingerprints": ["ab"], "seeds": [0], "reason": "",
                "intermediate": {"1": 5.0}, "seconds": 1.0, "retry_of": None, "replaced": False}],
}  # fmt: skip


def test_every_field_of_a_search_is_read_or_refused():
    assert SearchRecord.from_json(SEARCH).trials
    for place in leaves(SEARCH):
        for value in EVERY:
            content = replaced(SEARCH, place, value)
            said = refusal(partial(SearchRecord.from_json, content), RecordError)
            assert len(said) < 500
            assert controls(said) == []


def test_every_text_through_every_format(tmp_path):
    """Titles, captions, headers, keys, labels and raw values of a table, also those that no reader lets through."""
    for number, text in enumerate(TEXTS):
        short = text[:300]
        table = Table(
            stem=short, title=short, caption=(short, short),
            columns=(
                Column(short, short, numeric=False), Column("n", short, numeric=True), Column("v", "v", numeric=False)
            ),
            rows=((Label(short, short), Count(1, 2), Judgement(short, short, None)),),
        )  # fmt: skip
        folder = tmp_path / str(number)
        paths = write(table, folder / "out", FORMATS)
        assert files(tmp_path / str(number)) == set(paths)
        assert {path.parent for path in paths} == {folder / "out"}
        assert [(path.suffix, wrong) for path in paths if (wrong := wrong_in(path))] == [], text


@given(st.text(max_size=300))
def test_the_stem_of_a_file_is_no_path(text):
    assert "/" not in file_stem(text)
    assert not file_stem(text).startswith((".", "-"))
    assert controls(plain(text)) == []
    assert "\n" not in plain(text)


@pytest.mark.parametrize("statement", [
    "UPDATE runs SET start_time = 1000000000000000000", "UPDATE runs SET start_time = -5, end_time = 'x'",
    "UPDATE tags SET value = '<script>alert(1)</script>' WHERE key IN ('ran.fingerprint', 'mlflow.source.git.commit')",
    "UPDATE tags SET value = 'x/../../../outside' WHERE key IN ('ran.study', 'ran.dataset', 'ran.profile')",
    "UPDATE tags SET value = char(27) || '[2J' || char(10) WHERE key NOT IN ('ran.parent', 'ran.fingerprint')",
    "UPDATE tags SET value = replace(hex(zeroblob(2500)), '00', '99') WHERE key IN ('ran.seed', 'ran.schema')",
    "UPDATE latest_metrics SET value = 1e308, step = -5",
    "UPDATE metrics SET value = 1e308, step = 9223372036854775807",
    "UPDATE params SET value = replace(hex(zeroblob(2500)), '00', '99')", "UPDATE runs SET name = char(27) || '[2J'",
    "UPDATE runs SET artifact_uri = 'file:///dev'", "UPDATE runs SET artifact_uri = 'nowhere://x'",
    "UPDATE experiments SET name = name || '<script>'",
    "DELETE FROM metrics", "DELETE FROM tags WHERE key = 'ran.seed'",
])  # fmt: skip
def test_a_store_through_tables(statement, store_folder, capsys):
    with sqlite3.connect("mlflow.db") as connection:
        connection.execute(statement)
    before = files(store_folder)
    status = make_tables.main(["--out", "deep/out"])
    said = capsys.readouterr()
    assert status in (0, 2)
    assert controls(said.out) + controls(said.err) == []
    written = files(store_folder) - before - {store_folder / f"mlflow.db-{side}" for side in ("wal", "shm")}
    assert all(path.is_relative_to(store_folder / "deep" / "out") for path in written)
    assert [wrong for path in written for wrong in wrong_in(path)] == []


@pytest.mark.parametrize("content", [
    b"[]", b"null", b"{", b"[" * 100_000, b"\xff\xfe", b'{"schema": 1}', b'{"schema": ' + b"9" * 5_000 + b"}",
    dumped(replaced(RECORD, ("study",), "x/../../..")).encode(),
    dumped(replaced(RECORD, ("title",), "\x1b[2J")).encode(),
])  # fmt: skip
def test_a_record_in_a_store(content, store_folder, monkeypatch):
    monkeypatch.setattr(mlflow_store, "_artifact", lambda client, uri, run, name: content)
    found = read_contents()
    assert found.runs
    assert not found.parents
    assert found.problems
    for problem in found.problems:
        assert "\n" not in problem
        assert len(problem) < 1_000
        assert controls(problem) == []


def test_what_is_active_is_found():
    """The checks themselves can fail."""
    for text in ("<p onclick='a()'>", "<script>", '<a href="javascript:a">', '<img src="http://x">'):
        assert active_html(text), text
    assert active_tex("\\input{x}") == ["input"]
    assert active_tex(r"\setlength{\tabcolsep}{4pt}") == []
    assert active_tex(r"\setlength{\tabcolsep}{\input{x}}") == ["setlength", "tabcolsep", "input"]
    assert active_csv("a,=1+1,-2.5\n") == ["=1+1"]
    assert controls("a\x1b\u202e\n") == ["0x1b", "0x202e"]
    assert not active_html('<p class="x"><a href="#y">z</a>')
    assert len(NUMBERS) + len(TEXTS) < len(EVERY)
    assert sys.get_int_max_str_digits() == 4300
