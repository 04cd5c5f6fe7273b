"""One run, from the store or the archive; which of several runs counts; and many of them as a DataFrame."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from records import names
from records.schema import schema_of

if TYPE_CHECKING:  # a second of import that --help does not need
    import pandas as pd

RUNNING = "running"  # no outcome yet: running now, or its process was killed
RESULTS = (names.FINISHED, names.DIVERGED)
ENDED = (names.FAILED, names.KILLED)
COMMIT = "mlflow.source.git.commit"  # the one tag of MLflow's own that is read and kept
CURVES = ("train/", "val/", "test/", names.RESPONSE.format(""))

RUN_COLUMNS = (
    "fingerprint", "outcome", "seed", "test_err", "val_err", "hours", "start_time", "run_id",
    "cell", "study", "profile", "dataset", "overrides", "reason", "source", "commit", "schema", "params", "metrics",
    "results", "failed", "killed",
)  # fmt: skip

Curves = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class RunData:
    """One run of a tracking store or of an archive file; curves and artifacts are read on demand."""

    fingerprint: str
    source: str  # as printed: the store's URI without its password, or the archive file
    run_id: str  # "" in an archive
    start_time: int | None  # ms since 1970; None in the first archives
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]  # last values, without system/*
    curves: Callable[[], Curves] = field(repr=False, compare=False)
    artifact: Callable[[str], bytes | None] = field(repr=False, compare=False)  # by name; None if there is none
    name: str = ""  # as MLflow shows it; "" in archives of before
    end_time: int | None = None  # ms since 1970; None in archives of before

    @property
    def outcome(self) -> str:
        """One of the outcomes of records.names, or RUNNING."""
        return self.tags.get(names.OUTCOME, RUNNING)

    @property
    def is_result(self) -> bool:
        """Whether the run finished or diverged."""
        return self.outcome in RESULTS

    @property
    def schema(self) -> int:
        """The schema version of its fingerprint."""
        return schema_of(self.tags)

    @property
    def day(self) -> str:
        """The UTC date of its start, "-" if that is not on record."""
        if self.start_time is None:
            return "-"
        return datetime.fromtimestamp(self.start_time / 1000, UTC).date().isoformat()

    @property
    def started(self) -> int:
        """The start in ms, for sorting: a run without one is the earliest."""
        return -1 if self.start_time is None else self.start_time


@dataclass(frozen=True, kw_only=True)
class StudyParent:
    """What a study's parent run is found and shown by, besides its study.json."""

    key: str
    """hash in the tag ran.parent"""
    name: str
    tags: Mapping[str, str]
    note: str


@dataclass(frozen=True, kw_only=True)
class RunGroup:
    """The runs of one fingerprint."""

    copies: tuple[RunData, ...]
    """the run that counts, then the same run from other sources, which may have curves or artifacts that it lacks"""
    results: tuple[RunData, ...]
    """different results, the earliest first: the first counts"""
    ended: tuple[RunData, ...]
    """failed and killed attempts, the earliest first; without a result and a running attempt, the last counts"""

    @property
    def counts(self) -> RunData:
        """The run that counts: the first result, else the newest attempt."""
        return self.copies[0]

    def attempts(self, outcome: str) -> int:
        """Returns how many attempts ended with this outcome, besides the run that counts."""
        return sum(run.outcome == outcome and run is not self.counts for run in self.ended)


def is_same_run(
    start: int | None, metrics: Mapping[str, float | None], other_start: int | None, others: Mapping[str, float | None]
) -> bool:
    """Whether two results of one fingerprint are copies of one run: the same start and the same metrics.

    A start of None (the first archives) fits any. Evaluations are left out: a run gets them after its end.
    """
    return (start is None or other_start is None or start == other_start) and _plain(metrics) == _plain(others)


def _plain(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    return {
        key: value if value is not None and math.isfinite(value) else None
        for key, value in metrics.items()
        if not key.startswith(names.EVALUATION_PREFIX)
    }


def group_runs(runs: Iterable[RunData]) -> dict[str, RunGroup]:
    """Returns the runs by fingerprint. Of two copies of one run, the one that comes first in `runs` counts."""
    found: dict[str, list[RunData]] = {}
    for run in runs:
        found.setdefault(run.fingerprint, []).append(run)
    return {fingerprint: _group(several) for fingerprint, several in found.items()}


def _group(runs: Sequence[RunData]) -> RunGroup:
    results: list[list[RunData]] = []
    for run in filter(lambda run: run.is_result, runs):
        for copies in results:
            if is_same_run(copies[0].start_time, copies[0].metrics, run.start_time, run.metrics):
                copies.append(run)
                break
        else:
            results.append([run])
    results.sort(key=lambda copies: max(run.started for run in copies))
    over = {run.start_time for copies in results for run in copies}
    attempts: dict[int | None, RunData] = {}
    for run in sorted(runs, key=lambda run: run.started):
        if not run.is_result and run.start_time not in over:  # else the attempt was continued to the result
            attempts.setdefault(run.start_time, run)
    return RunGroup(
        copies=tuple(results[0]) if results else (list(attempts.values())[-1],),
        results=tuple(copies[0] for copies in results),
        ended=tuple(run for run in attempts.values() if run.outcome in ENDED),
    )


def _counts(params: Mapping[str, str]) -> dict[str, float]:
    """The counts of a run's network, as the metrics that they were before."""
    given = {metric: params.get(name, "") for metric, name in names.COUNTS.items()}
    return {metric: float(count) for metric, count in given.items() if count.isdecimal()}


def repeated_text(groups: Iterable[int]) -> str:
    """Returns the sentence, without its stop, on runs with several results, from their numbers of results; or ""."""
    several = [number for number in groups if number > 1]
    if not several:
        return ""
    what = "two results" if max(several) == 2 else "several results"
    return f"{len(several)} run{' has' if len(several) == 1 else 's have'} {what}; the first counts"


def tidy(runs: Iterable[RunData]) -> "pd.DataFrame":
    """Returns a row per fingerprint, sorted by it, of the run that counts, with the columns RUN_COLUMNS.

    `results` is the number of its different results; `failed` and `killed` those of its attempts besides the run that
    counts. Values that were not logged are NaN, NaT or "".
    """
    import pandas as pd

    rows = []
    for _, group in sorted(group_runs(runs).items()):
        run = group.counts
        tags, metrics, seed = run.tags, run.metrics, run.tags.get(names.SEED, "")
        rows.append((
            run.fingerprint, run.outcome, int(seed) if seed.isdecimal() else -1,
            metrics.get(names.FINAL_TEST_ERR), metrics.get(names.FINAL_VAL_ERR), metrics.get(names.COST_HOURS),
            run.start_time, run.run_id, tags.get(names.CELL, ""), tags.get(names.STUDY, ""),
            tags.get(names.PROFILE, ""), tags.get(names.DATASET, ""), tags.get(names.OVERRIDES, "{}"),
            tags.get(names.REASON, ""), run.source, tags.get(COMMIT, ""), run.schema, dict(run.params),
            _counts(run.params) | dict(metrics),
            len(group.results), group.attempts(names.FAILED), group.attempts(names.KILLED),
        ))  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(RUN_COLUMNS))
    numbers = dict.fromkeys(("test_err", "val_err", "hours"), "float64")
    numbers |= dict.fromkeys(("seed", "schema", "results", "failed", "killed"), "int64")
    frame = frame.astype(numbers)
    # Through Int64: a missing start must not turn the others into floats, which cannot hold every millisecond.
    frame["start_time"] = pd.to_datetime(frame["start_time"].astype("Int64"), unit="ms", utc=True)
    return frame
