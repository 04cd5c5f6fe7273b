"""The cells of a study joined with the runs of any study: outcomes and numbers by seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from analysis.read.npz import read_correct
from analysis.read.runs import RUNNING, RunData
from analysis.stats import mean_std
from analysis.tables.cells import Count, Measure
from records import names
from records.schema import CURRENT
from records.study_json import CellKey, NetworkKey, StudyRecord

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

NOT_RUN = "not run"
NO_ERROR = "without a test error"  # finished, but the metric is missing


@dataclass(frozen=True)
class RunResult:
    """The part of a run that tables need."""

    outcome: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    hours: float
    schema: int = CURRENT
    """version of its fingerprint"""
    results: int = 1
    """different results of its fingerprint, of which this is the first"""
    failed: int = 0
    """failed attempts besides this run"""
    killed: int = 0
    """killed attempts besides this run"""
    copies: Sequence[RunData] = ()
    """the run itself, from each source that has it"""

    @cached_property
    def wrong(self) -> "np.ndarray[Any, Any] | None":
        """Whether each test image was misclassified, (N,) bools; None if that was not kept or is not this error's."""
        for copy in self.copies:
            content = copy.artifact(names.TEST_CORRECT)
            correct = None if content is None else read_correct(content)
            if correct is not None and abs(100 * (1 - correct.mean()) - self.metrics[names.FINAL_TEST_ERR]) < 0.01:
                return ~correct
        return None


@dataclass(frozen=True)
class CellRuns:
    """The runs of one cell: the fingerprints of a launch, the outcome of each seed, and the existing runs."""

    planned: Mapping[int, str]
    """fingerprints by seed, of the seeds that were launched"""
    outcomes: Mapping[int, str]
    """by seed, of the seeds that count"""
    by_seed: Mapping[int, RunResult]
    """of the seeds that count"""
    network: NetworkKey | None
    beyond: int = 0
    """finished seeds beyond the plan, which do not count"""

    def diverged(self) -> set[int]:
        """The seeds whose run diverged."""
        return self._with(names.DIVERGED)

    def without_diverged(self) -> "CellRuns":
        """Returns the same without the seeds whose run diverged."""
        return replace(self, outcomes={s: found for s, found in self.outcomes.items() if found != names.DIVERGED})

    def values(self, metric: str = names.FINAL_TEST_ERR) -> dict[int, float]:
        """The metric by seed, of the finished seeds that have it."""
        return {
            seed: run.metrics[metric]
            for seed, run in self.by_seed.items()
            if run.outcome == names.FINISHED and math.isfinite(run.metrics.get(metric, math.nan))
        }

    def count(self, metric: str = names.FINAL_TEST_ERR) -> Count:
        """The seeds that have the metric, of those that count."""
        return Count(len(self.values(metric)), len(self.outcomes), beyond=self.beyond)

    def measure(self, metric: str = names.FINAL_TEST_ERR) -> Measure:
        """Mean and standard deviation of a metric, and the outcomes of the other seeds."""
        begun = self._with(names.KILLED) | self._with(RUNNING) | self._with(NO_ERROR)
        stats = mean_std(list(self.values(metric).values()))
        failed = len(self._with(names.FAILED))
        return Measure(
            stats=stats, diverged=len(self.diverged()), planned=len(self.outcomes), failed=failed, unfinished=len(begun)
        )

    def logged(self, metric: str) -> float | None:
        """A quantity that all seeds share, from any run that logged it."""
        found = (run.metrics.get(metric, math.nan) for run in self.by_seed.values())
        return next((value for value in found if math.isfinite(value)), None)

    def _with(self, outcome: str) -> set[int]:
        return {seed for seed, found in self.outcomes.items() if found == outcome}


def index_runs(runs: "pd.DataFrame", kept: Mapping[str, Sequence[RunData]] | None = None) -> dict[str, RunResult]:
    """Returns the run of each fingerprint, from tidy runs (runs.RUN_COLUMNS).

    `kept`: the same runs with their artifacts, by fingerprint; without them there are no results per image.
    """
    counted = ("schema", "results", "failed", "killed")
    columns = ("fingerprint", "outcome", "test_err", "hours", "params", "metrics", *counted)
    found = {}
    for fingerprint, outcome, error, hours, params, metrics, schema, results, failed, killed in zip(
        *(runs[column] for column in columns), strict=True
    ):
        found[str(fingerprint)] = RunResult(
            outcome=outcome,
            metrics={**metrics, names.FINAL_TEST_ERR: math.nan if error is None else float(error)},
            params=params,
            hours=float(hours),
            schema=int(schema),
            results=int(results),
            failed=int(failed),
            killed=int(killed),
            copies=(kept or {}).get(str(fingerprint), ()),
        )
    return found


def collect(study: StudyRecord, runs: Mapping[str, RunResult]) -> dict[CellKey, CellRuns]:
    """Returns the cells of a study in its order, joined with the runs by fingerprint.

    The seeds that count are those of the study's plan. In a study without a plan on record, or of whose plan nothing
    was run yet, they are those that were launched.
    """
    launched = study.cells()
    begun = any(seed in study.planned_seeds and mark in runs for of in launched.values() for seed, mark in of.items())
    cells = {}
    for cell, planned in launched.items():
        known = {seed: runs[fingerprint] for seed, fingerprint in planned.items() if fingerprint in runs}
        count = set(study.planned_seeds) if begun else set(planned)
        finished = {seed for seed, run in known.items() if run.outcome == names.FINISHED}
        cells[cell] = CellRuns(
            planned=planned,
            outcomes={seed: _outcome(known.get(seed)) for seed in sorted(count)},
            by_seed={seed: run for seed, run in known.items() if seed in count},
            network=study.networks.get(cell),
            beyond=len(finished - count),
        )
    return cells


def _outcome(run: RunResult | None) -> str:
    if run is None:
        return NOT_RUN
    with_error = math.isfinite(run.metrics.get(names.FINAL_TEST_ERR, math.nan))
    return NO_ERROR if run.outcome == names.FINISHED and not with_error else run.outcome
