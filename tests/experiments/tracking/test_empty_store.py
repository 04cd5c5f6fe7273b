"""The copy of an empty store: equal to what MLflow creates, and never in the way if it is damaged or refused."""

import sqlite3
from contextlib import closing

import pytest

from experiments.tracking.store import Store
from records import empty_store


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "residual-attention-networks"


def uri_of(path):
    return f"sqlite:///{path}"


def contents(path):
    """Tables, indices and rows, without the times of creation."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE experiments SET creation_time = 0, last_update_time = 0")
        lines = sorted(connection.iterdump())
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    return lines


def tables(path):
    with closing(sqlite3.connect(path)) as connection:
        return set(connection.execute("SELECT type, name FROM sqlite_master"))


@pytest.fixture
def creations(monkeypatch):
    """A list that grows whenever MLflow creates its tables."""
    import mlflow.store.db.utils

    create, calls = mlflow.store.db.utils._initialize_tables, []
    monkeypatch.setattr(
        mlflow.store.db.utils, "_initialize_tables", lambda engine: (calls.append(engine), create(engine))
    )
    return calls


@pytest.mark.slow
def test_the_copy_is_what_mlflow_creates(cache, tmp_path, creations):
    paths = [tmp_path / name for name in ("first.db", "second.db")]
    ids = []
    for path in paths:
        ids.append(Store.open(uri_of(path)).experiment("cluttershapes"))
        assert len(creations) == 1
        assert not (tmp_path / f"{path.name}.lock").exists()
    assert ids[0] == ids[1]
    assert contents(paths[0]) == contents(paths[1])

    (copy,) = cache.iterdir()
    copy.write_bytes(copy.read_bytes()[:-1] + b"x")  # damaged: MLflow creates the store, and the copy anew
    third = tmp_path / "third.db"
    Store.open(uri_of(third)).experiment("cluttershapes")
    assert len(creations) == 2
    fourth = tmp_path / "fourth.db"
    Store.open(uri_of(fourth)).experiment("cluttershapes")
    assert len(creations) == 2
    assert contents(third) == contents(fourth)  # the order of constraints differs from one creation to the next
    assert len(list(cache.iterdir())) == 1


@pytest.mark.slow
def test_a_copy_that_mlflow_refuses_is_replaced(cache, tmp_path, creations):
    """A schema of another version under the right name, as a changed installation could leave it."""
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    Store.open(uri_of(first)).experiment("cluttershapes")
    (copy,) = cache.iterdir()
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        connection.commit()
        content = connection.serialize()
    copy.unlink()
    refused = cache / f"{copy.name.rpartition('-')[0]}-{empty_store._digest(content)}.db"
    refused.write_bytes(content)
    store = Store.open(uri_of(second))
    assert len(creations) == 2
    assert store.experiment("cluttershapes") == "1"
    assert tables(second) == tables(first)
    assert not refused.exists()


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0 and no more"])
def test_a_damaged_copy_is_not_used(cache, content):
    cache.mkdir(parents=True, mode=0o700)
    prefix = empty_store._prefix()
    for digest in ("0" * 16, empty_store._digest(content)):
        (cache / f"{prefix}{digest}.db").write_bytes(content)
    assert empty_store.remembered() is None


def test_a_copy_that_others_can_write_is_not_used(cache, migrated_store):
    empty_store.remember(empty_store.content_of(migrated_store))
    assert empty_store.remembered() is not None
    (copy,) = cache.iterdir()
    copy.chmod(0o666)
    assert empty_store.remembered() is None
    copy.chmod(0o600)
    cache.chmod(0o777)
    assert empty_store.remembered() is None


def test_no_cache_folder_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert empty_store.remembered() is None
    empty_store.remember(b"any")
    assert (tmp_path / "file").read_bytes() == b""
