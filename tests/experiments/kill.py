"""Kills a run with SIGKILL at random moments, launches it again and compares it with one that was never stopped.

    python tests/experiments/kill.py --moments 50
    python tests/experiments/kill.py --phase creation --moments 100   # of the tracking store: kill_creation.py
    python tests/experiments/kill.py --phase pause --moments 20       # SIGSTOP beyond the lease: pause.py
    python tests/experiments/kill.py --phase launch --moments 400     # again and again: kill_often.py
    python tests/experiments/kill.py --phase launches --moments 400   # of two launches side by side
    python tests/experiments/kill.py --phase workers --moments 60     # of a launch with two workers of Ray's

Every second moment is a time, at which the kill comes from outside; every other is the entry or the return of a call
of our own code, drawn function by function, so that the short moments between two writes are met as often as the long
ones in a training step. Weights must agree bit by bit, every metric step by step, and nothing may be left over.
"""

import argparse
import contextlib
import functools
import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from lab import ROOT, Lab, same_bits

from records import names

RUN = ("--train.steps", "12", "--train.evals", "3", "--cells", "learning=arl")
NAME = "arl s0"
# A process forked from one that has imported everything starts in 0.05 s instead of 5. Its path is the environment's.
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["warm"])


@dataclass(frozen=True)
class Moment:
    """When to kill: after so many seconds, or at the n-th entry (or return) of a function."""

    seconds: float | None = None
    function: str = ""
    event: str = ""
    number: int = 0

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"after {self.seconds:.2f} s"
        return f"at {self.event} {self.number} of {self.function}"


def _ours(frame: FrameType) -> str | None:
    file = frame.f_code.co_filename
    if not file.startswith(tuple(f"{ROOT}/{package}/" for package in ("ran", "experiments", "records"))):
        return None
    return f"{Path(file).relative_to(ROOT)}:{frame.f_code.co_qualname}"


