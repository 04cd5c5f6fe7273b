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
import sqlite3
from importlib.util import find_spec
from pathlib import Path

from records.errors import UserError
from records.files import write_whole
from records.private_folder import cache_folder, check_own, make_private

logger = logging.getLogger(__name__)


def content_of(path: Path) -> bytes:
    """Returns the sqlite file of an empty store, made from one that MLflow has just created. Raises sqlite3.Error."""
    with contextlib.closing(sqlite3.connect(":memory:")) as copy:
        with contextlib.closing(sqlite3.connect(path)) as store:
            store.backup(copy)
        # MLflow adds its default experiment, whose artifacts lie where the store is, as soon as it opens the copy.
        for table in ("experiment_tags", "experiments"):
            copy.execute(f"DELETE FROM {table}")
        copy.commit()
        copy.execute("VACUUM")
        return copy.serialize()


def remember(content: bytes) -> None:
    """Keeps a copy of an empty store. One that cannot be written is left out."""
    try:
        make_private(cache_folder())
        remove_copies()
        write_whole(cache_folder() / f"{_prefix()}{_digest(content)}.db", content)
    except (OSError, UserError):
        logger.debug("no copy of the empty store is kept", exc_info=True)


def remove_copies() -> None:
    """Removes the copies for the installed MLflow, e.g. because it refuses them."""
    with contextlib.suppress(OSError, UserError):
        for path in cache_folder().glob(f"{_prefix()}*.db"):
            path.unlink(missing_ok=True)


def remembered() -> bytes | None:
    """Returns the copy as the content of a sqlite file; None if there is no undamaged one of this user's."""
    with contextlib.suppress(OSError, UserError):
        folder, prefix = cache_folder(), _prefix()
        check_own(folder)
        for path in folder.glob(f"{prefix}*.db"):
            check_own(path)
            content = path.read_bytes()
            if path.stem == f"{prefix}{_digest(content)}" and _is_database(content):
                return content
    return None


def _is_database(content: bytes) -> bool:
    with contextlib.suppress(sqlite3.Error, MemoryError), contextlib.closing(sqlite3.connect(":memory:")) as copy:
        copy.deserialize(content)
        return copy.execute("SELECT count(*) FROM sqlite_master WHERE name = 'experiments'").fetchone() == (1,)
    return False


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
