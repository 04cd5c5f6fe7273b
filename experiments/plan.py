"""The plan of a launch: which runs a study consists of, and the state of each."""

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from experiments.profiles import Profile
from experiments.study import Cell, Study
from experiments.tracking.records import StoredRun
from experiments.tracking.spool import SPOOL
from ran.config import RunConfig, check, difference, override
from ran.data.datasets import open_source
from ran.data.source import Source
from ran.engine import checkpoint
from ran.engine.device import DeviceCapabilities, resolve
from ran.engine.optim import SCHEDULES
from ran.fingerprints import SCHEMA_VERSION, fingerprint
from ran.models.attention import LEARNING
from ran.models.cost import Cost, model_cost
from ran.models.network import build
from ran.models.zoo import config_spec
from ran.user_code import UserModule, user_modules
from records import names
from records.errors import UserError, one_line
from records.study_json import AxisRecord, CellKey, ComparisonRecord, NetworkKey, RunEntry, StudyRecord

NEW, RESUMABLE, DONE, FAILED = "new", "resumable", "done", "failed"
SELECTION = "test error at the last step"


class PlanError(UserError):
    """A selection of runs that the study does not have."""


@dataclass(frozen=True)
class UserCode:
    """The files with a user's own parts of a run, and the run's fingerprint without them."""

    plain_fingerprint: str
    modules: tuple[UserModule, ...]

    @classmethod
    def of(cls, config: RunConfig, data_digest: str) -> "UserCode | None":
        """Returns the user's code in a resolved config, None if there is none."""
        modules = {module.path: module for module in user_modules(config).values()}
        if not modules:
            return None
        plain = fingerprint(config, data_digest, user_code=False)
        return cls(plain_fingerprint=plain, modules=tuple(modules.values()))

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the files by name."""
        return {module.path.name: module.digest for module in self.modules}

    @property
    def tags(self) -> dict[str, str]:
        return {names.PLAIN_FINGERPRINT: self.plain_fingerprint, names.USER_CODE: canonical(self.digests)}


@dataclass(frozen=True)
class PlannedRun:
    """One cell at one seed."""

    cell: Cell
    seed: int
    config: RunConfig
    fingerprint: str
    source: Source
    state: str
    step: int = 0
    """step of its newest checkpoint"""
    stored: StoredRun | None = None
    """what the tracking store knows of it"""
    user_code: UserCode | None = None
    """a user's own parts in it; None without"""
    fresh: bool = False
    """whether --rerun discards what an earlier attempt left"""
    tags: Mapping[str, str] = field(default_factory=dict)
    """tags of this run alone, besides those of its launch"""

    @property
    def name(self) -> str:
        return f"{self.cell.short} s{self.seed}".strip()

    @property
    def folder_name(self) -> str:
        return self.fingerprint[:16]

    @property
    def cost(self) -> Cost:
        """Parameters and MACs. Counting builds the network, so it is not done for runs that are finished."""
        return network_cost(self.config, self.source)


@dataclass(frozen=True)
class RunSelection:
    """Which runs of a study a launch is about."""

    seeds: tuple[int, ...]
    cells: tuple[str, ...] = ()
    """filters such as "depth=92,learning=arl"; a run matches any of them; () = all cells"""
    shard: tuple[int, int] = (1, 1)
    """(i, n): the i-th of n parts"""


@dataclass(frozen=True)
class EarlierRuns:
    """What earlier launches left in the tracking store and among the checkpoints, and what of it is trained again."""

    stored: Mapping[str, StoredRun]
    """runs of the tracking store by fingerprint"""
    checkpoints: Path
    remote_steps: Mapping[str, int] = field(default_factory=dict)
    """newest step of each run at the checkpoints' URI, by the name of the run's folder"""
    rerun: bool = False
    """whether to train again what is done"""
    retry_failed: bool = False
    """whether to train again what has failed"""
    asked: bool = True
    """whether the tracking store has answered; else nothing is known of what it holds"""


