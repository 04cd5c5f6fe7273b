"""A tracking store in a sqlite file: its creation by several processes at once, and when it is written to disk."""

import contextlib
import functools
import os
import sqlite3
from pathlib import Path
from typing import Any

from experiments.tracking.errors import unusable
from records.mlflow_uri import sqlite_path


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


_late_files: set[str] = set()
"""sqlite files that `sync` writes to disk, instead of each commit"""


def sync_late(path: Path) -> None:
    """Makes commits to this file return before they are on disk; `sync` waits for that.

    A run makes twenty commits of MLflow's, and each would wait for the disk. The file stays consistent without it.
    """
    _listen()
    _late_files.add(str(path.resolve()))


@functools.cache
def _listen() -> None:
    import sqlalchemy.engine
    import sqlalchemy.event

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", _on_connect)


def _on_connect(connection: Any, _: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        files = {file for _, _, file in connection.execute("PRAGMA database_list")}
        if files & _late_files and connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            connection.execute("PRAGMA synchronous=NORMAL")


def sync(path: Path) -> None:
    """Writes all commits so far to disk, so that they survive a power cut."""
    with contextlib.suppress(FileNotFoundError):  # the file has no commits outside it
        handle = os.open(f"{path}-wal", os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
