"""From a study's record and the runs that exist to its table: one row per cell, measured beside published."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.cells import MINUS, Blank, Cell, Column, Count, Difference, Label, Measure, Published, Table
from analysis.published import published_value, reported
from analysis.record import Axis, Study, Value
from analysis.stats import mean_std, paired_interval
from analysis.store import RUNNING, one_per_fingerprint, read_store
from ran.names import DIVERGED, FAILED, FINISHED, KILLED

if TYPE_CHECKING:
    import pandas as pd

NOT_RUN = "not run"
NO_ERROR = "without a test error"  # said to be finished, but the metric is not there
# How the caption counts what is no result, in this order.
_SPOKEN = {
    DIVERGED: "diverged",
    FAILED: "failed",
    KILLED: "killed",
    RUNNING: "unfinished",
    NO_ERROR: NO_ERROR,
    NOT_RUN: NOT_RUN,
}

# A table has to name the built-in data set as what it is.
_DATASETS = {
    "cluttershapes": "cluttershapes (built-in, synthetic)",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "imagenet": "ImageNet",
}

CellKey = tuple[Value, ...]


@dataclass(frozen=True)
class _Seeds:
    """What is known of one cell: the outcome of each planned seed, and the test error in % of the finished ones."""

    outcomes: Mapping[int, str]
    errors: Mapping[int, float]

    def diverged(self) -> set[int]:
        return {seed for seed, outcome in self.outcomes.items() if outcome == DIVERGED}


def study_table(tracking_uri: str | None, parent: str) -> Table:
    """Returns the table of one parent run, named by its run id or its tag ran.parent. Raises store.StoreError."""
    store = read_store(tracking_uri, parent)
    return build_table(store.studies[0], store.runs)


def build_table(study: Study, runs: "pd.DataFrame") -> Table:
    """Returns the table of a study from tidy runs (store.RUN_COLUMNS), joined by fingerprint, whoever ran them."""
    cells = _collect(study, runs)
    paper = reported(study.table, study.dataset) if study.table is not None else None
    columns = [Column(axis.name, axis.header, numeric=False) for axis in study.axes]
    columns += [Column("n", "n", numeric=True), Column("error", "test error (%)", numeric=True)]
    if paper:
        columns.append(Column("published", f"published ({paper[0]})", numeric=True))
    if study.compare:
        columns.append(Column("difference", f"{_difference_name(study)}, 95 % interval", numeric=True))
    rows = []
    for cell, seeds in cells.items():
        stats = mean_std(list(seeds.errors.values()))
        row: list[Cell] = [Label(axis.label(value), value) for axis, value in zip(study.axes, cell, strict=True)]
        row.append(Count(len(seeds.errors), len(seeds.outcomes)))
        row.append(Measure(stats, len(seeds.diverged()), len(seeds.outcomes)))
        if paper and study.table is not None:
            names = [axis.name for axis in study.axes]
            row.append(Published(published_value(study.table, dict(zip(names, cell, strict=True)), paper[1])))
        if study.compare:
            row.append(_difference(study, cells, cell))
        rows.append(tuple(row))
    title = study.title if study.table is None else f"Table {study.table}: {study.title}"
    return Table(_stem(study), title, tuple(_caption(study, cells)), tuple(columns), tuple(rows))


def _collect(study: Study, runs: "pd.DataFrame") -> dict[CellKey, _Seeds]:
    one = one_per_fingerprint(runs)
    known = dict(zip(one.index, zip(one["outcome"], one["test_err"], strict=True), strict=True))
    cells = {}
    for cell, planned in study.cells().items():
        outcomes, errors = {}, {}
        for seed, fingerprint in planned.items():
            outcome, error = known.get(fingerprint, (NOT_RUN, math.nan))
            if outcome == FINISHED and math.isfinite(error):
                errors[seed] = float(error)
            outcomes[seed] = NO_ERROR if outcome == FINISHED and seed not in errors else outcome
        cells[cell] = _Seeds(outcomes, errors)
    return cells


def _baseline_of(study: Study, cell: CellKey) -> CellKey | None:
    """The cell that `cell` is compared with: the baseline's value, the other axes equal. None for a baseline itself."""
    if study.compare is None:
        return None
    place = [axis.name for axis in study.axes].index(study.compare.axis)
    if cell[place] == study.compare.baseline:
        return None
    return (*cell[:place], study.compare.baseline, *cell[place + 1 :])


