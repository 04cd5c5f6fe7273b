"""One launch of a search: prepare (nothing is written), then run (ask, train, tell, until there are enough trials)."""

import contextlib
import hashlib
import json
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.study import Study as OptunaStudy

from experiments import launch as launching
from experiments import plan as planning
from experiments import search_record as recording
from experiments.claims import Claims
from experiments.cli import Launch
from experiments.delivery import deliver_patiently
from experiments.executors import EXECUTORS, Executor
from experiments.launches import living
from experiments.profiles import Profile
from experiments.progress import duration, reporter
from experiments.runner import Context
from experiments.search import PRUNERS, VAL_IMAGES, Search, SearchError, Space, make_space, parse_objectives
from experiments.signals import stop_request
from experiments.storage import (
    DEFAULT,
    Sampler,
    StorageError,
    asking,
    check_definition,
    count_over,
    find_study,
    frozen_trials,
    open_storage,
)  # fmt: skip
from experiments.study import Study
from experiments.tracking import Store, TrackingError, check_writable, resolve_uri
from experiments.trials import Listening, Trials
from ran import names
from ran.config import SCHEMA_VERSION, RunConfig, check, difference, flatten, identity, override
from ran.data.datasets import load_splits, open_source
from ran.engine.device import make_deterministic, pick_device
from ran.files import writing

WRITE_SECONDS = 30.0
"""between two writes of search.json"""


def executor() -> Executor:
    """Returns where the runs of a search are trained."""
    return EXECUTORS["inline"]


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

    @property
    def name(self) -> str:
        """Of the study in Optuna's storage, and of the parent run."""
        parts = [self.search.name, self.profile.tag, self.space.source.name]
        parts += [",".join(self.objectives)] if len(self.objectives) > 1 else []
        return " ".join([*parts, *([self.overrides_json] if self.overrides else [])])

    @property
    def overrides_json(self) -> str:
        return json.dumps(self.overrides, sort_keys=True)

    @property
    def tags(self) -> dict[str, str]:
        """What each of its runs is tagged with."""
        return {
            names.STUDY: self.search.name,
            names.PROFILE: self.profile.tag,
            names.OVERRIDES: self.overrides_json,
        }

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
        return 0 if self.study is None else count_over(frozen_trials(self.study))

    @property
    def seconds(self) -> float:
        return self.todo * self.trial_seconds

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
        return [{"width": "model.width", "steps": "train.steps"}.get(name, name) for name in self.space.derived]


@dataclass(frozen=True)
class Finished:
    """What a launch leaves for its caller."""

    exit_status: int
    table: str
    problems: tuple[str, ...]


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
        raise SearchError("a search chooses on validation images: --data.val-images must be above 0")
    objectives = parse_objectives(launch.objectives)
    device = pick_device(launch.device)
    if launch.deterministic:
        make_deterministic()
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    # A confirmation's --seeds are its own, not the search's.
    seeds = search.seeds if launch.seeds is None or launch.confirm else planning.parse_seeds(launch.seeds)
    uri, checkpoints = resolve_uri(launch.tracking_uri), Path(launch.checkpoints)
    source = open_source(config.data)
    space = make_space(search, config, source, objectives)
    if not launch.dry_run and not launch.confirm:
        launching.check_folder(checkpoints)
        check_writable(uri)
        for seed in seeds:
            load_splits(config.data, seed)  # a damaged file is found now, and kept in memory for the runs
    overrides = difference(config, base)
    overrides.pop("data.name", None)
    prepared = Prepared(
        search, profile, space, objectives, seeds, launch.trials or 0, device, uri, checkpoints,
        launch.storage or DEFAULT, overrides, held_out, 0.0, None, launch.keep, launch.retry_failed,
    )  # fmt: skip
    study = find_study(prepared.storage, prepared.name)
    if study is not None and launch.confirm and "definition" in study.user_attrs:
        prepared = replace(prepared, seeds=tuple(study.user_attrs["definition"]["seeds"]))
    if study is not None:
        check_definition(study, prepared.definition, prepared.storage)
    prepared = replace(prepared, study=study)
    if not prepared.todo or launch.confirm:
        return prepared
    store = Store.peek(uri)
    plan = planning.make_plan(
        Study(search.name, search.title, axes=()), profile, config, base, source=source, device=device,
        records=store.records(source.name) if store else {}, checkpoints=checkpoints, seeds=seeds, rerun=True,
    )  # fmt: skip
    return replace(prepared, trial_seconds=sum(planning.estimate_seconds(plan, device).values()))


