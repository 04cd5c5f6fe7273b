"""Prepares a launch: profile, device, settings, plan and placement. No run is recorded or trained here."""

import functools
import os
import shlex
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from experiments.cli import Launch, parse_seeds, parse_shard
from experiments.console.progress import duration
from experiments.estimate import estimate_seconds
from experiments.gpu_share import runs_per_gpu, slowdown
from experiments.placement import (
    NOT_HERE,
    NOT_HERE_CAPABILITIES,
    Machine,
    Placement,
    PlacementRequest,
    check_request,
    cores,
    if_worth,
    place_here,
    place_processes,
    planned_device,
)
from experiments.plan import RESUMABLE, EarlierRuns, Plan, RunSelection, make_plan, overrides_of, run_tags
from experiments.profiles import PROFILES, Profile
from experiments.runner.delivery import deliver
from experiments.runner.remote_checkpoints import checkpoint_root
from experiments.runner.run_dir import KEEP
from experiments.runner.settings import RunSettings, checkpoint_seconds
from experiments.search_spec import Search
from experiments.study import Study
from experiments.tracking.records import StoredRun
from experiments.tracking.server_check import check_server
from experiments.tracking.spool import SPOOL
from experiments.tracking.store import Store
from ran.config import DataConfig, RunConfig, check, override
from ran.data.datasets import DataError, load_splits, open_source
from ran.engine.device import device_capabilities, make_deterministic, pick_device
from ran.engine.throughput import seconds_per_image
from ran.fingerprints import SCHEMA_VERSION
from records.collector import collector_paused
from records.errors import UserError
from records.mlflow_uri import resolve_uri
from records.secrets import mask_secrets
from records.sqlite_store import check_writable
from records.text import columns


class LaunchError(UserError):
    """A launch that cannot start; one line."""


@dataclass(frozen=True)
class PreparedStudy:
    """A launch of a study that is ready to run."""

    plan: Plan
    settings: RunSettings
    estimates: Mapping[str, float]
    """seconds by fingerprint, of the runs still to do"""
    remarks: tuple[str, ...]
    """lines about runs in the tracking store that look like these and are not, and about what was not measured"""

    @property
    def seconds(self) -> float:
        """Time that all runs still to do will take."""
        at_once = min(self.settings.placement.at_once, max(1, len(self.estimates)))
        return sum(self.estimates.values()) / at_once


def choose_profile(study: Study | Search, requested: str | None, request: PlacementRequest) -> tuple[Profile, str]:
    """Returns the profile and why: the study's, the user's, else paper if CUDA and the data are here, else quick."""
    if study.profile is not None:
        own = PROFILES[study.profile]
        if requested not in (None, study.profile):
            kind = "study" if isinstance(study, Study) else "search"
            raise LaunchError(f"{kind} {study.name} always uses the profile {study.profile}; leave --profile out")
        return own, "the study's own"
    if requested is not None:
        return PROFILES[requested], "as asked"
    if find_machine(request).device.type != "cuda":
        return PROFILES["quick"], "no CUDA device"
    try:
        open_source(DataConfig(name=study.dataset))
    except DataError:
        return PROFILES["quick"], f"CUDA, but no {study.dataset} under {DataConfig().root}"
    if planned_device(request) is not None:
        return PROFILES["paper"], f"CUDA as asked, and {study.dataset} is here"
    return PROFILES["paper"], f"CUDA and {study.dataset} are here"


def find_machine(request: PlacementRequest, *, kernels: bool = False) -> Machine:
    """Returns the device that trains, here or on a cluster, which is joined. Raises UserError.

    `kernels`: whether some runs ask for our own kernels, which are then built if they are not yet.
    """
    check_request(request)
    if request.ray_address is None:
        if (planned := planned_device(request)) is not None:
            return Machine(planned, NOT_HERE_CAPABILITIES)
        device = pick_device(request.device)
        return Machine(device, device_capabilities(device, kernels=kernels))
    return _ray_cluster().find_machine(request, kernels=kernels)


def _ray_cluster() -> ModuleType:
    from experiments.executors import ray_cluster  # Ray is an extra

    return ray_cluster