@dataclass(frozen=True)
class Plan:
    """The runs of one launch of a study."""

    study: Study
    profile: Profile
    source: Source
    overrides: Mapping[str, Any]
    """identity fields that the user changed, except the data set's name"""
    runs: tuple[PlannedRun, ...]
    """runs chosen by --seeds, --cells and --shard, seed by seed"""
    entries: tuple[RunEntry, ...]
    """every cell of the study at every seed of the launch, for study.json"""
    networks: Mapping[CellKey, NetworkKey | None]
    """network of every cell, whose parameters and MACs analysis looks up, for study.json"""
    base: RunConfig
    """the study's config under the profile, without the user's overrides"""

    @property
    def todo(self) -> tuple[PlannedRun, ...]:
        return tuple(run for run in self.runs if run.state in (NEW, RESUMABLE))

    def changed_code(self, stored: Iterable[StoredRun]) -> list[str]:
        """Returns a line for each file of the user's whose older text trained runs that are now to do."""
        older: dict[str, list[StoredRun]] = {}
        for held in stored:
            if held.is_result and held.plain_fingerprint:
                older.setdefault(held.plain_fingerprint, []).append(held)
        changed: Counter[str] = Counter()
        for run in self.todo:
            if run.user_code is not None:
                now = run.user_code.digests
                before = [held.user_code for held in older.get(run.user_code.plain_fingerprint, [])]
                changed.update({name for code in before for name in code if code[name] != now.get(name)})
        return [
            f"{count} run{'s were' if count > 1 else ' was'} trained with another {name}: with this one they are new"
            for name, count in sorted(changed.items())
        ]

    def count(self, state: str) -> int:
        return sum(run.state == state for run in self.runs)

    @property
    def parent_key(self) -> str:
        """Hash of (study, profile, data set, overrides); the data's digest distinguishes two versions of a data set."""
        data = [self.source.name, self.source.digest]
        content = [SCHEMA_VERSION, self.study.name, self.profile.tag, *data, self.overrides_json]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def overrides_json(self) -> str:
        return canonical(self.overrides)

    @property
    def record(self) -> StudyRecord:
        """What analysis needs to know about the study: its cells, seeds and fingerprints, run or not."""
        study, compare = self.study, self.study.compare
        return StudyRecord(
            name=study.name,
            title=study.title,
            table=study.table,
            profile=self.profile.tag,
            dataset=self.source.name,
            overrides=self.overrides,
            selection=SELECTION,
            axes=tuple(
                AxisRecord(
                    name=a.name, header=a.header, values=tuple(a.settings), labels=tuple(map(a.label, a.settings))
                )
                for a in study.axes
            ),
            compare=None if compare is None else ComparisonRecord(compare.axis, compare.baseline),
            runs=self.entries,
            command=self.command,
            planned_seeds=self.profile.planned(study.seeds),
            networks=self.networks,
        )

    @property
    def command(self) -> str:
        """Command that plans these runs, without seeds, places and modules of --import."""
        words = ["python", "run_ablation.py", *(self.study.launch or ("--study", self.study.path or self.study.name))]
        if self.study.profile is None:
            words += ["--profile", self.profile.name]
        if self.source.name != self.base.data.name:
            words += ["--data.name", self.source.name]
        return shlex.join([*words, *override_words(self.overrides)])


def override_words(overrides: Mapping[str, Any]) -> list[str]:
    """Returns overrides as arguments of the command line."""
    return [word for key, value in overrides.items() for word in (f"--{key}", str(value))]


def overrides_of(config: RunConfig, base: RunConfig) -> dict[str, Any]:
    """Returns the identity fields that the user changed, except the data set's name."""
    return {key: value for key, value in difference(config, base).items() if key != "data.name"}


def canonical(overrides: Mapping[str, Any]) -> str:
    """Returns overrides as canonical JSON."""
    return json.dumps(overrides, sort_keys=True)


def run_tags(name: str, profile: Profile, overrides: Mapping[str, Any]) -> dict[str, str]:
    """Returns the tags of each run of a study or search."""
    return {names.STUDY: name, names.PROFILE: profile.tag, names.OVERRIDES: canonical(overrides)}


def select_cells(cells: Sequence[Cell], filters: Sequence[str]) -> list[Cell]:
    """Returns the cells that match any filter such as "depth=92,learning=arl"; all cells without filters."""
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
                raise PlanError(f"--cells {text!r}: {name} is given twice; a second --cells is OR")
            if value not in valid[name]:
                raise PlanError(f"--cells {text!r}: {name} has the values {', '.join(valid[name])}")
            conditions[name] = value
        wanted.append(conditions)
    return [
        cell
        for cell in cells
        if any(all(str(cell.values[name]) == value for name, value in c.items()) for c in wanted)
    ]  # fmt: skip


