"""The plan of a launch: which runs a study consists of, the state of each, and what the rest will cost."""

import contextlib
import functools
import hashlib
import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from experiments.profiles import Profile
from experiments.study import Cell, Study
from experiments.tracking.run_log import SPOOL
from experiments.tracking.store import Record
from ran.config import SCHEMA_VERSION, RunConfig, check, difference, fingerprint, override
from ran.data.datasets import Source, open_source
from ran.engine import checkpoint
from ran.engine.device import DeviceCapabilities, resolve
from ran.engine.optim import SCHEDULES
from ran.engine.throughput import seconds_per_image, seconds_to_read
from ran.models.attention import LEARNING
from ran.models.cost import Cost, cost
from ran.models.network import build
from ran.models.zoo import config_spec
from records import names
from records.errors import DataError, UserError, one_line

NEW, RESUMABLE, DONE, FAILED = "new", "resumable", "done", "failed"
STUDY_SCHEMA = 1
SELECTION = "test error at the last step"


class PlanError(UserError):
    """A selection of runs that the study does not have."""


@dataclass(frozen=True)
class PlannedRun:
    """One cell at one seed."""

    cell: Cell
    seed: int
    config: RunConfig
    fingerprint: str
    source: Source
    state: str
    step: int
    """steps that its checkpoint has behind it"""
    record: Record | None
    fresh: bool
    """--rerun: what an earlier attempt left is thrown away"""
    tags: Mapping[str, str] = field(default_factory=dict)
    """of this run alone, beside those of its launch"""

    @property
    def name(self) -> str:
        return f"{self.cell.short} s{self.seed}".strip()

    @property
    def folder_name(self) -> str:
        return self.fingerprint[:16]

    @property
    def cost(self) -> Cost:
        """Parameters and MACs; the network is built to count them, so they are not asked of runs that are done."""
        return network_cost(self.config, self.source)


@dataclass(frozen=True)
class Plan:
    """What one launch is about."""

    study: Study
    profile: Profile
    source: Source
    overrides: Mapping[str, Any]
    """identity fields that the user changed, but for the data set's name"""
    runs: tuple[PlannedRun, ...]
    """those chosen by --seeds, --cells and --shard, seed by seed"""
    all_runs: tuple[dict[str, Any], ...]
    """fingerprint, cell and seed of every cell of the study at every seed of the launch, for study.json"""
    cells: tuple[dict[str, Any], ...]
    """of every cell the network whose parameters and MACs analysis looks up, for study.json"""
    base: RunConfig
    """the study's config under the profile, without the user's overrides"""

    @property
    def todo(self) -> tuple[PlannedRun, ...]:
        return tuple(run for run in self.runs if run.state in (NEW, RESUMABLE))

    def count(self, state: str) -> int:
        return sum(run.state == state for run in self.runs)

    @property
    def parent_key(self) -> str:
        """Hash of (study, profile, data set, overrides); the digest keeps two versions of a data set apart."""
        data = [self.source.name, self.source.digest]
        content = [SCHEMA_VERSION, self.study.name, self.profile.tag, *data, self.overrides_json]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def overrides_json(self) -> str:
        return json.dumps(self.overrides, sort_keys=True)

    @property
    def tags(self) -> dict[str, str]:
        """What each of its runs is tagged with."""
        return run_tags(self.study.name, self.profile, self.overrides_json)

    def study_json(self) -> dict[str, Any]:
        """Returns what analysis needs to know of the study: its cells, seeds and fingerprints, run or not."""
        study = self.study
        return {
            "schema": STUDY_SCHEMA,
            "study": study.name,
            "title": study.title,
            "table": study.table,
            "profile": self.profile.tag,
            "dataset": self.source.name,
            "overrides": dict(self.overrides),
            "selection": SELECTION,
            "axes": [
                {
                    "name": a.name,
                    "header": a.header,
                    "values": list(a.settings),
                    "labels": [a.label(value) for value in a.settings],
                }
                for a in study.axes
            ],
            "compare": study.compare and {"axis": study.compare.axis, "baseline": study.compare.baseline},
            "command": self.command,
            "cells": list(self.cells),
            "runs": list(self.all_runs),
        }

    @property
    def command(self) -> str:
        """The launch that plans these runs, but for seeds, places and what --import names."""
        words = ["python", "run_ablation.py", *(self.study.launch or ("--study", self.study.path or self.study.name))]
        if self.study.profile is None:
            words += ["--profile", self.profile.name]
        if self.source.name != self.base.data.name:
            words += ["--data.name", self.source.name]
        return shlex.join([*words, *override_words(self.overrides)])


