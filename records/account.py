"""The user that a command runs as, who may have neither a name nor a home folder, as in containers and services."""

import getpass
import os
import tempfile
from pathlib import Path


def prepare_account() -> None:
    """Gives this process and those that it starts a user name and a home folder, if the user has none.

    MLflow, Ray and PyTorch fail without them. The folder is a private one in the temporary folder.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # a user id without an entry, as of `docker run --user 12345`
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
    if not _has_home():
        os.environ["HOME"] = _private_folder()


def _has_home() -> bool:
    """Whether the home folder exists, or can be made. One that is there but read-only counts: it holds settings."""
    try:
        home = Path.home()
    except RuntimeError:
        return False
    there = next(folder for folder in (home, *home.absolute().parents) if folder.exists())
    return os.access(there, os.W_OK) or there == home != Path("/")


def _private_folder() -> str:
    """A folder of this user alone: the same each time, unless another user has taken its name."""
    folder = os.path.join(tempfile.gettempdir(), f"home-of-{os.getuid()}")
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        status = os.lstat(folder)
        if status.st_uid != os.getuid() or status.st_mode & 0o40077 != 0o40000:
            return tempfile.mkdtemp(prefix="home-")
    return folder
