"""One launch of a study: prepare (nothing is written), then run (claim the store, train, record)."""

import contextlib
import functools
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from filelock import FileLock

from experiments import plan as planning
from experiments.cli import Launch
from experiments.console.progress import duration, reporter
from experiments.console.signals import stop_request
from experiments.executors.run_plan import EXECUTORS, exit_status, run_plan
from experiments.placement import Machine, Placement, choose, if_worth, require_ray
from experiments.plan import Plan
from experiments.profiles import PROFILES, Profile
from experiments.runner.delivery import Delivery, deliver, deliver_patiently
from experiments.runner.execute import Context, Ended
from experiments.runner.remote_checkpoints import Mirror, is_uri
from experiments.runner.run_dir import KEEP, is_kept, locked, tidy
from experiments.runner.torchrun import check_flags, place_together
from experiments.search import Search
from experiments.study import Study
from experiments.tracking.leases import Claims
from experiments.tracking.run_log import SPOOL
from experiments.tracking.store import Store, TrackingError, check_writable, resolve_uri
from ran.config import DataConfig, RunConfig, check, override
from ran.data.datasets import DataError, load_splits, open_source
from ran.engine.device import device_capabilities, make_deterministic, pick_device
from ran.engine.throughput import seconds_per_image
from records import names
from records.errors import UserError
from records.files import writing

LAST_WAIT = 60.0
"""seconds that a launch which is done waits for a store that is away"""
PARENT_WAIT = 30.0
"""seconds that it waits for another to write the same parent"""


class LaunchError(UserError):
    """A launch that cannot start; one line."""


@dataclass(frozen=True)
class Prepared:
    """A launch that is ready to run: everything was checked, nothing was written."""

    plan: Plan
    device: torch.device
    placement: Placement
    uri: str
    checkpoints: Path
    mirror: Mirror | None
    estimates: Mapping[str, float]
    """seconds by fingerprint, of the runs still to do"""
    keep: str
    retry_failed: bool
    modules: tuple[str, ...]
    """that workers import first"""
    checkpoint_seconds: float | None
    """between two of a run; None = the runner's own"""

    @property
    def seconds(self) -> float:
        """What all of it will take."""
        return sum(self.estimates.values()) / min(self.placement.at_once, max(1, len(self.estimates)))


@dataclass(frozen=True)
class Finished:
    """What a launch leaves for its caller."""

    parent_id: str
    exit_status: int
    problems: tuple[str, ...]
    """lines about runs that failed or are left"""


def choose_profile(study: Study | Search, launch: Launch, data: DataConfig) -> tuple[Profile, str]:
    """Returns the profile and why: the study's, the user's, else paper where CUDA and the data are, else quick."""
    if study.profile is not None:
        if launch.profile not in (None, study.profile):
            what = f"{_kind(study)} {study.name}"
            raise LaunchError(f"{what} always uses the profile {study.profile}; leave --profile out")
        return PROFILES[study.profile], "the study's own"
    if launch.profile is not None:
        return PROFILES[launch.profile], "as asked"
    if find_machine(launch).device.type != "cuda":
        return PROFILES["quick"], "no CUDA device"
    try:
        open_source(override(RunConfig(data=data), {"data.name": study.dataset}).data)
    except DataError:
        return PROFILES["quick"], f"CUDA, but no {study.dataset} under {data.root}"
    return PROFILES["paper"], f"CUDA and {study.dataset} are here"


def find_machine(launch: Launch, *, kernels: bool = False) -> Machine:
    """Returns what the runs train on, here or on a cluster, which is joined. Raises UserError.

    `kernels`: some of them may use kernels of our own, which are then built where they are not yet.
    """
    check_flags(launch)
    if launch.ray_address is None:
        device = pick_device(launch.device)
        return Machine(device, device_capabilities(device, kernels=kernels))
    ray_cluster, placement = _on_cluster(launch, None)
    return ray_cluster.machine(placement, kernels=kernels)


def _on_cluster(launch: Launch, threads: int | None) -> tuple[ModuleType, Placement]:
    require_ray(f"--ray-address {launch.ray_address}")
    from experiments.executors import ray_cluster  # Ray is an extra

    assert launch.ray_address is not None
    return ray_cluster, ray_cluster.on_cluster(
        launch.ray_address, launch.workers, launch.gpus_per_run, launch.device, threads
    )  # fmt: skip


def shelf(launch: Launch) -> tuple[Path, Mirror | None]:
    """Returns the folder in which runs train, and where it is mirrored if --checkpoints is a URI."""
    if is_uri(launch.checkpoints):
        mirror = Mirror(launch.checkpoints)
        return mirror.local, mirror
    return Path(launch.checkpoints), None


def _kind(study: Study | Search) -> str:
    return "study" if isinstance(study, Study) else "search"