def override_words(overrides: Mapping[str, Any]) -> list[str]:
    """Returns overrides as the command line takes them."""
    words = []
    for key, value in overrides.items():
        group, _, name = key.rpartition(".")
        words += (
            [f"--{key if value else f'{group}.no_{name}'}"] if isinstance(value, bool) else [f"--{key}", str(value)]
        )
    return words


def run_tags(what: str, profile: Profile, overrides_json: str) -> dict[str, str]:
    """Returns what each run of a study or search is tagged with."""
    return {names.STUDY: what, names.PROFILE: profile.tag, names.OVERRIDES: overrides_json}


def parse_seeds(text: str) -> tuple[int, ...]:
    """Returns the seeds of "0,1,2". Raises PlanError."""
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise PlanError(f"--seeds takes integers separated by commas, as 0,1,2; got {text!r}") from None
    if min(seeds) < 0:
        raise PlanError(f"--seeds: seeds are not negative; got {text!r}")
    return seeds


def select_cells(cells: Sequence[Cell], filters: Sequence[str]) -> list[Cell]:
    """Returns the cells that agree with any filter such as "depth=92,learning=arl"; all without filters."""
    if not filters:
        return list(cells)
    valid = {name: list(dict.fromkeys(str(cell.values[name]) for cell in cells)) for name in cells[0].values}
    wanted = []
    for text in filters:
        conditions = {}
        for part in text.split(","):
            name, equals, value = part.strip().partition("=")
            if not equals or name not in valid:
                raise PlanError(f"--cells {text!r}: write axis=value; axes: {', '.join(valid)}")
            if name in conditions:
                raise PlanError(f"--cells {text!r}: {name} stands twice; a second --cells is OR")
            if value not in valid[name]:
                raise PlanError(f"--cells {text!r}: {name} has the values {', '.join(valid[name])}")
            conditions[name] = value
        wanted.append(conditions)
    return [
        cell
        for cell in cells
        if any(all(str(cell.values[name]) == value for name, value in c.items()) for c in wanted)
    ]  # fmt: skip


def parse_shard(text: str) -> tuple[int, int]:
    """Returns (i, n) of "i/n", 1 <= i <= n. Raises PlanError."""
    first, _, second = text.partition("/")
    if first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second):
        return int(first), int(second)
    raise PlanError(f"--shard takes i/n with 1 <= i <= n, as 1/2; got {text!r}")


def make_plan(
    study: Study, profile: Profile, config: RunConfig, base: RunConfig, *, source: Source, can: DeviceCapabilities,
    records: Mapping[str, Record], checkpoints: Path, remote: Mapping[str, int], seeds: Sequence[int],
    cells: Sequence[str] = (), shard: tuple[int, int] = (1, 1), rerun: bool = False, retry_failed: bool = False,
) -> Plan:  # fmt: skip
    """Returns the plan. `base` is the study's config under the profile, `config` the same with the user's overrides.

    `can`: what the device that will train can do; `remote`: the newest step of each run, by its folder's name,
    where checkpoints are mirrored at a URI.

    Every config is checked and every network built once for its cost, so that what cannot run is refused here.
    """

    everything = [
        (cell, seed, resolved(override(config, {**cell.settings, "seed": seed}), can=can))
        for seed in seeds
        for cell in study.cells
    ]
    # An axis over the data (other labels) gives cells whose data have digests of their own.
    sources = {run.data: open_source(run.data) for _, _, run in everything}
    prints = [fingerprint(run, sources[run.data].digest) for _, _, run in everything]
    chosen = {str(cell) for cell in select_cells(study.cells, cells)}
    index, count = shard
    runs = [
        planned(
            cell, seed, run, print_, sources[run.data], records.get(print_), checkpoints, remote, rerun, retry_failed
        )
        for (cell, seed, run), print_ in zip(everything, prints, strict=True)
        if str(cell) in chosen
    ][index - 1 :: count]
    overrides = difference(config, base)
    overrides.pop("data.name", None)
    listed = tuple(
        {"fingerprint": print_, "cell": dict(cell.values), "seed": seed}
        for (cell, seed, _), print_ in zip(everything, prints, strict=True)
    )
    networks = tuple(
        {"cell": dict(cell.values), "network": _network(run, sources[run.data])}
        for cell, _, run in everything[: len(study.cells)]
    )
    return Plan(study, profile, source, overrides, tuple(runs), listed, networks, base)


def _network(config: RunConfig, source: Source) -> dict[str, Any] | None:
    """What a table of counts is keyed by; None for a network that it cannot list."""
    m = config.model
    if (m.p, m.t, m.r) != (None, None, None):
        return None
    shape = {"num_classes": source.num_classes, "image_size": source.image_size}
    return {"name": m.name, "width": m.width, "mask_structure": m.mask_structure, **shape}


