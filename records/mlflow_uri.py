"""URIs of tracking stores: the default, and the file behind a sqlite URI."""

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

DEFAULT_URI = "sqlite:///mlflow.db"


def resolve_uri(uri: str | None) -> str:
    """Returns the tracking URI: the given one, else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.

    A sqlite URI with the name of a folder as it stands ("sqlite:////data/50%20off #1/mlflow.db") is returned quoted, as
    SQLAlchemy 2.1 reads it.
    """
    given = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    path = sqlite_path(given)
    return given if path is None else _sqlite_uri(given, path)


def is_sqlite(uri: str) -> bool:
    """Whether a URI names a sqlite store, with or without a driver (sqlite+pysqlite://)."""
    return uri.partition("://")[0].partition("+")[0].lower() == "sqlite"


def sqlite_path(uri: str) -> Path | None:
    """Returns the file behind a sqlite URI, there or not; None for other stores and for one in memory."""
    name = _parts(uri)[1]
    if not is_sqlite(uri) or name in ("", ":memory:"):
        return None
    as_written, unquoted = Path(name), Path(unquote(name))
    if as_written.exists() or (as_written.parent.is_dir() and not unquoted.parent.is_dir()):
        return as_written
    return unquoted


def absolute(uri: str) -> str:
    """Returns the URI by which a process in another working directory finds the store."""
    path = sqlite_path(uri)
    return uri if path is None else _sqlite_uri(uri, path.absolute())


def _parts(uri: str) -> tuple[str, str, str]:
    """The scheme of a sqlite URI, its path as written, and its options with their "?"."""
    scheme, _, rest = uri.partition("://")
    # A "?" that no option follows belongs to the name of a folder.
    path, options = re.fullmatch(r"(.*?)(\?\w+=.*)?", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    return scheme, path.removeprefix("/"), options or ""


def _sqlite_uri(uri: str, path: Path) -> str:
    """The sqlite URI of a path, with the driver and options of `uri`."""
    scheme, _, options = _parts(uri)
    quoted = re.sub("[%?#]", lambda match: quote(match[0]), str(path))
    if quoted != str(path) and scheme == "sqlite":
        scheme = "sqlite+pysqlite"  # MLflow makes the folders of a plain sqlite URI, here one with a quoted name
    return f"{scheme}:///{quoted}{options}"


def artifact_location(uri: str, dataset: str) -> str | None:
    """Returns where the experiment of a data set keeps its artifacts; None: where the store itself chooses.

    Artifacts of a sqlite store lie beside it, independent of the folder in which a later command starts.
    """
    path = sqlite_path(uri)
    return None if path is None else f"{(path.resolve().parent / 'mlruns').as_uri()}/{dataset}"
