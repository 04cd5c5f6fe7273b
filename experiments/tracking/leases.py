"""Leases on runs, held in the tracking store, so that launches on several machines can share a study.

A lease is a registered model named ran-claim-<run>-<n> that exists while the run is trained. The store creates a name
only once, whoever asks first; MLflow has no other operation that two clients cannot both believe they have won. A name
is free again when nobody has a lease on the run, so each lease also has a random token. The owner renews its lease. A
lease that was not renewed for LEASE_SECONDS is expired, and whoever creates number n + 1 takes over; the newest number
is the one that counts. A process that was stopped for longer than that, by Ctrl-Z or with its machine, finds another
one before it writes again (`Leases.confirm`).

Two deaths are noticed sooner. The kernel releases the folder lock of a dead process on this machine. And a launch with
workers gives a run to one worker at a time, so an earlier lease of the same launch is of a dead worker.
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

from experiments.tracking.errors import LeaseLost, StoreUnavailable, TrackingError, asking
from experiments.tracking.store import Store
from records.files import locked_file

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

logger = logging.getLogger(__name__)

LEASE_SECONDS = 300.0
RENEW_SECONDS = 30.0
CONFIRM_SECONDS = 5.0
"""longest time for which a lease is taken to be ours without a look at the store"""
TURN_SECONDS = 30.0
"""longest time that `in_turn` waits for another launch"""
PREFIX = "ran-claim"
NO_REGISTRY = {"NOT_IMPLEMENTED", "RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "PERMISSION_DENIED"}
"""error codes of a store without a model registry, or with one that we must not use"""
OWNER, RENEWED, LAUNCH, TOKEN = "owner", "renewed", "launch", "token"


@dataclass(frozen=True, kw_only=True)
class _Lease:
    name: str
    key: str
    number: int
    owner: str
    launch: str
    age: float
    """seconds since the last renewal, by the clocks of the owner and of this machine"""
    token: str
    """"" in a lease of an earlier version"""


@dataclass(frozen=True)
class _Own:
    """A lease that this process has created."""

    name: str
    token: str

    def matches(self, lease: _Lease) -> bool:
        """Whether a lease of the store is this one, and not a later one of the same name."""
        return (self.name, self.token) == (lease.name, lease.token)


@dataclass
class _Held:
    """What this process holds on a run."""

    own: _Own | None
    """None if the store was unavailable, so that there is no lease yet"""
    alone: bool
    seen: tuple[float, float]
    """`_clocks` when the store was last seen to have this lease as the newest"""
    lost: bool = False


class Leases:
    """The leases of one launch. Used as a context manager, within which it renews those that it holds."""

    def __init__(self, store: Store, checkpoints: Path, launch: str | None = None):
        """`launch`: id of the launch whose worker this process is; None = the process is a launch of its own."""
        self.launch = launch or uuid.uuid4().hex
        """id of the launch, the same in its workers"""
        self._uri, self._client = store.uri, store.client
        self._owner = _owner(checkpoints)
        self._held: dict[str, _Held] = {}
        """by key"""
        self._over = threading.Event()
        self._unsupported = False
        self._thread = threading.Thread(target=self._renew, name="leases", daemon=True)

    def __enter__(self) -> "Leases":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()

    @contextlib.contextmanager
    def acquire(self, key: str, *, alone: bool) -> Iterator[str | None]:
        """Holds the lease on `key` during the block; yields None, or the owner of another lease that is alive.

        `alone`: whether this process holds the lock of the run's folder, so that an earlier lease taken through the
        same folder is of a dead process. Yields None while the store is unavailable: nobody else can get a lease
        either, and of two results the second is not counted. `confirm` then tries again.
        """
        asked = _clocks()
        try:
            own, other = self._try_acquire(key, alone)
        except StoreUnavailable as error:
            logger.warning("%s; the run has no lease there", error)
            own, other = None, None
        if other is not None or self._unsupported:
            yield other
            return
        held = self._held[key] = _Held(own, alone, asked)
        try:
            yield None
        finally:
            self._held.pop(key, None)
            if held.own is not None:
                self._give_back(key, held.own)

    def confirm(self, key: str) -> None:
        """Makes sure that the run which this process holds by `acquire` is still its own; to call before each write.

        Asks the store if CONFIRM_SECONDS have passed since it was last asked, by either clock. Raises LeaseLost if
        another launch has taken the run over; then nothing more may be written. Raises StoreUnavailable.
        """
        held = self._held.get(key)
        if held is None or self._unsupported:
            return
        if held.own is None:
            asked = _clocks()
            held.own, other = self._try_acquire(key, held.alone)
            if other is not None:
                raise LeaseLost(f"{other} is training it")
            held.seen = asked
        elif not held.lost and _seconds_since(held.seen) > CONFIRM_SECONDS:
            self._look(key, held)
        if held.lost:
            raise LeaseLost("another launch has taken it over, since this one was stopped or out of touch for too long")

    def _look(self, key: str, held: _Held) -> None:
        """Asks the store whether a lease is there and the newest of its run."""
        asked = _clocks()
        leases = self._find(f"{key}-")
        if held.own is not None and leases and held.own.matches(leases[-1]):
            held.seen = asked
        else:
            held.lost = True

    def left_here(self) -> set[str]:
        """Returns the keys leased through this folder by other processes, alive or dead."""
        return {lease.key for lease in self._find("") if lease.owner == self._owner and not self._is_held(lease)}

    def drop(self, key: str) -> None:
        """Removes the leases on a run that is done, which remain if a process was killed before it removed them."""
        for lease in self._find(f"{key}-"):
            self._delete(lease.name)

    def _try_acquire(self, key: str, alone: bool) -> tuple[_Own | None, str | None]:
        """The lease that was created, or the owner of another."""
        if self._unsupported:
            return None, None
        # Nearly always nobody holds a lease on it; then two calls are enough.
        token = uuid.uuid4().hex
        first = _Own(f"{PREFIX}-{key}-0", token)
        if not self._create(first):
            if self._unsupported:
                return None, None
        elif len(found := self._find(f"{key}-")) == 1 and first.matches(found[0]):
            return first, None
        else:
            self._delete(first.name)
        leases = self._find(f"{key}-")
        if leases and not self._is_dead(leases[-1], alone):
            return None, leases[-1].owner
        number = leases[-1].number + 1 if leases else 0
        own = _Own(f"{PREFIX}-{key}-{number}", token)
        if not self._create(own):
            return None, None if self._unsupported else "another launch"
        leases = self._find(f"{key}-")
        newer = [lease for lease in leases if lease.number > number]
        for lease in leases:
            # A newer one was created while this machine slept: remove ours. Else remove those of the dead.
            if own.matches(lease) if newer else lease.number < number:
                self._delete(lease.name)
        return (None, newer[-1].owner) if newer else (own, None)

    def _create(self, own: _Own) -> bool:
        """Whether the lease was created; False if the name exists already, or the store has no registry."""
        from mlflow.exceptions import MlflowException

        with asking(self._uri):
            try:
                tags = {OWNER: self._owner, RENEWED: str(time.time()), LAUNCH: self.launch, TOKEN: own.token}
                note = "In training now; see experiments/tracking/leases.py."
                self._client.create_registered_model(own.name, tags, note)
            except MlflowException as error:
                if error.error_code == "RESOURCE_ALREADY_EXISTS":
                    return False
                if error.error_code not in NO_REGISTRY:
                    raise
                logger.warning("the tracking store has no model registry: launches on other machines are not noticed")
                self._unsupported = True
                return False
        return True

    def _give_back(self, key: str, own: _Own) -> None:
        """Removes a lease unless another process has one of its name by now."""
        with contextlib.suppress(TrackingError):
            if any(map(own.matches, self._find(f"{key}-"))):
                self._delete(own.name)

    def _delete(self, name: str) -> None:
        with contextlib.suppress(TrackingError), asking(self._uri):
            self._client.delete_registered_model(name)

    def _find(self, beginning: str) -> list[_Lease]:
        """The leases whose keys start like this, sorted by number."""
        with asking(self._uri):
            found = self._client.search_registered_models(f"name LIKE '{PREFIX}-{beginning}%'", max_results=1_000)
        leases = [_lease(model) for model in found if re.fullmatch(rf"{PREFIX}-[\w-]+-\d+", model.name)]
        return sorted(leases, key=lambda lease: lease.number)

    def _is_dead(self, lease: _Lease, alone: bool) -> bool:
        ours = lease.launch == self.launch or (alone and lease.owner == self._owner)
        return lease.age > LEASE_SECONDS or (ours and not self._is_held(lease))

    def _is_held(self, lease: _Lease) -> bool:
        return any(held.own is not None and held.own.matches(lease) for held in list(self._held.values()))

    def _renew(self) -> None:
        from mlflow import MlflowClient

        client = MlflowClient(self._uri, self._uri)
        while not self._over.wait(RENEW_SECONDS):
            for key, held in list(self._held.items()):
                if held.own is None or held.lost:
                    continue
                with contextlib.suppress(Exception):  # the store is unavailable; the next attempt is soon enough
                    self._look(key, held)
                    if not held.lost:
                        client.set_registered_model_tag(held.own.name, RENEWED, str(time.time()))


@contextlib.contextmanager
def in_turn(key: str, checkpoints: Path, leases: Leases) -> Iterator[None]:
    """Runs the block in one launch at a time, among all launches that share the tracking store.

    After TURN_SECONDS of waiting for another launch it runs the block anyway: twice is better than never.
    """
    until = time.monotonic() + TURN_SECONDS
    with locked_file(checkpoints / "launch.lock"):
        while True:
            with leases.acquire(key, alone=True) as other:
                if other is None or time.monotonic() > until:
                    yield
                    return
            time.sleep(0.2)


def _clocks() -> tuple[float, float]:
    """Returns the seconds since the start of the machine, with those of its suspension if it can tell; and the time."""
    clock = getattr(time, "CLOCK_BOOTTIME", None) or getattr(time, "CLOCK_MONOTONIC", None)
    return (time.monotonic() if clock is None else time.clock_gettime(clock)), time.time()


def _seconds_since(clocks: tuple[float, float]) -> float:
    """Returns the seconds since `_clocks` returned this, by the clock that says more."""
    return max(abs(now - then) for now, then in zip(_clocks(), clocks, strict=True))


def _lease(model: "RegisteredModel") -> _Lease:
    key, _, number = model.name.removeprefix(f"{PREFIX}-").rpartition("-")
    try:
        age = time.time() - float(model.tags.get(RENEWED, ""))
    except ValueError:  # the owner has not written it yet, or somebody changed it
        age = time.time() - model.last_updated_timestamp / 1000
    owner, launch = model.tags.get(OWNER, "unknown"), model.tags.get(LAUNCH, "")
    return _Lease(
        name=model.name, key=key, number=int(number), owner=owner, launch=launch, age=age,
        token=model.tags.get(TOKEN, ""),
    )  # fmt: skip


def _owner(checkpoints: Path) -> str:
    """This machine and folder: launches with the same owner see each other's folder locks."""
    stat = checkpoints.stat()
    return f"{platform.node()} ({stat.st_dev:x}-{stat.st_ino:x})"
