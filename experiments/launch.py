"""Runs a prepared launch of a study: opens the store, trains what is to do, records it."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from experiments.console.progress import reporter
from experiments.console.signals import stop_request
from experiments.executors.run_plan import EXECUTORS, exit_status, run_plan
from experiments.plan import DONE, FAILED, Plan
from experiments.prepare import PreparedStudy
from experiments.runner.delivery import Delivery, deliver_patiently
from experiments.runner.execute import Ended, RunServices
from experiments.runner.run_dir import is_kept, locked, tidy
from experiments.runner.settings import RunSettings
from experiments.tracking import parents
from experiments.tracking.errors import NotPermitted, TrackingError
from experiments.tracking.leases import Leases, in_turn
from experiments.tracking.store import Store
from ran.fingerprints import SCHEMA_VERSION
from ran.kernels.build import library
from records import names
from records.collector import collector_paused
from records.files import writing

LAST_WAIT = 60.0
"""seconds that a finished launch waits for a store that does not answer"""


@dataclass(frozen=True)
class LaunchResult:
    """What a launch leaves for its caller."""

    parent_id: str
    exit_status: int
    problems: tuple[str, ...]
    """lines about runs that failed or are left"""
    may_write: bool = True
    """False if the tracking store lets this user only read"""


def run(prepared: PreparedStudy, table: Callable[[str], str] = lambda parent_id: "") -> LaunchResult:
    """Trains what is to do and records it. The first Ctrl-C or SIGTERM ends it after a checkpoint.

    `table` returns the table so far of a parent run, which is shown after each seed.
    """
    plan, settings = prepared.plan, prepared.settings
    estimates = {run.name: prepared.estimates[run.fingerprint] for run in plan.todo}
    with opened(settings) as store, stop_request() as stop, Leases(store, settings.checkpoints) as leases:
        try:
            parent_id = _parent(prepared, store, leases)
        except NotPermitted:
            known = parents.study_id(store, plan.source.name, plan.parent_key)
            if plan.todo or known is None:
                raise
            problems = tuple(_problems(plan, [], Delivery()))
            return LaunchResult(known, exit_status(plan, []), problems, may_write=False)
        _sweep(prepared, leases)
        outcome = names.KILLED
        try:
            with reporter(estimates, settings.placement.at_once) as report:
                services = RunServices(
                    settings=settings, store=store, leases=leases, parent_id=parent_id, report=report, stop=stop
                )
                ended = run_plan(
                    plan, services, EXECUTORS[settings.placement.executor],
                    on_result=lambda seed_over: report.table(lambda: table(parent_id), seed_over=seed_over),
                )  # fmt: skip
            last = deliver_patiently(store, settings, seconds=LAST_WAIT, stop=stop)
            outcome = names.KILLED if stop() else names.FINISHED
        finally:
            with contextlib.suppress(TrackingError):  # away, or deleted: the next launch ends it, or makes another
                parents.finish_parent(store, parent_id, outcome)
        status = stop.exit_status
    if status is None:
        status = max(exit_status(plan, ended), int(bool(last.waiting)))
    return LaunchResult(parent_id, status, tuple(_problems(plan, ended, last)))


@collector_paused()
def open_store(settings: RunSettings) -> Store:
    """Returns the tracking store, created if need be, with the folder of the checkpoints. Raises UserError."""
    with writing(settings.checkpoints):
        settings.checkpoints.mkdir(parents=True, exist_ok=True)
    return Store.open(settings.tracking_uri)


@contextlib.contextmanager
def opened(settings: RunSettings) -> Iterator[Store]:
    """Yields the tracking store, with Ray running during the block if runs train in workers. Raises UserError.

    Ray takes SIGTERM for itself when it joins a cluster, so handlers are set inside the block.
    """
    placement = settings.placement
    if placement.executor == "inline":
        yield open_store(settings)
        return
    from experiments.executors import ray_cluster  # Ray is an extra

    ray = ray_cluster.Session(placement)
    ray.begin()
    if placement.address is None:
        library()  # built once, before several workers need it
    try:
        store = open_store(settings)
        ray.wait()
        yield store
    finally:
        ray.end()


def _sweep(prepared: PreparedStudy, leases: Leases) -> None:
    """Removes what a killed process left of runs that are done: it died after their end, before it had tidied up."""
    settings = prepared.settings
    left = leases.left_here()
    for run in prepared.plan.runs:
        folder = settings.checkpoints / run.folder_name
        if run.state == DONE and (run.folder_name in left or (folder.exists() and not is_kept(folder))):
            with locked(folder) as alone:
                if alone:
                    leases.drop(run.folder_name)
                    tidy(folder, "last" if is_kept(folder) else "final")
                    settings.push_checkpoints(folder)


def _parent(prepared: PreparedStudy, store: Store, leases: Leases) -> str:
    """Returns the id of the study's parent run. Two launches at once must not both create it."""
    plan = prepared.plan
    tags = {**prepared.settings.tags, names.DATASET: plan.source.name, names.SCHEMA: str(SCHEMA_VERSION)}
    name = " ".join([plan.study.name, plan.profile.tag, *([plan.overrides_json] if plan.overrides else [])])
    with in_turn(f"study-{plan.parent_key[:16]}", prepared.settings.checkpoints, leases):
        return parents.open_study(store, plan.parent_key, name, tags=tags, note=plan.study.doc, record=plan.record)


def _problems(plan: Plan, ended: list[Ended], last: Delivery) -> list[str]:
    lines = []
    for e in ended:
        if not e.is_result:
            lines += [f"{e.run.name}: {e}", *(f"    {line}" for line in e.tail)]
    for run in plan.runs:
        if run.state == FAILED and run.stored is not None:
            lines.append(f"{run.name}: failed before: {run.stored.reason} (--retry-failed tries it again)")
    if left := len(plan.todo) - sum(e.is_result for e in ended):
        again = "the same command continues"
        if any(run.fresh for run in plan.todo):
            again = "the same command trains all of them anew, and without --rerun it goes on with what was begun"
        lines.append(f"{left} of {len(plan.runs)} runs are left; {again}")
    if last.waiting:
        lines.append(waiting_line(last))
    return lines


def waiting_line(last: Delivery) -> str:
    """Returns the line about logs that still wait for the store."""
    return (
        f"the tracking store does not answer: the logs of {len(last.waiting)} run(s) are kept in "
        f"{last.waiting[0].parent}; the same command delivers them"
    )
