"""The state of unfinished runs, copied to a place that every machine reaches: any URI that fsspec knows.

A run trains in a folder of its machine. What it writes there is copied to the URI after each checkpoint; a machine that
continues the run fetches what it lacks first.
"""

import contextlib
import getpass
import hashlib
import logging
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from experiments.tracking.spool import SPOOL
from records.errors import UserError, first_line
from records.files import WriteError, writing
from records.private_folder import check_own, make_private
from records.secrets import mask_secrets

logger = logging.getLogger(__name__)

_STEP = re.compile(r"step-(\d{8,})\.safetensors")


class RemoteError(UserError):
    """A URI for checkpoints that cannot be used; one line."""


@dataclass(frozen=True)
class RemoteCheckpoints:
    """A folder at a URI that holds a folder for each run, and the folder of this machine that it copies."""

    uri: str

    @property
    def local(self) -> Path:
        """Folder in which runs train on this machine: a temporary folder for each URI and user."""
        try:
            user = re.sub(r"\W", "_", getpass.getuser())
        except (KeyError, OSError):  # a container without a user entry
            user = "unknown"
        return Path(tempfile.gettempdir()) / f"ran-{user}" / hashlib.sha256(self.uri.encode()).hexdigest()[:16]

    def make_local(self) -> None:
        """Creates the folder of this machine, which nobody else can enter. Raises UserError if it is somebody else's.

        Everybody can write where it lies: what another user has put there before, even a link, is not used.
        """
        for folder in (self.local.parent, self.local):
            with writing(folder):
                make_private(folder)

    def check(self) -> None:
        """Raises RemoteError if nothing can be written there: unknown protocol, unreachable host, no permission.

        Raises UserError if the folder of this machine cannot be used.
        """
        self.make_local()
        with self._asking(RemoteError) as (system, root):
            if system.exists(root) and not system.isdir(root):
                raise RemoteError(f"--checkpoints {mask_secrets(self.uri)} is not a folder")
            system.makedirs(root, exist_ok=True)
            probe = f"{root}/.writable-{platform.node()}"
            system.pipe_file(probe, b"")
            system.rm_file(probe)

    def steps(self) -> dict[str, int]:
        """Returns the newest step of each run at the URI, by the name of its folder. Raises RemoteError."""
        found: dict[str, int] = {}
        with self._asking(RemoteError) as (system, root):
            for path in system.find(root) if system.exists(root) else []:
                *_, folder, name = path.split("/")
                if match := _STEP.fullmatch(name):
                    found[folder] = max(found.get(folder, 0), int(match[1]))
        return found

    def fetch_waiting(self) -> None:
        """Fetches the folders of runs whose log waits for the tracking store."""
        with self._asking(RemoteError) as (system, root):
            waiting = system.glob(f"{root}/*/{SPOOL}") if system.exists(root) else []
        for path in waiting:
            self.fetch(path.split("/")[-2])

    def fetch(self, name: str) -> None:
        """Fetches the checkpoints that a run's local folder lacks, and all its other files. Raises UserError."""
        self.make_local()
        folder = self.local / name
        with self._asking(WriteError) as (system, root):
            base = f"{root}/{name}"
            for path in system.find(base) if system.exists(base) else []:
                relative = path[path.index(f"/{name}/") + len(name) + 2 :]
                if ".." in relative.split("/"):  # object stores have such names too
                    continue
                target = folder / relative
                if not (_STEP.fullmatch(target.name) and target.exists()):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    partial = target.with_name(f".{target.name}.fetched")
                    partial.unlink(missing_ok=True)
                    system.get_file(path, str(partial))
                    partial.replace(target)

    def push(self, name: str) -> None:
        """Makes the folder of a run at the URI equal to the local one; removes its files if the local folder is gone.

        If the URI does not answer, a warning is logged: the run continues, and can be resumed on this machine only.
        """
        folder = self.local / name
        try:
            with self._asking(WriteError) as (system, root):
                base = f"{root}/{name}"
                here = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file() and _counts(p)}
                found = system.find(base) if system.exists(base) else []
                there = {path[path.index(f"/{name}/") + len(name) + 2 :] for path in found}
                # Steps last: a copy that breaks off has no step whose log entries it lacks.
                for relative, path in sorted(here.items(), key=lambda item: _STEP.fullmatch(item[1].name) is not None):
                    if not (_STEP.fullmatch(path.name) and relative in there):
                        system.makedirs(f"{base}/{relative}".rpartition("/")[0], exist_ok=True)
                        system.put_file(str(path), f"{base}/{relative}")  # a partial file is detected by its SHA-256
                for relative in there - here.keys():
                    system.rm_file(f"{base}/{relative}")
        except WriteError as error:
            logger.warning("%s; the run can be resumed from %s only", error, folder)

    @contextlib.contextmanager
    def _asking(self, kind: type[UserError]) -> Iterator[tuple[Any, str]]:
        """Yields the file system and the path of the folder in it. Errors of the protocol become `kind`."""
        try:
            system, root = fsspec.core.url_to_fs(self.uri, use_listings_cache=False)
            yield system, root.rstrip("/")
        except UserError:
            raise
        except Exception as error:  # raised by whatever library implements the protocol
            raise kind(f"--checkpoints {mask_secrets(self.uri)}: {first_line(error)}") from None


def _counts(path: Path) -> bool:
    """Returns whether a file is copied: locks belong to this machine, and a leading dot marks an unfinished file."""
    return path.name != "lock" and not path.name.startswith(".")


def checkpoint_root(place: str) -> tuple[Path, RemoteCheckpoints | None]:
    """Returns the folder in which runs train, and its copy at a URI if --checkpoints is one."""
    if "://" in place:
        remote = RemoteCheckpoints(place)
        for folder in (remote.local.parent, remote.local):
            if os.path.lexists(folder):  # a dry run reads there too, and creates nothing
                check_own(folder)
        return remote.local, remote
    return Path(place), None