def base_config(study: Study | Search, profile: Profile) -> RunConfig:
    """Returns the config of a study or search under a profile, before axes and overrides."""
    config = override(study.base, profile.settings)
    if study.requires and config.data.name not in study.requires:
        config = override(config, {"data.name": study.dataset})
    for name in study.settings:
        PROFILES[name]  # a misspelt profile is refused, not ignored
    return override(config, study.settings.get(profile.name, {}))


def deliver_waiting(launch: Launch) -> Delivery:
    """Delivers what earlier launches could not tell the store. Before the plan: it may hold results."""
    KEEP[launch.keep]  # an unknown name is refused
    checkpoints, mirror = shelf(launch)
    if mirror is not None and not launch.dry_run:
        mirror.fetch_waiting()
    if launch.dry_run or not any(checkpoints.glob(f"*/{SPOOL}")):
        return Delivery()
    store = Store.peek(resolve_uri(launch.tracking_uri))
    return Delivery() if store is None else deliver(store, checkpoints, launch.keep, mirror)


def prepare(launch: Launch, study: Study, profile: Profile, config: RunConfig) -> Prepared:
    """Returns the launch, ready to run. `config` is the base under the profile with the user's overrides.

    Raises UserError for everything that can be found wrong before anything is written.
    """
    check(config)
    if study.requires and config.data.name not in study.requires:
        raise LaunchError(f"study {study.name} needs the data set {' or '.join(study.requires)}: leave --data.name out")
    wanted = {cell.settings.get("train.kernels", config.train.kernels) for cell in study.cells}
    machine = find_machine(launch, kernels=wanted != {"eager"})
    if launch.deterministic:
        make_deterministic()
    seeds = study.seeds if launch.seeds is None else planning.parse_seeds(launch.seeds)
    uri, (checkpoints, mirror) = resolve_uri(launch.tracking_uri), shelf(launch)
    source = open_source(config.data)
    store = Store.peek(uri)
    plan = planning.make_plan(
        study, profile, config, base_config(study, profile), source=source, can=machine.can,
        records=store.records(source.name) if store else {}, checkpoints=checkpoints,
        remote={} if mirror is None else mirror.steps(), seeds=seeds, cells=launch.cells,
        shard=planning.parse_shard(launch.shard), rerun=launch.rerun, retry_failed=launch.retry_failed,
    )  # fmt: skip
    if not launch.dry_run:
        check_places(uri, checkpoints, mirror)
        for data, seed in {(run.config.data, run.seed) for run in plan.todo}:
            load_splits(data, seed)  # a damaged file is found now, and kept in memory for the runs
    placement, estimates = placed(launch, config, plan, machine.device, runs=len(plan.runs))
    modules = (*launch.imports, *([str(Path(study.path).absolute())] if study.path else []))
    return Prepared(
        plan, machine.device, placement, uri, checkpoints, mirror, estimates, launch.keep, launch.retry_failed, modules,
        launch.checkpoint_seconds,
    )  # fmt: skip


def placed(
    launch: Launch, config: RunConfig, plan: Plan, device: torch.device, *, runs: int, times: float = 1.0
) -> tuple[Placement, dict[str, float]]:
    """Returns where `runs` runs train, and the seconds that each of the plan's will take there.

    The work in all is `times` the plan's.
    """
    threads = config.train.threads
    if (together := place_together(launch, plan, device)) is not None:
        seconds = planning.estimate_seconds(plan, device)
        return together, {key: value / together.processes for key, value in seconds.items()}
    if launch.ray_address is not None:
        ray_cluster, placement = _on_cluster(launch, threads)
        return placement, planning.estimate_seconds(
            plan, device, functools.partial(ray_cluster.there, placement, seconds_per_image)
        )  # fmt: skip
    placement = choose(launch.workers, launch.gpus_per_run, device, threads=threads, runs=runs)
    if placement.threads is not None:
        torch.set_num_threads(placement.threads)
    estimates = planning.estimate_seconds(plan, device)
    return if_worth(placement, launch.workers, times * sum(estimates.values())), estimates


def check_places(uri: str, folder: Path, mirror: Mirror | None) -> None:
    """Raises UserError if store, folder of the checkpoints or its mirror cannot be written."""
    check_writable(uri)
    if mirror is not None:
        mirror.check()
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise LaunchError(f"--checkpoints {folder}: {existing} is not a folder")
    if not os.access(existing, os.W_OK):
        raise LaunchError(f"--checkpoints {folder}: {existing} is not writable")


def describe(prepared: Prepared) -> str:
    """Returns the plan as lines, one a run: state, parameters, MACs, time."""
    wide = max([18, *(len(run.name) for run in prepared.plan.runs)])
    lines = [f"{'run':<{wide}} {'state':<22} {'params':>8} {'MACs':>9} {'time':>10}"]
    for run in prepared.plan.runs:
        state = f"{run.state} at step {run.step}" if run.state == planning.RESUMABLE else run.state
        seconds = prepared.estimates.get(run.fingerprint)
        time = "-" if seconds is None else duration(seconds)
        lines.append(
            f"{run.name:<{wide}} {state:<22} {run.cost.params / 1e6:>6.2f} M {run.cost.macs / 1e9:>7.3f} G {time:>10}"
        )
    return "\n".join(lines)


