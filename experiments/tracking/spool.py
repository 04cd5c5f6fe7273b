"""The spool file of a run: log entries that the tracking store has not taken yet."""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from records.errors import UserError
from records.files import write_whole, writing
from records.secrets import mask_secrets

logger = logging.getLogger(__name__)

SPOOL = "spool.json"
"""name of the file in the run's folder"""


class SpoolError(UserError):
    """A spool file that belongs to another store."""


def write(folder: Path, uri: str, entries: list[dict[str, Any]]) -> None:
    """Writes the spool file, with a checksum. Raises WriteError."""
    content = json.dumps({"store": mask_secrets(uri), "entries": entries})
    write_whole(folder / SPOOL, f"{content}\n{hashlib.sha256(content.encode()).hexdigest()}".encode())


def read(folder: Path, uri: str) -> list[dict[str, Any]]:
    """Returns the entries that wait for the store. Raises SpoolError if they wait for another store.

    A damaged file is renamed and counts as empty.
    """
    path = folder / SPOOL
    if not path.exists():
        return []
    try:
        content, _, digest = path.read_text(encoding="utf-8").rpartition("\n")
        whole = hashlib.sha256(content.encode()).hexdigest() == digest
    except (OSError, ValueError):
        whole = False
    if not whole:
        with writing(path):
            os.replace(path, path.with_suffix(".damaged"))
        logger.warning("%s is damaged: the points that waited in it are lost (it is kept as spool.damaged)", path)
        return []
    content = json.loads(content)
    if content["store"] != mask_secrets(uri):
        raise SpoolError(f"{path} waits for {content['store']}; --tracking-uri with that store delivers it")
    return content["entries"]


def remove(folder: Path) -> None:
    """Removes the spool file, if there is one. Raises WriteError."""
    with writing(folder / SPOOL):
        (folder / SPOOL).unlink(missing_ok=True)
