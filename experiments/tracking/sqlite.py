"""When a tracking store in a sqlite file is written to disk; records/sqlite_store.py creates it."""

import atexit
import contextlib
import functools
import os
import sqlite3
from pathlib import Path
from typing import Any

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


def whole_at_exit(path: Path) -> None:
    """Lets this process, when it exits, move all commits into the file, so that a copy of it alone is whole."""
    _move_at_exit(path.resolve())


@functools.cache
def _move_at_exit(path: Path) -> None:
    atexit.register(_move_commits, path)


def _move_commits(path: Path) -> None:
    # Another launch that is writing has the commits moved when it ends.
    with contextlib.suppress(sqlite3.Error):
        uri = f"{path.as_uri()}?mode=rw"  # a file that was removed is not created
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
