"""The log of one run: to the tracking store while it answers, into a file while it does not.

What is logged waits in memory until `flush`, which the training loop calls before it makes its steps permanent. What
the store does not take then is written to spool.json in the run's folder, synced, and offered again: at each later
flush, at the end of the launch, and by the next launch. So after a kill at any moment a point is in the store, in the
spool or computed again; and what the store holds already is not written twice.
"""

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.tracking.store import Opening, Store, StoreAway, TrackingError
from records import names
from records.errors import UserError, mask_secrets
from records.files import write_whole, writing

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

logger = logging.getLogger(__name__)

SPOOL = "spool.json"
ARTIFACTS = "artifacts"
MONITOR_SECONDS = 2.0
RETRY_SECONDS = 10.0
"""between two attempts while the store is away, or ten times what one took: training loses a tenth of its time"""


class SpoolError(UserError):
    """A spool that waits for another store."""


class RunLog:
    """What one run logs, in order: it is opened, then points, tags and artifacts, then closed."""

    def __init__(self, store: Store, folder: Path, entries: list[dict[str, Any]]):
        self._store, self._folder = store, folder
        self._entries = entries
        self._safe = len(entries)
        """entries that are in the spool"""
        self._opened: dict[str, Any] = {}
        """the entry that opened the run, with its id; a spool begins with it"""
        self._run_id: str | None = None
        self._seen: set[tuple[str, int]] | None = None
        """points that the store has; None = it has to be asked"""
        self._retry_at = 0.0
        self._spooled = bool(entries)
        self._trains = False
        self._absent = False
        """whether the run is known not to be in the store; an answer that is lost ends that"""
        self._monitor: _Monitor | None = None

    @classmethod
    def open(cls, store: Store, folder: Path, opening: Opening, *, absent: bool = False) -> "RunLog":
        """Returns the log of a run that begins or goes on now; what an earlier attempt left in the spool goes first.

        `absent`: the store was just asked, by who has claimed the run, and has none. Raises Superseded if the store has
        a result of this run after all.
        """
        entries = _read(folder, store.uri)
        log = cls(store, folder, entries)
        log._trains = True
        log._absent = absent and not entries
        before = [entry["resumes"] for entry in entries if entry["do"] == "open"]
        log._put("open", **asdict(opening) | {"resumes": max([opening.resumes, *(n + 1 for n in before)])})
        log.flush(sync=False)
        return log

    @classmethod
    def waiting(cls, store: Store, folder: Path) -> "RunLog":
        """Returns the log that waits in a folder, to deliver it. Raises SpoolError if it waits for another store."""
        return cls(store, folder, _read(folder, store.uri))

    @property
    def artifacts(self) -> Path:
        """Where an artifact is written before it is logged."""
        return self._folder / ARTIFACTS

    @property
    def is_result(self) -> bool:
        """Whether what waits ends with a result of the run."""
        results = (names.FINISHED, names.DIVERGED)
        return bool(self._entries) and self._entries[-1].get("outcome") in results

    def _put(self, do: str, **what: Any) -> None:
        self._entries.append({"do": do, **what})

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if len(self._entries) == self._safe or self._entries[-1]["do"] != "points":
            self._put("points", points=[])
        now = _now_ms()
        self._entries[-1]["points"] += [[key, step, value, now] for key, value in values.items()]

    def tag(self, name: str, value: str) -> None:
        self._put("tags", tags={name: mask_secrets(value)})

    def artifact(self, name: str) -> None:
        """Logs the file of this name that was written into `artifacts`; it is removed when the store has it."""
        if Path(name).name != name or name in ("", ".", ".."):
            raise ValueError(f"an artifact is named by a file name, not {name!r}")
        self._put("artifact", name=name)

    def json(self, name: str, content: Mapping[str, Any]) -> None:
        self.text(name, json.dumps(content, indent=2))

    def text(self, name: str, content: str) -> None:
        path = self.artifacts / name
        with writing(path):
            self.artifacts.mkdir(parents=True, exist_ok=True)
            path.write_text(mask_secrets(content))
        self.artifact(name)

    def drop_points(self) -> None:
        """Forgets the points since the last flush: no checkpoint has their steps, so they are computed again.

        By other code perhaps, which was mended meanwhile; the store keeps the first of two points of a step.
        """
        since = [entry for entry in self._entries[self._safe :] if entry["do"] != "points"]
        self._entries = self._entries[: self._safe] + since

    def close(self, outcome: str, reason: str = "") -> bool:
        """Ends the run; returns whether the store has everything."""
        self._stop_monitor()
        self._put("close", outcome=outcome, reason=mask_secrets(reason)[:500], end_ms=_now_ms())
        return self.flush()

    def flush(self, *, sync: bool = True) -> bool:
        """Makes what was logged safe, in the store or else in the spool; returns whether the store has everything.

        Without `sync` a power cut may take it, and whatever was logged until the next flush.

        Raises WriteError if neither can be written, and TrackingError if the store refuses, as it does when its run
        was deleted meanwhile; then it lies in the spool.
        """
        if self._entries and time.monotonic() >= self._retry_at:
            began = time.monotonic()
            try:
                self._deliver()
                if sync:
                    self._store.sync()
            except StoreAway as error:
                if self._trains and self._retry_at == 0.0:
                    logger.warning("%s; training goes on, and its log waits in %s", error, self._folder)
                ended = time.monotonic()
                self._retry_at = ended + max(RETRY_SECONDS, 10 * (ended - began))
                self._seen = None  # what the failed call wrote is not known
            except TrackingError:
                self._spool()
                raise
        if self._entries:
            self._spool()
        elif self._spooled:
            with writing(self._folder / SPOOL):
                (self._folder / SPOOL).unlink(missing_ok=True)
            self._spooled = False
        self._safe = len(self._entries)
        return not self._entries

    def _spool(self) -> None:
        opened = [] if self._entries[0]["do"] == "open" else [self._opened]
        _write(self._folder, self._store.uri, [*opened, *self._entries])
        self._spooled = True

    def _deliver(self) -> None:
        """Hands the entries to the store one by one. Each may be repeated, as after an answer that was lost."""
        while self._entries:
            entry = self._entries[0]
            if entry["do"] == "open":
                opening = Opening(**{key: value for key, value in entry.items() if key != "do"})
                absent, self._absent = self._absent, False
                self._run_id, existed = self._store.open_run(opening, absent=absent)
                self._opened = {**entry, "run_id": self._run_id}
                if not existed:
                    self._seen = set()
            else:
                self._hand_over(entry)
            del self._entries[0]
        if self._retry_at:
            logger.warning("the tracking store answers again; it has everything that waited in %s", self._folder)
            self._stop_monitor()
            self._retry_at = 0.0
        self._start_monitor()

    def _hand_over(self, entry: Mapping[str, Any]) -> None:
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
                store.log_points(run_id, points)
                self._seen |= new
            case "tags":
                store.set_tags(run_id, entry["tags"])
            case "artifact":
                path = self.artifacts / entry["name"]
                if path.exists():  # else the store has it, and the process died before it could note that
                    store.log_file(run_id, path)
                    path.unlink()
            case "close":
                store.close_run(run_id, entry["outcome"], entry["reason"], entry["end_ms"])
                self._run_id = None

    def _start_monitor(self) -> None:
        """Starts to log the machine's metrics; the first point comes after 10 s."""
        if self._trains and self._monitor is None and self._run_id is not None:
            self._monitor = _Monitor(self._run_id, self._store.uri)
            self._monitor.start()

    def _stop_monitor(self) -> None:
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None


