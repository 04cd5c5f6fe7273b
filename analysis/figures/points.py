"""The numbers of the figures that draw test error against a number: cells as points, on lines, with intervals."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.figures.seeds import Cell, cells_of
from analysis.measured import paired
from analysis.published import published_value, reported
from analysis.record import Study, Value
from analysis.stats import Interval, holm_intervals, mean_std, t_interval
from ran import names

if TYPE_CHECKING:
    from analysis.results import Results


@dataclass(frozen=True)
class Against:
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
    cell: Cell
    mean: Interval | None
    difference: Interval | None
    published: float | None
    published_difference: float | None
    memorised: Interval | None
    """%; of runs with label noise"""


Lines = dict[str, list[Point]]


def lines_of(what: Against, study: Study, results: "Results") -> Lines:
    """A line for each combination of the other axes, by name; its points in the order of x."""
    cells = cells_of(study, results)
    differences = _differences(study, cells)
    lines: Lines = {}
    for cell in cells:
        label = ", ".join(t for n, t in zip(cell.values, cell.labels, strict=True) if n != what.axis) or study.title
        point = Point(
            x=float(cell.values[what.axis]) * what.factor,
            cell=cell,
            mean=t_interval(mean_std(list(cell.errors.values()))),
            difference=differences.get(cell.name),
            published=_published(study, cell.values),
            published_difference=_published_difference(study, cell),
            memorised=t_interval(mean_std(list(cell.seeds.values(names.FINAL_MEMORISED).values()))),
        )
        lines.setdefault(label, []).append(point)
    return {label: sorted(points, key=lambda point: point.x) for label, points in lines.items()}


def _differences(study: Study, cells: Sequence[Cell]) -> dict[str, Interval]:
    """The paired difference of each cell to the baseline's with its t-interval, at Holm's level as in the table."""
    pairs = []
    for cell in cells:
        other = _baseline(study, cell.values)
        base = next((c for c in cells if c.values == other), cell)
        if base is not cell:
            pairs.append((cell.name, paired(cell.seeds, base.seeds)))
    found = holm_intervals([stats for _, stats in pairs])
    return {name: interval for (name, _), interval in zip(pairs, found, strict=True) if interval is not None}


def _baseline(study: Study, values: dict[str, Value]) -> dict[str, Value] | None:
    return None if study.compare is None else values | {study.compare.axis: study.compare.baseline}


def _published(study: Study, values: dict[str, Value]) -> float | None:
    paper = reported(study.table, study.dataset) if study.table is not None else None
    return published_value(study.table, values, paper[1]) if paper and study.table else None


def _published_difference(study: Study, cell: Cell) -> float | None:
    base = _baseline(study, cell.values)
    ours, theirs = _published(study, cell.values), None if base is None else _published(study, base)
    return None if ours is None or theirs is None or base == cell.values else ours - theirs


def compared(study: Study, lines: Lines) -> tuple[str, str] | None:
    """What is subtracted from what, of two lines; None where there are no differences to draw."""
    if study.compare is None or not any(point.difference for line in lines.values() for point in line):
        return None
    axis = next(axis for axis in study.axes if axis.name == study.compare.axis)
    others = [axis.label(value) for value in axis.values if value != study.compare.baseline]
    return (others[0] if len(others) == 1 else "each", axis.label(study.compare.baseline))


def paper_name(study: Study) -> str:
    """How the paper's numbers are called: by the data set that they were measured on."""
    paper = reported(study.table, study.dataset) if study.table is not None else None
    return f"published ({paper[0]})" if paper else "published"


def beside(lines: Lines) -> bool:
    """Whether the paper's errors are so far from ours that they need an axis of their own."""
    ours = [point.mean.mean for line in lines.values() for point in line if point.mean]
    theirs = [point.published for line in lines.values() for point in line if point.published is not None]
    return bool(theirs) and not 0.5 <= statistics.median(theirs) / statistics.median(ours) <= 2
