"""Where the artifacts of a sqlite store lie after its folder was moved or copied: MLflow keeps absolute paths."""

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from records.mlflow_uri import sqlite_path

FOLDER = "mlruns"
"""folder beside the store that holds a folder for each experiment"""


def local_folder(location: str) -> Path | None:
    """Returns the folder behind an artifact location; None if it is not on this machine."""
    uri = urlsplit(location)
    return Path(url2pathname(uri.path)) if uri.scheme in ("", "file") else None


def moved_to(uri: str, location: str) -> Path | None:
    """Returns the folder beside a sqlite store that the artifacts of an experiment or a run have moved to.

    None if `location` still names their place, or has always been another than the folder beside the store.
    """
    store, folder = sqlite_path(uri), local_folder(location)
    if store is None or folder is None or FOLDER not in folder.parts:
        return None
    at = len(folder.parts) - 1 - folder.parts[::-1].index(FOLDER)
    named, beside = Path(*folder.parts[: at + 1]), store.resolve().parent / FOLDER
    if named.resolve() == beside or (named.exists() and not beside.exists()):
        return None
    return beside.joinpath(*folder.parts[at + 1 :])