def resolved(config: RunConfig, *, can: DeviceCapabilities) -> RunConfig:
    """Returns the config as a device with these abilities trains it. Raises UserError for what cannot be run."""
    check(config)
    SCHEDULES[config.optim.schedule]  # an unknown name raises here and not in the middle of the study
    return resolve(config, can)


def planned(
    cell: Cell, seed: int, config: RunConfig, print_: str, source: Source, record: Record | None,
    checkpoints: Path, remote: Mapping[str, int], rerun: bool, retry_failed: bool,
) -> PlannedRun:  # fmt: skip
    """Returns one run with its state, from what the store (`record`) and its checkpoint folder know of it.

    `config` is resolved, `print_` its fingerprint. Raises UserError for a network that cannot be built, and for a
    checkpoint whose run the store does not know.
    """
    run = PlannedRun(cell, seed, config, print_, source, NEW, 0, record, fresh=rerun)
    if record is not None and record.is_result and not rerun:
        return replace(run, state=DONE)
    LEARNING[config.model.learning]  # an unknown name raises here, as all others do when the network is built
    try:
        _ = run.cost
        if source.test_size not in (None, source.image_size):  # too small a test image is found before training
            with torch.device("meta"):
                build(config_spec(config.model), num_classes=source.num_classes, image_size=source.test_size)
    except UserError:
        raise
    except Exception as error:  # whatever a user's own mask or unit raises
        raise PlanError(f"{cell}: this network cannot be built: {one_line(error)}") from None
    if rerun:
        return run
    if record is not None and record.outcome == names.FAILED and not retry_failed:
        return replace(run, state=FAILED)
    folder = checkpoints / run.folder_name
    header = checkpoint.newest(folder, print_)
    step = max(remote.get(run.folder_name, 0), 0 if header is None else header.step)
    if not step:
        return run
    if header is None:
        return replace(run, state=RESUMABLE, step=step)
    if record is None and not (folder / SPOOL).exists():
        raise PlanError(
            f"{folder} holds {run.name} at step {header.step}, but the tracking store knows no such run: its points up "
            "to there would be missing. Name its store with --tracking-uri, or train it afresh with --rerun"
        )
    return replace(run, state=RESUMABLE, step=step)


_cost = functools.cache(lambda spec, classes, size: cost(spec, num_classes=classes, image_size=size))


def network_cost(config: RunConfig, source: Source) -> Cost:
    """Returns parameters and MACs of the network that a config trains on this data."""
    # What combines mask and trunk has no weights: ARL and NAL are counted once.
    spec = replace(config_spec(config.model), learning="arl")
    return _cost(spec, source.num_classes, source.image_size)


def estimate_seconds(
    plan: Plan, device: torch.device, measure: Callable[..., float] = seconds_per_image
) -> dict[str, float]:
    """Returns the seconds that each run still to do will take, by fingerprint.

    From the throughput of the plan's finished runs where there are any, else of a few steps of its smallest network
    measured now, where the runs will train (`measure`); scaled by multiply-adds, as depth scales both arithmetic and
    overhead. Image files take at least as long as decoding them.
    """
    if not plan.todo:
        return {}
    rates = [
        run.record.images_per_s * run.cost.macs
        for run in plan.runs
        if run.record is not None and run.record.images_per_s
    ]
    rate = sorted(rates)[len(rates) // 2] if rates else _measured_rate(plan, device, measure)
    reading = {source: _reading(source) for source in {run.source for run in plan.todo}}
    return {
        run.fingerprint: _training_images(run, run.source) * max(run.cost.macs / rate, reading[run.source])
        for run in plan.todo
    }


def _reading(source: Source) -> float:
    """Seconds an image; none where one of those tried is damaged, which the run will say."""
    with contextlib.suppress(DataError):
        return seconds_to_read(source)
    return 0.0


def _measured_rate(plan: Plan, device: torch.device, measure: Callable[..., float]) -> float:
    """Multiply-adds a second of the plan's smallest network that runs; infinite if none does."""
    for run in sorted(plan.todo, key=lambda run: run.cost.macs):
        with contextlib.suppress(Exception):  # the run itself will fail, and say why
            per_image = measure(
                run.config, num_classes=run.source.num_classes, image_size=run.source.image_size, device=device
            )
            return run.cost.macs / per_image
    return math.inf


def _training_images(run: PlannedRun, source: Source) -> float:
    """Images still to train on, an evaluated image counted as a third (forward only)."""
    data, train = run.config.data, run.config.train
    test = source.test_images if data.test_images is None else min(data.test_images, source.test_images)
    curve = data.val_images or test
    evaluated = test + data.val_images + max(0, train.evals - 1) * curve * (1 - run.step / train.steps)
    return (train.steps - run.step) * train.batch_size + evaluated / 3
