"""The folder of Ray's session on this machine, whose name must be short: the name of a socket has at most 107 bytes."""

import os
import tempfile
from collections.abc import Sequence

from experiments.placement import PlacementError

LONGEST = 107
SHORT = ("/tmp", "/var/tmp", "/dev/shm")
_WITHIN = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""the longest name below the temporary folder, with the largest process id of Linux"""


def session_folder(short: Sequence[str] = SHORT) -> str | None:
    """Returns a new folder for Ray's session; None if Ray's own choice, the temporary folder, has a short name.

    Raises PlacementError if there is no such folder.
    """
    usual = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if len(os.fsencode(os.path.abspath(usual) + _WITHIN)) <= LONGEST:
        return None
    for folder in short:
        if os.access(folder, os.W_OK | os.X_OK):
            return tempfile.mkdtemp(prefix="ray-", dir=folder)
    raise PlacementError(
        f"the name of the temporary folder {usual} is too long for the sockets of Ray: set RAY_TMPDIR to a folder with "
        f"a name of at most {LONGEST - len(_WITHIN)} characters, or train in this process with --workers 1"
    )
