"""Kills processes that create a tracking store in an empty folder, and lets the next one use it.

    python tests/experiments/kill.py --phase creation --moments 100

Every second moment is a time; every other is the entry or the return of one of our calls, or of one of MLflow's
migrations. Half of the processes find a copy of an empty store in the cache folder, half let MLflow make the tables.
Some moments come after an earlier kill, some beside a second process that creates the same store.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from kill import FORKS, ROOT, Moment

OURS = ("records/sqlite_store.py", "records/empty_store.py", "records/files.py", "experiments/tracking/store.py")
MIGRATIONS = "/mlflow/store/db_migrations/versions/"


@dataclass(frozen=True)
class Creation:
    """What a process creates and where it is killed."""

    folder: Path
    moment: Moment | None = None
    counts: Path | None = None
    """file that gets the number of calls by function"""

    @property
    def store(self) -> Path:
        return self.folder / "mlflow.db"


def _function(frame: FrameType) -> str | None:
    file, name = frame.f_code.co_filename, frame.f_code.co_qualname
    if file.startswith(str(ROOT)) and str(Path(file).relative_to(ROOT)) in OURS:
        return f"{Path(file).relative_to(ROOT)}:{name}"
    return f"{Path(file).stem}:upgrade" if MIGRATIONS in file and name == "upgrade" else None


def _child(creation: Creation) -> None:
    """Opens the store as a launch does and makes an experiment; exit status 0, or 2 with a line in output.txt."""
    from experiments.tracking.store import Store
    from records.errors import UserError

    os.environ["XDG_CACHE_HOME"] = str(creation.folder / "cache")
    os.chdir(creation.folder)
    os.dup2(os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    seen: Counter[str] = Counter()
    moment = creation.moment

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event in ("call", "return") and (function := _function(frame)):
            seen[key := f"{event} {function}"] += 1
            if moment is not None and key == f"{moment.event} {moment.function}" and seen[key] == moment.number:
                os.kill(os.getpid(), signal.SIGKILL)

    if creation.counts is not None or (moment is not None and moment.seconds is None):
        sys.setprofile(count)
    try:
        Store.open(f"sqlite:///{creation.store}").experiment("cluttershapes")
    except UserError as error:
        print(error, file=sys.stderr)
        os._exit(2)
    sys.setprofile(None)
    if creation.counts is not None:
        creation.counts.write_text(json.dumps(seen))
    os._exit(0)


def _run(creation: Creation, beside: Creation | None = None) -> int | None:
    """Returns the exit status of the process that is killed; `beside` is started at the same time and must end well."""
    process = FORKS.Process(target=_child, args=(creation,))
    other = None if beside is None else FORKS.Process(target=_child, args=(beside,))
    process.start()
    if other is not None:
        other.start()
    if creation.moment is not None and creation.moment.seconds is not None:
        process.join(creation.moment.seconds)
        process.kill()
    process.join()
    if other is not None:
        other.join()
        if other.exitcode != 0:
            return other.exitcode
    return process.exitcode


def check(creation: Creation, copy: Path | None, *, times: int, beside: bool) -> str:
    """Kills `times` creations, lets the next process create the store; returns what is wrong, "" for nothing."""
    creation.folder.mkdir(parents=True)
    if copy is not None:
        shutil.copytree(copy, creation.folder / "cache")
    clean = Creation(creation.folder)
    for _ in range(times):
        if (status := _run(creation, clean if beside else None)) not in (-signal.SIGKILL, 0):
            return f"ended with {status} in place of the kill: {(creation.folder / 'output.txt').read_text()}"
    if (status := _run(clean)) != 0:
        return f"the next process ended with {status}: {(creation.folder / 'output.txt').read_text()}"
    left = sorted(p.name for p in creation.folder.iterdir() if p.name not in ("cache", "output.txt", "mlruns"))
    with closing(sqlite3.connect(creation.store)) as connection:
        answers = [
            connection.execute(query).fetchone()
            for query in ("PRAGMA integrity_check", "PRAGMA journal_mode", "SELECT count(*) FROM experiments")
        ]
    wrong = {
        "left over": not set(left) <= {"mlflow.db", "mlflow.db-wal", "mlflow.db-shm"},
        "store": answers != [("ok",), ("wal",), (2,)],
        "said": "Traceback" in (creation.folder / "output.txt").read_text(),
    }
    return ", ".join(f"{what} ({left}, {answers})" for what, is_wrong in wrong.items() if is_wrong)


def harness(folder: Path, moments: int, seed: int) -> list[tuple[Moment, str]]:
    """Returns, of each moment, what was found wrong."""
    lengths, counts = [], []
    for name, copy in (("made", None), ("copied", folder / "made" / "cache")):
        (folder / name).mkdir(parents=True)
        if copy is not None:
            shutil.copytree(copy, folder / name / "cache")
        began = time.monotonic()
        assert _run(Creation(folder / name)) == 0, (folder / name / "output.txt").read_text()
        lengths.append(time.monotonic() - began)
        for path in (folder / name).glob("mlflow.db*"):
            path.unlink()
        if copy is None:
            shutil.rmtree(folder / name / "cache")
        assert _run(Creation(folder / name, counts=folder / f"{name}.json")) == 0
        counts.append(json.loads((folder / f"{name}.json").read_text()))
    generator = random.Random(seed)
    found = []
    for i in range(moments):
        copied = i % 4 // 2  # by turns, each at times and at calls
        if i % 2:
            moment = Moment(seconds=generator.uniform(0, lengths[copied]))
        else:
            key = generator.choice(sorted(counts[copied]))
            event, _, function = key.partition(" ")
            moment = Moment(None, function, event, generator.randint(1, counts[copied][key]))
        one = Creation(folder / f"moment{i}", moment)
        copy = folder / "made" / "cache" if copied else None
        wrong = check(one, copy, times=generator.choice((1, 1, 2)), beside=generator.random() < 0.3)
        found.append((moment, wrong))
        print(f"{i + 1:>4} {moment}, {'a copy' if copied else 'made'}: {wrong or 'the next one uses it'}", flush=True)
        if not wrong:
            shutil.rmtree(one.folder)
    return found
