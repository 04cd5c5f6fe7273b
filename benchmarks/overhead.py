"""Overhead of a launch besides its training steps: start-up, MLflow, checkpoints, evaluation, progress.

    python -m benchmarks.overhead --seconds 30 600

For each number of seconds, one launch trains one run of Attention-56 at the quick profile's size (quarter width,
built-in data, one thread) for as many steps as take that long, with an existing store. Evaluation is the profile's: one
on the 500 validation images, one on the 2,000 test images. A second table has the times of commands that do not train.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from records.command import entry

RUN = [
    *(sys.executable, str(report.ROOT / "run_ablation.py"), "--study", "arl_vs_nal", "--profile", "quick"),
    *("--cells", "depth=56,learning=arl", "--seeds", "0", "--workers", "1"),
]
COMMANDS = {
    "python -c 'import torch'": [sys.executable, "-c", "import torch"],
    "--help": [*RUN[:2], "--help"],
    "--list": [*RUN[:2], "--list"],
    "--study arl_vs_nal --dry-run, no store": [*RUN[:2], "--study", "arl_vs_nal", "--dry-run"],
}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints two tables and writes the first as JSON, the second beside it (NAME-commands.json); returns 0."""
    parser = report.arguments("benchmarks.overhead", __doc__)
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[30.0], help="duration of the training steps of each run"
    )
    parser.add_argument("--repeats", type=int, default=3, help="number of repetitions of each command")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="overhead-") as name:
        folder = Path(name)
        times = {
            title: [report.seconds(folder, command) for _ in range(options.repeats)]
            for title, command in COMMANDS.items()
        }
        first = timed_run(folder, 20)  # creates store and data, and measures this machine's speed
        rate = 20 / first["steps"]
        runs = [timed_run(folder, max(20, round(rate * wanted))) for wanted in options.seconds]
    rows = [[title, *part] for title, *part in zip(ROWS, *(shares(run) for run in runs), strict=True)]
    flat = [[title, *(value for pair in pairs for value in pair)] for title, *pairs in rows]
    columns = [
        "part",
        *(c for run in runs for c in (f"s, of {run['steps']:.0f} s of steps", "% from the first step on")),
    ]
    report.publish(
        "benchmarks.overhead", argv, options.out, report.torch_machine(),
        "Where the time of a launch of one run goes (Attention-56 at a quarter of its width, 96 images a step, one "
        "thread)", columns, flat,
    )  # fmt: skip
    report.publish(
        "benchmarks.overhead", argv, options.out and options.out.with_stem(f"{options.out.stem}-commands"),
        report.machine(), f"Commands that train nothing, median of {options.repeats}",
        ["command", "s"], [[title, statistics.median(found)] for title, found in times.items()],
    )  # fmt: skip
    return 0


ROWS = [
    "start-up, until the first step", "training steps", "evaluation", "MLflow", "checkpoints",
    "rest of the loop (progress, divergence checks)", "end: artifacts, summary, table",
    "from the first step on, without steps", "  of which without evaluation",
]  # fmt: skip


def shares(run: dict[str, float]) -> list[tuple[float, float | None]]:
    """Returns (seconds, percent of the time from the first step on) of each row."""
    total = run["over"] - run["first"]
    parts = {name: run.get(name, 0.0) for name in ("steps", "evaluation", "MLflow", "checkpoints")}
    inside = run["ended"] - run["first"] - sum(parts.values())
    end = run["over"] - run["ended"]
    beside = total - parts["steps"]
    values = [*parts.values(), inside, end, beside, beside - parts["evaluation"]]
    return [(run["first"] - run["launched"], None), *((value, 100 * value / total) for value in values)]


def timed_run(folder: Path, steps: int) -> dict[str, Any]:
    """Returns the times of one launch of one run, in seconds of the monotonic clock."""
    clock = folder / f"clock-{steps}.jsonl"
    launched = time.monotonic()
    command = [*RUN, "--import", "benchmarks.clock", "--train.steps", str(steps), "--train.kernels", "auto", "--yes"]
    report.seconds(folder, command, RAN_CLOCK=str(clock))
    return {**json.loads(clock.read_text()), "launched": launched, "over": time.monotonic()}


if __name__ == "__main__":
    entry("overhead", main)
