"""Who trains which run, agreed on in the tracking store, so that launches on several machines share a study.

A claim is a registered model named ran-claim-<run>-<n>, which exists while its run is trained. The store makes a name
once only, whoever asks first; there is no other operation of MLflow that two clients cannot both believe they have
won. Its owner renews it; one that was not renewed for LEASE seconds is dead, and who makes number n + 1 takes over.
Of a launch on this machine the lock of its run's folder tells sooner: the kernel releases a dead process's. And a
launch with workers gives a run to one of them at a time: what it claimed elsewhere before is of a worker that died.
"""

import contextlib
import logging
import platform
import re
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from experiments.tracking.store import Store, StoreAway, TrackingError, asking

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

logger = logging.getLogger(__name__)

LEASE = 300.0
PARENT_WAIT = 30.0
"""seconds that a launch waits for another to write the same parent"""
RENEW = 30.0
PREFIX = "ran-claim"
NO_REGISTRY = {"NOT_IMPLEMENTED", "RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "PERMISSION_DENIED"}
"""what a store answers that has no model registry, or none for us"""
OWNER, RENEWED, LAUNCH = "owner", "renewed", "launch"


@dataclass(frozen=True)
class _Claim:
    name: str
    what: str
    number: int
    owner: str
    launch: str
    age: float
    """seconds since it was renewed, by the clocks of its owner and of this machine"""


class Claims:
    """The claims of one launch. Used as a context manager: it renews those that it holds."""

    def __init__(self, store: Store, checkpoints: Path, launch: str | None = None):
        """`launch`: of whose workers this process is one; None = a launch of its own."""
        self._launch = launch or uuid.uuid4().hex
        self._uri, self._client = store.uri, store.client
        self._owner = _owner(checkpoints)
        self._held: set[str] = set()
        self._over = threading.Event()
        self._unsupported = False
        self._thread = threading.Thread(target=self._renew, name="claims", daemon=True)

    def __enter__(self) -> "Claims":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()

    @contextlib.contextmanager
    def claimed(self, what: str, *, alone: bool) -> Iterator[str | None]:
        """Claims `what` for the time of the block; yields None, or the owner of a claim that is alive.

        `alone`: this process holds the lock of the run's folder, so that an earlier claim made through the same folder
        is of a dead process. While the store is away it yields None: nobody else can claim either, and of two results
        the second is not counted.
        """
        try:
            name, other = self._acquire(what, alone)
        except StoreAway as error:
            logger.warning("%s; the run is not claimed there", error)
            name, other = None, None
        if name is None:
            yield other
            return
        self._held.add(name)
        try:
            yield None
        finally:
            self._held.discard(name)
            self._delete(name)

    def left_here(self) -> set[str]:
        """Returns what is claimed through this folder by processes other than this one, alive or dead."""
        claims = self._claims("")
        return {c.what for c in claims if c.owner == self._owner and c.name not in self._held}

    def drop(self, what: str) -> None:
        """Removes the claims on what is done, which a process left that was killed before it could."""
        for claim in self._claims(f"{what}-"):
            self._delete(claim.name)

    def _acquire(self, what: str, alone: bool) -> tuple[str | None, str | None]:
        """The name of the claim that was made, or who holds another."""
        if self._unsupported:
            return None, None
        # Nearly always nobody has claimed it: then two calls do.
        first = f"{PREFIX}-{what}-0"
        if not self._make(first):
            if self._unsupported:
                return None, None
        elif [claim.name for claim in self._claims(f"{what}-")] == [first]:
            return first, None
        else:
            self._delete(first)
        claims = self._claims(f"{what}-")
        if claims and not self._is_dead(claims[-1], alone):
            return None, claims[-1].owner
        number = claims[-1].number + 1 if claims else 0
        name = f"{PREFIX}-{what}-{number}"
        if not self._make(name):
            return None, None if self._unsupported else "another launch"
        claims = self._claims(f"{what}-")
        newer = [claim for claim in claims if claim.number > number]
        for claim in claims:
            # One that is newer was made while this machine slept: then ours goes, else those of the dead.
            if claim.name == name if newer else claim.number < number:
                self._delete(claim.name)
        return (None, newer[-1].owner) if newer else (name, None)

    def _make(self, name: str) -> bool:
        """Whether the claim was made: no claim of that name is there, and the store has a registry."""
        from mlflow.exceptions import MlflowException

        with asking(self._uri):
            try:
                tags = {OWNER: self._owner, RENEWED: str(time.time()), LAUNCH: self._launch}
                self._client.create_registered_model(name, tags, "In training now; see experiments/tracking/leases.py.")
            except MlflowException as error:
                if error.error_code == "RESOURCE_ALREADY_EXISTS":
                    return False
                if error.error_code not in NO_REGISTRY:
                    raise
                logger.warning("the tracking store has no model registry: launches on other machines are not noticed")
                self._unsupported = True
                return False
        return True

    def _delete(self, name: str) -> None:
        with contextlib.suppress(TrackingError), asking(self._uri):
            self._client.delete_registered_model(name)

    def _claims(self, beginning: str) -> list[_Claim]:
        """The claims whose names begin like this, in the order of their numbers."""
        with asking(self._uri):
            found = self._client.search_registered_models(f"name LIKE '{PREFIX}-{beginning}%'", max_results=1_000)
        claims = [_claim(model) for model in found if re.fullmatch(rf"{PREFIX}-[\w-]+-\d+", model.name)]
        return sorted(claims, key=lambda claim: claim.number)

    def _is_dead(self, claim: _Claim, alone: bool) -> bool:
        ours = claim.launch == self._launch or (alone and claim.owner == self._owner)
        return claim.age > LEASE or (ours and claim.name not in self._held)

    def _renew(self) -> None:
        from mlflow import MlflowClient

        client = MlflowClient(self._uri, self._uri)
        while not self._over.wait(RENEW):
            for name in list(self._held):
                with contextlib.suppress(Exception):  # the store is away: the next time will do
                    client.set_registered_model_tag(name, RENEWED, str(time.time()))


def _claim(model: "RegisteredModel") -> _Claim:
    what, _, number = model.name.removeprefix(f"{PREFIX}-").rpartition("-")
    try:
        age = time.time() - float(model.tags.get(RENEWED, ""))
    except ValueError:  # its owner has not got so far, or somebody changed it
        age = time.time() - model.last_updated_timestamp / 1000
    return _Claim(model.name, what, int(number), model.tags.get(OWNER, "unknown"), model.tags.get(LAUNCH, ""), age)


def _owner(checkpoints: Path) -> str:
    """This machine and folder: launches that share it see each other's locks."""
    stat = checkpoints.stat()
    return f"{platform.node()} ({stat.st_dev:x}-{stat.st_ino:x})"


@contextlib.contextmanager
def in_turn(what: str, checkpoints: Path, claims: Claims) -> Iterator[None]:
    """Keeps a block to one launch at a time, of all that share the tracking store.

    One that has waited PARENT_WAIT seconds for another goes on all the same: better twice than never.
    """
    until = time.monotonic() + PARENT_WAIT
    with FileLock(checkpoints / "launch.lock"):
        while True:
            with claims.claimed(what, alone=True) as other:
                if other is None or time.monotonic() > until:
                    yield
                    return
            time.sleep(0.2)
