"""A copy of an empty MLflow store in the user's cache folder (XDG_CACHE_HOME, ~/.cache).

MLflow creates a sqlite store by all of its migrations, which takes two seconds; copying the result takes hundredths.
The copy is made of the first store that the installed MLflow creates. Its name holds a hash of the versions that it
depends on and one of its content, so a damaged copy or one of another version is not used. Without a copy MLflow
creates the store.
"""

import contextlib
import hashlib
import importlib.metadata
import logging
import os
import sqlite3
from importlib.util import find_spec
from pathlib import Path

from records.errors import UserError
from records.files import write_whole

logger = logging.getLogger(__name__)


def fill(path: Path) -> bool:
    """Copies the tables of an empty store into a sqlite file without tables; returns False if there is no copy of one.

    The file then has all tables or none, whenever the process is killed.
    """
    with contextlib.suppress(OSError, sqlite3.Error):
        content = _content()
        if not content:
            return False
        with contextlib.closing(sqlite3.connect(":memory:")) as copy:
            copy.deserialize(content)
            with contextlib.closing(sqlite3.connect(path)) as store:
                copy.backup(store)
        return True
    return False


def remember(path: Path) -> None:
    """Keeps a copy of the store that MLflow has just created. One that cannot be written is left out."""
    try:
        with contextlib.closing(sqlite3.connect(":memory:")) as copy:
            with contextlib.closing(sqlite3.connect(path)) as store:
                store.backup(copy)
            # MLflow adds its default experiment, whose artifacts lie where the store is, as soon as it opens the copy.
            for table in ("experiment_tags", "experiments"):
                copy.execute(f"DELETE FROM {table}")
            copy.commit()
            copy.execute("VACUUM")
            content = copy.serialize()
        _remove_copies()
        write_whole(_folder() / f"{_prefix()}{_digest(content)}.db", content)
    except (OSError, UserError, sqlite3.Error):
        logger.debug("no copy of the empty store is kept", exc_info=True)


def discard(path: Path) -> None:
    """Empties a file that `fill` has filled, and removes the copy, which the installed MLflow refuses."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(":memory:")) as empty,
        contextlib.closing(sqlite3.connect(path)) as store,
    ):
        empty.backup(store)
    _remove_copies()


def _remove_copies() -> None:
    with contextlib.suppress(OSError):
        for path in _folder().glob(f"{_prefix()}*.db"):
            path.unlink(missing_ok=True)


def _content() -> bytes | None:
    """Returns the copy, None if there is no undamaged one."""
    prefix = _prefix()
    for path in _folder().glob(f"{prefix}*.db"):
        content = path.read_bytes()
        if path.stem == f"{prefix}{_digest(content)}":
            return content
    return None


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "residual-attention-networks"


def _prefix() -> str:
    """Returns how the names of copies for the installed MLflow begin: a hash of its version and its migrations."""
    parts = [importlib.metadata.version(package) for package in ("mlflow", "sqlalchemy", "alembic")]
    spec = find_spec("mlflow")
    for folder in spec.submodule_search_locations or () if spec else ():
        scripts = Path(folder, "store", "db_migrations", "versions").glob("*.py")
        parts += sorted(f"{script.name} {script.stat().st_size}" for script in scripts)
    return f"mlflow-{_digest(chr(10).join(parts).encode())}-"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