def make_plan(
    study: Study,
    profile: Profile,
    config: RunConfig,
    base: RunConfig,
    *,
    source: Source,
    selection: RunSelection,
    earlier: EarlierRuns,
    capabilities: DeviceCapabilities,
) -> Plan:
    """Returns the plan. `base` is the study's config under the profile, `config` the same with the user's overrides.

    `capabilities` are those of the device that will train. Every config is checked and every network is built once
    for its cost, so that what cannot run is refused here.
    """
    everything = [
        (cell, resolved(override(config, {**cell.settings, "seed": seed}), capabilities))
        for seed in selection.seeds
        for cell in study.cells
    ]
    # An axis over the data (other labels) gives cells whose data have digests of their own.
    sources = {config.data: source}
    sources |= {run.data: open_source(run.data) for _, run in everything if run.data not in sources}
    fingerprints = [fingerprint(run, sources[run.data].digest) for _, run in everything]
    _refuse_one_run_in_two_cells(study, fingerprints[: len(study.cells)])
    chosen = {str(cell) for cell in select_cells(study.cells, selection.cells)}
    index, count = selection.shard
    runs = [
        plan_run(cell, run, key, sources[run.data], earlier)
        for (cell, run), key in zip(everything, fingerprints, strict=True)
        if str(cell) in chosen
    ]
    return Plan(
        study=study,
        profile=profile,
        source=source,
        overrides=overrides_of(config, base),
        runs=tuple(runs[index - 1 :: count]),
        entries=tuple(
            RunEntry(key, cell.key, run.seed) for (cell, run), key in zip(everything, fingerprints, strict=True)
        ),
        networks={cell.key: _network(run, sources[run.data]) for cell, run in everything[: len(study.cells)]},
        base=base,
    )


def _refuse_one_run_in_two_cells(study: Study, fingerprints: Sequence[str]) -> None:
    """Raises PlanError if two cells compute the same; `fingerprints` has one per cell, at one seed."""
    cells: dict[str, Cell] = {}
    for cell, key in zip(study.cells, fingerprints, strict=True):
        if (other := cells.setdefault(key, cell)) is not cell:
            differ = ", ".join(sorted({field for field, _ in cell.settings.items() ^ other.settings.items()}))
            raise PlanError(
                f"study {study.name!r}: the cells {other} and {cell} are one run, because {differ} either has the same "
                "value in both or decides how a run is computed and not what (docs/reproducibility.md)"
            )


def _network(config: RunConfig, source: Source) -> NetworkKey | None:
    """Returns the key of the network in the table of counts; None for a network that the table cannot list."""
    m = config.model
    if (m.p, m.t, m.r) != (None, None, None):
        return None
    return NetworkKey(
        name=m.name, width=m.width, mask_structure=m.mask_structure,
        num_classes=source.num_classes, image_size=source.image_size,
    )  # fmt: skip


def resolved(config: RunConfig, capabilities: DeviceCapabilities) -> RunConfig:
    """Returns the config as a device with these capabilities trains it. Raises UserError for what cannot run."""
    check(config)
    SCHEDULES[config.optim.schedule]  # an unknown name raises here and not in the middle of the study
    return resolve(config, capabilities)


def plan_run(cell: Cell, config: RunConfig, key: str, source: Source, earlier: EarlierRuns) -> PlannedRun:
    """Returns the run of a resolved config, whose fingerprint is `key`, with its state.

    Raises UserError for a network that cannot be built, and for a checkpoint whose run the store does not know.
    """
    stored = earlier.stored.get(key)
    run = PlannedRun(
        cell=cell, seed=config.seed, config=config, fingerprint=key, source=source, state=NEW, stored=stored,
        fresh=earlier.rerun, user_code=UserCode.of(config, source.digest),
    )  # fmt: skip
    if stored is not None and stored.is_result and not earlier.rerun:
        return replace(run, state=DONE)
    _check_network(run)
    if earlier.rerun:
        return run
    if stored is not None and stored.outcome == names.FAILED and not earlier.retry_failed:
        return replace(run, state=FAILED)
    folder = earlier.checkpoints / run.folder_name
    header = checkpoint.newest(folder, key)
    step = max(earlier.remote_steps.get(run.folder_name, 0), 0 if header is None else header.step)
    if not step:
        return run
    if header is not None and stored is None and earlier.asked and not (folder / SPOOL).exists():
        raise PlanError(
            f"{folder} holds {run.name} at step {header.step}, but the tracking store knows no such run: its points up "
            "to there would be missing. Name its store with --tracking-uri, or train it again with --rerun"
        )
    return replace(run, state=RESUMABLE, step=step)


def network_cost(config: RunConfig, source: Source) -> Cost:
    """Returns parameters and MACs of the network that a config trains on this data."""
    return model_cost(config.model, num_classes=source.num_classes, image_size=source.image_size)


def _check_network(run: PlannedRun) -> None:
    """Raises UserError if the network of a run cannot be built, or is too small for the test images."""
    LEARNING[run.config.model.learning]  # an unknown name raises here, as all others do when the network is built
    source = run.source
    try:
        _ = run.cost
        if source.test_size not in (None, source.image_size):
            with torch.device("meta"):
                build(config_spec(run.config.model), num_classes=source.num_classes, image_size=source.test_size)
    except UserError:
        raise
    except Exception as error:  # whatever a user's own mask or unit raises
        raise PlanError(f"{run.cell}: this network cannot be built: {one_line(error)}") from None