def redirect(output: Path) -> None:
    """Appends what this process prints to a file."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)


@contextlib.contextmanager
def count_calls(moment: Moment | None, counts: Path | None) -> Iterator[None]:
    """Kills this process at a moment that is a call, or writes the number of calls by function to the file `counts`."""
    seen: Counter[str] = Counter()
    name = "" if moment is None else moment.function.partition(":")[2]

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event in ("call", "return") and (function := _ours(frame)):
            seen[f"{event} {function}"] += 1

    def kill(frame: FrameType, event: str, _: Any) -> None:
        # The name first: this is called at each call of every library.
        if moment is not None and frame.f_code.co_qualname == name and event == moment.event:
            seen[event] += _ours(frame) == moment.function
            if seen[event] == moment.number:
                os.kill(os.getpid(), signal.SIGKILL)

    if counts is not None or name:
        sys.setprofile(count if counts is not None else kill)
    yield
    sys.setprofile(None)
    if counts is not None:
        counts.write_text(json.dumps(seen))


def _child(lab: Lab, moment: Moment | None, counts: Path | None) -> None:
    """A launch with a checkpoint after every step, which kills itself at its moment or counts its calls."""
    import torch

    import run_ablation
    from experiments.runner import settings

    torch.set_num_threads(1)
    os.chdir(lab.folder)
    redirect(lab.folder / "output.txt")
    settings.CHECKPOINT_SECONDS = 0.0
    with count_calls(moment, counts):
        status = run_ablation.main(["--study", "smoke", *lab.places(), *RUN])
    os._exit(status)


def launch(lab: Lab, moment: Moment | None = None, counts: Path | None = None) -> int | None:
    """Returns the exit status of a launch, minus the signal that ended it."""
    process = FORKS.Process(target=_child, args=(lab, moment, counts))
    process.start()
    if moment is not None and moment.seconds is not None:
        process.join(moment.seconds)
        process.kill()
    process.join()
    return process.exitcode


def check(lab: Lab, whole: Lab, moment: Moment) -> tuple[str, str]:
    """Kills, launches again; returns what was found wrong, "" for nothing, and what the kill left."""
    status = launch(lab, moment)
    runs = lab.children()
    outcome = runs[NAME].data.tags.get(names.OUTCOME) if runs else None
    steps = lab.steps()
    state = f"{'no run' if not runs else outcome or 'a run'}, {f'step {steps[-1]}' if steps else 'no checkpoint'}"
    expected = str(int(bool(runs) and outcome != names.FINISHED))
    if status not in (-signal.SIGKILL, 0):
        return f"ended with {status} in place of the kill", state
    if (again := launch(lab)) != 0:
        return f"the second launch ended with {again}", state
    wrong = compare(lab, whole)
    if lab.children()[NAME].data.tags[names.RESUMES] != expected:
        wrong.append("resumes")
    return ", ".join(wrong), state


def compare(lab: Lab, whole: Lab) -> list[str]:
    """Returns how the runs, the store and the leftover files of a lab differ from those of `whole`, never killed."""
    there, right = (sorted(str(run.info.run_name) for run in one.all_runs()) for one in (lab, whole))
    if there != right:
        return [f"runs {', '.join(there)}"]
    runs, others = lab.children(), whole.children()
    (parent,), (other,) = lab.parents(), whole.parents()
    said = "".join(path.read_text() for path in lab.folder.glob("output*.txt"))
    holds = {
        "weights": all(same_bits(lab.weights(name), whole.weights(name)) for name in runs),
        "points": all(lab.comparable(name) == whole.comparable(name) and lab.each_point_once(name) for name in runs),
        "outcome": all(
            (run.data.tags[names.OUTCOME], run.info.status) == (names.FINISHED, "FINISHED") for run in runs.values()
        ),
        "parameters": all(
            run.data.params == others[name].data.params | {"data.root": lab.data} for name, run in runs.items()
        ),
        "artifacts": all(lab.files(run) == whole.files(others[name]) for name, run in runs.items()),
        "parent": parent.info.status == "FINISHED" and lab.tables(parent) == whole.tables(other),
        "claims": not lab.client.search_registered_models(),
        "left over": {p.name for place in lab.folder.glob("checkpoints*") for p in place.iterdir()} == {"launch.lock"},
        "store": sqlite3.connect(lab.store).execute("PRAGMA integrity_check").fetchone() == ("ok",),
        "traceback": "Traceback" not in said,
    }
    return [what for what, is_so in holds.items() if not is_so]


def drawn(counts: Mapping[str, int], generator: random.Random) -> Moment:
    """Returns a call, drawn function by function, of those in a file of `count_calls`."""
    key = generator.choice(sorted(counts))
    event, _, function = key.partition(" ")
    return Moment(None, function, event, generator.randint(1, counts[key]))


def harness(folder: Path, migrated: Path, moments: int, seed: int) -> list[tuple[Moment, str, str]]:
    """Returns, of each moment, what was found wrong and what the kill left."""

    def lab(name: str) -> Lab:
        return Lab.with_store(folder / name, migrated)

    whole, counted = lab("whole"), lab("counted")
    assert launch(whole) == 0, (whole.folder / "output.txt").read_text()
    timed = lab("timed")
    began = time.monotonic()
    assert launch(timed) == 0
    seconds = time.monotonic() - began
    assert launch(counted, counts=folder / "counts.json") == 0
    counts = json.loads((folder / "counts.json").read_text())
    generator = random.Random(seed)
    found = []
    for i in range(moments):
        moment = Moment(seconds=generator.uniform(0, seconds)) if i % 2 else drawn(counts, generator)
        one = lab(f"moment{i}")
        found.append((moment, *check(one, whole, moment)))
        print(f"{i + 1:>4} {moment}: {found[-1][2]}: {found[-1][1] or 'as uninterrupted'}", flush=True)
        if not found[-1][1]:
            shutil.rmtree(one.folder)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phase", choices=sorted(PHASES), default="run")
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kill-"))
    tried, wrong = PHASES[arguments.phase](folder, arguments.moments, arguments.seed)
    print(f"{tried - len(wrong)} of {tried}: as a run that was never stopped")
    if wrong:
        print(f"what went wrong lies in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _creation(folder: Path, moments: int, seed: int) -> tuple[int, list[str]]:
    import kill_creation

    return moments, [wrong for _, wrong in kill_creation.harness(folder, moments, seed) if wrong]


def _pause(folder: Path, moments: int, seed: int) -> tuple[int, list[str]]:
    import pause

    return moments, [wrong for wrong, _ in pause.harness(folder, _migrated(folder), moments, seed) if wrong]


def _run(folder: Path, moments: int, seed: int) -> tuple[int, list[str]]:
    return moments, [wrong for _, wrong, _ in harness(folder, _migrated(folder), moments, seed) if wrong]


def _often(way: str, folder: Path, moments: int, seed: int) -> tuple[int, list[str]]:
    import kill_often

    studies = kill_often.harness(folder, _migrated(folder), way, moments, seed)
    print(f"{sum(study.kills for study in studies)} kills in {len(studies)} studies")
    return len(studies), [study.wrong for study in studies if study.wrong]


PHASES = {
    "run": _run,
    "creation": _creation,
    "pause": _pause,
    **{way: functools.partial(_often, way) for way in ("launch", "launches", "workers")},
}
"""what each tries, and what was found wrong"""


def _migrated(folder: Path) -> Path:
    """Returns the path of a new store in `folder`, to be copied."""
    from experiments.tracking.store import Store

    migrated = folder / "migrated.db"
    Store.open(f"sqlite:///{migrated}")
    with sqlite3.connect(migrated) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return migrated


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main())
