"""Prepares one launch of a search: its space, objectives and trials so far. Nothing is written."""

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna.study import Study as OptunaStudy

from experiments.cli import Launch, parse_seeds
from experiments.console.progress import duration
from experiments.placement import NOT_HERE, Machine, PlacementRequest, planned_device
from experiments.plan import EarlierRuns, RunSelection, canonical, make_plan, network_cost, override_words, overrides_of
from experiments.prepare import (
    base_config,
    check_writable_places,
    find_machine,
    place_runs,
    run_settings,
)
from experiments.profiles import Profile
from experiments.runner.settings import RunSettings
from experiments.search import record as recording
from experiments.search.space import VAL_IMAGES, Space, make_space, parse_objectives
from experiments.search.storage import DEFAULT, check_definition, find_study
from experiments.search.trial_state import count_over, frozen_trials
from experiments.search_spec import DERIVED_FIELDS, Search, SearchError
from experiments.study import Study
from experiments.tracking.server_check import check_server
from experiments.tracking.store import Store
from ran.config import RunConfig, check, identity, override
from ran.data.datasets import load_splits, open_source
from ran.engine.device import DeviceCapabilities, make_deterministic
from ran.fingerprints import SCHEMA_VERSION
from ran.user_code import user_modules
from records.search_json import CATEGORICAL, SearchRecord
from records.text import columns

NAME_LENGTH = 400
"""maximum number of characters; databases take 512"""


