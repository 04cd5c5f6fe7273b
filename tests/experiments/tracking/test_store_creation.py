"""A store's creation that is interrupted, or has no space, leaves nothing that the next launch cannot use."""

import os
import shutil
import sqlite3
from contextlib import closing

import pytest

from experiments.tracking.store import Store
from records import empty_store, sqlite_store
from records.errors import TrackingError


@pytest.fixture
def path(tmp_path):
    (tmp_path / "store").mkdir()
    return tmp_path / "store" / "mlflow.db"


def uri_of(path):
    return f"sqlite:///{path}"


def execute(path, *statements):
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def half_migrated(path, migrated_store):
    """What a process left that died among MLflow's migrations: a table under a temporary name, no experiment."""
    shutil.copy(migrated_store, path)
    execute(
        path,
        "DELETE FROM experiments",
        "CREATE TABLE _alembic_tmp_experiments (id)",
        "UPDATE alembic_version SET version_num = '451aebb31d03'",
    )


def test_an_unfinished_store_is_created_again(path, migrated_store):
    half_migrated(path, migrated_store)
    path.with_name("mlflow.db.lock").touch()
    assert Store.peek(uri_of(path)) is None, "a dry run sees no store"
    assert Store.open(uri_of(path)).experiment("cluttershapes") == "1"
    assert sorted(p.name for p in path.parent.iterdir() if "mlflow.db-" not in p.name) == ["mlflow.db"]
    assert Store.peek(uri_of(path)) is not None


def test_a_store_that_was_used_is_never_created_again(path, migrated_store):
    shutil.copy(migrated_store, path)
    assert Store.open(uri_of(path)).experiment("kept") == "1"
    path.with_name("mlflow.db.lock").touch()
    assert Store.open(uri_of(path)).experiment("kept") == "1"


def test_without_the_creation_lock_an_unfinished_store_may_be_somebody_elses(path, migrated_store):
    half_migrated(path, migrated_store)
    with pytest.raises(TrackingError):
        Store.open(uri_of(path))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT 1 FROM sqlite_master WHERE name = '_alembic_tmp_experiments'").fetchone()


def test_the_log_of_a_store_that_was_deleted_is_not_added_to_the_new_one(path, migrated_store):
    shutil.copy(migrated_store, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("UPDATE alembic_version SET version_num = 'of the old one'")
        connection.commit()
        log = path.with_name("mlflow.db-wal").read_bytes()
    path.unlink()
    path.with_name("mlflow.db-wal").write_bytes(log)
    Store.open(uri_of(path))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() != ("of the old one",)


@pytest.mark.parametrize("where", ["made", "put", "connected"])
def test_a_creation_that_fails_leaves_no_store(path, migrated_store, monkeypatch, where):
    content = empty_store.content_of(migrated_store)
    monkeypatch.setattr(empty_store, "remembered", lambda: None)
    monkeypatch.setattr(sqlite_store, "_made", lambda path, connect: content)
    full = OSError(28, "No space left on device")

    def fails(*arguments):
        raise full

    with monkeypatch.context() as patch:
        if where == "made":
            patch.setattr(sqlite_store, "_made", fails)
        if where == "put":
            patch.setattr(os, "replace", fails)
        if where == "connected":
            patch.setattr(Store, "__init__", lambda self, uri: fails())
        with pytest.raises(TrackingError, match="No space left"):
            Store.open(uri_of(path))
    assert Store.peek(uri_of(path)) is None
    assert Store.open(uri_of(path)).experiment("cluttershapes") == "1"
    assert not [p.name for p in path.parent.iterdir() if "creating" in p.name or p.name.endswith((".tmp", ".lock"))]


@pytest.mark.parametrize("make", [os.mkdir, lambda p: os.symlink("nowhere/x", p)], ids=["folder", "dangling link"])
def test_a_lock_that_is_no_file_is_one_line(path, make):
    make(f"{path}.lock")
    with pytest.raises(TrackingError, match=r"mlflow\.db\.lock"):
        Store.open(uri_of(path))
