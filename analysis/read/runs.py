"""One run, from the store or the archive, and many of them as a DataFrame."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from records import names

if TYPE_CHECKING:  # a second of import that --help does not need
    import pandas as pd

RUNNING = "running"  # no outcome yet: running now, or its process was killed
RESULTS = (names.FINISHED, names.DIVERGED)
COMMIT = "mlflow.source.git.commit"  # the one tag of MLflow's own that is read and kept
CURVES = ("train/", "val/", "test/", "response/")

RUN_COLUMNS = (
    "fingerprint", "outcome", "seed", "test_err", "val_err", "hours", "start_time", "run_id",
    "cell", "study", "profile", "dataset", "overrides", "reason", "source", "commit", "params", "metrics",
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

    @property
    def outcome(self) -> str:
        """One of the outcomes of records.names, or RUNNING."""
        return self.tags.get(names.OUTCOME, RUNNING)

    @property
    def rank(self) -> tuple[bool, int]:
        """Order of runs with one fingerprint, of which the greatest counts: results after others, then by start."""
        return self.outcome in RESULTS, -1 if self.start_time is None else self.start_time


def tidy(runs: Iterable[RunData]) -> "pd.DataFrame":
    """Returns a row per run with the columns RUN_COLUMNS; values that were not logged are NaN, NaT or ""."""
    import pandas as pd

    rows = []
    for run in runs:
        tags, metrics, seed = run.tags, run.metrics, run.tags.get(names.SEED, "")
        rows.append((
            run.fingerprint, run.outcome, int(seed) if seed.isdecimal() else -1,
            metrics.get(names.FINAL_TEST_ERR), metrics.get(names.FINAL_VAL_ERR), metrics.get(names.COST_HOURS),
            run.start_time, run.run_id, tags.get(names.CELL, ""), tags.get(names.STUDY, ""),
            tags.get(names.PROFILE, ""), tags.get(names.DATASET, ""), tags.get(names.OVERRIDES, "{}"),
            tags.get(names.REASON, ""), run.source, tags.get(COMMIT, ""), dict(run.params), dict(metrics),
        ))  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(RUN_COLUMNS))
    frame = frame.astype({"test_err": "float64", "val_err": "float64", "hours": "float64", "seed": "int64"})
    # Through Int64: a missing start must not turn the others into floats, which cannot hold every millisecond.
    frame["start_time"] = pd.to_datetime(frame["start_time"].astype("Int64"), unit="ms", utc=True)
    return frame


def one_per_fingerprint(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Returns one row per fingerprint, indexed by it: results before others, then the newest start."""
    ranked = runs.assign(result=runs["outcome"].isin(list(RESULTS)))
    ranked = ranked.sort_values(["result", "start_time"], kind="stable", na_position="first")
    return ranked.drop_duplicates("fingerprint", keep="last").drop(columns="result").set_index("fingerprint")
