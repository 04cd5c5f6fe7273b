"""One launch of a search: ask, train, tell, until there are enough trials."""

import contextlib
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.study import Study as OptunaStudy

from experiments import launch as launching
from experiments.console.progress import reporter
from experiments.console.signals import stop_request
from experiments.executors.run_plan import EXECUTORS
from experiments.runner.delivery import deliver_patiently
from experiments.runner.execute import Context
from experiments.search import record as recording
from experiments.search.liveness import living
from experiments.search.prepare import Prepared
from experiments.search.sampler import Sampler
from experiments.search.space import PRUNERS
from experiments.search.storage import (
    StorageError,
    asking,
    check_definition,
    open_storage,
)  # fmt: skip
from experiments.search.trial_state import frozen_trials
from experiments.search.trials import Listening, Trials
from experiments.tracking import parents
from experiments.tracking.errors import TrackingError
from experiments.tracking.leases import Leases, in_turn
from experiments.tracking.store import Store
from records import names
from records.files import writing

WRITE_SECONDS = 30.0
"""between two writes of search.json"""


@dataclass(frozen=True)
class Finished:
    """What a launch leaves for its caller."""

    exit_status: int
    table: str
    problems: tuple[str, ...]


def run(prepared: Prepared) -> Finished:
    """Asks, trains and tells until there are enough trials. The first Ctrl-C or SIGTERM ends it after a checkpoint."""
    p = prepared
    with writing(p.checkpoints):
        p.checkpoints.mkdir(parents=True, exist_ok=True)
    store = Store.open(p.uri)
    problems: list[str] = []
    # Ray takes SIGTERM for itself when it starts, so before our handlers are set.
    with launching.workers(p.placement), stop_request() as stop, Leases(store, p.checkpoints) as claims:
        turn = f"search-{p.key[:16]}"
        with in_turn(turn, p.checkpoints, claims):
            study = _open_study(p)
            parent_id = parents.open_search(
                store, p.space.source.name, p.key, p.name, {**p.tags, names.DATASET: p.space.source.name}, p.search.doc
            )
        outcome = names.KILLED
        record: dict[str, Any] = {}
        try:
            with living(p.checkpoints, claims) as me, reporter(_estimates(p), p.placement.at_once) as report:
                trials = Trials(
                    study, p.storage, p.space, total=p.total, seeds=p.seeds, objectives=p.objectives, store=store,
                    claims=claims, checkpoints=p.checkpoints, can=p.can, me=me, turn=turn, stop=stop,
                    retry_failed=p.retry_failed, prunes=p.pruner != "none",
                )  # fmt: skip
                context = Context(
                    p.tags, store, claims, parent_id, p.checkpoints, p.device, Listening(report, trials), stop, p.keep,
                    p.retry_failed, cut=trials.cut, placement=p.placement, modules=p.modules, mirror=p.mirror,
                ).saving(p.checkpoint_seconds)  # fmt: skip
                writer = _Writer(p, store, parent_id, study)
                halted: list[str] = []
                with _handing_on(trials, problems):
                    if p.retry_failed:
                        trials.retry_failed()
                    halted = _train(p, trials, context, writer)
                problems += trials.problems + halted
            last = deliver_patiently(store, p.checkpoints, p.keep, p.mirror, seconds=launching.LAST_WAIT, stop=stop)
            with contextlib.suppress(StorageError):
                record = writer.write(over=not stop())
            outcome = names.KILLED if stop() else names.FINISHED
        finally:
            with contextlib.suppress(TrackingError):
                parents.finish_parent(store, parent_id, outcome)
        status = stop.exit_status
    problems += _left(record, p)
    if last.waiting:
        problems.append(launching.waiting_line(last))
    if status is None:
        status = int(bool(problems))
    return Finished(status, recording.table(record) if record else "", tuple(problems))


def _train(p: Prepared, trials: Trials, context: Context, writer: "_Writer") -> list[str]:
    """Trains until the search is complete; returns what ended it before that, if anything."""
    place, runs = EXECUTORS[p.placement.executor], trials.feed()
    while not trials.over and not context.stop():
        # Workers end when none of them has a run; here that may mean that other launches have the last.
        for ended in place(runs, context):
            trials.ended(ended)
            writer.now_and_then()
            if ended.halts:
                return [f"{ended.run.name}: {ended}"]
    return []


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
            with warnings.catch_warnings():  # it is experimental, says Optuna
                warnings.simplefilter("ignore")
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
            self._store.log_json(self._parent_id, record, names.SEARCH_JSON)
            parents.summarize(self._store, self._parent_id, metrics, step=int(metrics[names.SUMMARY_TRIALS]))
        return record
