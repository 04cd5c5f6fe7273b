"""The creation of a tracking store in a sqlite file, by several processes at once."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from records import empty_store
from records.errors import TrackingError, unusable
from records.mlflow_uri import sqlite_path

T = TypeVar("T")


def open_or_create(uri: str, connect: Callable[[], T]) -> T:
    """Returns `connect()`, which makes MLflow's tables in a new sqlite file. Raises TrackingError.

    The file is created first, and one process at a time connects to a new one: two at once break it.
    """
    path = sqlite_path(uri)
    if path is not None:
        check_writable(uri)
        lock = creation_lock(path)
        if not path.exists() or not holds_mlflow(path, uri) or lock.exists():
            with FileLock(lock), _artifacts_beside(path):
                connection = _created(path, uri, connect)
                lock.unlink(missing_ok=True)
                return connection
    return connect()


@contextlib.contextmanager
def _artifacts_beside(path: Path) -> Iterator[None]:
    """Makes MLflow write its own default experiment with a quoted URI beside the store.

    Else it puts the path of the working directory into an SQL statement as it is, and fails at a ' or a :.
    """
    variable = "_MLFLOW_SERVER_ARTIFACT_ROOT"
    before = os.environ.get(variable)
    os.environ[variable] = (path.resolve().parent / "mlruns").as_uri()
    try:
        yield
    finally:
        del os.environ[variable]
        if before is not None:
            os.environ[variable] = before


def _created(path: Path, uri: str, connect: Callable[[], T]) -> T:
    """Returns `connect()` to a sqlite file, which then has MLflow's tables. The caller holds its creation lock."""
    is_new = not path.exists() or not holds_mlflow(path, uri)
    is_copy = is_new and empty_store.fill(path)
    create_file(path, uri)
    if is_copy:
        try:
            return connect()
        except TrackingError:
            empty_store.discard(path)
    connection = connect()
    if is_new:
        empty_store.remember(path)
    return connection


def creation_lock(path: Path) -> Path:
    """Returns the path of the lock file that exists while MLflow's tables are created."""
    return Path(f"{path}.lock")


def create_file(path: Path, uri: str) -> None:
    """Creates the file, if absent, in WAL mode: writes are ten times cheaper and several processes can write."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # stored in the file
    except sqlite3.Error as error:
        raise unusable(uri, error) from None


def holds_mlflow(path: Path, uri: str) -> bool:
    """Returns whether a sqlite file has MLflow's tables; False if it has no tables.

    Raises TrackingError for the database of another program, to which MLflow would add its tables.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise unusable(uri, error) from None
    if tables and not tables & {"experiments", "alembic_version"}:
        raise unusable(uri, f"{path} is another program's database")
    return bool(tables)


def check_writable(uri: str) -> None:
    """Raises TrackingError if a sqlite store can be neither written nor created; other stores are not checked."""
    path = sqlite_path(uri)
    if path is None:
        return
    folder = path.parent
    if not folder.is_dir():
        raise unusable(uri, f"there is no folder {folder}")
    target = path if path.exists() else folder
    if not os.access(target, os.W_OK) or not os.access(folder, os.W_OK):
        raise unusable(uri, f"{target} is not writable")
