"""Trains the runs of a plan. Executors decide where: in this process, or in workers."""

import logging
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from experiments.console.signals import pause
from experiments.plan import DONE, Plan, PlannedRun
from experiments.runner.execute import BUSY, Ended, RunServices, execute
from experiments.tracking import parents
from experiments.tracking.errors import TrackingError
from experiments.tracking.leases import in_turn
from experiments.tracking.records import metric_name
from ran.registry import Registry
from records import names

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
"""time between two looks at runs that other launches are training"""

SUMMARY_SECONDS = 5.0

Executor = Callable[[Iterable[PlannedRun | None], RunServices], Iterator[Ended]]
"""Trains runs until `services.stop()` and yields how each ended. It asks for the next run when it has room for it; None
means that there is none now, but there may be one when a run in training has ended."""
EXECUTORS: Registry[Executor] = Registry("executor")


@EXECUTORS.register("inline")
def inline(runs: Iterable[PlannedRun | None], services: RunServices) -> Iterator[Ended]:
    """Trains one run after another, in this process."""
    for run in runs:
        if services.stop():
            return
        if run is not None:
            yield execute(run, services)


@EXECUTORS.register("ray")
def over_workers(runs: Iterable[PlannedRun | None], services: RunServices) -> Iterator[Ended]:
    """Trains several runs at once, in workers that Ray starts on this machine or on a cluster."""
    from experiments.executors import ray_driver  # Ray is an extra

    return ray_driver.train_on_workers(runs, services)


def run_plan(
    plan: Plan, services: RunServices, executor: Executor, on_result: Callable[[bool], object] = lambda seed_over: None
) -> list[Ended]:
    """Trains the plan's open runs, seed by seed, until `services.stop()`; returns how those that began have ended.

    `on_result` is called after each, with whether it was its seed's last and other seeds are left. A run that another
    launch is training is looked at again when the others are done: its result is used, or the run is trained here if
    that launch has died.
    """
    ended: list[Ended] = []
    summary = Summary(plan)
    waiting = list(plan.todo)
    left = Counter(run.seed for run in waiting)
    while waiting:
        busy: list[Ended] = []
        for last in executor(waiting, services):
            if last.outcome == BUSY:
                busy.append(last)
                continue
            ended.append(last)
            if last.halts:
                return [*ended, *busy]
            summary.add(last, services)
            left[last.run.seed] -= 1
            on_result(not left[last.run.seed] and any(left.values()))
        summary.log(services)
        if services.stop():
            return [*ended, *busy]
        if len(busy) == len(waiting):
            pause(POLL_SECONDS, services.stop)
        elif busy:
            logger.warning("waiting for %s run(s) that other launches are training; Ctrl-C leaves", len(busy))
        waiting = [other.run for other in busy]
    return ended


class Summary:
    """Logs the mean test error of every cell so far on the parent run as runs end."""

    def __init__(self, plan: Plan):
        self._errors: dict[str, list[float]] = {}
        self._changed: set[str] = set()
        self._said = -math.inf
        for run in plan.runs:
            if run.state == DONE and run.stored is not None:
                self._add(run, run.stored.test_err)

    def _add(self, run: PlannedRun, err: float | None) -> None:
        if err is not None:
            cell = metric_name(run.cell.short)
            self._errors.setdefault(cell, []).append(err)
            self._changed.add(cell)

    def add(self, ended: Ended, services: RunServices) -> None:
        """Adds a run and logs what has changed, at most once every few seconds because runs can be short."""
        self._add(ended.run, ended.test_err)
        if time.monotonic() - self._said >= SUMMARY_SECONDS:
            self.log(services)

    def log(self, services: RunServices) -> None:
        """Logs what has changed since the last call."""
        finished = sum(len(values) for values in self._errors.values())
        means = {f"{names.SUMMARY_TEST_ERR}/{cell}": statistics.fmean(self._errors[cell]) for cell in self._changed}
        if not means:
            return
        try:
            turn = in_turn(f"summary-{services.parent_id}", services.settings.checkpoints, services.leases)
            metrics = {**means, names.SUMMARY_RUNS: finished}
            parents.summarize(services.store, services.parent_id, metrics, finished, turn)
            self._changed.clear()
        except TrackingError:  # away, or the parent was deleted; the next run and the next launch log it again
            logger.debug("no summary", exc_info=True)
        self._said = time.monotonic()


def exit_status(plan: Plan, ended: list[Ended]) -> int:
    """Returns 0 if every run of the plan has a result (finished or diverged), else 1."""
    done = plan.count(DONE) + sum(e.is_result for e in ended)
    return 0 if done == len(plan.runs) else 1
