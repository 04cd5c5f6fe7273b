"""Reading a real MLflow store, and refusing what is none, without leaving a trace."""

import math
import os
import random
import sqlite3
from pathlib import Path
from typing import Any

import pandas
import pytest

from analysis.read import mlflow_store as store_module
from analysis.read.mlflow_store import (
    StoreError,
    curves_by_client,
    curves_by_query,
    read_contents,
    read_store,
)  # fmt: skip
from records import names
from records.secrets import mask_secrets


def test_runs_are_of_all_children_that_are_not_deleted(store_folder: Path, half_done: Any) -> None:
    store = read_store()
    assert store.uri == "sqlite:///mlflow.db"
    assert [bool(study.overrides) for study in store.studies] == [False, True]
    assert store.problems == ()
    columns = ["fingerprint", "outcome", "seed", "test_err", "start_time", "commit", "results", "failed", "killed"]
    assert len(store.runs) == 10  # neither parents nor the deleted run nor those of other experiments
    pandas.testing.assert_frame_equal(store.runs[columns], half_done[columns])
    failed = store.runs[store.runs["outcome"] == "failed"].iloc[0]
    assert (failed["reason"], failed["source"]) == ("out of memory", "sqlite:///mlflow.db")
    assert failed["params"] == {"optim.lr": "0.5"}
    assert failed["metrics"] == {names.TRAIN_LOSS: 2 / 3}  # the last value, and none of system/*


def test_pages_are_followed(store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PAGE", 5)
    assert len(read_contents().runs) == 12


def test_one_parent_by_tag_or_run_id(store_folder: Path) -> None:
    (study,) = read_store(None, "b" * 16).studies
    assert study.overrides == {"train.steps": 10}
    with sqlite3.connect(store_folder / "mlflow.db") as connection:
        run_id = connection.execute("SELECT run_uuid FROM tags WHERE value = ?", ("b" * 16,)).fetchone()[0]
    assert read_store(f"sqlite:///{store_folder}/mlflow.db", run_id).studies == (study,)
    with pytest.raises(StoreError, match="no parent run nowhere"):
        read_store(None, "nowhere")


def test_the_table_of_a_parent(store_folder: Path) -> None:
    from analysis.tables.study_table import study_table

    assert "Overrides: train.steps = 10." in study_table(None, "b" * 16).caption


@pytest.mark.parametrize("by_query", [True, False])
def test_curves_hold_a_point_a_step(store_folder: Path, monkeypatch: pytest.MonkeyPatch, by_query: bool) -> None:
    if not by_query:  # as a server or another database is read
        monkeypatch.setattr(store_module, "query", _refuse)
    for run in read_contents().runs:
        assert run.curves() == {names.TRAIN_LOSS: [(1, 2.0), (2, 1.0), (3, 2 / 3)]}


@pytest.mark.parametrize("by_query", [True, False])
def test_a_run_that_was_begun_with_the_names_of_before(
    store_folder: Path, monkeypatch: pytest.MonkeyPatch, by_query: bool
) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    if not by_query:
        monkeypatch.setattr(store_module, "query", _refuse)
    client = MlflowClient(f"sqlite:///{store_folder}/mlflow.db")  # MLflow keeps a connection by its URI
    experiment = client.get_experiment_by_name("ran/cluttershapes").experiment_id
    run = client.create_run(experiment, tags={names.FINGERPRINT: "e" * 64}).info.run_id
    response = names.RESPONSE.format(1)
    client.log_batch(run, metrics=[
        Metric("response/stage1", 1.0, 10, 5), Metric("response/stage1", 2.0, 20, 10),
        Metric("cost/hours", 9.0, 20, 10),
        Metric(response, 2.5, 30, 10), Metric(response, 3.0, 40, 15), Metric("final/test_err", 12.5, 40, 15),
        Metric(names.COST_HOURS, 0.5, 40, 15), Metric(names.VAL_ERR, 14.0, 40, 15),
    ])  # fmt: skip
    (found,) = (one for one in read_contents().runs if one.run_id == run)
    assert found.curves() == {response: [(5, 1.0), (10, 2.5), (15, 3.0)], names.VAL_ERR: [(15, 14.0)]}
    assert found.metrics == {
        response: 3.0, names.COST_HOURS: 0.5, names.FINAL_TEST_ERR: 12.5, names.VAL_ERR: 14.0
    }  # fmt: skip


def _refuse(*_: Any) -> Any:
    raise sqlite3.OperationalError("no such column: is_nan")


def test_both_ways_to_read_curves_agree(store_folder: Path) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("ran/cluttershapes").experiment_id
    run = client.create_run(experiment, tags={names.FINGERPRINT: "e" * 64}).info.run_id
    rng = random.Random(0)
    keys = (names.TRAIN_LOSS, names.VAL_ERR, names.RESPONSE.format(1))
    client.log_batch(
        run,
        metrics=[
            Metric(rng.choice(keys), rng.choice((rng.random(), math.nan, -1e300)), rng.randrange(3), rng.randrange(20))
            for _ in range(200)
        ],
    )
    by_client = curves_by_client(client, run, keys)
    assert sum(map(len, by_client.values())) > 40
    assert repr(curves_by_query(Path("mlflow.db"), run, keys)) == repr(by_client)  # repr: NaN is not equal to NaN


def test_reading_writes_nothing(store_folder: Path) -> None:
    before = (store_folder / "mlflow.db").read_bytes()
    read_store()
    assert [path.name for path in store_folder.iterdir() if path.suffix not in (".db-shm", ".db-wal")] == ["mlflow.db"]
    assert (store_folder / "mlflow.db").read_bytes() == before


def _garbage(folder: Path) -> None:
    (folder / "mlflow.db").write_bytes(os.urandom(5000))


def _foreign(folder: Path) -> None:
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.execute("CREATE TABLE trials (id INTEGER)")


def _empty(folder: Path) -> None:
    (folder / "mlflow.db").touch()


def _directory(folder: Path) -> None:
    (folder / "mlflow.db").mkdir()


@pytest.mark.parametrize(
    ("prepare", "uri", "message"),
    [
        (None, None, r"no tracking store at \./mlflow.db: run `python run_ablation.py --study arl_vs_nal` first"),
        (None, "sqlite:///sub/other.db", r"no tracking store at \./sub/other.db"),
        (None, "sqlite:////nowhere/x%20y.db?timeout=3", "no tracking store at /nowhere/x y.db:"),
        (None, "sqlite://", "in memory"),
        (None, "mlruns", "is no tracking store: pass a URI"),
        (None, "nosuch://host", "cannot read nosuch://host"),
        (_garbage, None, "cannot be read as a tracking store"),
        (_foreign, None, "is not an MLflow tracking store"),
        (_empty, None, "no runs in ./mlflow.db, an empty file"),
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
        ("UPDATE alembic_version SET version_num = 'of the future'", "a newer MLflow than the installed"),
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
    assert mask_secrets(text) == shown
