"""Kills the launches of a study again and again until it is done, and compares it with one that was never stopped.

    python tests/experiments/kill.py --phase launch --moments 400     # one launch
    python tests/experiments/kill.py --phase launches --moments 400   # two launches side by side on one store
    python tests/experiments/kill.py --phase workers --moments 60     # a launch with two workers of Ray's

`--moments` is the number of kills that meet a living process. What was killed is launched again at once, until the
study is done; after STUDY_KILLS kills it is left alone. A last launch then removes what is left over. Half of the
launches are killed at a time, half at the entry or return of one of our calls, as in kill.py. Of two launches, every
third study has them on two machines: each with its own folder of checkpoints, and leases of LEASE seconds. With
workers, the process that is killed is the launch, a worker, or the actor that passes on what workers report.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
from kill import FORKS, Moment, compare, count_calls, drawn, redirect
from lab import Lab

STUDY_KILLS = 20
EARLY = 6
"""a launch is killed in the first 1 / EARLY of the time of a whole one, or of the calls of a function, at least one"""
# As small as can be, since the processor's time is what a kill costs. many_deaths: a run would count as failed after
# three kills in a row without a step of progress.
SMALL = (
    *("--model.name", "attention32c", "--train.batch_size", "4", "--train.steps", "12", "--train.evals", "3"),
    *("--data.train_images", "16", "--data.val_images", "8", "--data.test_images", "16", "--import", "many_deaths"),
)
LEASE = 2.0
"""seconds, of launches that are apart"""
LOOK = 0.6
"""longest time between two looks at a launch with workers, in seconds"""
LONGEST = 300.0
"""seconds that a launch may take"""


@dataclass(frozen=True)
class Place:
    """Where one of the launches of a study runs, and how."""

    lab: Lab
    number: int = 0
    is_apart: bool = False
    """whether it has a folder of checkpoints of its own, and short leases"""
    workers: int = 1

    @property
    def output(self) -> Path:
        return self.lab.folder / f"output{self.number}.txt"

    @property
    def checkpoints(self) -> Path:
        return self.lab.folder / f"checkpoints{self.number}" if self.is_apart else self.lab.checkpoints


@dataclass
class KilledStudy:
    """What happened to a study so far."""

    places: tuple[Place, ...]
    kills: int = 0
    of_workers: int = 0
    """kills that met a worker, not its launch"""
    wrong: str = ""


def _child(place: Place, moment: Moment | None, counts: Path | None) -> None:
    """A launch in this process, which kills itself at its moment or counts its calls."""
    import torch

    import run_ablation
    from experiments.tracking import leases

    torch.set_num_threads(1)
    os.chdir(place.lab.folder)
    redirect(place.output)
    if place.is_apart:
        leases.LEASE_SECONDS, leases.RENEW_SECONDS, leases.CONFIRM_SECONDS = LEASE, LEASE / 10, LEASE / 10
    places = ("--tracking-uri", place.lab.uri, "--data.root", place.lab.data, "--checkpoints", str(place.checkpoints))
    with count_calls(moment, counts):
        status = run_ablation.main(["--study", "smoke", *places, *SMALL, "--workers", str(place.workers)])
    os._exit(status)


def _start(place: Place, moment: Moment | None = None, counts: Path | None = None) -> BaseProcess:
    process = FORKS.Process(target=_child, args=(place, moment, counts))
    process.start()
    return process


def _finish(place: Place, counts: Path | None = None) -> str:
    """Launches without a kill; returns what is wrong, "" for nothing."""
    process = _start(place, counts=counts)
    process.join(LONGEST)
    status = process.exitcode
    process.kill()
    return "" if status == 0 else f"the last launch ended with {status}"


@dataclass(frozen=True)
class Running:
    """A launch that is to be killed."""

    place: Place
    process: BaseProcess
    began: float
    until: float
    """when it is killed, unless it kills itself at a call before"""


def kill_launches(study: KilledStudy, draw: Callable[[], Moment], most: int) -> None:
    """Launches a study at each of its places, again whenever a launch was killed, until all have ended."""

    def start(place: Place) -> Running:
        moment = draw() if study.kills < most else Moment(LONGEST)
        process, now = _start(place, moment), time.monotonic()
        return Running(place, process, now, now + (LONGEST if moment.seconds is None else moment.seconds))

    running = [start(place) for place in study.places]
    while running:
        next_kill = min(one.until for one in running)
        wait([one.process.sentinel for one in running], timeout=max(0.0, next_kill - time.monotonic()))
        for one in list(running):
            if time.monotonic() >= one.until:
                one.process.kill()
                one.process.join()
            if (status := one.process.exitcode) is None:
                continue
            running.remove(one)
            if time.monotonic() >= one.began + LONGEST:
                study.wrong = "a launch did not end"
            elif status == -signal.SIGKILL:
                study.kills += 1
                running.append(start(one.place))
            elif status != 0:
                study.wrong = f"a launch ended with {status}"


def kill_workers(study: KilledStudy, generator: random.Random, most: int) -> None:
    """Launches a study, kills the launch or one of Ray's processes that do its work, until a launch ends by itself."""
    (place,) = study.places
    status: int | None = -signal.SIGKILL
    while status == -signal.SIGKILL and not study.wrong:
        process, end = _start(place), time.monotonic() + LONGEST
        while process.is_alive():
            process.join(generator.uniform(0, LOOK))
            if time.monotonic() > end:
                study.wrong = "a launch did not end"
                process.kill()
            elif study.kills < most and process.is_alive() and (victim := _victim(process, generator)) is not None:
                with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                    victim.kill()
                    if victim.pid == process.pid:
                        process.join()
                    else:
                        study.kills += 1
                        study.of_workers += 1
        status = process.exitcode
        study.kills += status == -signal.SIGKILL and not study.wrong
    if status != 0 and not study.wrong:
        study.wrong = f"a launch ended with {status}"