def _difference(study: Study, cells: Mapping[CellKey, _Seeds], cell: CellKey) -> Cell:
    baseline = _baseline_of(study, cell)
    if baseline is None:
        return Blank()
    ours = cells[cell].errors
    theirs = cells[baseline].errors if baseline in cells else {}
    both = sorted(ours.keys() & theirs.keys())
    interval = paired_interval([ours[seed] for seed in both], [theirs[seed] for seed in both])
    return Difference(interval, expected=len(ours))


def _difference_name(study: Study) -> str:
    """What is subtracted from what: both named where the axis has two values, else the baseline alone."""
    axis = _compared_axis(study)
    if axis is None or study.compare is None:
        return ""
    baseline = axis.label(study.compare.baseline)
    others = [axis.label(value) for value in axis.values if value != study.compare.baseline]
    return f"{others[0]} {MINUS} {baseline}" if len(others) == 1 else f"difference to {baseline}"


def _compared_axis(study: Study) -> Axis | None:
    return next((axis for axis in study.axes if study.compare and axis.name == study.compare.axis), None)


def _caption(study: Study, cells: Mapping[CellKey, _Seeds]) -> list[str]:
    data = _DATASETS.get(study.dataset, study.dataset)
    counts = {len(seeds.outcomes) for seeds in cells.values()} or {0}
    planned = str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    sentences = [
        f"Data: {data}. Profile: {study.profile}. Selection: {study.selection}.",
        f"Mean ± sample standard deviation over the n finished of {planned} planned seeds (n = 1: the value alone).",
    ]
    if study.overrides:
        sentences.append(
            "Overrides: " + ", ".join(f"{key} = {value}" for key, value in sorted(study.overrides.items())) + "."
        )
    paper = reported(study.table, study.dataset) if study.table is not None else None
    if paper:
        same = "" if paper[0] == data else f"; ours are measured on {data}"
        sentences.append(f"Published: the paper's values on {paper[0]}{same}.")
    if study.compare:
        name = _difference_name(study)
        sentences.append(f"{name[0].upper()}{name[1:]}: mean difference paired by seed, with its 95 % t-interval.")
    return sentences + _shortfalls(study, cells)


def _shortfalls(study: Study, cells: Mapping[CellKey, _Seeds]) -> list[str]:
    """What is missing and why, in words; nothing for a complete table."""
    sentences = []
    tally = Counter(outcome for seeds in cells.values() for outcome in seeds.outcomes.values())
    missing = [f"{tally[outcome]} {word}" for outcome, word in _SPOKEN.items() if tally[outcome]]
    unknown = sum(number for outcome, number in tally.items() if outcome not in _SPOKEN and outcome != FINISHED)
    missing += [f"{unknown} of unknown outcome"] if unknown else []
    if missing:
        sentences.append(f"Of {sum(tally.values())} runs: {', '.join(missing)}.")
    broken = 0
    for cell, seeds in cells.items():
        baseline = _baseline_of(study, cell)
        if baseline is not None and baseline in cells:
            broken += len((seeds.diverged() | cells[baseline].diverged()) & seeds.outcomes.keys())
    if broken:
        sentences.append(f"Left out of the differences: {broken} pair{'s' if broken > 1 else ''} with a diverged run.")
    return sentences


def _stem(study: Study) -> str:
    """The file name without suffix; overrides add a short hash, for they never share a file."""
    name = study.name if study.table is None else f"table{study.table}"
    parts = [name, study.dataset, study.profile]
    if study.overrides:
        parts.append(hashlib.sha256(study.canonical_overrides.encode()).hexdigest()[:8])
    return re.sub(r"[^\w.-]", "_", "-".join(parts))
