"""The table of a study from its record and the runs: one row per cell, measured beside published."""

import dataclasses
import hashlib
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from analysis.read.mlflow_store import read_store
from analysis.read.published import published_value, reported
from analysis.tables import captions
from analysis.tables.cell_results import CellRuns, RunResult, collect, index_runs
from analysis.tables.cells import (
    MINUS,
    Average,
    Blank,
    Column,
    Difference,
    Label,
    Number,
    Published,
    Table,
    TableCell,
)
from analysis.tables.contrasts import MeasuredContrast, differences_to_baseline, marked, mixed
from analysis.tables.network_table import COUNTED, Costs, digits_for, read_costs
from records import names
from records.study_json import AxisRecord, CellKey, StudyRecord

if TYPE_CHECKING:
    import pandas as pd

# Metrics of runs with wrong labels, on the training images without augmentation.
_NOISE = {
    names.FINAL_TRAIN_ERR: ("train_error", "training error, given labels (%)"),
    names.FINAL_TRAIN_ERR_CLEAN: ("train_error_true", "training error, true labels (%)"),
    names.FINAL_MEMORISED: ("memorised", "memorised (%)"),
}


def study_table(tracking_uri: str | None, parent: str, only: Collection[CellKey] | None = None) -> Table:
    """Returns the table of one parent run, named by its run id or its tag ran.parent; with `only`, of these cells.

    Raises StoreError.
    """
    store = read_store(tracking_uri, parent)
    study = store.studies[0]
    table = build_table(study, index_runs(store.runs, store.kept))
    if only is None:
        return table
    rows = tuple(row for cell, row in zip(study.cells(), table.rows, strict=True) if cell in only)
    hidden = len(table.rows) - len(rows)
    said = (f"Not shown: {hidden} of {len(table.rows)} cells, which --cells did not choose.",) if hidden else ()
    return dataclasses.replace(table, rows=rows, caption=(*table.caption, *said))


def build_table(
    study: StudyRecord, runs: "pd.DataFrame | Mapping[str, RunResult]", costs: Costs | None = None
) -> Table:
    """Returns the table of a study from tidy runs (runs.RUN_COLUMNS), joined by fingerprint.

    `runs` may also be the result of cell_results.index_runs. If `costs` is not given, costs.csv is read, which may
    raise CostsError.
    """
    cells = collect(study, runs if isinstance(runs, Mapping) else index_runs(runs))
    measured = differences_to_baseline(study, cells)
    starred, says_over = marked(measured), mixed(measured.values())
    differences = {
        cell: Difference(one.shown, expected=len(cells[cell].values()), marked=cell in starred, says_over=says_over)
        for cell, one in measured.items()
    }
    counts = {quantity: _counts(cells, quantity, read_costs() if costs is None else costs) for quantity in _COUNTS}
    counts = {quantity: found for quantity, found in counts.items() if any(v is not None for v in found.values())}
    noise = [metric for metric in _NOISE if any(cell_runs.values(metric) for cell_runs in cells.values())]
    paper = reported(study.table, study.dataset) if study.table is not None else None
    rows = []
    for cell, cell_runs in cells.items():
        row: list[TableCell] = [Label(axis.label(value), value) for axis, value in zip(study.axes, cell, strict=True)]
        row += [Number(found[cell], digits_for(found.values())) for found in counts.values()]
        row += [cell_runs.count(), cell_runs.measure()]
        if paper and study.table is not None:
            row.append(Published(published_value(study.table, study.named(cell), paper[1])))
        if study.compare:
            row.append(differences.get(cell, Blank()))
        row += [Average(cell_runs.measure(metric).stats) for metric in noise]
        rows.append(tuple(row))
    columns = [Column(key=axis.name, header=axis.header, numeric=False) for axis in study.axes]
    columns += [Column(key=quantity, header=_COUNTS[quantity][0], numeric=True) for quantity in counts]
    columns += [Column(key="n", header="n", numeric=True), Column(key="error", header="test error (%)", numeric=True)]
    columns += [Column(key="published", header=f"published ({paper[0]})", numeric=True)] if paper else []
    if study.compare:
        columns.append(
            Column(key="difference", header=f"{_difference_name(study)} {captions.WITH_INTERVAL}", numeric=True)
        )
    columns += [Column(*_NOISE[metric], numeric=True, group="noise") for metric in noise]
    title = study.title if study.table is None else f"Table {study.table}: {study.title}"
    caption = _caption(study, cells, measured)
    caption += [COUNTED] if counts else []
    caption += [_NOISE_SENTENCE] if noise else []
    return Table(stem=stem(study), title=title, caption=tuple(caption), columns=tuple(columns), rows=tuple(rows))


