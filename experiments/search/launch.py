"""Runs a prepared launch of a search: ask, train, tell, until there are enough trials."""

import contextlib
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import optuna
from optuna.study import Study as OptunaStudy

from experiments.console.progress import reporter
from experiments.console.signals import stop_request
from experiments.executors.run_plan import EXECUTORS
from experiments.launch import LAST_WAIT, opened, waiting_line
from experiments.runner.delivery import deliver_patiently
from experiments.runner.execute import RunServices
from experiments.search import record as recording
from experiments.search.liveness import living
from experiments.search.prepare import PreparedSearch
from experiments.search.sampler import Sampler
from experiments.search.storage import StorageError, asking, check_definition, open_storage
from experiments.search.trial_state import frozen_trials
from experiments.search.trials import SearchReporter, Trials
from experiments.search_spec import PRUNERS
from experiments.tracking import parents
from experiments.tracking.errors import NotPermitted, TrackingError
from experiments.tracking.leases import Leases, in_turn
from experiments.tracking.store import Store
from ran.fingerprints import SCHEMA_VERSION
from records import names
from records.search_json import SearchRecord

WRITE_SECONDS = 30.0
"""time between two writes of search.json"""


@dataclass(frozen=True)
class SearchResult:
    """What a launch of a search leaves for its caller."""

    exit_status: int
    table: str
    problems: tuple[str, ...]


def run(prepared: PreparedSearch) -> SearchResult:
    """Asks, trains and tells until there are enough trials. The first Ctrl-C or SIGTERM ends it after a checkpoint."""
    p, settings = prepared, prepared.settings
    problems: list[str] = []
    with opened(settings) as store, stop_request() as stop, Leases(store, settings.checkpoints) as leases:
        with in_turn(p.turn, settings.checkpoints, leases):
            study = _open_study(p)
            dataset = p.space.source.name
            tags = {**settings.tags, names.DATASET: dataset, names.SCHEMA: str(SCHEMA_VERSION)}
            try:
                parent_id = parents.open_search(store, dataset, p.key, p.name, tags, p.search.doc)
            except NotPermitted:
                if p.todo:
                    raise
                return _only_read(p, study, store)
        outcome = names.KILLED
        record: SearchRecord | None = None
        try:
            at_once = settings.placement.at_once
            with living(settings.checkpoints, leases) as me, reporter(_estimates(p), at_once) as report:
                trials = Trials(p, study, store, leases, me=me, stop=stop)
                services = RunServices(
                    settings=settings, store=store, leases=leases, parent_id=parent_id,
                    report=SearchReporter(report, trials), stop=stop, cut=trials.cut,
                )  # fmt: skip
                writer = _Writer(p, services, study)
                halted: list[str] = []
                with _releasing(trials, problems):
                    if settings.retry_failed:
                        trials.retry_failed()
                    halted = _train(trials, services, writer)
                problems += trials.problems + halted
            last = deliver_patiently(store, settings, seconds=LAST_WAIT, stop=stop)
            with contextlib.suppress(StorageError):
                record = writer.write(over=not stop())
            outcome = names.KILLED if stop() else names.FINISHED
        finally:
            with contextlib.suppress(TrackingError):
                parents.finish_parent(store, parent_id, outcome)
        status = stop.exit_status
    problems += _left(record, p)
    if last.waiting:
        problems.append(waiting_line(last))
    if status is None:
        status = int(bool(problems))
    return SearchResult(status, "" if record is None else recording.table(record), tuple(problems))


def _only_read(p: PreparedSearch, study: OptunaStudy, store: Store) -> SearchResult:
    """The result of a complete search for a user whom the tracking store lets only read; nothing is written."""
    base_error = recording.base_error(p.space, p.seeds, p.capabilities, store)
    with asking(p.storage):
        record = p.record(study, over=True, base_error=base_error)
    problems = _left(record, p)
    return SearchResult(int(bool(problems)), recording.table(record), tuple(problems))


