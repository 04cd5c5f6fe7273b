"""Opens a tracking store for reading: nothing is created or migrated, and errors are one line."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from records.errors import UserError, first_line, shown
from records.mlflow_schema import schema_reason
from records.mlflow_uri import absolute, is_sqlite, sqlite_path
from records.secrets import mask_secrets

if TYPE_CHECKING:  # a second of import that --help does not need
    from mlflow import MlflowClient

FIRST_COMMAND = "python run_ablation.py --study arl_vs_nal"

# MLflow's messages about another schema; "readonly" comes from its attempt to migrate an old one.
_HINTS = {
    "readonly database": " (written by an older MLflow: `mlflow db upgrade` migrates it)",
    "Can't locate revision": " (written by a newer MLflow than is installed)",
}


class StoreError(Exception):
    """A store or an archive that is missing, empty, unreadable or made by another tool; the message is one line."""

    def __init__(self, message: str):
        super().__init__(shown(message))


class NoRunsError(StoreError):
    """A tracking store that is missing or has no runs of ours."""


def connect(uri: str) -> "MlflowClient":
    """Returns a client of an existing store, read-only for a sqlite file. Raises StoreError; see `one_line_errors`."""
    dialect = urlsplit(uri).scheme.split("+")[0]
    if dialect in ("", "file"):
        raise StoreError(
            f"{mask_secrets(uri)} is no tracking store: pass a URI such as sqlite:///mlflow.db or http://host:5000"
        )
    if (path := sqlite_file(uri)) is not None:
        # The driver is named because MLflow makes the folders of a plain sqlite:/// URI, here one called "file:".
        # Quoted twice: SQLAlchemy unquotes the name once, SQLite once more.
        uri = f"sqlite+pysqlite:///file:{quote(quote(str(path)))}?mode=ro&uri=true"
    elif dialect in ("http", "https"):
        # MLflow's default keeps a caller waiting for minutes when the server is dead.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import
    from mlflow import MlflowClient

    return MlflowClient(uri)


def connect_to_write(uri: str) -> "MlflowClient":
    """Returns a client of a store that writes to it. Raises MLflow's errors; see `one_line_errors`."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # all are read at import
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    return MlflowClient(absolute(uri))  # MLflow keeps connections by URI, even of another working directory


def sqlite_file(uri: str) -> Path | None:
    """Returns the existing MLflow database behind a sqlite URI; None for other URIs.

    Raises StoreError for a file that is missing or made by another tool, before MLflow could create or change it.
    """
    if not is_sqlite(uri):
        return None
    path = sqlite_path(uri)
    if path is None:
        raise StoreError(f"{uri} is a store in memory: pass the file, as in sqlite:///mlflow.db")
    where = f"./{path}" if not path.is_absolute() else str(path)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        where = f"./{path.relative_to(Path.cwd())}"
    if not path.is_file():
        raise NoRunsError(f"no tracking store at {where}: run `{FIRST_COMMAND}` first, or pass --tracking-uri")
    try:
        tables = {row[0] for row in query(path, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise StoreError(f"{where} cannot be read as a tracking store: {error}") from None
    if not tables:
        raise NoRunsError(f"no runs in {where}, an empty file: run `{FIRST_COMMAND}` first, or pass --tracking-uri")
    if not {"alembic_version", "experiments", "runs"} <= tables:
        raise StoreError(f"{where} is not an MLflow tracking store (it lacks MLflow's tables)")
    return path.absolute()


def query(path: Path, statement: str, *values: str) -> list[tuple[Any, ...]]:
    """Returns the rows of a query on a sqlite file, opened read-only. Raises sqlite3.Error."""
    with closing(sqlite3.connect(_read_only(path), uri=True)) as connection:
        return connection.execute(statement, values).fetchall()


def _read_only(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}?mode=ro"


@contextmanager
def one_line_errors(uri: str, what: str = "read") -> Iterator[None]:
    """Turns errors of MLflow, SQLAlchemy and drivers into one line of StoreError, and hides logged tracebacks.

    `what` is done with the store, as the message says it.
    """
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    except (StoreError, UserError):
        raise
    except Exception as error:  # foreign code: any type may come
        hint = next((hint for sign, hint in _HINTS.items() if sign in str(error)), "")
        reason = schema_reason(str(error)) or f"{first_line(str(error))}{hint}"
        raise StoreError(f"cannot {what} {mask_secrets(uri)}: {reason}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