def base_config(study: Study | Search, profile: Profile) -> RunConfig:
    """Returns the config of a study or search under a profile, before axes and overrides."""
    config = override(study.base, profile.settings)
    if study.requires and config.data.name not in study.requires:
        config = override(config, {"data.name": study.dataset})
    for name in study.settings:
        PROFILES[name]  # a misspelt profile is refused, not ignored
    return override(config, study.settings.get(profile.name, {}))


def deliver_waiting(launch: Launch) -> None:
    """Delivers what earlier launches could not log to the store, and says so on stderr.

    Comes before the plan, since it may hold results.
    """
    KEEP[launch.keep]  # an unknown name is refused
    checkpoints, remote = checkpoint_root(launch.checkpoints)
    if launch.dry_run:
        return
    if remote is not None:
        remote.fetch_waiting()
    if not any(checkpoints.glob(f"*/{SPOOL}")) or (store := Store.peek(resolve_uri(launch.tracking_uri))) is None:
        return
    if delivered := len(deliver(store, checkpoints, launch.keep, remote).delivered):
        print(f"delivered the logs of {delivered} run(s), which the tracking store had missed", file=sys.stderr)


@collector_paused()
def prepare(launch: Launch, study: Study, profile: Profile, config: RunConfig) -> PreparedStudy:
    """Returns the launch, ready to run. `config` is the base under the profile with the user's overrides.

    Raises UserError for everything that can be found wrong before anything is written.
    """
    check(config)
    if study.requires and config.data.name not in study.requires:
        raise LaunchError(f"study {study.name} needs the data set {' or '.join(study.requires)}: leave --data.name out")
    kernels = "fused" in {cell.settings.get("train.kernels", config.train.kernels) for cell in study.cells}
    machine = find_machine(launch.placement, kernels=kernels)
    if launch.deterministic:
        make_deterministic()
    seeds = profile.planned(study.seeds) if launch.seeds is None else parse_seeds(launch.seeds)
    selection = RunSelection(seeds, launch.cells, parse_shard(launch.shard))
    base = base_config(study, profile)
    source = open_source(config.data)
    settings = run_settings(launch, study, profile, overrides_of(config, base), machine.device)
    if not launch.dry_run:
        check_writable_places(settings)
    earlier = earlier_runs(settings, source.name, rerun=launch.rerun)
    plan = make_plan(
        study, profile, config, base,
        source=source,
        selection=selection,
        earlier=earlier,
        capabilities=machine.capabilities,
    )  # fmt: skip
    if not launch.dry_run:
        if plan.todo and (store := Store.peek(settings.tracking_uri)) is not None:
            check_server(store, source.name)
        # A damaged file is found now. One seed is enough: others train on other images of the same files.
        for data, seed in {run.config.data: run.seed for run in reversed(plan.todo)}.items():
            load_splits(data, seed)
    placement, estimates = place_runs(
        launch.placement, plan, machine, threads=config.train.threads, runs=len(plan.runs)
    )
    return PreparedStudy(
        plan=plan,
        settings=replace(settings, placement=placement),
        estimates=estimates,
        remarks=(
            *((NOT_HERE,) if planned_device(launch.placement) else ()),
            *_older_schema(earlier.stored.values()),
            *plan.changed_code(earlier.stored.values()),
        ),
    )


def _older_schema(stored: Collection[StoredRun]) -> list[str]:
    older = [run for run in stored if run.schema < SCHEMA_VERSION]
    if not older:
        return []
    return [
        f"the tracking store also holds {len(older)} run(s) of an earlier schema, which computed something else: they "
        "are neither continued nor tabled"
    ]


def earlier_runs(settings: RunSettings, dataset: str, *, rerun: bool) -> EarlierRuns:
    """Returns what earlier launches left in the tracking store and among the checkpoints."""
    store = Store.peek(settings.tracking_uri)
    return EarlierRuns(
        stored=store.runs(dataset) if store else {},
        checkpoints=settings.checkpoints,
        remote_steps={} if settings.remote is None else settings.remote.steps(),
        rerun=rerun,
        retry_failed=settings.retry_failed,
    )


