"""The trials of a launch: it asks Optuna for a trial when a run can be placed, and tells it how the trial ended.

The seeds of a trial are trained one after another, so that the first results can end it; several trials may be in
training at once. If a launch dies, the others fail its trials and enqueue the same parameters; the launch that takes
them continues from the checkpoints, which are found by fingerprint.
"""

import contextlib
import logging
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, Trial, TrialState

from experiments.console.progress import Reporter
from experiments.console.signals import pause
from experiments.executors.run_plan import POLL_SECONDS
from experiments.plan import DONE, FAILED, EarlierRuns, PlannedRun, network_cost, plan_run, resolved
from experiments.runner.execute import BUSY, Ended
from experiments.search.liveness import is_dead
from experiments.search.prepare import PreparedSearch
from experiments.search.storage import StorageError, asking
from experiments.search.trial_state import (
    DEATHS,
    ERRORS,
    FINGERPRINTS,
    LAUNCH,
    MACS,
    OUTCOME,
    PRUNED,
    REASON,
    RETRY_OF,
    SECONDS,
    SETTINGS,
    count,
    enqueue_failed,
    frozen_trials,
    hand_on,
    take_over,
    tell,
)
from experiments.study import Cell
from experiments.tracking.errors import TrackingError
from experiments.tracking.leases import Leases, in_turn
from experiments.tracking.records import StoredRun
from experiments.tracking.store import Store
from ran.config import RunConfig, override
from ran.fingerprints import fingerprint
from records import names
from records.errors import UserError

logger = logging.getLogger(__name__)

WORST = 100.0
"""error in % told for a trial that diverged; the sampler would ignore a failed trial and draw similar ones again"""
TELL_SECONDS = 60.0
"""time to wait for a storage that does not answer when a trial has ended"""


@dataclass
class _Open:
    """An unfinished trial of this launch."""

    trial: Trial
    cell: Cell
    configs: tuple[RunConfig, ...]
    """resolved configs, one per seed"""
    fingerprints: tuple[str, ...]
    errors: list[float] = field(default_factory=list)
    """errors of the finished seeds, in order"""
    reported: set[int] = field(default_factory=set)
    began: float = field(default_factory=time.monotonic)

    @property
    def number(self) -> int:
        return self.trial.number


