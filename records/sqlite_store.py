"""The creation of a tracking store in a sqlite file: whole or not at all, by several processes at once.

MLflow makes its tables by dozens of migrations in place, and a process that dies among them leaves a file that MLflow
refuses for ever. So they are made in a file beside the store, whose content then gets the store's name in one step.
"""

import contextlib
import logging
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from records import empty_store
from records.errors import TrackingError, UserError, unusable
from records.files import locked_file, write_whole
from records.mlflow_uri import sqlite_path

T = TypeVar("T")

logger = logging.getLogger(__name__)

SIDE_FILES = ("-wal", "-shm", "-journal")
WAL = b"\2\2"
"""bytes 18 and 19 of a sqlite file with a write-ahead log (sqlite.org/fileformat.html, section 1.3)"""


def open_or_create(uri: str, connect: Callable[[str], T]) -> T:
    """Returns `connect(uri)`, where `connect` makes MLflow's tables in a new sqlite file. Raises TrackingError.

    One process at a time creates a store. A process that is killed or has no space on the disk leaves no store, and
    the next one begins again; so it does with an unfinished store that an earlier version of this program left.
    """
    path = sqlite_path(uri)
    if path is not None:
        check_writable(uri)
        lock = creation_lock(path)
        if not path.exists() or not holds_mlflow(path, uri) or lock.exists():
            try:
                with locked_file(lock), _artifacts_beside(path):
                    connection = _created(path, uri, connect)
                    lock.unlink(missing_ok=True)
                    return connection
            except TrackingError:
                raise
            except (OSError, UserError, sqlite3.Error) as error:
                raise unusable(uri, error) from None
    return connect(uri)


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


def _created(path: Path, uri: str, connect: Callable[[str], T]) -> T:
    """Returns `connect(uri)` to a sqlite file, which then has MLflow's tables. The caller holds its creation lock."""
    for pattern in (f".{path.name}.*.creating*", f".{path.name}.*.tmp"):  # of processes that were killed here
        for left in path.parent.glob(pattern):
            left.unlink(missing_ok=True)
    is_new = not path.exists() or not holds_mlflow(path, uri)
    if not is_new and is_unfinished(path):
        logger.warning("%s was left unfinished by a launch that died, and is created again", path)
        is_new = True
    if not is_new:
        return connect(uri)
    if (copy := empty_store.remembered()) is not None:
        _put(path, copy)
        try:
            return connect(uri)
        except TrackingError:  # the installed MLflow refuses the copy
            empty_store.remove_copies()
    content = _made(path, connect)
    _put(path, content)
    empty_store.remember(content)
    return connect(uri)


def _made(path: Path, connect: Callable[[str], T]) -> bytes:
    """Returns the content of an empty store, which MLflow makes in a file of its own beside `path`."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.creating")
    try:
        connect(f"sqlite:///{beside.absolute()}")
        return empty_store.content_of(beside)
    finally:
        for name in ("", *SIDE_FILES):
            beside.with_name(beside.name + name).unlink(missing_ok=True)


def _put(path: Path, content: bytes) -> None:
    """Makes `content` the content of a sqlite file, in one step, in WAL mode: several processes can then write."""
    target = path.resolve()
    if target.exists() and target.stat().st_size:  # MLflow may hold it open in this process
        with (
            contextlib.closing(sqlite3.connect(":memory:")) as copy,
            contextlib.closing(sqlite3.connect(target)) as store,
        ):
            copy.deserialize(content)
            copy.backup(store)
        return
    for name in SIDE_FILES:  # of a store that was deleted: sqlite would add its log to this one
        target.with_name(target.name + name).unlink(missing_ok=True)
    write_whole(target, content[:18] + WAL + content[20:])


def creation_lock(path: Path) -> Path:
    """Returns the path of the lock file that exists while MLflow's tables are created."""
    return Path(f"{path}.lock")


def is_unfinished(path: Path) -> bool:
    """Returns whether MLflow's tables are incomplete or have never been used: there is not even an experiment.

    To ask of a store whose creation lock exists and is held by the caller; else another process may be making it.
    """
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            return connection.execute("SELECT count(*) FROM experiments").fetchone() == (0,)
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return True
            raise


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
