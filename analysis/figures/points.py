"""The data of the figures of test error against a number: cells as points on lines, with intervals."""

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.figures.curves_over_seeds import FigureCell, cells_of
from analysis.read.published import published_value, reported
from analysis.stats import Contrast, contrast
from analysis.tables.contrasts import MeasuredContrast, differences_to_baseline, marked, measure_error
from records import names
from records.study_json import CellKey, StudyRecord

if TYPE_CHECKING:
    from analysis.read.results import Results


@dataclass(frozen=True)
class ErrorAxis:
    """The x axis of one kind of figure."""

    kind: str
    axis: str
    study: str
    """a study with this axis, named in the command that makes missing data"""
    label: str
    factor: float
    """factor from the values of the axis to the printed numbers"""


@dataclass(frozen=True)
class Point:
    """One cell of a line: x, its runs, the paper's values."""

    x: float
    cell: FigureCell
    mean: Contrast | None
    """over the finished seeds, which the table's mean is over"""
    difference: MeasuredContrast | None
    marked: bool
    """whether the difference differs from 0 by Holm's test over those of its study"""
    published: float | None
    published_difference: float | None
    memorised: Contrast | None
    """%; of runs with label noise"""


Lines = dict[str, list[Point]]


def lines_of(what: ErrorAxis, study: StudyRecord, results: "Results") -> Lines:
    """Returns a line for each combination of the other axes, by name, with points in the order of x."""
    cells = cells_of(study, results)
    by_key = {tuple(cell.values.values()): cell for cell in cells}
    differences = differences_to_baseline(study, {key: cell.runs for key, cell in by_key.items()})
    starred = marked(differences)
    lines: Lines = {}
    for key, cell in by_key.items():
        label = ", ".join(t for n, t in zip(cell.values, cell.labels, strict=True) if n != what.axis) or study.title
        point = Point(
            x=float(cell.values[what.axis]) * what.factor,
            cell=cell,
            mean=measure_error(study, [(1, cell.runs.without_diverged())]).contrast,
            difference=differences.get(key),
            marked=key in starred,
            published=_published(study, key),
            published_difference=_published_difference(study, key),
            memorised=contrast(list(cell.runs.values(names.FINAL_MEMORISED).values())),
        )
        lines.setdefault(label, []).append(point)
    return {label: sorted(points, key=lambda point: point.x) for label, points in lines.items()}


def _published(study: StudyRecord, key: CellKey) -> float | None:
    paper = reported(study.table, study.dataset) if study.table is not None else None
    return published_value(study.table, study.named(key), paper[1]) if paper and study.table else None


def _published_difference(study: StudyRecord, key: CellKey) -> float | None:
    base = study.baseline_of(key)
    ours, theirs = _published(study, key), None if base is None else _published(study, base)
    return None if ours is None or theirs is None else ours - theirs


def compared_labels(study: StudyRecord, lines: Lines) -> tuple[str, str] | None:
    """Returns the labels of the two sides of the differences; None if there are no differences to draw."""
    if study.compare is None or not any(
        point.difference and point.difference.contrast for line in lines.values() for point in line
    ):
        return None
    axis = next(axis for axis in study.axes if axis.name == study.compare.axis)
    others = [axis.label(value) for value in axis.values if value != study.compare.baseline]
    return (others[0] if len(others) == 1 else "each", axis.label(study.compare.baseline))


def published_label(study: StudyRecord) -> str:
    """Returns the label of the paper's values, with their data set."""
    paper = reported(study.table, study.dataset) if study.table is not None else None
    return f"published ({paper[0]})" if paper else "published"


def needs_own_axis(lines: Lines) -> bool:
    """Whether the paper's errors need an axis of their own, because they are far from ours."""
    ours = [point.mean.mean for line in lines.values() for point in line if point.mean]
    theirs = [point.published for line in lines.values() for point in line if point.published is not None]
    return bool(theirs) and not 0.5 <= statistics.median(theirs) / statistics.median(ours) <= 2
