"""Optuna's storage of a search: a journal file, or a database that several machines reach."""

import contextlib
import importlib.util
import json
import logging
import os
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import sqlalchemy.exc
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study as OptunaStudy

from records.errors import UserError
from records.secrets import mask_secrets

optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # we print what matters
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
logging.getLogger("alembic").setLevel(logging.CRITICAL)

DEFAULT = "optuna.journal"
CONNECT_SECONDS = 10
BUSY_SECONDS = 60
"""seconds to wait for a sqlite file that another launch is writing"""
TRIES = 3
"""attempts to create tables that another machine may be creating at the same time"""
TIMEOUTS = {
    "sqlite": ("timeout", BUSY_SECONDS),
    "psycopg2": ("connect_timeout", CONNECT_SECONDS), "psycopg": ("connect_timeout", CONNECT_SECONDS),
    "pg8000": ("timeout", CONNECT_SECONDS), "pymysql": ("connect_timeout", CONNECT_SECONDS),
    "mysqldb": ("connect_timeout", CONNECT_SECONDS), "mysqlconnector": ("connection_timeout", CONNECT_SECONDS),
}  # fmt: skip
"""(option, seconds) of each driver's connection timeout"""
POSTGRES = ("psycopg2", "psycopg")
PACKAGES = {"psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
"""package of a module whose name differs"""


class StorageError(UserError):
    """A storage that cannot be used or does not answer; one line without its password."""


class _KernelLock(JournalFileOpenLock):
    """A lock that the kernel releases when its process dies; Optuna's own would block the next process for 30 s."""

    def __init__(self, path: Path):
        super().__init__(str(path))
        self._path, self._lock = path, FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        self._repair()
        return True

    def release(self) -> None:
        self._lock.release()

    def _repair(self) -> None:
        """Cuts off an incomplete last line, left by a process that died while writing; Optuna stops reading at it."""
        with open(self._path, "rb+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            if file.read() in (b"", b"\n"):
                return
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


@contextlib.contextmanager
def asking(spec: str) -> Iterator[None]:
    """Turns errors of Optuna, SQLAlchemy, drivers and files into StorageError."""
    try:
        yield
    except (UserError, optuna.exceptions.UpdateFinishedTrialError):
        raise
    except ModuleNotFoundError as error:
        package = PACKAGES.get(str(error.name), error.name)
        raise StorageError(f"--storage {spec}: its driver is missing: `pip install {package}`") from None
    except sqlalchemy.exc.ArgumentError:
        raise StorageError(
            f"--storage {spec} is neither a journal file nor a database URL such as postgresql://user@host/name"
        ) from None
    except (optuna.exceptions.OptunaError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError, KeyError,
            ValueError, NotImplementedError) as error:  # fmt: skip
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else None
        lines = str(cause or error).strip().splitlines() or [type(error).__name__]
        raise StorageError(f"cannot use the storage {spec}: {lines[0]}") from error


def is_url(spec: str) -> bool:
    return "://" in spec


def open_storage(spec: str, *, create: bool) -> BaseStorage | None:
    """Returns the storage that --storage names: the path of a journal file or a database URL.

    Without `create` nothing is written, and None is returned if there is none yet. Several processes of one machine
    may create a file at once. Raises StorageError.
    """
    with asking(spec):
        if is_url(spec):
            return _database(spec, create)
        return _journal(Path(spec), create)


def _journal(path: Path, create: bool) -> BaseStorage | None:
    _check_place(path)
    if not create and not path.exists():
        return None
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=_KernelLock(path)))
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
        raise StorageError(f"cannot use the storage {path}: it is no journal of Optuna's") from None


def _check_place(path: Path) -> None:
    if not path.parent.is_dir():
        raise StorageError(f"cannot use the storage {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise StorageError(f"cannot use the storage {path}: it is a folder")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise StorageError(f"cannot use the storage {path}: it is not writable")


def _database(spec: str, create: bool) -> BaseStorage | None:
    url = sqlalchemy.make_url(spec)
    if url.drivername == "postgresql":  # the default driver depends on SQLAlchemy's version: take an installed one
        there = [name for name in POSTGRES if importlib.util.find_spec(name)]
        url = url.set(drivername=f"postgresql+{(there or POSTGRES)[0]}")
        spec = url.render_as_string(hide_password=False)
    file = Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
    if file is not None:
        _check_place(file)
        if not create and not file.exists():
            return None
    options: dict[str, Any] = {}
    driver = "sqlite" if file is not None else url.get_driver_name()
    if driver in TIMEOUTS:
        name, seconds = TIMEOUTS[driver]
        options["connect_args"] = {name: seconds}
    if file is None:
        options["pool_pre_ping"] = True  # reconnects to a database that was restarted
    if not _has_tables(spec, options):
        if not create:
            return None
        with FileLock(f"{file}.lock") if file is not None else contextlib.nullcontext():
            if file is not None:
                with contextlib.closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")  # a persistent setting; three times as fast
            _make_tables(spec, options)
    return RDBStorage(spec, engine_kwargs=options, skip_table_creation=True)


def _has_tables(spec: str, options: Mapping[str, Any]) -> bool:
    """Returns whether the database has Optuna's tables. Raises StorageError if they are MLflow's."""
    engine = sqlalchemy.create_engine(spec, **options)
    try:
        tables = set(sqlalchemy.inspect(engine).get_table_names())
    finally:
        engine.dispose()
    if "experiments" in tables and "alembic_version" in tables:
        raise StorageError(f"--storage {spec} holds MLflow's tables; Optuna needs a database of its own")
    return {"studies", "trials", "version_info", "alembic_version"} <= tables


def _make_tables(spec: str, options: Mapping[str, Any]) -> None:
    for attempt in range(1, TRIES + 1):
        try:
            RDBStorage(spec, engine_kwargs=dict(options))
            return
        except Exception:  # another machine created a table in the meantime
            if attempt == TRIES:
                raise
            time.sleep(1.0)


def find_study(spec: str, name: str) -> OptunaStudy | None:
    """Returns a search's Optuna study for reading; None if the storage has none. Raises StorageError."""
    storage = open_storage(spec, create=False)
    if storage is None:
        return None
    with asking(spec):
        known = {study.study_name for study in storage.get_all_studies()}
        return optuna.load_study(study_name=name, storage=storage) if name in known else None


def check_definition(study: OptunaStudy, definition: Mapping[str, Any], spec: str) -> None:
    """Raises StorageError if the study belongs to another search of the same name."""
    held = study.user_attrs.get("definition")
    if held is None:
        return
    mine = json.loads(json.dumps(definition))
    if changed := sorted(key for key in held.keys() | mine.keys() if held.get(key) != mine.get(key)):
        parts = [_difference(key, held.get(key), mine.get(key)) for key in changed]
        raise StorageError(
            f"the storage {mask_secrets(spec)} holds another search of the name {study.study_name!r}, with other "
            f"{'; '.join(parts)}: name another --storage"
        )


def _difference(what: str, held: Any, mine: Any) -> str:
    if isinstance(held, dict) and isinstance(mine, dict):
        fields = [key for key in sorted(held.keys() | mine.keys()) if held.get(key) != mine.get(key)]
        return f"{what} ({', '.join(fields)})"
    return f"{what} ({held}, not {mine})"
