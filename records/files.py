"""Files that appear whole or not at all, and survive a power cut."""

import contextlib
import errno
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from records.errors import UserError


class WriteError(UserError):
    """State that cannot be written: the disk is full, read-only or gone. What was written before is still there."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the OSErrors of a block that writes `path` into WriteError."""
    try:
        yield
    except OSError as error:
        obstacle = next((folder for folder in path.parents if os.path.isfile(folder)), None)
        reason = f"{obstacle} is not a folder" if obstacle is not None else error.strerror or error
        raise WriteError(f"cannot write {path}: {reason}") from error


@contextlib.contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Holds a lock, of which `path` is the file, during the block; the kernel releases that of a dead process.

    Raises WriteError if the file cannot be one, e.g. because it is a folder or a link. On a file system without locks
    the block runs unprotected.
    """
    lock = kernel_lock(path)
    with writing(path):
        try:
            lock.acquire()
        except (NotImplementedError, OSError) as error:
            if not _without_locks(error):
                raise
    try:
        yield
    finally:
        lock.release()


def kernel_lock(path: Path) -> FileLock:
    """Returns a lock that the kernel releases when its process dies, not yet acquired.

    On a file system without locks `acquire` raises NotImplementedError or an OSError. By itself filelock makes a file
    there that means "locked", and that a killed process leaves for ever.
    """
    options: dict[str, Any] = {_SOFT: False} if _SOFT in _OPTIONS else {}
    return FileLock(path, **options)


_SOFT = "fallback_to_soft"  # of newer versions of filelock; older ones have no such fallback
_OPTIONS = inspect.signature(FileLock.__init__).parameters


def _without_locks(error: OSError | NotImplementedError) -> bool:
    """Returns whether an error of `acquire` says that the file system has no locks."""
    return isinstance(error, NotImplementedError) or error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file and its folder: under a temporary name, synced, then renamed; text as UTF-8. Raises WriteError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.unlink(missing_ok=True)
            with open(temporary, "xb", opener=_not_through_a_link) as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _not_through_a_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _sync_folder(folder: Path) -> None:
    """The new name itself must survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
