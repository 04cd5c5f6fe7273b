"""The numbers of the figures that draw test error against a number: cells as points, on lines, with intervals."""

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.figures.curves_over_seeds import FigureCell, cells_of
from analysis.read.published import published_value, reported
from analysis.stats import Interval, mean_std, t_interval
from analysis.tables.cell_results import differences_to_baseline
from records import names
from records.study_json import CellKey, StudyRecord

if TYPE_CHECKING:
    from analysis.read.results import Results


@dataclass(frozen=True)
class ErrorAxis:
    """What one kind of figure has on its x axis."""

    kind: str
    axis: str
    study: str
    """the study that has such an axis, to be launched where none is"""
    label: str
    factor: float
    """from the axis' values to what is printed"""


@dataclass(frozen=True)
class Point:
    """One cell of a line: x, its runs, what the paper reports."""

    x: float
    cell: FigureCell
    mean: Interval | None
    difference: Interval | None
    published: float | None
    published_difference: float | None
    memorised: Interval | None
    """%; of runs with label noise"""


Lines = dict[str, list[Point]]


def lines_of(what: ErrorAxis, study: StudyRecord, results: "Results") -> Lines:
    """A line for each combination of the other axes, by name; its points in the order of x."""
    cells = cells_of(study, results)
    by_key = {tuple(cell.values.values()): cell for cell in cells}
    differences = differences_to_baseline(study, {key: cell.runs for key, cell in by_key.items()})
    lines: Lines = {}
    for key, cell in by_key.items():
        label = ", ".join(t for n, t in zip(cell.values, cell.labels, strict=True) if n != what.axis) or study.title
        point = Point(
            x=float(cell.values[what.axis]) * what.factor,
            cell=cell,
            mean=t_interval(mean_std(list(cell.errors.values()))),
            difference=differences.get(key),
            published=_published(study, key),
            published_difference=_published_difference(study, key),
            memorised=t_interval(mean_std(list(cell.runs.values(names.FINAL_MEMORISED).values()))),
        )
        lines.setdefault(label, []).append(point)
    return {label: sorted(points, key=lambda point: point.x) for label, points in lines.items()}


def _published(study: StudyRecord, key: CellKey) -> float | None:
    paper = reported(study.table, study.dataset) if study.table is not None else None
    values = {axis.name: value for axis, value in zip(study.axes, key, strict=True)}
    return published_value(study.table, values, paper[1]) if paper and study.table else None


def _published_difference(study: StudyRecord, key: CellKey) -> float | None:
    base = study.baseline_of(key)
    ours, theirs = _published(study, key), None if base is None else _published(study, base)
    return None if ours is None or theirs is None else ours - theirs


def compared_labels(study: StudyRecord, lines: Lines) -> tuple[str, str] | None:
    """What is subtracted from what, of two lines; None where there are no differences to draw."""
    if study.compare is None or not any(point.difference for line in lines.values() for point in line):
        return None
    axis = next(axis for axis in study.axes if axis.name == study.compare.axis)
    others = [axis.label(value) for value in axis.values if value != study.compare.baseline]
    return (others[0] if len(others) == 1 else "each", axis.label(study.compare.baseline))


def published_label(study: StudyRecord) -> str:
    """How the paper's numbers are called: by the data set that they were measured on."""
    paper = reported(study.table, study.dataset) if study.table is not None else None
    return f"published ({paper[0]})" if paper else "published"


def needs_own_axis(lines: Lines) -> bool:
    """Whether the paper's errors are so far from ours that they need an axis of their own."""
    ours = [point.mean.mean for line in lines.values() for point in line if point.mean]
    theirs = [point.published for line in lines.values() for point in line if point.published is not None]
    return bool(theirs) and not 0.5 <= statistics.median(theirs) / statistics.median(ours) <= 2
