"""The attempts of a run: the machine, the command and the way in which each part of it was computed.

They are kept in the run's folder, beside the checkpoints by which one attempt continues another, and logged as
provenance.json when an attempt ends.
"""

import contextlib
import datetime
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from records import names
from records.files import write_whole

UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """The attempts of a run so far, the last of which goes on in this process."""

    path: Path
    entries: tuple[Mapping[str, Any], ...]
    """JSON objects; of earlier attempts whose process died `ended`, times and outcome are None"""
    began: tuple[float, float]
    """readings of the clock and of the processor time, in seconds"""

    @classmethod
    def begin(cls, folder: Path, step: int, entry: Mapping[str, Any], *, fresh: bool) -> "Attempts":
        """Adds an attempt that trains from `step` to those in a run's folder; `fresh` forgets them. Raises WriteError.

        `entry` has at least the key "how".
        """
        path = folder / names.PROVENANCE_JSON
        this = {
            **entry, "first_step": step, "started": _now(), "ended": None, "wall_seconds": None, "cpu_seconds": None,
            "outcome": None,
        }  # fmt: skip
        entries = (*(() if fresh else _read(path)), this)
        attempts = cls(path=path, entries=entries, began=(time.monotonic(), time.process_time()))
        write_whole(path, json.dumps(attempts.content))
        return attempts

    @property
    def content(self) -> dict[str, Any]:
        """The content of provenance.json."""
        return {"attempts": list(self.entries)}

    @property
    def how(self) -> str:
        """The ways in which the run was computed, joined by "; ".

        An attempt counts if a later one continues from a checkpoint after its beginning; the last always counts.
        """
        counted: list[tuple[int, str]] = []
        for entry in self.entries:
            step = entry["first_step"]
            counted = [*((first, way) for first, way in counted if first < step), (step, entry["how"])]
        before = [UNKNOWN] if counted[0][0] > 0 else []
        return "; ".join(dict.fromkeys([*before, *(way for _, way in counted)]))

    def end(self, outcome: str) -> dict[str, Any]:
        """Returns the content of provenance.json after this attempt, and writes it to the folder. Raises WriteError.

        Its times are those of the whole attempt; of several processes, of the first.
        """
        wall, cpu = time.monotonic() - self.began[0], time.process_time() - self.began[1]
        this = {
            **self.entries[-1], "ended": _now(), "wall_seconds": round(wall, 3), "cpu_seconds": round(cpu, 3),
            "outcome": outcome,
        }  # fmt: skip
        content = {"attempts": [*self.entries[:-1], this]}
        write_whole(self.path, json.dumps(content))
        return content


def _read(path: Path) -> tuple[dict[str, Any], ...]:
    """Returns the attempts in a file; none if it is missing or damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = tuple(json.loads(path.read_bytes())["attempts"])
        if all(isinstance(entry["first_step"], int) and isinstance(entry["how"], str) for entry in found):
            return found
    return ()


def _now() -> str:
    """Returns the time in UTC, e.g. "2026-11-29T12:16:51+00:00"."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
