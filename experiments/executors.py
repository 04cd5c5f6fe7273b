"""How the runs of a plan are placed: one after another in this process, or elsewhere."""

import statistics
from collections.abc import Callable

from experiments.plan import DONE, Plan
from experiments.runner import Context, Ended, execute
from experiments.tracking import metric_name
from ran import names
from ran.registry import Registry

Executor = Callable[[Context], list[Ended]]
EXECUTORS: Registry[Executor] = Registry("executor")


@EXECUTORS.register("inline")
def inline(context: Context) -> list[Ended]:
    """Trains the plan's open runs one after another, seed by seed, until `context.stop()`."""
    ended: list[Ended] = []
    for run in context.plan.todo:
        if context.stop():
            break
        ended.append(execute(run, context))
        summarize(context, ended)
    return ended


def summarize(context: Context, ended: list[Ended]) -> None:
    """Logs the mean test error of every cell so far on the parent, over this launch's runs and earlier ones."""
    errors: dict[str, list[float]] = {}
    now = {e.run.fingerprint: e.test_err for e in ended}
    for run in context.plan.runs:
        before = None if run.record is None else run.record.test_err
        err = now.get(run.fingerprint, before)
        if err is not None:
            errors.setdefault(metric_name(run.cell.short), []).append(err)
    means = {f"{names.SUMMARY_TEST_ERR}/{cell}": statistics.fmean(values) for cell, values in errors.items()}
    finished = sum(len(values) for values in errors.values())
    context.store.summarize(context.parent_id, {**means, names.SUMMARY_RUNS: finished}, step=finished)


def exit_status(plan: Plan, ended: list[Ended]) -> int:
    """Returns 0 if every run of the plan has a result (finished or diverged), else 1."""
    done = plan.count(DONE) + sum(e.outcome in (names.FINISHED, names.DIVERGED) for e in ended)
    return 0 if done == len(plan.runs) else 1
