"""Folders that only their user can write, for files that are trusted because they lie there."""

import os
import stat
from pathlib import Path

from records.errors import UserError

PACKAGE = "residual-attention-networks"


class ForeignError(UserError):
    """A file or folder that another user owns or can write; one line."""


def cache_folder() -> Path:
    """Returns the user's cache folder for this project, which may not exist (XDG_CACHE_HOME, ~/.cache).

    Raises ForeignError if there is no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / PACKAGE
    except RuntimeError:
        raise ForeignError("there is no home folder; set XDG_CACHE_HOME") from None


def make_private(folder: Path) -> None:
    """Creates a folder that only this user can enter, or checks that an existing one is this user's.

    Raises ForeignError for a link, for the folder of another user and for one that others can write; OSError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        check_own(folder)


def check_own(path: Path) -> None:
    """Raises ForeignError unless a file or folder is this user's, is no link, and nobody else can write it.

    As ssh checks its keys. Systems without users (Windows) are not checked. Raises OSError if there is no such file.
    """
    if not hasattr(os, "geteuid"):
        return
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise ForeignError(f"{path} is a link; it is not used")
    if found.st_uid != os.geteuid():
        raise ForeignError(f"{path} belongs to another user (id {found.st_uid}); it is not used")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ForeignError(f"others can write {path}; it is not used until you `chmod go-w` it")
