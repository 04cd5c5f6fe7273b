"""Training and validation error over the steps, for every study: a line per cell, a band over its seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.figures import captions, style
from analysis.figures.curves_over_seeds import Band, Curve, FigureCell, band, cells_of, windows
from analysis.figures.figure import CaptionedFigure, MissingFigure
from records import names
from records.study_json import StudyRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.read.results import Results

OVERLAID = 4  # greatest number of lines in one panel; more lines get a panel each
COLUMNS = 5
BACKGROUND = {"color": "#b3b3b3", "linewidth": 2.2}
_KINDS = {
    names.VAL_ERR: "validation error",
    names.TEST_ERR: "test error",
    names.TRAIN_ERR: "training error",
    names.TRAIN_ERR_CLEAN: "training error, true labels",
}


@dataclass(frozen=True)
class _CellCurves:
    """One cell: the band of each kind over its finished seeds, and the curves of its diverged seeds."""

    cell: FigureCell
    bands: dict[str, Band]
    diverged: dict[str, list[Curve]]


@dataclass(frozen=True)
class _Panel:
    """One kind of error of some cells, each with the index of its style. `cells` is empty for a gap in the grid."""

    title: str
    kind: str
    cells: tuple[tuple[int, _CellCurves], ...]


def curves(results: "Results", studies: Sequence[StudyRecord]) -> Iterator[CaptionedFigure | MissingFigure]:
    """Yields the curves of each study that has curves."""
    for study in studies:
        shown = [c for cell in cells_of(study, results) if (c := _collect(cell, results)).bands or c.diverged]
        if not shown:
            what = f"no run of {study.name} with curves"
            yield MissingFigure("curves", captions.missing_message("curves", what, study.name, study))
            continue
        kinds = _drawn_kinds(shown)
        yield CaptionedFigure(
            kind="curves",
            stem=captions.file_stem("curves", study.name, study=study),
            title=f"Error while training: {study.title}",
            caption=tuple(_caption(shown, kinds)),
            draw=lambda study=study, shown=shown, kinds=kinds: _draw(study, shown, kinds),  # type: ignore[misc]
            studies=(study,),
            fingerprints=tuple(fingerprint for c in shown for fingerprint in c.cell.results),
        )


def _collect(cell: FigureCell, results: "Results") -> _CellCurves:
    finished = [results.curves(fingerprint) for fingerprint in cell.finished.values()]
    broken = [results.curves(fingerprint) for fingerprint in cell.diverged.values()]

    def of_kind(runs: list[Any], kind: str) -> list[Curve]:
        found = [run[kind] for run in runs if run.get(kind)]
        return [windows(curve) for curve in found] if kind.startswith("train/") else found

    bands = {kind: found for kind in _KINDS if (found := band(of_kind(finished, kind))) is not None}
    diverged = {kind: ended for kind in _KINDS if (ended := of_kind(broken, kind))}
    # A run without label noise has one training error, which stands for both if other cells have two.
    if names.TRAIN_ERR in bands and (cell.values.get("noise") == 0 or cell.values.get("labels") == "clean"):
        bands.setdefault(names.TRAIN_ERR_CLEAN, bands[names.TRAIN_ERR])
    return _CellCurves(cell, bands, diverged)


def _drawn_kinds(shown: Sequence[_CellCurves]) -> list[str]:
    """The kinds that exist; of the evaluations only one: validation if a run has it, else test."""
    there = [kind for kind in _KINDS if any(kind in c.bands or kind in c.diverged for c in shown)]
    return [kind for kind in there if kind != names.TEST_ERR or names.VAL_ERR not in there]


def _counts(shown: Sequence[_CellCurves]) -> str:
    return captions.seeds_text(max((found.n for found in c.bands.values()), default=0) for c in shown)


def _caption(shown: Sequence[_CellCurves], kinds: Sequence[str]) -> list[str]:
    cells = [c.cell for c in shown]
    sentences = [
        *captions.source_sentences(cells),
        f"{_counts(shown)}; line: mean, band: {style.MEAN_STD} (none for n = 1).",
        "Training error: on the augmented batches since the last point.",
    ]
    if names.TRAIN_ERR_CLEAN in kinds:
        labels = "Validation labels are as noisy as the training labels. " if names.VAL_ERR in kinds else ""
        sentences.append(f"{labels}Training error against the labels given, and against the true ones.")
    if any(c.diverged for c in shown):
        sentences.append("Thin lines that end in a cross: diverged runs, no part of mean and band.")
    return sentences + captions.shortfall_sentences(cells)


def _draw(study: StudyRecord, shown: Sequence[_CellCurves], kinds: Sequence[str]) -> "Figure":
    axis = next((a.name for a in study.axes if study.compare and a.name == study.compare.axis), study.axes[-1].name)
    several = any(found.n > 1 for c in shown for found in c.bands.values())
    lines_ = f"line: mean, band: {style.MEAN_STD}" if several else "line: the one run"
    subtitle = f"{captions.source_line([c.cell for c in shown])} · {_counts(shown)} · {lines_}"
    lines = list(dict.fromkeys(_label(c, axis) for c in shown))
    if len(lines) <= OVERLAID:
        return _overlaid(shown, kinds, axis, lines, f"Error while training: {study.title}", subtitle)
    return _side_by_side(shown, kinds, f"Error while training: {study.title}", subtitle)


def _overlaid(
    shown: Sequence[_CellCurves], kinds: Sequence[str], axis: str, lines: list[str], title: str, subtitle: str
) -> "Figure":
    """A panel for each kind and combination of the other axes, a line for each value of `axis`."""
    places: dict[str, list[tuple[int, _CellCurves]]] = {}
    for c in shown:
        rest = [text for name, text in zip(c.cell.values, c.cell.labels, strict=True) if name != axis]
        places.setdefault(", ".join(rest), []).append((lines.index(_label(c, axis)), c))
    if len(places) == 1:
        panels = [_Panel(_KINDS[kind], kind, tuple(found)) for found in places.values() for kind in kinds]
        columns = len(panels)  # side by side, and so on one scale
    else:
        columns = min(len(places), COLUMNS)
        titles = list(places) + [""] * (-len(places) % columns)
        panels = [
            _Panel(place if kind == kinds[0] else "", kind, tuple(places.get(place, ())))
            for i in range(0, len(titles), columns)
            for kind in kinds
            for place in titles[i : i + columns]
        ]
    rows = len(panels) // columns
    width = style.PAGE if columns > 1 else style.COLUMN
    figure = style.new_figure(width, min(rows * (1.9 if rows == 1 else 1.4) + 0.5, style.HEIGHT), title, subtitle)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for i, (axes, panel) in enumerate(zip(grid.flat, panels, strict=True)):
        for number, c in panel.cells:
            _line(axes, c, panel.kind, style.line_look(number))
        axes.set_title(panel.title)
        if i % columns == 0:
            axes.set_ylabel("error (%)" if rows == 1 else f"{_KINDS[panel.kind].replace(', ', chr(10))} (%)")
    _finish(figure, grid, panels, shown)
    _legend(figure, [(label, style.line_look(i)) for i, label in enumerate(lines)], shown)
    return figure


def _side_by_side(shown: Sequence[_CellCurves], kinds: Sequence[str], title: str, subtitle: str) -> "Figure":
    """A panel per cell with all kinds; the first cell's evaluation is drawn in each panel for comparison."""
    columns = 5 if len(shown) in (5, 9, 10) else 4
    rows = -(-len(shown) // columns)
    figure = style.new_figure(style.PAGE, min(rows * 1.5 + 0.5, style.HEIGHT), title, subtitle)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    first, evaluated = shown[0], kinds[0]
    behind = first.bands.get(evaluated) if len(shown) > 1 else None
    panels = [_Panel(c.cell.name, "", ((0, c),)) for c in shown] + [_Panel("", "", ())] * (rows * columns - len(shown))
    for i, (axes, panel) in enumerate(zip(grid.flat, panels, strict=True)):
        for _, c in panel.cells:
            if behind is not None and i:
                style.curve(axes, behind.steps, behind.mean, None, BACKGROUND)
            for number, kind in enumerate(kinds):
                _line(axes, c, kind, style.line_look(number))
        axes.set_title(panel.title)
        if i % columns == 0:
            axes.set_ylabel("error (%)")
    _finish(figure, grid, panels, shown)
    entries = [(_KINDS[kind], style.line_look(i)) for i, kind in enumerate(kinds)]
    if behind is not None:
        entries.append((f"{_KINDS[evaluated]} of {first.cell.name}", BACKGROUND))
    _legend(figure, entries, shown, gap=None if panels[-1].cells else grid[-1, -1])
    return figure


def _line(axes: "Axes", c: _CellCurves, kind: str, look: dict[str, Any]) -> None:
    found = c.bands.get(kind)
    if found is not None:
        style.curve(axes, found.steps, found.mean, found.deviation(), look)
    for broken in c.diverged.get(kind, []):
        steps, values = [step for step, _ in broken], [value for _, value in broken]
        axes.plot(steps, values, **look | {"linewidth": 0.6})
        axes.plot(steps[-1:], values[-1:], color=look["color"], marker="x", markersize=4)


def _finish(figure: "Figure", grid: Any, panels: Sequence[_Panel], shown: Sequence[_CellCurves]) -> None:
    """Sets one scale for each kind or for a single row, and labels at the outermost panels; hides the gaps."""
    ends = [float(found.steps[-1]) for c in shown for found in c.bands.values()]
    ends += [float(curve[-1][0]) for c in shown for found in c.diverged.values() for curve in found]
    kinds = dict.fromkeys(panel.kind for panel in panels) if len(grid) > 1 else {"": None}
    for kind in kinds:
        there = [(axes, panel) for axes, panel in zip(grid.flat, panels, strict=True) if panel.cells]
        same = [axes for axes, panel in there if kind in ("", panel.kind)]
        values = [float(y) for axes in same for line in axes.lines for y in line.get_ydata()]
        low, high = min(axes.get_ylim()[0] for axes in same), max(axes.get_ylim()[1] for axes in same)
        for axes in same:
            axes.set_ylim(max(0, low), min(100, high))
            style.grid(axes)
            style.step_axis(axes, max(ends))
        style.error_scale(same, values)
    columns = grid.shape[1]
    for i, (axes, panel) in enumerate(zip(grid.flat, panels, strict=True)):
        axes.set_visible(bool(panel.cells))
        if i % columns:
            axes.tick_params(labelleft=False)
        if not any(below.cells for below in panels[i + columns :: columns]):
            axes.set_xlabel("step")
            axes.tick_params(labelbottom=True)


def _label(c: _CellCurves, axis: str) -> str:
    return c.cell.labels[list(c.cell.values).index(axis)]


def _legend(
    figure: "Figure",
    entries: list[tuple[str, dict[str, Any]]],
    shown: Sequence[_CellCurves],
    gap: "Axes | None" = None,
) -> None:
    """The legend below the panels, or in the gap of the grid."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=label, **look) for label, look in entries]
    if any(c.diverged for c in shown):
        handles.append(Line2D([], [], color="black", linewidth=0.6, marker="x", label="diverged"))
    if gap is None:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))
        return
    gap.set_visible(True)
    gap.set_axis_off()
    gap.legend(handles=handles, loc="center")