class _Monitor:
    """MLflow's system metrics of a run, started a little later: many runs are over before their first point."""

    def __init__(self, run_id: str, uri: str):
        self._of = (run_id, uri)
        self._timer = threading.Timer(MONITOR_SECONDS, self._begin)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._over = False
        self._metrics: SystemMetricsMonitor | None = None

    def start(self) -> None:
        self._timer.start()

    def _begin(self) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        run_id, uri = self._of
        with self._lock, contextlib.suppress(Exception):  # the store is away again; system metrics are worth no run
            if not self._over:
                self._metrics = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=uri)
                self._metrics.start()

    def finish(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._over = True
            if self._metrics is not None:
                self._metrics.finish()


def _now_ms() -> int:
    return int(time.time() * 1000)


def _write(folder: Path, uri: str, entries: list[dict[str, Any]]) -> None:
    content = json.dumps({"store": mask_secrets(uri), "entries": entries})
    write_whole(folder / SPOOL, f"{content}\n{hashlib.sha256(content.encode()).hexdigest()}".encode())


def _read(folder: Path, uri: str) -> list[dict[str, Any]]:
    """What waits for the store; a file that the disk has damaged is moved aside. Raises SpoolError."""
    path = folder / SPOOL
    if not path.exists():
        return []
    try:
        content, _, digest = path.read_text().rpartition("\n")
        whole = hashlib.sha256(content.encode()).hexdigest() == digest
    except (OSError, ValueError):
        whole = False
    if not whole:
        with writing(path):
            os.replace(path, path.with_suffix(".damaged"))
        logger.warning("%s is damaged: the points that waited in it are lost (it is kept as spool.damaged)", path)
        return []
    spool = json.loads(content)
    if spool["store"] != mask_secrets(uri):
        raise SpoolError(f"{path} waits for {spool['store']}; --tracking-uri with that store delivers it")
    return spool["entries"]
