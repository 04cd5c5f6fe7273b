"""URIs of tracking stores: the default, and the file behind a sqlite URI."""

import os
from pathlib import Path
from urllib.parse import unquote

DEFAULT_URI = "sqlite:///mlflow.db"


def resolve_uri(uri: str | None) -> str:
    """Returns the tracking URI: the given one, else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def is_sqlite(uri: str) -> bool:
    """Whether a URI names a sqlite store, with or without a driver (sqlite+pysqlite://)."""
    return uri.partition("://")[0].partition("+")[0].lower() == "sqlite"


def sqlite_path(uri: str) -> Path | None:
    """Returns the file behind a sqlite URI, there or not; None for other stores and for one in memory."""
    name = uri.partition("://")[2].removeprefix("/").partition("?")[0]
    if not is_sqlite(uri) or name in ("", ":memory:"):
        return None
    return next((path for path in (Path(name), Path(unquote(name))) if path.exists()), Path(name))


def absolute(uri: str) -> str:
    """Returns the URI by which a process in another working directory finds the store."""
    path = sqlite_path(uri)
    if path is None:
        return uri
    query = uri.partition("?")[2]
    return f"{uri.partition('://')[0]}:///{path.absolute()}{query and f'?{query}'}"


def artifact_location(uri: str, dataset: str) -> str | None:
    """Returns where the experiment of a data set keeps its artifacts; None: where the store itself chooses.

    Artifacts of a sqlite store lie beside it, independent of the folder in which a later command starts.
    """
    path = sqlite_path(uri)
    return None if path is None else f"{(path.resolve().parent / 'mlruns').as_uri()}/{dataset}"