def headline(prepared: Prepared, why: str) -> str:
    """Returns the first line of a launch: what, why, how much is done, what the rest will cost."""
    p = prepared
    n = len(p.seeds)
    parts = [
        f"{p.search.name}: profile {p.profile.tag} ({why}), data {p.space.source.name}, {p.device}",
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
        field = {"width": "model.width", "steps": "train.steps"}.get(name, name)
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


def run(prepared: Prepared) -> Finished:
    """Asks, trains and tells until there are enough trials. The first Ctrl-C or SIGTERM ends it after a checkpoint."""
    p = prepared
    with writing(p.checkpoints):
        p.checkpoints.mkdir(parents=True, exist_ok=True)
    store = Store.open(p.uri)
    problems: list[str] = []
    with stop_request() as stop, Claims(store, p.checkpoints) as claims:
        turn = f"search-{p.key[:16]}"
        with launching.in_turn(turn, p.checkpoints, claims):
            study = _open_study(p)
            parent_id = store.search(
                p.space.source.name, p.key, p.name, {**p.tags, names.DATASET: p.space.source.name}, p.search.doc
            )
        outcome = names.KILLED
        record: dict[str, Any] = {}
        try:
            with living(p.checkpoints, claims) as me, reporter(_estimates(p)) as report:
                trials = Trials(
                    study, p.storage, p.space, total=p.total, seeds=p.seeds, objectives=p.objectives, store=store,
                    claims=claims, checkpoints=p.checkpoints, device=p.device, me=me, turn=turn, stop=stop,
                    retry_failed=p.retry_failed, prunes=p.pruner != "none",
                )  # fmt: skip
                context = Context(
                    p.tags, store, claims, parent_id, p.checkpoints, p.device, Listening(report, trials), stop, p.keep,
                    p.retry_failed, cut=trials.cut,
                )  # fmt: skip
                writer = _Writer(p, store, parent_id, study)
                with _handing_on(trials, problems):
                    if p.retry_failed:
                        trials.retry_failed()
                    for ended in executor()(trials.feed(), context):
                        trials.ended(ended)
                        writer.now_and_then()
                        if ended.halts:
                            problems.append(f"{ended.run.name}: {ended}")
                            break
                problems += [problem.text for problem in trials.problems]
            last = deliver_patiently(store, p.checkpoints, p.keep, seconds=launching.LAST_WAIT, stop=stop)
            with contextlib.suppress(StorageError):
                record = writer.write(over=not stop())
            outcome = names.KILLED if stop() else names.FINISHED
        finally:
            with contextlib.suppress(TrackingError):
                store.finish_parent(parent_id, outcome)
        status = stop.exit_status
    problems += _left(record, p)
    if last.waiting:
        problems.append(launching.waiting_line(last))
    if status is None:
        status = int(bool(problems))
    return Finished(status, recording.table(record) if record else "", tuple(problems))


@contextlib.contextmanager
def _handing_on(trials: Trials, problems: list[str]) -> Iterator[None]:
    """Leaves no trial running, however the block ends; a storage that has gone is a problem, not a traceback."""
    try:
        yield
    except StorageError as error:
        problems.append(f"{error}; what was trained is in the tracking store, and the same command goes on")
    finally:
        trials.leave()


def _open_study(p: Prepared) -> OptunaStudy:
    """The Optuna study, made if need be. In turn: two launches at once must not both make it."""
    storage = open_storage(p.storage, create=True)
    assert storage is not None  # it was to be created
    evaluations = max(1, len(p.seeds) * p.space.base.train.evals)
    with asking(p.storage):
        study = optuna.create_study(
            storage=storage, study_name=p.name, load_if_exists=True, directions=["minimize"] * len(p.objectives),
            sampler=Sampler(p.space.base.seed), pruner=PRUNERS[p.pruner](evaluations),
        )  # fmt: skip
        check_definition(study, p.definition, p.storage)
        if "definition" not in study.user_attrs:
            study.set_user_attr("definition", p.definition)
            study.set_metric_names(["validation error (%)", "MACs"][: len(p.objectives)])
        return study


def _estimates(p: Prepared) -> dict[str, float]:
    """Seconds by the name of a run. The names are those that a launch alone would give."""
    first = 0 if p.study is None else len(frozen_trials(p.study))
    each = p.trial_seconds / len(p.seeds)
    return {f"t{first + i} s{seed}": each for i in range(p.todo) for seed in p.seeds}


def _left(record: Mapping[str, Any], p: Prepared) -> list[str]:
    """Lines about what the search lacks, over all launches."""
    if not record:
        return []
    entries = [e for e in record["trials"] if not e["replaced"]]
    over = [e for e in entries if e["state"] not in ("running", "waiting")]
    lines = []
    if failed := [e["number"] for e in over if e["outcome"] == names.FAILED]:
        lines.append(f"failed: trial {', '.join(map(str, failed))} (--retry-failed tries again)")
    if (left := p.total - len(over)) > 0:
        lines.append(f"{left} of {p.total} trials are left; the same command continues")
    return lines


class _Writer:
    """Writes search.json on the parent: at the end, and now and then before."""

    def __init__(self, p: Prepared, store: Store, parent_id: str, study: OptunaStudy):
        self._p, self._store, self._parent_id, self._study = p, store, parent_id, study
        self._written = time.monotonic()

    def now_and_then(self) -> None:
        if time.monotonic() - self._written >= WRITE_SECONDS:
            with contextlib.suppress(StorageError):
                self.write(over=False)

    def write(self, *, over: bool) -> dict[str, Any]:
        """Returns what was written. Raises StorageError; a tracking store that is away gets it from a later launch."""
        self._written = time.monotonic()
        with asking(self._p.storage):
            record = recording.search_json(self._p.about(), self._study, self._p.seeds, self._p.objectives, over=over)
        metrics = recording.summary(record)
        with contextlib.suppress(TrackingError):
            self._store.log_search(self._parent_id, record)
            self._store.summarize(self._parent_id, metrics, step=int(metrics[names.SUMMARY_TRIALS]))
        return record
