"""The effect of a study's comparison against the number of images seen, and the paper's at its own number."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from analysis.figures import captions, style
from analysis.figures.figure import CaptionedFigure, MissingFigure
from analysis.figures.points import ErrorAxis, Lines, Point, compared_labels, lines_of
from analysis.read.published import published_value
from analysis.stats import Contrast
from analysis.tables.captions import PAPERS_IMAGES, difference_sentences, images_seen
from analysis.tables.cells import MINUS
from records.study_json import StudyRecord, Value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.read.results import Results

BUDGET = ErrorAxis(kind="budget", axis="steps", study="budget", label="images seen in training", factor=1)
_TABLE = "3"  # of the paper's effects by depth and learning


def budget(results: "Results", studies: Sequence[StudyRecord]) -> Iterator[CaptionedFigure | MissingFigure]:
    """Yields a figure for each study with an axis of steps and a comparison."""
    varied = [s for s in studies if s.compare is not None and any(axis.name == BUDGET.axis for axis in s.axes)]
    for study in varied:
        lines = _with_effects(lines_of(BUDGET, study, results))
        if lines:
            yield _drawn(study, lines)
        else:
            why = "no finished pair"
            yield MissingFigure(BUDGET.kind, captions.missing_message(BUDGET.kind, why, study.name, study))
    if not varied:  # whatever the others' profiles: it has its own
        command = f"python run_ablation.py --study {BUDGET.study}"
        yield MissingFigure(BUDGET.kind, f"no figure {BUDGET.kind}: no run of {BUDGET.study}; `{command}`")


def _with_effects(lines: Lines) -> Lines:
    found = {label: [point for point in line if _effect(point) is not None] for label, line in lines.items()}
    return {label: line for label, line in found.items() if line}


def _effect(point: Point) -> Contrast | None:
    return None if point.difference is None else point.difference.shown


def _images(point: Point) -> float:
    """Images that the runs of a point saw; the number of steps if no run says it."""
    found = [images_seen(run.params) for run in point.cell.runs.by_seed.values()]
    return next((images for images in found if images is not None), point.x)


def _drawn(study: StudyRecord, lines: Lines) -> CaptionedFigure:
    points = [point for line in lines.values() for point in line]
    pair = compared_labels(study, lines) or ("each", "the baseline")
    title = f"{pair[0]} {MINUS} {pair[1]} against the images seen in training"
    differences = {
        (label, point.x): point.difference
        for label, line in lines.items()
        for point in line
        if point.difference is not None
    }
    caption = [
        *captions.source_sentences([point.cell for point in points]),
        f"{captions.seeds_text(one.n for one in differences.values())}.",
        *difference_sentences(f"{pair[0]} {MINUS} {pair[1]}", differences),
        f"White markers: the paper's differences on CIFAR-10 after {PAPERS_IMAGES:,} images at full width "
        f"(Table {_TABLE}).",
        "Nothing is drawn between: these runs do not say where the difference goes.",
    ]
    return CaptionedFigure(
        kind=BUDGET.kind,
        stem=captions.file_stem(BUDGET.kind, study.name, study=study),
        title=title,
        caption=tuple(caption),
        draw=lambda: _draw(study, lines, title),
        studies=(study,),
        fingerprints=tuple(fingerprint for point in points for fingerprint in point.cell.results),
    )


def _draw(study: StudyRecord, lines: Lines, title: str) -> "Figure":
    from matplotlib.ticker import NullLocator

    points = [point for line in lines.values() for point in line]
    counts = captions.seeds_text(point.difference.n for point in points if point.difference is not None)
    source = captions.source_line([point.cell for point in points])
    effects = [effect for point in points if (effect := _effect(point)) is not None]
    bars = [value for e in effects if e.n > 1 for value in (e.low, e.high) if value is not None]
    marker = f" · marker: {style.INTERVAL}" if bars else ""
    figure = style.new_figure(style.COLUMN, 2.5, title, f"{source} · {counts}{marker}")
    axes = figure.subplots()
    axes.axhline(0, color="black", linewidth=0.6)
    for i, (label, line) in enumerate(lines.items()):
        shift = 1 + 0.05 * (i - (len(lines) - 1) / 2)
        places = [(_images(point) * shift, effect) for point in line if (effect := _effect(point)) is not None]
        for x, effect in places:
            if effect.n > 1 and effect.low is not None and effect.high is not None:
                axes.plot([x, x], [effect.low, effect.high], color=style.COLOURS[i], linewidth=1)
        axes.plot([x for x, _ in places], [effect.mean for _, effect in places], **style.look(i), label=label)
        theirs = _published(line[0].cell.values, study)
        if theirs is not None:
            look = style.look(i) | {"markerfacecolor": "white", "linestyle": ""}
            axes.plot([PAPERS_IMAGES * shift], [theirs], **look)
    axes.set_xscale("log")
    axes.set_xlim(min(map(_images, points)) / 1.6, PAPERS_IMAGES * 1.6)
    style.log_ticks(axes.xaxis, *axes.get_xlim())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    drawn = [*(e.mean for e in effects), *bars]
    reach = max(map(abs, drawn))
    if reach > 10:
        axes.set_yscale("symlog", linthresh=1, linscale=0.5)
        ticks = [float(sign * k) for k in (1, 3, 10, 30, 100) if k <= 1.5 * reach for sign in (-1, 1)]
        low, high = 1.5 * min(0, *drawn), 1.5 * max(1, *drawn)
        axes.set_ylim(low, high)
        axes.set_yticks([tick for tick in sorted([*ticks, 0.0]) if low <= tick <= high])
        axes.yaxis.set_major_formatter(lambda value, _: style.plain(value).replace("-", MINUS))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(BUDGET.label)
    axes.set_ylabel("difference (percentage points)")
    style.grid(axes)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _published(values: "dict[str, Value]", study: StudyRecord) -> float | None:
    """The paper's difference at this depth."""
    if study.compare is None or "depth" not in values:
        return None
    cell = {"depth": values["depth"], study.compare.axis: values[study.compare.axis]}
    ours = published_value(_TABLE, cell, "test_err")
    theirs = published_value(_TABLE, cell | {study.compare.axis: study.compare.baseline}, "test_err")
    return None if ours is None or theirs is None else ours - theirs
