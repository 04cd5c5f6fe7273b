"""Progress of a study on stderr: bars on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from ran.config import RunConfig
from records import names

PLAIN_SECONDS = 30.0  # between two plain lines about the same run


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
    """Receives the events of all runs from the executor and the training loop; several runs may train at once.

    Used as a context manager around a study.
    """

    def __enter__(self) -> "Reporter": ...
    def __exit__(self, *exception: object) -> None: ...
    def run_begins(self, name: str, config: RunConfig, step: int, where: str = "") -> None: ...
    def step(self, name: str, step: int) -> None: ...
    def metrics(self, name: str, step: int, values: Mapping[str, float]) -> None: ...
    def run_ends(self, name: str, text: str) -> None: ...


class StudyReporter(Reporter, Protocol):
    """A reporter that also shows the table of a study as its runs end."""

    def __enter__(self) -> "StudyReporter": ...
    def table(self, make: Callable[[], str], *, seed_over: bool) -> None:
        """Shows the table that `make` returns; `seed_over`: whether all cells are trained at one more seed."""


class _TimeLeft:
    """Time left of a study: the plan's estimates, corrected by the measured speed."""

    def __init__(self, estimates: Mapping[str, float], workers: int):
        self.estimates, self.workers = dict(estimates), workers
        self.began = time.monotonic()
        self.total, self.finished = sum(estimates.values()), 0.0
        self.first_steps: dict[str, int] = {}
        """step at which each run began in this launch, from which its estimate counts"""
        self.shares: dict[str, float] = {}
        """share of its estimate that each run in training has completed"""

    def run_begins(self, name: str, step: int) -> None:
        self.first_steps.setdefault(name, step)  # one whose worker died begins again, at a later step

    def step(self, name: str, step: int, steps: int) -> None:
        first = self.first_steps[name]
        self.shares[name] = (step - first) / max(1, steps - first)

    def run_ends(self, name: str) -> None:
        self.shares.pop(name, None)
        self.finished += self.estimates.get(name, 0.0)

    def seconds(self) -> float:
        """Returns the seconds left."""
        done = self.finished + sum(share * self.estimates.get(name, 0.0) for name, share in self.shares.items())
        elapsed = time.monotonic() - self.began
        pace = elapsed / done if done > 0.02 * self.total else 1.0 / self.workers
        return max(0.0, (self.total - done) * pace)


@dataclass
class _RunState:
    """A run in training."""

    config: RunConfig
    first_step: int
    where: str
    number: int
    began: float = field(default_factory=time.monotonic)
    printed: float = field(default_factory=time.monotonic)
    loss: str = ""
    bar: TaskID | None = None

    def rate(self, step: int) -> float:
        """Average images/s until `step`."""
        return (step - self.first_step) * self.config.train.batch_size / max(time.monotonic() - self.began, 1e-9)

    def note_loss(self, values: Mapping[str, float]) -> None:
        if names.TRAIN_LOSS in values:
            self.loss = f"loss {values[names.TRAIN_LOSS]:#.4g}"


class PlainReporter:
    """Prints plain lines, for logs and pipes."""

    def __init__(self, estimates: Mapping[str, float], workers: int = 1):
        self.time_left = _TimeLeft(estimates, workers)
        self.runs = len(estimates)
        self.numbers: dict[str, int] = {}
        self.current: dict[str, _RunState] = {}

    def __enter__(self) -> "PlainReporter":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def run_begins(self, name: str, config: RunConfig, step: int, where: str = "") -> None:
        # A run that starts again because its worker died keeps its number.
        number = self.numbers.setdefault(name, len(self.numbers) + 1)
        self.time_left.run_begins(name, step)
        self.current[name] = _RunState(config=config, first_step=step, where=where, number=number)
        verb = f"resume at step {step}/{config.train.steps}" if step else "start"
        self._print(name, f"{verb} on {where}" if where else verb)

    def step(self, name: str, step: int) -> None:
        run = self.current[name]
        steps = run.config.train.steps
        self.time_left.step(name, step, steps)
        if time.monotonic() - run.printed >= PLAIN_SECONDS:
            run.printed = time.monotonic()
            loss = f", {run.loss}" if run.loss else ""
            left = duration(self.time_left.seconds())
            self._print(name, f"step {step}/{steps}{loss}, {run.rate(step):.0f} images/s, about {left} left in total")

    def metrics(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self.current[name].note_loss(values)

    def run_ends(self, name: str, text: str) -> None:
        self.time_left.run_ends(name)
        self._print(name, f"{text} ({duration(time.monotonic() - self.current[name].began)})")

    def table(self, make: Callable[[], str], *, seed_over: bool) -> None:
        if seed_over and (text := make()):
            print(f"\nSo far:\n{text}\n", file=sys.stderr, flush=True)

    def _print(self, name: str, text: str) -> None:
        print(f"[{self.numbers[name]}/{self.runs}] {name}: {text}", file=sys.stderr, flush=True)


class BarReporter:
    """Draws the table so far, a bar of the study and one per run in training, below the lines of runs that ended."""

    def __init__(self, estimates: Mapping[str, float], workers: int = 1):
        self.time_left = _TimeLeft(estimates, workers)
        self.bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
        )
        self.so_far = ""
        self.live = Live(console=Console(stderr=True), get_renderable=self._drawn, transient=True)
        self.study = self.bars.add_task("study", total=len(estimates), text="")
        self.current: dict[str, _RunState] = {}

    def __enter__(self) -> "BarReporter":
        self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.live.stop()

    def _drawn(self) -> Group:
        return Group(*([Text(self.so_far)] if self.so_far else []), self.bars)

    def table(self, make: Callable[[], str], *, seed_over: bool) -> None:
        self.so_far = make()

    def run_begins(self, name: str, config: RunConfig, step: int, where: str = "") -> None:
        if name in self.current:  # its worker died, and it starts again
            self._remove(name)
        self.time_left.run_begins(name, step)
        run = self.current[name] = _RunState(config=config, first_step=step, where=where, number=0)
        run.bar = self.bars.add_task(name, total=config.train.steps, completed=step, text=where)

    def step(self, name: str, step: int) -> None:
        run = self.current[name]
        assert run.bar is not None
        text = "  ".join(filter(None, (f"{run.rate(step):.0f} images/s", run.loss, run.where)))
        self.bars.update(run.bar, completed=step, text=text)
        self.time_left.step(name, step, run.config.train.steps)
        self.bars.update(self.study, text=f"about {duration(self.time_left.seconds())} left")

    def metrics(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self.current[name].note_loss(values)

    def run_ends(self, name: str, text: str) -> None:
        self.time_left.run_ends(name)
        run = self._remove(name)
        self.bars.advance(self.study)
        self.live.console.print(f"{name:<14} {text} ({duration(time.monotonic() - run.began)})", highlight=False)

    def _remove(self, name: str) -> _RunState:
        run = self.current.pop(name)
        assert run.bar is not None
        self.bars.remove_task(run.bar)
        return run


def reporter(estimates: Mapping[str, float], workers: int = 1) -> StudyReporter:
    """Returns the reporter for this terminal or pipe.

    `estimates`: seconds by run name if only one run trains at a time; `workers`: number of runs at the same time.
    """
    return BarReporter(estimates, workers) if sys.stderr.isatty() else PlainReporter(estimates, workers)
