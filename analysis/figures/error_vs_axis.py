"""Test error against a number that a study varies: seeds, means with intervals, paired differences, paper."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from analysis.figures import captions, style
from analysis.figures.figure import CaptionedFigure, MissingFigure
from analysis.figures.points import ErrorAxis, Lines, Point, compared_labels, lines_of, needs_own_axis, published_label
from analysis.stats import Contrast
from analysis.tables.captions import difference_sentences
from analysis.tables.cells import MINUS
from records.study_json import StudyRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.read.results import Results

DODGE = 0.02  # distance between lines as a share of the axis, so that intervals do not cover each other


def error_figures(
    what: ErrorAxis, results: "Results", studies: Sequence[StudyRecord]
) -> Iterator[CaptionedFigure | MissingFigure]:
    """Yields a figure for each study whose axis has numbers to draw errors against."""
    for group in captions.comparable_groups(studies):
        found = False
        for study in group:
            values = next((axis.values for axis in study.axes if axis.name == what.axis), ())
            if len(values) < 2 or not all(isinstance(value, int | float) for value in values):
                continue
            lines = lines_of(what, study, results)
            points = [point for line in lines.values() for point in line]
            if any(point.mean for point in points):
                found = True
                yield _drawn(what, study, lines)
        if not found:
            like = next((study for study in group if study.name == what.study), group[0])
            why = f"no finished run of {what.study}"
            yield MissingFigure(what.kind, captions.missing_message(what.kind, why, what.study, like))


def _drawn(what: ErrorAxis, study: StudyRecord, lines: Lines) -> CaptionedFigure:
    cells = [point.cell for line in lines.values() for point in line]
    title = f"Test error against {what.label.partition(' (')[0]}: {study.title}"
    return CaptionedFigure(
        kind=what.kind,
        stem=captions.file_stem(what.kind, study.name, study=study),
        title=title,
        caption=tuple(_caption(what, study, lines)),
        draw=lambda: _draw(what, study, lines, title),
        studies=(study,),
        fingerprints=tuple(fingerprint for cell in cells for fingerprint in cell.results),
    )


def _caption(what: ErrorAxis, study: StudyRecord, lines: Lines) -> list[str]:
    points = [point for line in lines.values() for point in line]
    cells = [point.cell for point in points]
    sentences = [
        *captions.source_sentences(cells),
        f"{captions.seeds_text(len(point.cell.errors) for point in points)}; "
        f"marker: {style.INTERVAL} (none for n = 1), dots: seeds. Arrow: the interval goes on.",
        f"Selection: {study.selection}.",
    ]
    pair = compared_labels(study, lines)
    if pair:
        differences = {
            (label, point.x): point.difference
            for label, line in lines.items()
            for point in line
            if point.difference is not None
        }
        sentences += difference_sentences(f"{pair[0]} {MINUS} {pair[1]}", differences)
    if any(point.published is not None for point in points):
        where = "on an axis of its own" if needs_own_axis(lines) else "in grey"
        sentences.append(f"P{published_label(study)[1:]}: the paper's single values, {where}.")
    if any(point.memorised for point in points):
        sentences.append("Memorised: of the wrongly labelled training images, the share predicted as labelled.")
    return sentences + captions.shortfall_sentences(cells)


def _draw(what: ErrorAxis, study: StudyRecord, lines: Lines, title: str) -> "Figure":
    points = [point for line in lines.values() for point in line]
    published, apart = any(point.published is not None for point in points), needs_own_axis(lines)
    pair = compared_labels(study, lines)
    memorised = any(point.memorised for point in points)
    counts = captions.seeds_text(len(point.cell.errors) for point in points)
    several = any(len(point.cell.errors) > 1 for point in points)
    marker = f"marker: {style.INTERVAL}, dots: seeds" if several else "marker: the one run"
    subtitle = f"{captions.source_line([point.cell for point in points])} · {counts} · {marker}"
    panels = 1 + apart + (pair is not None) + memorised
    width = style.COLUMN if panels == 1 else style.PAGE
    figure = style.new_figure(width, 2.5, title, subtitle)
    row = list(figure.subplots(1, panels, squeeze=False)[0])
    xs = sorted({point.x for point in points})
    step = DODGE * (xs[-1] - xs[0])
    shifts = {label: (i - (len(lines) - 1) / 2) * step for i, label in enumerate(lines)}

    axes = row.pop(0)
    axes.set_title("test error")
    axes.set_ylabel("test error (%)")
    for i, (label, line) in enumerate(lines.items()):
        _measured(axes, line, [point.mean for point in line], shifts[label], i)
        _seeds(axes, line, shifts[label] + (0.9 if shifts[label] > 0 else -0.9) * step, i)
        if published and not apart:
            _published(axes, [(p.x, p.published) for p in line], i)
    _limits(axes, [error for p in points for error in p.cell.errors.values()], [p.mean for p in points], floor=0)
    _mark_diverged(axes, points)
    if apart:
        axes = row.pop(0)
        axes.set_title(published_label(study))
        for i, line in enumerate(lines.values()):
            _published(axes, [(p.x, p.published) for p in line], i)
    if pair is not None:
        axes = row.pop(0)
        axes.set_title(f"{pair[0]} {MINUS} {pair[1]}")
        axes.set_ylabel("difference (percentage points)")
        axes.axhline(0, color="black", linewidth=0.6)
        for i, (label, line) in enumerate(lines.items()):
            shift = shifts[label] * (len(lines) > 2)
            _measured(axes, line, [_difference(point) for point in line], shift, i)
            _published(axes, [(p.x, p.published_difference) for p in line], i)
        _limits(axes, [0.0], [_difference(point) for point in points])
        for label, line in lines.items():
            _mark(axes, line, shifts[label] * (len(lines) > 2))
    if memorised:
        axes = row.pop(0)
        axes.set_title("memorised wrong labels")
        axes.set_ylabel("of wrongly labelled images (%)")
        for i, (label, line) in enumerate(lines.items()):
            _measured(axes, line, [p.memorised for p in line], shifts[label], i)
        _limits(axes, [0.0], [p.memorised for p in points], floor=0)
    for axes in figure.axes:
        axes.set_xlabel(what.label)
        axes.set_xticks(xs, [f"{x:g}" for x in xs])
        axes.set_xlim(xs[0] - 4 * step, xs[-1] + 4 * step)
        style.grid(axes)
    _legend(figure, list(lines), published_label(study) if published else None)
    return figure


def _difference(point: Point) -> Contrast | None:
    return None if point.difference is None else point.difference.shown


def _mark(axes: "Axes", line: Sequence[Point], shift: float) -> None:
    """A star above the differences that the caption calls different from 0."""
    for point in line:
        found = _difference(point)
        if point.marked and found is not None and found.high is not None:
            top = min(found.high, axes.get_ylim()[1])
            axes.annotate("*", (point.x + shift, top), ha="center", va="bottom", fontsize=8, annotation_clip=False)


def _measured(axes: "Axes", line: Sequence[Point], means: Sequence[Contrast | None], shift: float, i: int) -> None:
    there = [(point.x + shift, mean) for point, mean in zip(line, means, strict=True) if mean is not None]
    for x, mean in there:
        if mean.n > 1 and mean.low is not None and mean.high is not None:
            axes.plot([x, x], [mean.low, mean.high], color=style.COLOURS[i % len(style.COLOURS)], linewidth=1)
    axes.plot([x for x, _ in there], [mean.mean for _, mean in there], **style.look(i))


def _seeds(axes: "Axes", line: Sequence[Point], shift: float, i: int) -> None:
    for point in line:
        errors = list(point.cell.errors.values())
        if len(errors) > 1:
            x = [point.x + shift] * len(errors)
            axes.plot(x, errors, ".", color=style.COLOURS[i % len(style.COLOURS)], markersize=2.5, alpha=0.8)


def _published(axes: "Axes", values: Sequence[tuple[float, float | None]], i: int) -> None:
    there = [(x, value) for x, value in values if value is not None]
    look = style.look(i) | {"color": style.MUTED, "linewidth": 0.8, "markerfacecolor": "white"}
    axes.plot([x for x, _ in there], [value for _, value in there], **look, zorder=1.5)


def _limits(
    axes: "Axes", values: Sequence[float], intervals: Sequence[Contrast | None], floor: float = -math.inf
) -> None:
    """Sets limits that show every value, but cut long intervals: with n = 2 the t quantile is 12.7."""
    marked: list[Any] = [line for line in axes.lines if line.get_marker() not in ("", "None")]
    shown = [*values, *(float(y) for line in marked for y in line.get_ydata())]
    low, high = min(shown), max(shown)
    room = max(high - low, 1.0)
    lows = [interval.low for interval in intervals if interval and interval.n > 1 and interval.low is not None]
    highs = [interval.high for interval in intervals if interval and interval.n > 1 and interval.high is not None]
    bottom, top = max(min([low, *lows]), low - room, floor), min(max([high, *highs]), high + room)
    axes.set_ylim(bottom - 0.05 * (top - bottom) * (bottom > floor), top + 0.05 * (top - bottom))
    _mark_cut(axes)


def _mark_cut(axes: "Axes") -> None:
    """An arrow at the frame where an interval goes on beyond it."""
    import numpy as np

    bottom, top = axes.get_ylim()
    for line in list(axes.lines):
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        if len(x) != 2 or x[0] != x[1]:
            continue  # no interval
        for end, edge, arrow in ((y.min(), bottom, "v"), (y.max(), top, "^")):
            if not bottom <= end <= top:
                axes.plot([x[0]], [edge], arrow, color=line.get_color(), markersize=3.5, clip_on=False, zorder=4)


def _mark_diverged(axes: "Axes", points: Sequence[Point]) -> None:
    count: dict[float, int] = {}
    for point in points:
        count[point.x] = count.get(point.x, 0) + len(point.cell.diverged)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top + 0.08 * (top - bottom) * any(count.values()))
    for x, number in count.items():
        if number:
            place: Any = (x, 1)
            axes.annotate(
                f"{number} div.", place, xycoords=("data", "axes fraction"), ha="center", va="top", fontsize=6
            )


def _legend(figure: "Figure", labels: Sequence[str], published: str | None) -> None:
    from matplotlib.lines import Line2D

    handles: list[Any] = [Line2D([], [], label=label, **style.look(i)) for i, label in enumerate(labels)]
    if published is not None:
        look: dict[str, Any] = {"color": style.MUTED, "linewidth": 0.8, "marker": "o", "markerfacecolor": "white"}
        handles.append(Line2D([], [], label=published, **look))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)))