def _train(trials: Trials, services: RunServices, writer: "_Writer") -> list[str]:
    """Trains until the search is complete; returns what ended it early, if anything."""
    execute, runs = EXECUTORS[services.settings.placement.executor], trials.feed()
    while not trials.over and not services.stop():
        # The executor ends when it has no run; other launches may still train the last ones.
        for ended in execute(runs, services):
            trials.ended(ended)
            writer.write_if_due()
            if ended.halts:
                return [f"{ended.run.name}: {ended}"]
    return []


@contextlib.contextmanager
def _releasing(trials: Trials, problems: list[str]) -> Iterator[None]:
    """Leaves no trial running, however the block ends; a storage that does not answer is reported as a problem."""
    try:
        yield
    except StorageError as error:
        problems.append(f"{error}; what was trained is in the tracking store, and the same command continues")
    finally:
        trials.leave()


def _open_study(p: PreparedSearch) -> OptunaStudy:
    """Returns the Optuna study, created if need be; two launches at once must not both create it."""
    storage = open_storage(p.storage, create=True)
    assert storage is not None  # since create=True
    evaluations = max(1, len(p.seeds) * p.space.base.train.evals)
    with asking(p.storage):
        study = optuna.create_study(
            storage=storage, study_name=p.name, load_if_exists=True, directions=["minimize"] * len(p.objectives),
            sampler=Sampler(p.space.base.seed), pruner=PRUNERS[p.pruner](evaluations),
        )  # fmt: skip
        check_definition(study, p.definition, p.storage)
        if "definition" not in study.user_attrs:
            study.set_user_attr("definition", p.definition)
            with warnings.catch_warnings():  # Optuna warns that it is experimental
                warnings.simplefilter("ignore")
                study.set_metric_names(["validation error (%)", "MACs"][: len(p.objectives)])
        return study


def _estimates(p: PreparedSearch) -> dict[str, float]:
    """Returns seconds by the name of a run. The names are those that a single launch would give."""
    first = 0 if p.study is None else len(frozen_trials(p.study))
    each = p.trial_seconds / len(p.seeds)
    return {f"t{first + i} s{seed}": each for i in range(p.todo) for seed in p.seeds}


def _left(record: SearchRecord | None, p: PreparedSearch) -> list[str]:
    """Returns lines about failed and missing trials, over all launches."""
    if record is None:
        return []
    over = [trial for trial in record.counted if trial.over]
    lines = []
    if failed := [str(trial.number) for trial in over if trial.outcome == names.FAILED]:
        lines.append(f"failed: trial {', '.join(failed)} (--retry-failed tries again)")
    if (left := p.total - len(over)) > 0:
        lines.append(f"{left} of {p.total} trials are left; the same command continues")
    return lines


class _Writer:
    """Writes search.json on the parent run, periodically and at the end."""

    def __init__(self, p: PreparedSearch, services: RunServices, study: OptunaStudy):
        self._p, self._services, self._study = p, services, study
        self._written = time.monotonic()
        self._base_error = recording.base_error(p.space, p.seeds, p.capabilities, services.store)

    def write_if_due(self) -> None:
        if time.monotonic() - self._written >= WRITE_SECONDS:
            with contextlib.suppress(StorageError):
                self.write(over=False)

    def write(self, *, over: bool) -> SearchRecord:
        """Returns what was written. Raises StorageError; if the tracking store is away, a later launch writes it."""
        self._written = time.monotonic()
        with asking(self._p.storage):
            record = self._p.record(self._study, over=over, base_error=self._base_error)
        metrics = recording.summary(record)
        services = self._services
        with contextlib.suppress(TrackingError):
            services.store.log_json(services.parent_id, record.to_json(), names.SEARCH_JSON)
            step = int(metrics[names.SUMMARY_TRIALS])
            turn = in_turn(self._p.turn, services.settings.checkpoints, services.leases)
            parents.summarize(services.store, services.parent_id, metrics, step, turn)
        return record