@dataclass(frozen=True)
class PreparedSearch:
    """A launch of a search that is ready to run: everything was checked, nothing was written."""

    search: Search
    profile: Profile
    space: Space
    objectives: tuple[str, ...]
    seeds: tuple[int, ...]
    total: int
    """number of trials, including completed ones"""
    overrides: Mapping[str, Any]
    held_out: int
    """training images that the search holds out for validation because the profile does not"""
    capabilities: DeviceCapabilities
    storage: str
    settings: RunSettings
    trial_seconds: float = 0.0
    """time that a trial takes if it is not pruned"""
    study: OptunaStudy | None = None
    """study in the storage; None = there is none yet"""
    remarks: tuple[str, ...] = ()
    """lines about what this machine cannot say of the plan"""

    @property
    def name(self) -> str:
        """Name of the study in Optuna's storage and of the parent run."""
        parts = [self.search.name, self.profile.tag, self.space.source.name]
        parts += [",".join(self.objectives)] if len(self.objectives) > 1 else []
        name = " ".join([*parts, *([self.overrides_json] if self.overrides else [])])
        if len(name) <= NAME_LENGTH:
            return name
        return f"{name[: NAME_LENGTH - 17]} {hashlib.sha256(name.encode()).hexdigest()[:16]}"

    @property
    def overrides_json(self) -> str:
        return canonical(self.overrides)

    @property
    def definition(self) -> dict[str, Any]:
        """What two launches must have in common to share trials."""
        base = {key: value for key, value in identity(self.space.base).items() if key != "seed"}
        space = recording.parameter_records(self.space.parameters)
        code = {part: module.digest for part, module in user_modules(self.space.base).items()}
        return {
            "schema": SCHEMA_VERSION, "objectives": list(self.objectives), "seeds": list(self.seeds),
            "pruner": self.pruner, "base": base, "derived": list(self.space.derived),
            "space": {name: parameter.to_json() for name, parameter in space.items()}, "data": self.space.source.digest,
            **({"user_code": code} if code else {}),
        }  # fmt: skip

    @property
    def key(self) -> str:
        content = json.dumps([self.name, self.definition], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def turn(self) -> str:
        """Name under which launches of this search take turns at what only one may do at a time."""
        return f"search-{self.key[:16]}"

    @property
    def pruner(self) -> str:
        """The search's pruner; none with two objectives, which Optuna cannot prune, or without evaluations."""
        return self.search.pruner if len(self.objectives) == 1 and self.space.base.train.evals else "none"

    @property
    def todo(self) -> int:
        return max(0, self.total - self.over)

    @property
    def over(self) -> int:
        """Number of finished trials; with --retry-failed, failed ones are not counted."""
        return 0 if self.study is None else count_over(frozen_trials(self.study), failed=not self.settings.retry_failed)

    @property
    def seconds(self) -> float:
        return self.todo * self.trial_seconds / min(self.settings.placement.at_once, max(1, self.todo))

    @property
    def command(self) -> str:
        """Command that launches this search, without trials, places and modules of --import."""
        words = ["--search", self.search.path or self.search.name, *self._objectives_words]
        if self.seeds != self.search.seeds:
            words += ["--seeds", ",".join(map(str, self.seeds))]
        return self._launching(*words)

    @property
    def confirm_words(self) -> tuple[str, ...]:
        """Flags that launch the comparison of its best trial, without profile and overrides."""
        return ("--search", self.search.path or self.search.name, *self._objectives_words, "--confirm")

    @property
    def _objectives_words(self) -> list[str]:
        return [] if len(self.objectives) == 1 else ["--objectives", ",".join(self.objectives)]

    def _launching(self, *words: str) -> str:
        profile = [] if self.search.profile is not None else ["--profile", self.profile.name]
        overrides = override_words(self._all_overrides)
        return shlex.join(["python", "run_ablation.py", *words, *profile, *overrides])

    @property
    def _all_overrides(self) -> dict[str, Any]:
        usual = base_config(self.search, self.profile).data.name
        data = self.space.source.name
        return ({} if data == usual else {"data.name": data}) | dict(self.overrides)

    def record(self, study: OptunaStudy, *, over: bool, base_error: float | None) -> SearchRecord:
        """Returns the record of the search; its importances, which take seconds, only when the launch is `over`."""
        fields = [*self.space.parameters, *self._derived_fields]
        values = self.space.base_values
        trials = recording.trial_records(study, self.seeds)
        found = recording.best(trials)
        return SearchRecord(
            name=self.search.name,
            title=self.search.title,
            profile=self.profile.tag,
            dataset=self.space.source.name,
            overrides=self.overrides,
            objectives=self.objectives,
            seeds=self.seeds,
            pruner=self.pruner,
            evaluations=self.space.base.train.evals,
            total=self.total,
            command=self.command,
            confirm=self._launching(*self.confirm_words),
            space=recording.parameter_records(self.space.parameters),
            derived=recording.describe_derived(self.space.derived),
            derived_fields=tuple(self._derived_fields),
            base={name: values[name] for name in fields},
            base_macs=network_cost(self.space.base, self.space.source).macs,
            base_error=base_error,
            val_images=self.space.base.data.val_images,
            trials=trials,
            best=found[0].number if found else None,
            front=recording.front(trials) if len(self.objectives) > 1 else (),
            importances=recording.importances(study, self.objectives) if over else {},
        )

    @property
    def _derived_fields(self) -> list[str]:
        return [DERIVED_FIELDS.get(name, name) for name in self.space.derived]


def search_base(search: Search, profile: Profile) -> tuple[RunConfig, int]:
    """Returns the base under a profile, and how many training images the search itself holds out for validation."""
    config = base_config(search, profile)
    if config.data.val_images:
        return config, 0
    return override(config, {"data.val_images": VAL_IMAGES}), VAL_IMAGES


def prepare(launch: Launch, search: Search, profile: Profile, config: RunConfig) -> PreparedSearch:
    """Returns the launch, ready to run. `config` is `search_base` with the user's overrides.

    Raises UserError for everything that can be found wrong before anything is written.
    """
    check(config)
    base, held_out = search_base(search, profile)
    if search.requires and config.data.name not in search.requires:
        raise SearchError(f"search {search.name} needs the data set {' or '.join(search.requires)}")
    if not config.data.val_images:
        raise SearchError("a search chooses on validation images: --data.val_images must be above 0")
    objectives = parse_objectives(launch.objectives)
    kernels = config.train.kernels == "fused" or "train.kernels" in search.space
    machine = find_machine(launch.placement, kernels=kernels)
    if launch.deterministic:
        make_deterministic()
    overrides = overrides_of(config, base)
    prepared = PreparedSearch(
        search=search,
        profile=profile,
        space=make_space(search, config, open_source(config.data), objectives),
        objectives=objectives,
        # A confirmation's --seeds are its own, not the search's.
        seeds=search.seeds if launch.seeds is None or launch.confirm else parse_seeds(launch.seeds),
        total=launch.trials or 0,
        overrides=overrides,
        held_out=held_out,
        capabilities=machine.capabilities,
        storage=launch.storage or DEFAULT,
        settings=run_settings(launch, search, profile, overrides, machine.device),
        remarks=(NOT_HERE,) if planned_device(launch.placement) else (),
    )
    if not launch.dry_run and not launch.confirm:
        check_writable_places(prepared.settings)
        load_splits(config.data, prepared.seeds[0])  # a damaged file is found now
    prepared = _with_study(prepared, confirms=launch.confirm)
    if launch.confirm or not prepared.todo:
        return prepared
    return _placed(launch.placement, prepared, base, dry_run=launch.dry_run)


def _with_study(prepared: PreparedSearch, *, confirms: bool) -> PreparedSearch:
    """Adds the Optuna study if the storage has it. Raises StorageError if it is of another search."""
    study = find_study(prepared.storage, prepared.name)
    if study is None:
        return prepared
    if confirms and "definition" in study.user_attrs:
        prepared = replace(prepared, seeds=tuple(study.user_attrs["definition"]["seeds"]))
    check_definition(study, prepared.definition, prepared.storage)
    return replace(prepared, study=study)


def _placed(request: PlacementRequest, prepared: PreparedSearch, base: RunConfig, *, dry_run: bool) -> PreparedSearch:
    """Adds where the trials train and how long one takes, planned as a study of one cell, the base."""
    search, config, source, settings = prepared.search, prepared.space.base, prepared.space.source, prepared.settings
    store = Store.peek(settings.tracking_uri)
    if store is not None and not dry_run:
        check_server(store, source.name)
    stored = store.runs(source.name) if store else {}
    plan = make_plan(
        Study(name=search.name, title=search.title, axes=()), prepared.profile, config, base,
        source=source,
        selection=RunSelection(prepared.seeds),
        earlier=EarlierRuns(stored=stored, checkpoints=settings.checkpoints, rerun=True),
        capabilities=prepared.capabilities,
    )  # fmt: skip
    # The seeds of a trial train one after another: as many runs at once as there are trials.
    placement, estimates = place_runs(
        request,
        plan,
        Machine(settings.device, prepared.capabilities),
        threads=config.train.threads,
        runs=prepared.total,
        times=prepared.todo,
    )
    return replace(prepared, settings=replace(settings, placement=placement), trial_seconds=sum(estimates.values()))


def headline(prepared: PreparedSearch, why: str) -> str:
    """Returns the first line of a launch: what runs, why, how much is done, and the cost of the rest."""
    p, settings = prepared, prepared.settings
    n = len(p.seeds)
    placed = f", {settings.placement}" if str(settings.placement) else ""
    parts = [
        f"{p.search.name}: profile {p.profile.tag} ({why}), data {p.space.source.name}, {settings.device}{placed}",
        f"{p.over} of {max(p.over, p.total)} trials done" + (f", {p.todo} to do" if p.todo else ""),
        f"{n} seed{'' if n == 1 else 's'} per trial" + (f", about {duration(p.seconds)} at most" if p.seconds else ""),
        _pruning(p),
    ]
    if p.held_out:
        parts.append(f"{p.held_out:,} training images held out for validation, which the profile does not")
    return "; ".join(parts)


def _pruning(prepared: PreparedSearch) -> str:
    if len(prepared.objectives) > 1:
        return "no pruning (Optuna has none for two objectives)"
    if not prepared.space.base.train.evals:
        return "no pruning (--train.evals 0: nothing to prune by)"
    return "no pruning" if prepared.pruner == "none" else f"pruned by {prepared.pruner}"


def describe(prepared: PreparedSearch) -> str:
    """Returns the plan as lines: what is drawn, what is derived, where it is stored, and the existing trials."""
    space, base = prepared.space, prepared.space.base_values
    rows = []
    for name, parameter in recording.parameter_records(space.parameters).items():
        if parameter.kind == CATEGORICAL:
            text = ", ".join(map(str, parameter.choices))
        else:
            text = f"{parameter.low:g} to {parameter.high:g}" + (", logarithmic" if parameter.log else "")
        rows.append((name, recording.setting_text(base[name]), text))
    for name, text in recording.describe_derived(space.derived).items():
        field = DERIVED_FIELDS.get(name, name)
        rows.append((field, recording.setting_text(base.get(field)), f"derived: {text}"))
    lines = [columns(("field", "base", "drawn from"), rows, right=(1,))]
    lines.append(f"objective: {' and '.join(prepared.objectives)}; the error "
                 f"{recording.describe_value(space.base.data.val_images, prepared.seeds)}")  # fmt: skip
    lines.append(f"storage: {prepared.storage}; study {prepared.name!r}")
    if prepared.study is not None:
        for t in frozen_trials(prepared.study):
            values = "" if not t.values or not t.state.is_finished() else f" {t.values[0]:.2f} %"
            reason = f": {r}" if (r := t.user_attrs.get("reason")) else ""
            lines.append(f"trial {t.number}: {t.state.name.lower()}{values}{reason}")
    return "\n".join(lines)
