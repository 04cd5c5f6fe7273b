"""Executors decide where runs train: here in this process, or elsewhere."""

import logging
import statistics
from collections.abc import Callable, Iterable, Iterator

from experiments.plan import DONE, Plan, PlannedRun
from experiments.runner import BUSY, Context, Ended, execute
from experiments.signals import pause
from experiments.tracking import TrackingError, metric_name
from ran import names
from ran.registry import Registry

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
"""between two looks at runs that other launches are training"""

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
    from experiments import cluster  # Ray is an extra

    return cluster.place(runs, context)


def run_plan(plan: Plan, context: Context, place: Executor) -> list[Ended]:
    """Trains the plan's open runs, seed by seed, until `context.stop()`; returns how those that began have ended.

    A run that another launch is training is looked at again when the others are done: its result is taken, or the run
    itself where that launch has died.
    """
    ended: list[Ended] = []
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
            summarize(plan, context, ended)
        if context.stop():
            return [*ended, *busy]
        if len(busy) == len(waiting):
            pause(POLL_SECONDS, context.stop)
        elif busy:
            logger.warning("waiting for %s run(s) that other launches are training; Ctrl-C leaves", len(busy))
        waiting = [other.run for other in busy]
    return ended


def summarize(plan: Plan, context: Context, ended: list[Ended]) -> None:
    """Logs the mean test error of every cell so far on the parent, over this launch's runs and earlier ones."""
    errors: dict[str, list[float]] = {}
    now = {e.run.fingerprint: e.test_err for e in ended}
    for run in plan.runs:
        before = None if run.record is None else run.record.test_err
        err = now.get(run.fingerprint, before)
        if err is not None:
            errors.setdefault(metric_name(run.cell.short), []).append(err)
    means = {f"{names.SUMMARY_TEST_ERR}/{cell}": statistics.fmean(values) for cell, values in errors.items()}
    finished = sum(len(values) for values in errors.values())
    try:
        context.store.summarize(context.parent_id, {**means, names.SUMMARY_RUNS: finished}, step=finished)
    except TrackingError:  # away, or the parent was deleted; it is made anew after each run and by each launch
        logger.debug("no summary", exc_info=True)


def exit_status(plan: Plan, ended: list[Ended]) -> int:
    """Returns 0 if every run of the plan has a result (finished or diverged), else 1."""
    done = plan.count(DONE) + sum(e.is_result for e in ended)
    return 0 if done == len(plan.runs) else 1