def run_settings(
    launch: Launch, study: Study | Search, profile: Profile, overrides: Mapping[str, Any], device: torch.device
) -> RunSettings:
    """Returns the settings of a launch's runs, placed in this process until the plan is made."""
    checkpoints, remote = checkpoint_root(launch.checkpoints)
    return RunSettings(
        tags=run_tags(study.name, profile, overrides),
        tracking_uri=resolve_uri(launch.tracking_uri),
        checkpoints=checkpoints,
        remote=remote,
        device=device,
        placement=Placement(),
        keep=launch.keep,
        retry_failed=launch.retry_failed,
        checkpoint_seconds=checkpoint_seconds(launch.checkpoint_seconds),
        deterministic=launch.deterministic,
        modules=(*launch.imports, *([str(Path(study.path).absolute())] if study.path else [])),
        command=mask_secrets(shlex.join(sys.argv)),
        planned_seeds=profile.planned(study.seeds),
    )


def place_runs(
    request: PlacementRequest, plan: Plan, machine: Machine, *, threads: int | None, runs: int, times: float = 1.0
) -> tuple[Placement, dict[str, float]]:
    """Returns where `runs` runs train, and the seconds that each run of the plan takes there, by fingerprint.

    `threads` is the config's (train.threads). The total work is `times` the plan's.
    """
    device, trains = machine.device, [run.config.train for run in plan.runs]
    if (together := place_processes(request, trains, device)) is not None:
        seconds = estimate_seconds(plan, device)
        return together, {key: value / together.processes for key, value in seconds.items()}
    if request.ray_address is not None:
        ray_cluster = _ray_cluster()
        placement = ray_cluster.on_cluster(request, threads, per_gpu=lambda cores: _per_gpu(plan, machine, cores))
        there = functools.partial(ray_cluster.there, placement, seconds_per_image)
        return placement, estimate_seconds(plan, device, there, slowdown=slowdown(placement.gpus))
    if planned_device(request) is not None:
        return Placement(), {}
    per_gpu = _per_gpu(plan, machine, cores() // max(1, torch.cuda.device_count()))
    placement = place_here(request, device, threads=threads, runs=runs, per_gpu=per_gpu)
    if placement.threads is not None:
        torch.set_num_threads(placement.threads)
    estimates = estimate_seconds(plan, device, slowdown=slowdown(placement.gpus))
    return if_worth(placement, request.workers, times * sum(estimates.values())), estimates


def _per_gpu(plan: Plan, machine: Machine, cores: int) -> int:
    """Returns how many runs suit a GPU; `cores` of the processor for each."""
    if machine.device.type != "cuda":
        return 1
    return runs_per_gpu(plan.todo, memory=machine.capabilities.memory, cores=cores)


def check_writable_places(settings: RunSettings) -> None:
    """Raises UserError if the store, the folder of the checkpoints or its copy at a URI cannot be written."""
    folder = settings.checkpoints
    check_writable(settings.tracking_uri)
    if settings.remote is not None:
        settings.remote.check()
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise LaunchError(f"--checkpoints {folder}: {existing} is not a folder")
    if not os.access(existing, os.W_OK):
        raise LaunchError(f"--checkpoints {folder}: {existing} is not writable")


def headline(prepared: PreparedStudy, why: str) -> str:
    """Returns the first line of a launch: study, profile and the reason for it, data, device, and what is to do."""
    plan, placement = prepared.plan, str(prepared.settings.placement)
    time = f", about {duration(prepared.seconds)}" if prepared.estimates else ""
    todo = f"{len(plan.todo)} of {len(plan.runs)} runs to do" if plan.runs else "no run is in this part (--shard)"
    return (
        f"{plan.study.name}: profile {plan.profile.tag} ({why}), data {plan.source.name}, {prepared.settings.device}"
        f"{f', {placement}' if placement else ''}; {todo}{time}"
    )


def describe(prepared: PreparedStudy) -> str:
    """Returns the plan as lines, one per run: state, parameters, MACs, time."""
    rows = []
    for run in prepared.plan.runs:
        state = f"{run.state} at step {run.step}" if run.state == RESUMABLE else run.state
        seconds = prepared.estimates.get(run.fingerprint)
        time = "-" if seconds is None else duration(seconds)
        rows.append((run.name, state, f"{run.cost.params / 1e6:.2f} M", f"{run.cost.macs / 1e9:.3f} G", time))
    return columns(("run", "state", "params", "MACs", "time"), rows, right=(2, 3, 4))
