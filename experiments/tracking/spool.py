"""The spool file of a run: log entries that the tracking store has not taken yet."""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from records import names
from records.errors import UserError
from records.files import write_whole, writing
from records.mlflow_uri import absolute
from records.reading import UnreadableError, parse_object, read_bytes
from records.secrets import mask_secrets

logger = logging.getLogger(__name__)

SPOOL = "spool.json"
"""name of the file in the run's folder"""
MOST_BYTES = 2**30


class SpoolError(UserError):
    """A spool file that belongs to another store."""


def write(folder: Path, uri: str, entries: list[dict[str, Any]]) -> None:
    """Writes the spool file, with a checksum. Raises WriteError."""
    content = json.dumps({"store": _spelled(uri), "entries": entries})
    write_whole(folder / SPOOL, f"{content}\n{hashlib.sha256(content.encode()).hexdigest()}".encode())


def read(folder: Path, uri: str) -> list[dict[str, Any]]:
    """Returns the entries that wait for the store. Raises SpoolError if they wait for another store.

    A file that is damaged, or that this program did not write, is renamed and counts as empty.
    """
    path = folder / SPOOL
    if not path.exists():
        return []
    found = _parsed(path)
    if found is None:
        with writing(path):
            os.replace(path, path.with_suffix(".damaged"))
        logger.warning("%s is damaged: the points that waited in it are lost (it is kept as spool.damaged)", path)
        return []
    if _spelled(found["store"]) != _spelled(uri):
        raise SpoolError(f"{path} waits for {found['store']}; --tracking-uri with that store delivers it")
    return found["entries"]


def _spelled(uri: str) -> str:
    """The store as every process names it: a worker, or a launch in another folder, has another working directory."""
    return mask_secrets(absolute(uri))


def _parsed(path: Path) -> dict[str, Any] | None:
    """Returns the content of a spool file; None if it is damaged or has entries that `RunLog` does not make."""
    try:
        content, _, digest = read_bytes(path, MOST_BYTES).rpartition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            return None
        found = parse_object(content)
    except (OSError, UnreadableError):
        return None
    store, entries = found.get("store"), found.get("entries")
    whole = isinstance(store, str) and isinstance(entries, list) and all(map(_is_entry, entries))
    return found if whole and entries and entries[0]["do"] == "open" else None


def _is_entry(entry: Any) -> bool:
    """Whether a log can send this to the store; an artifact, from no other folder than the run's."""
    if not isinstance(entry, dict):
        return False
    match entry.get("do"):
        case "open":
            texts = _is_texts(entry.get("tags")) and _is_texts(entry.get("params"))
            return texts and isinstance(entry.get("run_id", 0), str | None) and _has(entry, OPENING)
        case "points":
            points = entry.get("points")
            return isinstance(points, list) and all(map(_is_point, points))
        case "tags":
            return _is_texts(entry.get("tags"))
        case "artifact":
            return is_plain_name(entry.get("name"))
        case "close":
            types = {"outcome": str, "reason": str, "end_ms": int}
            return _has(entry, types) and entry["outcome"] in names.MLFLOW_STATUS
    return False


OPENING = {"dataset": str, "digest": str, "parent_id": str, "name": str, "fingerprint": str, "start_ms": int,
           "resumes": int}  # fmt: skip
"""fields of an opening besides its tags, its parameters and its run_id"""


def _has(entry: dict[str, Any], types: dict[str, type]) -> bool:
    known = {"do", "tags", "params", "run_id", *types}
    return entry.keys() <= known and all(type(entry.get(key)) is kind for key, kind in types.items())


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_point(point: Any) -> bool:
    if not isinstance(point, list) or len(point) != 4:
        return False
    key, step, value, ms = point
    return isinstance(key, str) and type(step) is int and type(value) in (int, float) and type(ms) is int


def is_plain_name(name: Any) -> bool:
    """Whether this is the name of a file without any folder."""
    return isinstance(name, str) and Path(name).name == name and name not in ("", ".", "..")


def remove(folder: Path) -> None:
    """Removes the spool file, if there is one. Raises WriteError."""
    with writing(folder / SPOOL):
        (folder / SPOOL).unlink(missing_ok=True)
