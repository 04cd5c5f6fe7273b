"""All that is to be measured on a GPU, in one command of a few minutes, for a machine that is borrowed.

    python -m benchmarks.device --out OUT --seconds 480
    python -m benchmarks.device --device cpu --out OUT --seconds 120     # a rehearsal: every stage at its smallest

Each stage is a process with a limit of its own; time that one leaves goes to those after it, and one that fails or is
too slow leaves the others alone. Written to OUT, anew after each stage: device.json (everything), device.md (tables),
tests.txt, profile.txt, log.txt (what the stages print), and cells.db (a tracking store, where MLflow is installed).

Real training takes CIFAR-10 from data/; else the part of it in data/cifar10-sheets/ (`python -m benchmarks.sheets`
makes one of 23 MB); else the built-in data set. device.md says which it was.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import report
from records.command import entry
from records.files import write_whole


@dataclass(frozen=True)
class Planned:
    """The time of a stage, as a share of all."""

    name: str
    seconds: int
    """of 480 on a GPU"""
    rehearsal: int
    """of 120 on a CPU"""


PLAN = (
    Planned("machine", 10, 8), Planned("tests", 85, 20), Planned("speed", 125, 12), Planned("profile", 15, 10),
    Planned("sharing", 55, 14), Planned("training", 110, 6), Planned("commands", 45, 34), Planned("cells", 35, 16),
)  # fmt: skip
DONE, FAILED, STOPPED = "done", "failed", "stopped at its limit"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stages; returns 0 if all were done, else 1."""
    parser = argparse.ArgumentParser("python -m benchmarks.device", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--seconds", type=float, default=480.0, help="time for everything (default: %(default)s)")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu for a rehearsal (default: %(default)s)")
    parser.add_argument("--stages", nargs="+", choices=[stage.name for stage in PLAN], help="only these stages")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    words = list(sys.argv[1:] if argv is None else argv)
    content: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "benchmarks.device", *words]), "device": options.device,
        "date": time.strftime("%Y-%m-%d %H:%M:%S"), "stages": {},
    }  # fmt: skip
    end = time.monotonic() + options.seconds
    for stage, limit in limits(options.stages, end, rehearsed=options.device == "cpu"):
        print(f"{stage}: at most {limit:.0f} s", file=sys.stderr, flush=True)
        content["stages"][stage] = run(stage, limit, options.device, options.out)
        write_whole(options.out / "device.json", (json.dumps(content, indent=1) + "\n").encode())
        write_whole(options.out / "device.md", as_text(content).encode())
    print(as_text(content))
    return 0 if all(stage["status"] == DONE for stage in content["stages"].values()) else 1


def limits(chosen: Sequence[str] | None, end: float, *, rehearsed: bool) -> Iterator[tuple[str, float]]:
    """Yields each stage with its limit in seconds: its share of what is left when it begins."""
    plan = [(p.name, p.rehearsal if rehearsed else p.seconds) for p in PLAN if chosen is None or p.name in chosen]
    for i, (name, share) in enumerate(plan):
        left = max(0.0, end - time.monotonic())
        yield name, left * share / sum(later for _, later in plan[i:])


def run(stage: str, limit: float, device: str, out: Path) -> dict[str, Any]:
    """Returns how a stage went and what it found. It is ended, with all that it started, when its time is over."""
    with tempfile.TemporaryDirectory() as scratch, (out / "log.txt").open("a") as log:
        found, began = Path(scratch) / "found.json", time.monotonic()
        log.write(f"== {stage}\n")
        log.flush()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.stages", stage, "--device", device, "--seconds", f"{limit:.0f}"),
                *("--kept", str(out.absolute()), "--found", str(found)),
            ],
            cwd=report.ROOT, env={**os.environ, "PYTHONPATH": str(report.ROOT), "TMPDIR": scratch}, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            status = DONE if process.wait(limit) == 0 else FAILED
        except subprocess.TimeoutExpired:
            status = STOPPED
        finally:
            _end_all(process)
        result = json.loads(found.read_text()) if found.exists() else {}
    return {"status": status, "seconds": round(time.monotonic() - began, 1), "limit": round(limit, 1), "found": result}


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """Ends the processes of a stage's own group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def as_text(content: Mapping[str, Any]) -> str:
    """Returns the results as Markdown: each stage's state, and its rows as a table."""
    lines = [f"`{content['command']}`, {content['date']}", ""]
    if content["device"] == "cpu":
        lines += ["A rehearsal on a CPU: the figures mean nothing.", ""]
    for name, stage in content["stages"].items():
        rest = {key: value for key, value in stage["found"].items() if key != "rows"}
        lines += [f"**{name}**: {stage['status']}, {stage['seconds']:g} of {stage['limit']:g} s", ""]
        if rows := stage["found"].get("rows"):
            columns = list(dict.fromkeys(key for row in rows for key in row))
            lines += [report.table(columns, [[_cell(row.get(key)) for key in columns] for row in rows]), ""]
        lines += [*(f"- {key}: {_cell(value)}" for key, value in rest.items()), *([""] if rest else [])]
    return "\n".join(lines)


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return "; ".join(str(_cell(part)) for part in value[:20])
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(part)}" for key, part in value.items())
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    entry("device", main)