class Trials:
    """The trials of one launch: `feed` gives an executor their runs, `ended` takes how each ended."""

    def __init__(
        self,
        prepared: PreparedSearch,
        study: OptunaStudy,
        store: Store,
        leases: Leases,
        *,
        me: str,
        stop: Callable[[], bool],
    ):
        """`me`: the name under which this launch is known as alive."""
        self._study, self._storage, self._space, self._total = study, prepared.storage, prepared.space, prepared.total
        self._seeds, self._objectives = prepared.seeds, prepared.objectives
        self._store, self._leases, self._checkpoints = store, leases, prepared.settings.checkpoints
        self._capabilities, self._retry_failed = prepared.capabilities, prepared.settings.retry_failed
        self._prunes = prepared.pruner != "none"
        self._me, self._turn, self._stop = me, prepared.turn, stop
        self._open: dict[int, _Open] = {}
        self._of_run: dict[str, tuple[_Open, int]] = {}
        """(trial, index of the seed) of each run that is ready or in training, by the run's name"""
        self._ready: deque[tuple[float, PlannedRun]] = deque()
        """runs, each with the time before which it does not start"""
        self._training: set[str] = set()
        self._cuts: dict[str, str] = {}
        self._waited = False
        self._look_at = 0.0
        self.over = False
        """whether the search is complete"""
        self.problems: list[str] = []
        """lines about trials that have no value"""

    # Called by the executor

    def feed(self) -> Iterator[PlannedRun | None]:
        """Yields the next run when it is asked for, None while there is none; ends when the search is complete."""
        while not self._stop():
            run = self._next_ready()
            # The executor asks five times a second; the storage is asked less often.
            if run is None and (not self._training or time.monotonic() >= self._look_at):
                run = self._next_of_trials()
                self._look_at = time.monotonic() + POLL_SECONDS
            if run is not None:
                self._look_at = 0.0
                self._training.add(run.name)
                yield run
            elif self.over:
                return
            else:
                if not self._training:
                    pause(POLL_SECONDS, self._stop)
                yield None

    def cut(self, name: str) -> str | None:
        """Returns the reason to end the named run now; None = no reason."""
        return self._cuts.get(name)

    def _next_ready(self) -> PlannedRun | None:
        for place, (due, run) in enumerate(self._ready):
            if time.monotonic() >= due:
                del self._ready[place]
                return run
        return None

    def _next_of_trials(self) -> PlannedRun | None:
        """Opens trials until one has something to train; results that the store has are taken without training."""
        self.over = False
        while not self._stop():
            with in_turn(self._turn, self._checkpoints, self._leases), asking(self._storage):
                trials = frozen_trials(self._study)
                others = self._others(trials)
                if others:
                    self.problems += take_over(self._study, trials, others, self._is_dead)
                    trials = frozen_trials(self._study)
                if count(trials) >= self._total:
                    others = self._others(trials)
                    self.over = not self._open and not others
                    if others and not self._open and not self._waited:
                        self._waited = True
                        logger.warning(
                            "waiting for %s trial(s) that other launches are training; Ctrl-C leaves", len(others)
                        )
                    return None
                trial = self._study.ask(dict(self._space.parameters))
                trial.set_user_attr(LAUNCH, self._me)
            self._begin(trial)
            if (run := self._next_ready()) is not None:
                return run
        return None

    def _others(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        return [t for t in trials if t.state == TrialState.RUNNING and t.number not in self._open]

    def _is_dead(self, launch: str) -> bool:
        return launch == self._me or is_dead(launch, self._checkpoints, self._leases)

    def _begin(self, trial: Trial) -> None:
        try:
            self._space.check_within(trial.params)
            settings = self._space.settings(trial.params)
            base, source = self._space.base, self._space.source
            configs = tuple(
                resolved(override(base, {**settings, "seed": seed}), self._capabilities) for seed in self._seeds
            )
            macs = network_cost(configs[0], source).macs
        except UserError as error:
            self._fail(trial, str(error))
            return
        fingerprints = tuple(fingerprint(config, source.digest) for config in configs)
        cell = Cell(dict(trial.params), settings, f"t{trial.number}")
        opened = self._open[trial.number] = _Open(trial=trial, cell=cell, configs=configs, fingerprints=fingerprints)
        with asking(self._storage):
            for key, value in ((SETTINGS, settings), (FINGERPRINTS, fingerprints), (MACS, macs)):
                trial.set_user_attr(key, value)
            before = trial.user_attrs.get(RETRY_OF)
            if before is not None and len(self._objectives) == 1:
                # Evaluations before its checkpoints are not repeated.
                for step, value in frozen_trials(self._study)[before].intermediate_values.items():
                    self._report(opened, step, value)
        self._begin_seed(opened)

    def _begin_seed(self, opened: _Open) -> None:
        """Prepares the run of the trial's next seed, or takes its result if the store has one."""
        k = len(opened.errors)
        try:
            stored, asked = self._stored(opened.fingerprints[k])
            earlier = EarlierRuns(
                stored={} if stored is None else {stored.fingerprint: stored},
                checkpoints=self._checkpoints,
                retry_failed=self._retry_failed,
                asked=asked,
            )
            run = plan_run(opened.cell, opened.configs[k], opened.fingerprints[k], self._space.source, earlier)
        except UserError as error:
            self._end(opened, names.FAILED, str(error))
            return
        run = replace(run, tags={names.TRIAL: str(opened.number)})
        self._of_run[run.name] = opened, k
        if run.state in (DONE, FAILED) and run.stored is not None:
            self.ended(Ended.of_stored(run, run.stored))
        else:
            self._ready.append((0.0, run))

    def _stored(self, key: str) -> tuple[StoredRun | None, bool]:
        """The run in the store, and whether that has answered; if not, the run trains, and its log waits."""
        try:
            return self._store.run(self._space.source.name, key), True
        except TrackingError:
            return None, False

    # Called with what the runs log

    def heard(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Takes a validation error of a run in training, and decides whether its trial continues."""
        if names.VAL_ERR not in values or name not in self._of_run or len(self._objectives) > 1:
            return
        opened, k = self._of_run[name]
        train = opened.configs[k].train
        if step >= train.steps:  # the end of the run, which `ended` handles
            return
        evaluation = math.ceil(step / math.ceil(train.steps / train.evals))
        place = k * train.evals + evaluation
        try:
            with asking(self._storage):
                self._report(opened, place, statistics.fmean([*opened.errors, values[names.VAL_ERR]]))
                if self._prunes and opened.trial.should_prune():
                    self._cuts[name] = f"pruned at step {step}/{train.steps}"
                    if len(self._seeds) > 1:
                        self._cuts[name] += f" of seed {self._seeds[k]}"
        except (StorageError, optuna.exceptions.UpdateFinishedTrialError):
            logger.debug("an evaluation of trial %s is not reported", opened.number, exc_info=True)

    def _report(self, opened: _Open, place: int, value: float) -> None:
        if place not in opened.reported and math.isfinite(value):
            opened.reported.add(place)
            opened.trial.report(value, place)

    def ended(self, ended: Ended) -> None:
        """Takes how a run ended: its trial continues with the next seed, or ends. Raises StorageError."""
        name = ended.run.name
        self._training.discard(name)
        self._look_at = 0.0
        opened, k = self._of_run.pop(name)
        cut = self._cuts.pop(name, None)
        if ended.outcome == BUSY:
            self._of_run[name] = opened, k
            self._ready.append((time.monotonic() + POLL_SECONDS, ended.run))
        elif ended.outcome == names.FINISHED and ended.val_err is not None:
            self._seed_done(opened, ended.val_err)
        elif ended.outcome == names.DIVERGED:
            self._end(opened, names.DIVERGED, ended.reason)
        elif ended.outcome == names.KILLED and cut is not None:
            self._end(opened, PRUNED, cut)
        elif ended.outcome == names.KILLED and (self._stop() or ended.halts):
            pass  # `leave` hands it on
        elif ended.outcome == names.KILLED and (there := self._stored(opened.fingerprints[k])[0]) and there.is_result:
            self._begin_seed(opened)  # another launch had it first
        else:
            self._end(opened, names.FAILED, ended.reason or "it has no validation error", ended.tail)

    def _seed_done(self, opened: _Open, error: float) -> None:
        opened.errors.append(error)
        done = len(opened.errors)
        if len(self._objectives) == 1:
            with contextlib.suppress(StorageError, optuna.exceptions.UpdateFinishedTrialError), asking(self._storage):
                evals = opened.configs[0].train.evals
                self._report(opened, done * evals, statistics.fmean(opened.errors))
                if done < len(self._seeds) and self._prunes and opened.trial.should_prune():
                    self._end(opened, PRUNED, f"pruned after seed {self._seeds[done - 1]}")
                    return
        if done < len(self._seeds):
            self._begin_seed(opened)
        else:
            self._end(opened, names.FINISHED, "")

    # Told to Optuna

    def _end(self, opened: _Open, outcome: str, reason: str, tail: Sequence[str] = ()) -> None:
        """Tells Optuna how a trial ended; waits for a storage that does not answer, then raises StorageError."""
        del self._open[opened.number]
        trial, seconds = opened.trial, time.monotonic() - opened.began
        state = {PRUNED: TrialState.PRUNED, names.FAILED: TrialState.FAIL}.get(outcome, TrialState.COMPLETE)
        values = None
        if state == TrialState.COMPLETE:
            error = statistics.fmean(opened.errors) if outcome == names.FINISHED else WORST
            macs = trial.user_attrs[MACS]
            values = [error, macs][: len(self._objectives)]
        attributes: dict[str, Any] = {
            OUTCOME: outcome, REASON: reason, ERRORS: opened.errors, SECONDS: round(seconds, 3),
        }  # fmt: skip
        until = time.monotonic() + TELL_SECONDS
        while True:
            try:
                with asking(self._storage):
                    tell(self._study, trial, attributes, values, state)
                break
            except StorageError as error:
                if self._stop() or time.monotonic() > until:
                    raise
                logger.warning("%s; trying again", error)
                pause(POLL_SECONDS, self._stop)
        if outcome == names.FAILED:
            lines = [f"trial {opened.number}: failed: {reason}", *(f"    {line}" for line in tail)]
            self.problems += lines

    def _fail(self, trial: Trial, reason: str) -> None:
        with asking(self._storage):
            tell(self._study, trial, {OUTCOME: names.FAILED, REASON: reason}, None, TrialState.FAIL)
        self.problems.append(f"trial {trial.number}: failed: {reason}")

    def retry_failed(self) -> None:
        """Enqueues the parameters of the trials that failed."""
        with in_turn(self._turn, self._checkpoints, self._leases), asking(self._storage):
            enqueue_failed(self._study)

    def leave(self) -> None:
        """Hands on the trials that this launch has not finished, so that the same command continues them."""
        with contextlib.suppress(StorageError), asking(self._storage):
            trials = frozen_trials(self._study)
            for t in trials:
                if t.state == TrialState.RUNNING and t.user_attrs.get(LAUNCH) == self._me:
                    hand_on(self._study, t, trials, "stopped", deaths=t.user_attrs.get(DEATHS, 0))
        self._open.clear()


class SearchReporter:
    """A reporter that passes on to the trials what their runs log, and reports validation errors of runs that end."""

    def __init__(self, report: Reporter, trials: Trials):
        self._report, self._trials = report, trials
        self.run_begins, self.step = report.run_begins, report.step
        self._errors: dict[str, float] = {}

    def __enter__(self) -> "SearchReporter":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def metrics(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self._report.metrics(name, step, values)
        if names.VAL_ERR in values:
            self._errors[name] = values[names.VAL_ERR]
        self._trials.heard(name, step, values)

    def run_ends(self, name: str, text: str) -> None:
        error = self._errors.pop(name, None)
        finished = text.startswith(names.FINISHED) and error is not None
        self._report.run_ends(name, f"finished, validation error {error:.2f} %" if finished else text)
