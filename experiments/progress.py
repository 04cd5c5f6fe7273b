"""What a person sees while a study trains: bars on a terminal, plain lines elsewhere, both on stderr."""

import sys
import time
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from ran import names
from ran.config import RunConfig

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
    """Told by the executor and the training loop what happens. Used as a context manager around a study."""

    def __enter__(self) -> "Reporter": ...
    def __exit__(self, *exception: object) -> None: ...
    def run_begins(self, name: str, config: RunConfig, step: int) -> None: ...
    def step(self, step: int) -> None: ...
    def metrics(self, step: int, values: Mapping[str, float]) -> None: ...
    def run_ends(self, name: str, text: str) -> None: ...


class _Clock:
    """Time left of a study, from the plan's estimates corrected by how long its runs really took."""

    def __init__(self, estimates: Mapping[str, float]):
        self.estimates = dict(estimates)
        self.began = time.monotonic()
        self.total, self.finished, self.current = sum(estimates.values()), 0.0, ""

    def left(self, share: float = 0.0) -> float:
        """Returns the seconds left when `share` of the current run is done."""
        done = self.finished + share * self.estimates.get(self.current, 0.0)
        elapsed = time.monotonic() - self.began
        pace = elapsed / done if done > 0.02 * self.total else 1.0
        return max(0.0, (self.total - done) * pace)


class Lines:
    """Plain lines, for logs and pipes."""

    def __init__(self, estimates: Mapping[str, float]):
        self.clock = _Clock(estimates)
        self.count, self.runs = 0, len(estimates)

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def run_begins(self, name: str, config: RunConfig, step: int) -> None:
        self.count += 1
        self.name, self.config, self.first = name, config, step
        self.clock.current = name
        self.began = self.said = time.monotonic()
        self.loss = ""
        verb = f"resume at step {step}/{config.train.steps}" if step else "start"
        self._say(verb)

    def step(self, step: int) -> None:
        if time.monotonic() - self.said >= PLAIN_SECONDS:
            self.said = time.monotonic()
            rate = (step - self.first) * self.config.train.batch_size / (self.said - self.began)
            steps = self.config.train.steps
            left = duration(self.clock.left(step / steps))
            self._say(f"step {step}/{steps}{self.loss}, {rate:.0f} images/s, about {left} left in all")

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if names.TRAIN_LOSS in values:
            self.loss = f", loss {values[names.TRAIN_LOSS]:.3f}"

    def run_ends(self, name: str, text: str) -> None:
        self.clock.finished += self.clock.estimates.get(name, 0.0)
        self._say(f"{text} ({duration(time.monotonic() - self.began)})")

    def _say(self, text: str) -> None:
        print(f"[{self.count}/{self.runs}] {self.name}: {text}", file=sys.stderr, flush=True)


class Bars:
    """Two live bars: the study and its current run. What has ended stays above them."""

    def __init__(self, estimates: Mapping[str, float]):
        self.clock = _Clock(estimates)
        self.bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
        )
        self.study = self.bars.add_task("study", total=len(estimates), text="")
        self.run: TaskID | None = None

    def __enter__(self) -> "Bars":
        self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bars.stop()

    def run_begins(self, name: str, config: RunConfig, step: int) -> None:
        self.config, self.first, self.began, self.loss = config, step, time.monotonic(), ""
        self.clock.current = name
        self.run = self.bars.add_task(name, total=config.train.steps, completed=step, text="")

    def step(self, step: int) -> None:
        assert self.run is not None
        rate = (step - self.first) * self.config.train.batch_size / (time.monotonic() - self.began)
        self.bars.update(self.run, completed=step, text=f"{rate:.0f} images/s{self.loss}")
        left = duration(self.clock.left(step / self.config.train.steps))
        self.bars.update(self.study, text=f"about {left} left")

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if names.TRAIN_LOSS in values:
            self.loss = f"  loss {values[names.TRAIN_LOSS]:.3f}"

    def run_ends(self, name: str, text: str) -> None:
        assert self.run is not None
        self.clock.finished += self.clock.estimates.get(name, 0.0)
        self.bars.remove_task(self.run)
        self.bars.advance(self.study)
        self.bars.console.print(f"{name:<14} {text} ({duration(time.monotonic() - self.began)})", highlight=False)


def reporter(estimates: Mapping[str, float]) -> Reporter:
    """Returns bars if stderr is a terminal, else plain lines; `estimates` are seconds by run name."""
    return Bars(estimates) if sys.stderr.isatty() else Lines(estimates)
