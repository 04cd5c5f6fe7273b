"""The log of one run: sent to the tracking store, or kept in a file while the store is unavailable.

Entries are buffered in memory until `flush`, which the training loop calls before it makes its steps permanent. Entries
that the store does not take then are written to spool.json in the run's folder, and sent again at each later flush, at
the end of the launch, and by the next launch. So after a kill at any moment each point is in the store, in the spool
file, or computed again; and a point that the store already has is not written twice.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.tracking import spool
from experiments.tracking.errors import StoreUnavailable, Superseded, TrackingError
from experiments.tracking.records import RunOpening
from experiments.tracking.store import Store
from experiments.tracking.system_metrics import SystemMetrics
from records import names
from records.files import writing
from records.secrets import mask_secrets, mask_values

logger = logging.getLogger(__name__)

ARTIFACTS = "artifacts"
RETRY_SECONDS = 10.0
"""shortest time between two attempts while the store is unavailable. It is longer if an attempt takes long: ten times
its duration, so that attempts cost training a tenth of its time."""


class RunLog:
    """The log of one run as a list of entries: first `open`, then points, tags and artifacts, last `close`."""

    def __init__(self, store: Store, folder: Path, entries: list[dict[str, Any]], confirm: Callable[[], None]):
        self._store, self._folder = store, folder
        self._confirm = confirm
        self._entries = entries
        self._safe = len(entries)
        """number of entries that the spool file has"""
        self._opened: dict[str, Any] = {}
        """the `open` entry, with the run's id; a spool file starts with it"""
        self._run_id: str | None = None
        self._seen: set[tuple[str, int]] | None = None
        """points that the store has; None = not known, ask the store"""
        self._retry_at = 0.0
        self._spooled = bool(entries)
        self._trains = False
        self._absent = False
        """whether the store is known not to have the run; unknown again after a lost answer"""
        self._system_metrics: SystemMetrics | None = None

    @classmethod
    def open(
        cls, store: Store, folder: Path, opening: RunOpening, confirm: Callable[[], None], *, absent: bool = False
    ) -> "RunLog":
        """Returns the log of a run that starts or resumes now, preceded by what an earlier attempt left in the spool.

        `confirm` is called before each write to the store and raises LeaseLost if this process may not write any more.
        `absent`: the caller holds the lease on the run and knows that the store does not have it. Raises Superseded if
        the store has a result of this run after all.
        """
        entries = spool.read(folder, store.uri)
        log = cls(store, folder, entries, confirm)
        log._trains = True
        log._absent = absent and not entries
        before = [entry["resumes"] for entry in entries if entry["do"] == "open"]
        log._append("open", **asdict(opening) | {"resumes": max([opening.resumes, *(n + 1 for n in before)])})
        log.flush(sync=False)
        return log

    @classmethod
    def waiting(cls, store: Store, folder: Path, confirm: Callable[[], None]) -> "RunLog":
        """Returns the log in a folder's spool file, to deliver it. Raises SpoolError if it is for another store."""
        return cls(store, folder, spool.read(folder, store.uri), confirm)

    @property
    def artifacts(self) -> Path:
        """The folder in which an artifact is written before it is logged."""
        return self._folder / ARTIFACTS

    @property
    def is_result(self) -> bool:
        """Whether the last entry is a result of the run."""
        results = (names.FINISHED, names.DIVERGED)
        return bool(self._entries) and self._entries[-1].get("outcome") in results

    def _append(self, do: str, **what: Any) -> None:
        self._entries.append({"do": do, **what})

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if len(self._entries) == self._safe or self._entries[-1]["do"] != "points":
            self._append("points", points=[])
        now = _now_ms()
        self._entries[-1]["points"] += [[key, step, value, now] for key, value in values.items()]

    def tag(self, name: str, value: str) -> None:
        self._append("tags", tags={name: mask_secrets(value)})

    def artifact(self, name: str) -> None:
        """Logs the file with this name in the folder `artifacts`; the file is removed when the store has it."""
        if not spool.is_plain_name(name):
            raise ValueError(f"an artifact needs a plain file name, got {name!r}")
        self._append("artifact", name=name)

    def json(self, name: str, content: Mapping[str, Any]) -> None:
        self._file(name, json.dumps(mask_values(content), indent=2))

    def text(self, name: str, content: str) -> None:
        self._file(name, mask_secrets(content))

    def _file(self, name: str, content: str) -> None:
        path = self.artifacts / name
        with writing(path):
            self.artifacts.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode(errors="backslashreplace"))  # whatever the user's locale is
        self.artifact(name)

    def drop_points(self) -> None:
        """Discards the points since the last flush: no checkpoint has their steps, so they are computed again.

        The code may have been fixed by then, and the store keeps the first of two points of a step.
        """
        since = [entry for entry in self._entries[self._safe :] if entry["do"] != "points"]
        self._entries = self._entries[: self._safe] + since

    def close(self, outcome: str, reason: str = "") -> bool:
        """Ends the run; returns whether the store has everything."""
        self._stop_system_metrics()
        self._append("close", outcome=outcome, reason=mask_secrets(reason)[:500], end_ms=_now_ms())
        return self.flush()

    def flush(self, *, sync: bool = True) -> bool:
        """Writes all entries to the store, or else to the spool file; returns whether the store has everything.

        Without `sync` a power cut may lose them, until the next flush.

        Raises WriteError if neither can be written. Raises TrackingError, with the entries in the spool file, if the
        store reports a permanent error, e.g. because its run was deleted. Raises Superseded if another launch has a
        result of the run or has taken it over; then nothing is written.
        """
        if time.monotonic() >= self._retry_at:
            began = time.monotonic()
            try:
                self._confirm()
                if self._entries:
                    self._deliver()
                    if sync:
                        self._store.sync()
            except StoreUnavailable as error:
                if self._trains and self._retry_at == 0.0:
                    logger.warning("%s; training continues, and its log is kept in %s", error, self._folder)
                ended = time.monotonic()
                self._retry_at = ended + max(RETRY_SECONDS, 10 * (ended - began))
                self._seen = None  # the failed call may have written some
            except Superseded:
                self._stop_system_metrics()
                raise
            except TrackingError:
                if self._entries:
                    self._spool()
                raise
        if self._entries:
            self._spool()
        elif self._spooled:
            spool.remove(self._folder)
            self._spooled = False
        self._safe = len(self._entries)
        return not self._entries

    def _spool(self) -> None:
        opened = [] if self._entries[0]["do"] == "open" else [self._opened]
        spool.write(self._folder, self._store.uri, [*opened, *self._entries])
        self._spooled = True

    def _deliver(self) -> None:
        """Sends the entries to the store one by one. Each is idempotent, so it can be repeated after a lost answer."""
        while self._entries:
            entry = self._entries[0]
            self._confirm()
            if entry["do"] == "open":
                opening = RunOpening(**{key: value for key, value in entry.items() if key != "do"})
                absent, self._absent = self._absent, False
                self._run_id, existed = self._store.open_run(
                    opening, absent=absent, closed_ms=self._entries[-1].get("end_ms"), confirm=self._confirm
                )
                self._opened = {**entry, "run_id": self._run_id}
                if not existed:
                    self._seen = set()
            else:
                self._send(entry)
            del self._entries[0]
        if self._retry_at:
            logger.warning("the tracking store answers again; everything kept in %s is delivered", self._folder)
            self._stop_system_metrics()
            self._retry_at = 0.0
        self._start_system_metrics()

    def _send(self, entry: Mapping[str, Any]) -> None:
        store, run_id = self._store, self._run_id
        assert run_id is not None, "the first entry opens the run"
        match entry["do"]:
            case "points":
                if self._seen is None:
                    self._seen = store.points(run_id)
                points, new = [], set()
                for point in entry["points"]:
                    where = (point[0], point[1])
                    if where not in self._seen and where not in new:
                        points.append(point)
                        new.add(where)
                self._confirm()
                store.log_points(run_id, points)
                self._seen |= new
            case "tags":
                store.set_tags(run_id, entry["tags"])
            case "artifact":
                path = self.artifacts / entry["name"]
                # Else the store has it, and the process died before it removed the entry; or it is not ours.
                if path.is_file() and not path.is_symlink():
                    store.log_file(run_id, path)
                    with writing(path):
                        path.unlink(missing_ok=True)
            case "close":
                store.close_run(run_id, entry["outcome"], entry["reason"], entry["end_ms"])
                self._run_id = None

    def _start_system_metrics(self) -> None:
        if self._trains and self._system_metrics is None and self._run_id is not None:
            self._system_metrics = SystemMetrics(self._run_id, self._store.uri)
            self._system_metrics.start()

    def _stop_system_metrics(self) -> None:
        if self._system_metrics is not None:
            self._system_metrics.finish()
            self._system_metrics = None


def _now_ms() -> int:
    return int(time.time() * 1000)
