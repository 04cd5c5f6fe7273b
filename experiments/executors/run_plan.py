"""Trains the runs of a plan. Executors decide where: in this process, or in workers."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from experiments.console.signals import pause
from experiments.plan import DONE, Plan, PlannedRun
from experiments.runner.execute import BUSY, Ended, RunServices, execute
from ran.registry import Registry

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
"""time between two looks at runs that other launches are training"""

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
            left[last.run.seed] -= 1
            on_result(not left[last.run.seed] and any(left.values()))
        if services.stop():
            return [*ended, *busy]
        if len(busy) == len(waiting):
            pause(POLL_SECONDS, services.stop)
        elif busy:
            logger.warning("waiting for %s run(s) that other launches are training; Ctrl-C leaves", len(busy))
        waiting = [other.run for other in busy]
    return ended


def exit_status(plan: Plan, ended: list[Ended]) -> int:
    """Returns 0 if every run of the plan has a result (finished or diverged), else 1."""
    done = plan.count(DONE) + sum(e.is_result for e in ended)
    return 0 if done == len(plan.runs) else 1