def _victim(launch: BaseProcess, generator: random.Random) -> psutil.Process | None:
    """Returns the launch, once in five times, or one of its workers; mostly None if no run trains."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(launch.pid)
        titles = {child: " ".join(child.cmdline()) for child in process.children(recursive=True)}
        # Ray ends on this machine when one of its agents does, as if the launch had been killed.
        workers = [child for child, title in titles.items() if title.startswith("ray::") and "Agent" not in title]
        trains = any(re.match(r"ray::(arl|nal) s0", titles[worker]) for worker in workers)
        if trains or generator.random() < 0.02:
            return process if not workers or generator.random() < 0.2 else generator.choice(workers)
    return None


def harness(folder: Path, migrated: Path, way: str, kills: int, seed: int) -> list[KilledStudy]:
    """Kills until there were `kills` of them; returns what happened to each study.

    `way`: launch, launches or workers, as kill.py calls its phases.
    """

    def lab(name: str) -> Lab:
        return Lab.with_store(folder / name, migrated)

    whole = lab("whole")
    began = time.monotonic()
    assert not _finish(Place(whole)), Place(whole).output.read_text()
    seconds = time.monotonic() - began
    assert not _finish(Place(lab("counted")), counts=folder / "counts.json")
    # Early ones, or a launch that continues another would end before its call.
    counts = {key: max(1, n // EARLY) for key, n in json.loads((folder / "counts.json").read_text()).items()}
    generator = random.Random(seed)

    def draw() -> Moment:
        if generator.random() < 0.5:
            return Moment(seconds=generator.uniform(0, seconds / EARLY))
        return drawn(counts, generator)

    found: list[KilledStudy] = []
    while (left := kills - sum(study.kills for study in found)) > 0:
        one, most, began = lab(f"study{len(found)}"), min(STUDY_KILLS, left), time.monotonic()
        if way == "workers":
            study = KilledStudy((Place(one, workers=2),))
            kill_workers(study, generator, most)
        else:
            is_apart = way == "launches" and len(found) % 3 == 2
            study = KilledStudy(tuple(Place(one, number, is_apart) for number in range(1 if way == "launch" else 2)))
            kill_launches(study, draw, most)
        killed = time.monotonic()
        for place in study.places:
            study.wrong = study.wrong or _finish(place)
        study.wrong = study.wrong or ", ".join(compare(one, whole))
        found.append(study)
        times = f"{killed - began:.1f} s, compared in {time.monotonic() - killed:.1f} s"
        how = ", apart" if study.places[0].is_apart else f", {study.of_workers} of workers" if way == "workers" else ""
        print(f"{len(found):>4} {study.kills} kills in {times}{how}: {study.wrong or 'as uninterrupted'}", flush=True)
        if not study.wrong:
            shutil.rmtree(one.folder)
    return found