def run(prepared: Prepared) -> Finished:
    """Trains what is to do and records it. The first Ctrl-C or SIGTERM ends it after a checkpoint."""
    plan, placement, checkpoints, keep = prepared.plan, prepared.placement, prepared.checkpoints, prepared.keep
    with writing(checkpoints):
        checkpoints.mkdir(parents=True, exist_ok=True)
    store = Store.open(prepared.uri)
    estimates = {run.name: prepared.estimates[run.fingerprint] for run in plan.todo}
    # Ray takes SIGTERM for itself when it starts, so before our handlers are set.
    with workers(placement), stop_request() as stop, Claims(store, checkpoints) as claims:
        parent_id = _parent(prepared, store, claims)
        _sweep(prepared, claims)
        outcome = names.KILLED
        try:
            with reporter(estimates, placement.at_once) as report:
                context = Context(
                    plan.tags, store, claims, parent_id, checkpoints, prepared.device, report, stop, keep,
                    prepared.retry_failed, placement=placement, modules=prepared.modules, mirror=prepared.mirror,
                ).saving(prepared.checkpoint_seconds)  # fmt: skip
                ended = run_plan(plan, context, EXECUTORS[placement.executor])
            last = deliver_patiently(store, checkpoints, keep, prepared.mirror, seconds=LAST_WAIT, stop=stop)
            outcome = names.KILLED if stop() else names.FINISHED
        finally:
            with contextlib.suppress(TrackingError):  # away, or deleted: the next launch ends it, or makes another
                store.finish_parent(parent_id, outcome)
        status = stop.exit_status
    if status is None:
        status = max(exit_status(plan, ended), int(bool(last.waiting)))
    return Finished(parent_id, status, tuple(_problems(plan, ended, last)))


@contextlib.contextmanager
def workers(placement: Placement) -> Iterator[None]:
    """Ray, for the time of the block, where runs train in workers."""
    if placement.executor == "inline":
        yield
        return
    from experiments.executors import ray_cluster  # Ray is an extra

    ray_cluster.connect(placement)
    try:
        yield
    finally:
        ray_cluster.disconnect()


def _sweep(prepared: Prepared, claims: Claims) -> None:
    """Removes what a process left of runs that are done: it was killed after their end and before it had tidied up."""
    left = claims.left_here()
    for run in prepared.plan.runs:
        folder = prepared.checkpoints / run.folder_name
        if run.state == planning.DONE and (run.folder_name in left or (folder.exists() and not is_kept(folder))):
            with locked(folder) as alone:
                if alone:
                    claims.drop(run.folder_name)
                    tidy(folder, "last" if is_kept(folder) else "final")
                    if prepared.mirror is not None:
                        prepared.mirror.push(run.folder_name)


def _parent(prepared: Prepared, store: Store, claims: Claims) -> str:
    """The id of the study's parent run. Two launches at once must not both create it."""
    plan = prepared.plan
    tags = {**plan.tags, names.DATASET: plan.source.name}
    name = " ".join([plan.study.name, plan.profile.tag, *([plan.overrides_json] if plan.overrides else [])])
    with in_turn(f"study-{plan.parent_key[:16]}", prepared.checkpoints, claims):
        return store.parent(plan.source.name, plan.parent_key, name, tags, note=plan.study.doc, study=plan.study_json())


@contextlib.contextmanager
def in_turn(what: str, checkpoints: Path, claims: Claims) -> Iterator[None]:
    """Keeps a block to one launch at a time, of all that share the tracking store.

    One that has waited PARENT_WAIT seconds for another goes on all the same: better twice than never.
    """
    until = time.monotonic() + PARENT_WAIT
    with FileLock(checkpoints / "launch.lock"):
        while True:
            with claims.claimed(what, alone=True) as other:
                if other is None or time.monotonic() > until:
                    yield
                    return
            time.sleep(0.2)


def _problems(plan: Plan, ended: list[Ended], last: Delivery) -> list[str]:
    lines = []
    for e in ended:
        if not e.is_result:
            lines += [f"{e.run.name}: {e}", *(f"    {line}" for line in e.tail)]
    for run in plan.runs:
        if run.state == planning.FAILED and run.record is not None:
            lines.append(f"{run.name}: failed before: {run.record.reason} (--retry-failed tries it again)")
    if left := len(plan.todo) - sum(e.is_result for e in ended):
        lines.append(f"{left} of {len(plan.runs)} runs are left; the same command continues")
    if last.waiting:
        lines.append(waiting_line(last))
    return lines


def waiting_line(last: Delivery) -> str:
    """Returns what a launch says of logs that still wait for the store."""
    return (
        f"the tracking store is away: what {len(last.waiting)} run(s) logged waits in {last.waiting[0].parent}; "
        "the same command delivers it"
    )
