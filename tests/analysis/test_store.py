"""Reading a real MLflow store, and refusing what is none, without leaving a trace."""

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from analysis import store as store_module
from analysis.record import RecordError, parse_study
from analysis.store import StoreError, mask_password, one_per_fingerprint, read_store
from analysis.tables import build_table, study_table


def test_store_gives_the_same_table_as_the_frame(store_folder: Path, make_study: Any, half_done: Any) -> None:
    store = read_store()
    assert len(store.studies) == 2
    assert store.problems == ()
    assert len(store.runs) == 12  # neither parents nor the deleted run nor those of other experiments
    plain = next(study for study in store.studies if not study.overrides)
    assert build_table(plain, store.runs) == build_table(make_study(), half_done)
    failed = store.runs[store.runs["outcome"] == "failed"].iloc[0]
    assert (failed["reason"], failed["seed"]) == ("out of memory", 1)


def test_pages_are_followed(store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PAGE", 5)
    assert len(read_store().runs) == 12


def test_one_parent_by_tag_or_run_id(store_folder: Path) -> None:
    table = study_table(None, "b" * 16)
    assert "Overrides: train.steps = 10." in table.caption
    with sqlite3.connect(store_folder / "mlflow.db") as connection:
        run_id = connection.execute("SELECT run_uuid FROM tags WHERE value = ?", ("b" * 16,)).fetchone()[0]
    assert study_table(f"sqlite:///{store_folder}/mlflow.db", run_id) == table
    with pytest.raises(StoreError, match="no parent run nowhere"):
        study_table(None, "nowhere")


def test_reading_writes_nothing(store_folder: Path) -> None:
    before = (store_folder / "mlflow.db").read_bytes()
    read_store()
    assert [path.name for path in store_folder.iterdir() if path.suffix not in (".db-shm", ".db-wal")] == ["mlflow.db"]
    assert (store_folder / "mlflow.db").read_bytes() == before


def test_duplicates_results_first_then_newest(half_done: Any) -> None:
    one = one_per_fingerprint(half_done)
    assert one.index.is_unique
    assert len(one) == 10
    assert 11.5 in set(one["test_err"])
    assert 99.0 not in set(one["test_err"])


def _garbage(folder: Path) -> None:
    (folder / "mlflow.db").write_bytes(os.urandom(5000))


def _foreign(folder: Path) -> None:
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.execute("CREATE TABLE trials (id INTEGER)")


def _directory(folder: Path) -> None:
    (folder / "mlflow.db").mkdir()


@pytest.mark.parametrize(
    ("prepare", "uri", "message"),
    [
        (None, None, r"no tracking store at \./mlflow.db: run `python run_ablation.py --study arl_vs_nal` first"),
        (None, "sqlite:///sub/other.db", r"no tracking store at \./sub/other.db"),
        (None, "sqlite:////nowhere/x%20y.db?timeout=3", "no tracking store at /nowhere/x%20y.db:"),
        (None, "sqlite://", "in memory"),
        (None, "mlruns", "is no tracking store: pass a URI"),
        (None, "nosuch://host", "cannot read nosuch://host"),
        (_garbage, None, "cannot be read as a tracking store"),
        (_foreign, None, "is not an MLflow tracking store"),
        (_directory, None, "no tracking store at"),
        (None, "http://user:secret@127.0.0.1:9/", r"cannot read http://user:\*\*\*@127.0.0.1:9/"),
    ],
)
def test_bad_stores_are_one_line_and_stay_as_they_were(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, prepare: Any, uri: str | None, message: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    if prepare:
        prepare(empty_folder)
    before = sorted(empty_folder.rglob("*"))
    with pytest.raises(StoreError, match=message) as caught:
        read_store(uri)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert sorted(empty_folder.rglob("*")) == before


def test_store_without_our_runs(store_folder: Path) -> None:
    with sqlite3.connect("mlflow.db") as connection:
        connection.execute("UPDATE experiments SET name = 'other' WHERE name LIKE 'ran/%'")
    with pytest.raises(StoreError, match="no runs of ours in"):
        read_store()


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ("DROP TABLE params", "an older MLflow: `mlflow db upgrade` migrates it"),
        ("UPDATE alembic_version SET version_num = 'of the future'", "another version of MLflow"),
        ("DROP TABLE webhook_events; UPDATE alembic_version SET version_num = 'of the future'", "a newer MLflow"),
    ],
)
def test_store_of_another_mlflow_is_not_migrated(store_folder: Path, change: str, hint: str) -> None:
    with sqlite3.connect("mlflow.db") as connection:
        connection.executescript(change)
    content = Path("mlflow.db").read_bytes()
    with pytest.raises(StoreError, match=hint) as caught:
        read_store()
    assert "\n" not in str(caught.value)
    assert Path("mlflow.db").read_bytes() == content


def test_a_parent_without_its_record_is_named_not_hidden(store_folder: Path) -> None:
    with sqlite3.connect("mlflow.db") as connection:
        run_id = connection.execute("SELECT run_uuid FROM tags WHERE value = ?", ("b" * 16,)).fetchone()[0]
        connection.execute("UPDATE runs SET artifact_uri = '/nowhere' WHERE run_uuid = ?", (run_id,))
    store = read_store()
    assert len(store.studies) == 1
    assert run_id in store.problems[0]
    with pytest.raises(StoreError, match=run_id):
        read_store(parent=run_id)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:p%40ss@db/ran", "postgresql://me:***@db/ran"),
        ("http://me:a:b@c@host:5000", "http://me:***@host:5000"),
        ("postgresql://db/ran?user=me&password=x y", "postgresql://db/ran?user=me&password=*** y"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////a/b@c.db", "sqlite:////a/b@c.db"),
    ],
)
def test_passwords_are_masked(text: str, shown: str) -> None:
    assert mask_password(text) == shown


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
    ],
)
def test_contradictory_records_are_refused(make_study: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        make_study(**changes)


def test_a_later_entry_replaces_an_earlier_one(make_study: Any) -> None:
    cell = {"depth": 56, "learning": "arl"}
    study = make_study(runs=[{"fingerprint": f, "cell": cell, "seed": 0} for f in ("old", "new")])
    assert study.cells() == {(56, "arl"): {0: "new"}}


def test_records_that_are_no_objects_are_refused() -> None:
    for text in ("", "[]", "3", json.dumps({"schema": "1"})):
        with pytest.raises(RecordError):
            parse_study(text)
