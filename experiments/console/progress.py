"""What a person sees while a study trains: bars on a terminal, plain lines elsewhere, both on stderr."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from ran.config import RunConfig
from records import names

PLAIN_SECONDS = 30.0  # between two plain lines of one run


def duration(seconds: float) -> str:
    """Returns "45 s", "12 min", "3 h 20 min" or "2 d 4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


class Reporter(Protocol):
    """Told by the executor and the training loop what happens, run by run: several may train at once.

    Used as a context manager around a study.
    """

    def __enter__(self) -> "Reporter": ...
    def __exit__(self, *exception: object) -> None: ...
    def run_begins(self, name: str, config: RunConfig, step: int, where: str = "") -> None: ...
    def step(self, name: str, step: int) -> None: ...
    def metrics(self, name: str, step: int, values: Mapping[str, float]) -> None: ...
    def run_ends(self, name: str, text: str) -> None: ...


class _Clock:
    """Time left of a study, from the plan's estimates corrected by how long its runs really take."""

    def __init__(self, estimates: Mapping[str, float], workers: int):
        self.estimates, self.workers = dict(estimates), workers
        self.began = time.monotonic()
        self.total, self.finished = sum(estimates.values()), 0.0
        self.shares: dict[str, float] = {}
        """what is done of the runs in training"""

    def ends(self, name: str) -> None:
        self.shares.pop(name, None)
        self.finished += self.estimates.get(name, 0.0)

    def left(self) -> float:
        """Returns the seconds left."""
        done = self.finished + sum(share * self.estimates.get(name, 0.0) for name, share in self.shares.items())
        elapsed = time.monotonic() - self.began
        pace = elapsed / done if done > 0.02 * self.total else 1.0 / self.workers
        return max(0.0, (self.total - done) * pace)


@dataclass
class _Current:
    """A run in training."""

    config: RunConfig
    first: int
    where: str
    number: int
    began: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)
    loss: str = ""
    bar: TaskID | None = None

    def rate(self, step: int) -> float:
        """Images/s up to a step."""
        return (step - self.first) * self.config.train.batch_size / max(time.monotonic() - self.began, 1e-9)

    def hears(self, values: Mapping[str, float]) -> None:
        if names.TRAIN_LOSS in values:
            self.loss = f"loss {values[names.TRAIN_LOSS]:.3f}"


class Lines:
    """Plain lines, for logs and pipes."""

    def __init__(self, estimates: Mapping[str, float], workers: int = 1):
        self.clock = _Clock(estimates, workers)
        self.runs = len(estimates)
        self.numbers: dict[str, int] = {}
        self.current: dict[str, _Current] = {}

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def run_begins(self, name: str, config: RunConfig, step: int, where: str = "") -> None:
        # One that begins again, because its worker died, keeps its number.
        number = self.numbers.setdefault(name, len(self.numbers) + 1)
        self.current[name] = _Current(config, step, where, number)
        verb = f"resume at step {step}/{config.train.steps}" if step else "start"
        self._say(name, f"{verb} on {where}" if where else verb)

    def step(self, name: str, step: int) -> None:
        run = self.current[name]
        steps = run.config.train.steps
        self.clock.shares[name] = step / steps
        if time.monotonic() - run.said >= PLAIN_SECONDS:
            run.said = time.monotonic()
            loss = f", {run.loss}" if run.loss else ""
            left = duration(self.clock.left())
            self._say(name, f"step {step}/{steps}{loss}, {run.rate(step):.0f} images/s, about {left} left in all")

    def metrics(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self.current[name].hears(values)

    def run_ends(self, name: str, text: str) -> None:
        self.clock.ends(name)
        self._say(name, f"{text} ({duration(time.monotonic() - self.current[name].began)})")

    def _say(self, name: str, text: str) -> None:
        print(f"[{self.numbers[name]}/{self.runs}] {name}: {text}", file=sys.stderr, flush=True)


class Bars:
    """Live bars: the study's, and one for each run in training. What has ended stays above them."""

    def __init__(self, estimates: Mapping[str, float], workers: int = 1):
        self.clock = _Clock(estimates, workers)
        self.bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
        )
        self.study = self.bars.add_task("study", total=len(estimates), text="")
        self.current: dict[str, _Current] = {}

    def __enter__(self) -> "Bars":
        self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bars.stop()

    def run_begins(self, name: str, config: RunConfig, step: int, where: str = "") -> None:
        if name in self.current:  # its worker died, and it begins again
            self._remove(name)
        run = self.current[name] = _Current(config, step, where, 0)
        run.bar = self.bars.add_task(name, total=config.train.steps, completed=step, text=where)

    def step(self, name: str, step: int) -> None:
        run = self.current[name]
        assert run.bar is not None
        text = "  ".join(filter(None, (f"{run.rate(step):.0f} images/s", run.loss, run.where)))
        self.bars.update(run.bar, completed=step, text=text)
        self.clock.shares[name] = step / run.config.train.steps
        self.bars.update(self.study, text=f"about {duration(self.clock.left())} left")

    def metrics(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self.current[name].hears(values)

    def run_ends(self, name: str, text: str) -> None:
        self.clock.ends(name)
        run = self._remove(name)
        self.bars.advance(self.study)
        self.bars.console.print(f"{name:<14} {text} ({duration(time.monotonic() - run.began)})", highlight=False)

    def _remove(self, name: str) -> _Current:
        run = self.current.pop(name)
        assert run.bar is not None
        self.bars.remove_task(run.bar)
        return run


def reporter(estimates: Mapping[str, float], workers: int = 1) -> Reporter:
    """Returns bars if stderr is a terminal, else plain lines.

    `estimates` are seconds by run name, of a run alone; `workers` train at once.
    """
    return Bars(estimates, workers) if sys.stderr.isatty() else Lines(estimates, workers)
