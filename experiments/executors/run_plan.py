"""Executors decide where runs train: here in this process, or elsewhere."""

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator

from experiments.console.signals import pause
from experiments.plan import DONE, Plan, PlannedRun
from experiments.runner.execute import BUSY, Context, Ended, execute
from experiments.tracking import parents
from experiments.tracking.errors import TrackingError
from experiments.tracking.records import metric_name
from ran.registry import Registry
from records import names

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
"""between two looks at runs that other launches are training"""

SUMMARY_SECONDS = 5.0

Executor = Callable[[Iterable[PlannedRun | None], Context], Iterator[Ended]]
"""Trains runs until `context.stop()`, and yields how each ended. It asks for the next run when it has a place for it;
None = there is none at present, but may be when one of those in training has ended."""
EXECUTORS: Registry[Executor] = Registry("executor")


@EXECUTORS.register("inline")
def inline(runs: Iterable[PlannedRun | None], context: Context) -> Iterator[Ended]:
    """Trains one run after another, in this process."""
    for run in runs:
        if context.stop():
            return
        if run is not None:
            yield execute(run, context)


@EXECUTORS.register("ray")
def over_workers(runs: Iterable[PlannedRun | None], context: Context) -> Iterator[Ended]:
    """Trains several runs at once, in the workers that Ray starts on this machine or on a cluster."""
    from experiments.executors import ray_driver  # Ray is an extra

    return ray_driver.place(runs, context)


def run_plan(plan: Plan, context: Context, place: Executor) -> list[Ended]:
    """Trains the plan's open runs, seed by seed, until `context.stop()`; returns how those that began have ended.

    A run that another launch is training is looked at again when the others are done: its result is taken, or the run
    itself where that launch has died.
    """
    ended: list[Ended] = []
    summary = Summary(plan)
    waiting = list(plan.todo)
    while waiting:
        busy: list[Ended] = []
        for last in place(waiting, context):
            if last.outcome == BUSY:
                busy.append(last)
                continue
            ended.append(last)
            if last.halts:
                return [*ended, *busy]
            summary.add(last, context)
        summary.log(context)
        if context.stop():
            return [*ended, *busy]
        if len(busy) == len(waiting):
            pause(POLL_SECONDS, context.stop)
        elif busy:
            logger.warning("waiting for %s run(s) that other launches are training; Ctrl-C leaves", len(busy))
        waiting = [other.run for other in busy]
    return ended


class Summary:
    """The mean test error of every cell so far, logged on the parent as runs end."""

    def __init__(self, plan: Plan):
        self._errors: dict[str, list[float]] = {}
        self._changed: set[str] = set()
        self._said = -math.inf
        for run in plan.runs:
            if run.state == DONE and run.record is not None:
                self._add(run, run.record.test_err)

    def _add(self, run: PlannedRun, err: float | None) -> None:
        if err is not None:
            cell = metric_name(run.cell.short)
            self._errors.setdefault(cell, []).append(err)
            self._changed.add(cell)

    def add(self, ended: Ended, context: Context) -> None:
        """Takes in a run; logs what has changed, but not more often than every few seconds: runs can be short."""
        self._add(ended.run, ended.test_err)
        if time.monotonic() - self._said >= SUMMARY_SECONDS:
            self.log(context)

    def log(self, context: Context) -> None:
        """Logs what has changed since."""
        finished = sum(len(values) for values in self._errors.values())
        means = {f"{names.SUMMARY_TEST_ERR}/{cell}": statistics.fmean(self._errors[cell]) for cell in self._changed}
        if not means:
            return
        try:
            parents.summarize(context.store, context.parent_id, {**means, names.SUMMARY_RUNS: finished}, step=finished)
            self._changed.clear()
        except TrackingError:  # away, or the parent was deleted; it is made anew after each run and by each launch
            logger.debug("no summary", exc_info=True)
        self._said = time.monotonic()


def exit_status(plan: Plan, ended: list[Ended]) -> int:
    """Returns 0 if every run of the plan has a result (finished or diverged), else 1."""
    done = plan.count(DONE) + sum(e.is_result for e in ended)
    return 0 if done == len(plan.runs) else 1