_NOISE_SENTENCE = (
    "Training error on the training images, not augmented, against the labels trained on (given) and the true ones; "
    "memorised: of the wrongly labelled images, those predicted as their wrong label (by chance, one error in nine is)."
)
# quantity -> header, unit, logged metric
_COUNTS = {
    "params": ("params (M)", 1e6, names.COST_PARAMS),
    "macs": ("MACs (G)", 1e9, names.COST_MACS),
}


def cell_count(cell_runs: CellRuns, quantity: str, costs: Costs) -> float | None:
    """Returns params in M or macs in G of a cell's network: from costs.csv, else as logged by its runs, else None."""
    _, unit, metric = _COUNTS[quantity]
    listed = costs.get(cell_runs.network, {}).get(quantity) if cell_runs.network is not None else None
    value = cell_runs.logged(metric) if listed is None else listed
    return None if value is None else value / unit


def _counts(cells: Mapping[CellKey, CellRuns], quantity: str, costs: Costs) -> dict[CellKey, float | None]:
    return {cell: cell_count(cell_runs, quantity, costs) for cell, cell_runs in cells.items()}


def _difference_name(study: StudyRecord) -> str:
    """The two sides of the difference if the axis has two values, else the baseline alone."""
    axis = _compared_axis(study)
    if axis is None or study.compare is None:
        return ""
    baseline = axis.label(study.compare.baseline)
    others = [axis.label(value) for value in axis.values if value != study.compare.baseline]
    return f"{others[0]} {MINUS} {baseline}" if len(others) == 1 else f"difference to {baseline}"


def _compared_axis(study: StudyRecord) -> AxisRecord | None:
    return next((axis for axis in study.axes if study.compare and axis.name == study.compare.axis), None)


def _caption(
    study: StudyRecord, cells: Mapping[CellKey, CellRuns], differences: Mapping[CellKey, MeasuredContrast]
) -> list[str]:
    everything = list(cells.values())
    sentences = captions.opening_sentences([study], [everything])
    paper = reported(study.table, study.dataset) if study.table is not None else None
    if paper:
        data = captions.dataset_name(study.dataset, everything)
        same = "" if paper[0] == data else f"; ours are measured on {data}"
        sentences.append(f"Published: the paper's values on {paper[0]}{same}.")
    if study.compare:
        sentences += captions.difference_sentences(_difference_name(study), differences)
    return sentences + captions.closing_sentences(everything)


def stem(study: StudyRecord) -> str:
    """Returns the file name of a study's table without suffix; overrides add a hash."""
    name = study.name if study.table is None else f"table{study.table}"
    return safe_stem(name, study.dataset, study.profile, overrides=study)


def safe_stem(*parts: str, overrides: StudyRecord | None = None) -> str:
    """Returns the parts as a file name without suffix, with a short hash of the study's overrides if it has any."""
    named = list(parts)
    if overrides is not None and overrides.overrides:
        named.append(hashlib.sha256(overrides.canonical_overrides.encode()).hexdigest()[:8])
    return re.sub(r"[^\w.-]", "_", "-".join(named))
