"""What a launch of a search is about: its space, objectives and trials so far. Nothing here is written."""

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from optuna.study import Study as OptunaStudy

from experiments import launch as launching
from experiments import plan as planning
from experiments.cli import Launch
from experiments.console.progress import duration
from experiments.placement import Placement
from experiments.profiles import Profile
from experiments.runner.remote_checkpoints import Mirror
from experiments.search import record as recording
from experiments.search.space import (
    DERIVED_FIELDS,
    VAL_IMAGES,
    Search,
    SearchError,
    Space,
    make_space,
    parse_objectives,
)
from experiments.search.storage import (
    DEFAULT,
    check_definition,
    find_study,
)  # fmt: skip
from experiments.search.trial_state import count_over, frozen_trials
from experiments.study import Study
from experiments.tracking.store import Store, resolve_uri
from ran.config import SCHEMA_VERSION, RunConfig, check, difference, flatten, identity, override
from ran.data.datasets import load_splits, open_source
from ran.engine.device import DeviceCapabilities, make_deterministic

NAME_LENGTH = 400
"""characters; databases take 512"""


@dataclass(frozen=True)
class Prepared:
    """A search that is ready to run: everything was checked, nothing was written."""

    search: Search
    profile: Profile
    space: Space
    objectives: tuple[str, ...]
    seeds: tuple[int, ...]
    total: int
    device: torch.device
    uri: str
    checkpoints: Path
    mirror: Mirror | None
    placement: Placement
    modules: tuple[str, ...]
    """that workers import first"""
    can: DeviceCapabilities
    storage: str
    overrides: Mapping[str, Any]
    held_out: int
    """training images that the search holds out because the profile does not"""
    trial_seconds: float
    """of a trial that is not pruned"""
    study: OptunaStudy | None
    """as the storage has it; None = it has none yet"""
    keep: str
    retry_failed: bool
    checkpoint_seconds: float | None

    @property
    def name(self) -> str:
        """Of the study in Optuna's storage, and of the parent run."""
        parts = [self.search.name, self.profile.tag, self.space.source.name]
        parts += [",".join(self.objectives)] if len(self.objectives) > 1 else []
        name = " ".join([*parts, *([self.overrides_json] if self.overrides else [])])
        if len(name) <= NAME_LENGTH:
            return name
        return f"{name[: NAME_LENGTH - 17]} {hashlib.sha256(name.encode()).hexdigest()[:16]}"

    @property
    def overrides_json(self) -> str:
        return json.dumps(self.overrides, sort_keys=True)

    @property
    def tags(self) -> dict[str, str]:
        """What each of its runs is tagged with."""
        return planning.run_tags(self.search.name, self.profile, self.overrides_json)

    @property
    def definition(self) -> dict[str, Any]:
        """What two launches must have in common to share trials."""
        base = {key: value for key, value in identity(self.space.base).items() if key != "seed"}
        return {
            "schema": SCHEMA_VERSION, "objectives": list(self.objectives), "seeds": list(self.seeds),
            "pruner": self.pruner, "base": base, "derived": list(self.space.derived),
            "space": recording.describe_space(self.space.parameters), "data": self.space.source.digest,
        }  # fmt: skip

    @property
    def key(self) -> str:
        content = json.dumps([self.name, self.definition], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def pruner(self) -> str:
        """The search's; none with two objectives, for which Optuna has none, and without evaluations on the way."""
        return self.search.pruner if len(self.objectives) == 1 and self.space.base.train.evals else "none"

    @property
    def todo(self) -> int:
        return max(0, self.total - self.over)

    @property
    def over(self) -> int:
        """Trials that are done with; with --retry-failed those that failed are not."""
        return 0 if self.study is None else count_over(frozen_trials(self.study), failed=not self.retry_failed)

    @property
    def seconds(self) -> float:
        return self.todo * self.trial_seconds / min(self.placement.at_once, max(1, self.todo))

    @property
    def command(self) -> str:
        """What launches this search, but for trials, places and what --import names."""
        words = ["--search", self.search.path or self.search.name, *self._objectives_words]
        if self.seeds != self.search.seeds:
            words += ["--seeds", ",".join(map(str, self.seeds))]
        return self._launching(*words)

    @property
    def confirm_words(self) -> tuple[str, ...]:
        """What launches the comparison of its best trial, but for profile and overrides."""
        return ("--search", self.search.path or self.search.name, *self._objectives_words, "--confirm")

    @property
    def _objectives_words(self) -> list[str]:
        return [] if len(self.objectives) == 1 else ["--objectives", ",".join(self.objectives)]

    def _launching(self, *words: str) -> str:
        profile = [] if self.search.profile is not None else ["--profile", self.profile.name]
        overrides = planning.override_words(self._all_overrides)
        return shlex.join(["python", "run_ablation.py", *words, *profile, *overrides])

    @property
    def _all_overrides(self) -> dict[str, Any]:
        usual = launching.base_config(self.search, self.profile).data.name
        data = self.space.source.name
        return ({} if data == usual else {"data.name": data}) | dict(self.overrides)

    def about(self) -> dict[str, Any]:
        """Returns search.json but for the trials and what is made of them."""
        fields = [*self.space.parameters, *self._derived_fields]
        values = flatten(self.space.base)
        return {
            "search": self.search.name, "title": self.search.title, "profile": self.profile.tag,
            "dataset": self.space.source.name, "overrides": dict(self.overrides),
            "objectives": list(self.objectives), "seeds": list(self.seeds), "pruner": self.pruner,
            "evaluations": self.space.base.train.evals, "total": self.total, "command": self.command,
            "confirm": self._launching(*self.confirm_words),
            "space": recording.describe_space(self.space.parameters),
            "derived": recording.describe_derived(self.space.derived), "derived_fields": self._derived_fields,
            "base": {name: values[name] for name in fields},
            "base_macs": planning.network_cost(self.space.base, self.space.source).macs,
        }  # fmt: skip

    @property
    def _derived_fields(self) -> list[str]:
        return [DERIVED_FIELDS.get(name, name) for name in self.space.derived]


def search_base(search: Search, profile: Profile) -> tuple[RunConfig, int]:
    """Returns the base under a profile, and how many training images the search itself holds out for validation."""
    config = launching.base_config(search, profile)
    if config.data.val_images:
        return config, 0
    return override(config, {"data.val_images": VAL_IMAGES}), VAL_IMAGES


def prepare(launch: Launch, search: Search, profile: Profile, config: RunConfig) -> Prepared:
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
    kernels = config.train.kernels != "eager" or "train.kernels" in search.space
    machine = launching.find_machine(launch, kernels=kernels)
    device = machine.device
    if launch.deterministic:
        make_deterministic()
    # A confirmation's --seeds are its own, not the search's.
    seeds = search.seeds if launch.seeds is None or launch.confirm else planning.parse_seeds(launch.seeds)
    uri, (checkpoints, mirror) = resolve_uri(launch.tracking_uri), launching.shelf(launch)
    source = open_source(config.data)
    space = make_space(search, config, source, objectives)
    if not launch.dry_run and not launch.confirm:
        launching.check_places(uri, checkpoints, mirror)
        for seed in seeds:
            load_splits(config.data, seed)  # a damaged file is found now, and kept in memory for the runs
    overrides = difference(config, base)
    overrides.pop("data.name", None)
    modules = (*launch.imports, *([str(Path(search.path).absolute())] if search.path else []))
    prepared = Prepared(
        search, profile, space, objectives, seeds, launch.trials or 0, device, uri, checkpoints, mirror, Placement(),
        modules, machine.can, launch.storage or DEFAULT, overrides, held_out, 0.0, None, launch.keep,
        launch.retry_failed, launch.checkpoint_seconds,
    )  # fmt: skip
    study = find_study(prepared.storage, prepared.name)
    if study is not None and launch.confirm and "definition" in study.user_attrs:
        prepared = replace(prepared, seeds=tuple(study.user_attrs["definition"]["seeds"]))
    if study is not None:
        check_definition(study, prepared.definition, prepared.storage)
    prepared = replace(prepared, study=study)
    if launch.confirm or not prepared.todo:
        return prepared
    store = Store.peek(uri)
    plan = planning.make_plan(
        Study(search.name, search.title, axes=()), profile, config, base, source=source, can=machine.can,
        records=store.records(source.name) if store else {}, checkpoints=checkpoints, remote={}, seeds=prepared.seeds,
        rerun=True,
    )  # fmt: skip
    # A trial's seeds follow one another: as many runs at once as there are trials.
    placement, estimates = launching.placed(
        launch, config, plan, device, runs=prepared.total, times=prepared.todo
    )  # fmt: skip
    return replace(prepared, placement=placement, trial_seconds=sum(estimates.values()))


def headline(prepared: Prepared, why: str) -> str:
    """Returns the first line of a launch: what, why, how much is done, what the rest will cost."""
    p = prepared
    n = len(p.seeds)
    placed = f", {p.placement}" if str(p.placement) else ""
    parts = [
        f"{p.search.name}: profile {p.profile.tag} ({why}), data {p.space.source.name}, {p.device}{placed}",
        f"{p.over} of {p.total} trials done" + (f", {p.todo} to do" if p.todo else ""),
        f"{n} seed{'' if n == 1 else 's'} a trial" + (f", about {duration(p.seconds)} at most" if p.todo else ""),
        _pruning(p),
    ]
    if p.held_out:
        parts.append(f"{p.held_out:,} training images held out for validation, which the profile does not")
    return "; ".join(parts)


def _pruning(prepared: Prepared) -> str:
    if len(prepared.objectives) > 1:
        return "no pruning (Optuna has none for two objectives)"
    if not prepared.space.base.train.evals:
        return "no pruning (--train.evals 0: nothing to prune by)"
    return "no pruning" if prepared.pruner == "none" else f"pruned by {prepared.pruner}"


def describe(prepared: Prepared) -> str:
    """Returns the plan as lines: what is drawn, what is derived, where it is kept, and the trials there are."""
    space, base = prepared.space, flatten(prepared.space.base)
    wide = max(len(name) for name in (*space.parameters, "train.steps"))
    lines = [f"{'field':<{wide}}  {'base':>9}  drawn from"]
    for name, d in recording.describe_space(space.parameters).items():
        if d["type"] == "categorical":
            text = ", ".join(map(str, d["choices"]))
        else:
            text = f"{d['low']:g} to {d['high']:g}" + (", logarithmic" if d["log"] else "")
        lines.append(f"{name:<{wide}}  {_short(base[name]):>9}  {text}")
    for name, text in recording.describe_derived(space.derived).items():
        field = DERIVED_FIELDS.get(name, name)
        lines.append(f"{field:<{wide}}  {_short(base.get(field)):>9}  derived: {text}")
    lines.append(f"objective: {' and '.join(prepared.objectives)}; the error on {space.base.data.val_images:,} "
                 f"validation images, the mean over seeds {', '.join(map(str, prepared.seeds))}")  # fmt: skip
    lines.append(f"storage: {prepared.storage}; study {prepared.name!r}")
    if prepared.study is not None:
        for t in frozen_trials(prepared.study):
            values = "" if not t.values or not t.state.is_finished() else f" {t.values[0]:.2f} %"
            reason = f": {r}" if (r := t.user_attrs.get("reason")) else ""
            lines.append(f"trial {t.number}: {t.state.name.lower()}{values}{reason}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    return "the net's" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
