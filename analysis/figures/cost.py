"""Test error against cost: multiply-adds of an image, and hours of a run; all cells of a profile and data set."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.figures import captions, style
from analysis.figures.curves_over_seeds import FigureCell, cells_of, noisy, protocol
from analysis.figures.figure import CaptionedFigure, MissingFigure
from analysis.stats import MeanStd, mean_std
from records import names
from records.study_json import StudyRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.read.results import Results

TITLE = "Test error against cost"
COSTS = {"macs": "multiply-adds of an image (G)", "hours": "wall hours of a run", "minutes": "wall minutes of a run"}
SHORT = 2  # hours below which runs are shown in minutes
LINE = 0.118  # inches of a line of the key


@dataclass
class _CostPoint:
    """One point: the runs of one configuration, from all studies that contain it."""

    number: int
    cells: list[FigureCell]
    errors: dict[str, float]
    """by fingerprint, like the costs"""
    costs: dict[str, dict[str, float]]

    def error(self) -> MeanStd | None:
        return mean_std(list(self.errors.values()))

    def cost(self, name: str) -> float | None:
        found = mean_std([cost[name] for cost in self.costs.values() if cost.get(name, 0) > 0])
        return None if found is None else found.mean


def cost(results: "Results", studies: Sequence[StudyRecord]) -> Iterator[CaptionedFigure | MissingFigure]:
    """Yields a figure for each data set, profile and set of overrides."""
    for group in captions.comparable_groups(studies):
        everything = [cell for study in group for cell in cells_of(study, results)]
        there = [cell for cell in everything if cell.errors]
        cells = _comparable(there)
        configs = [c for c in _configs(cells) if c.cost("macs") is not None or c.cost("hours") is not None]
        if not configs:
            yield MissingFigure(
                "cost", captions.missing_message("cost", "no finished run with true labels", "arl_vs_nal", group[0])
            )
            continue
        yield CaptionedFigure(
            kind="cost",
            stem=captions.file_stem("cost", study=group[0]),
            title=TITLE,
            caption=(
                *_caption(configs, cells, len(there) - len(cells)),
                *captions.diverged_sentences(everything),
            ),
            draw=lambda configs=configs, cells=cells: _draw(configs, cells),  # type: ignore[misc]
            studies=captions.studies_of(cells),
            fingerprints=tuple(dict.fromkeys(fingerprint for config in configs for fingerprint in config.errors)),
        )


def _comparable(cells: Sequence[FigureCell]) -> list[FigureCell]:
    """The cells with true labels and the most common training; other errors are not comparable."""
    runs = [next(run for run in cell.runs.by_seed.values() if run.outcome == names.FINISHED) for cell in cells]
    clean = [(cell, protocol(run)) for cell, run in zip(cells, runs, strict=True) if not noisy(run)]
    if not clean:
        return []
    most = Counter(how for _, how in clean).most_common(1)[0][0]
    return [cell for cell, how in clean if how == most]


def _configs(cells: Sequence[FigureCell]) -> list[_CostPoint]:
    """The cells in order; cells that share a run are one point."""
    configs: list[_CostPoint] = []
    for cell in cells:
        errors = {cell.finished[seed]: error for seed, error in cell.errors.items()}
        config = next((c for c in configs if c.errors.keys() & errors.keys()), None)
        if config is None:
            config = _CostPoint(number=len(configs) + 1, cells=[], errors={}, costs={})
            configs.append(config)
        config.cells.append(cell)
        config.errors |= errors
        for seed in cell.errors:
            run = cell.runs.by_seed[seed]
            macs = run.metrics.get(names.COST_MACS, 0.0) / 1e9
            config.costs[cell.finished[seed]] = {"macs": macs, "hours": run.hours, "minutes": 60 * run.hours}
    return configs


def _caption(configs: Sequence[_CostPoint], cells: Sequence[FigureCell], left_out: int) -> list[str]:
    sentences = [
        *captions.source_sentences(cells),
        f"{captions.seeds_text(len(config.errors) for config in configs)}; marker: mean, bar: {style.MEAN_STD} "
        "(none for n = 1).",
        "Time: training and evaluation on the machines that ran them. Logarithmic scales of cost.",
        "One number is one configuration, in every study that has it.",
    ]
    why = "with label noise or other training than the rest"
    sentences.append("Time of a run: wall time, whatever else its machine did.")
    return sentences + [f"Left out: {left_out} cell{'' if left_out == 1 else 's'} {why}."] * (left_out > 0)


def _draw(configs: Sequence[_CostPoint], cells: Sequence[FigureCell]) -> "Figure":
    used = captions.studies_of(cells)
    counts = captions.seeds_text(len(config.errors) for config in configs)
    several = any(len(config.errors) > 1 for config in configs)
    marker = f"marker: mean, bar: {style.MEAN_STD}" if several else "marker: the one run"
    lines = sum(1 + sum(cell.study is study for c in configs for cell in c.cells) for study in used)
    place = captions.data_line(used[0], cells)
    height = min(max(2.6, LINE * (lines + 1)), style.HEIGHT)
    figure = style.new_figure(style.PAGE, height, TITLE, f"{place} · {counts} · {marker}")
    time = "minutes" if max((config.cost("hours") or 0) for config in configs) < SHORT else "hours"
    panels = [name for name in ("macs", time) if any(config.cost(name) is not None for config in configs)]
    row = figure.subplots(1, len(panels) + 1, width_ratios=[1] * len(panels) + [0.72], squeeze=False)[0]
    for axes, name in zip(row, panels, strict=False):
        _points(axes, configs, used, name)
    for axes in row[1:-1]:
        axes.sharey(row[0])
        axes.tick_params(labelleft=False)
    row[0].set_ylabel("test error (%)")
    style.error_scale(row[:-1], [error for config in configs for error in config.errors.values()])
    _key(row[-1], configs, used, height)
    figure.draw_without_rendering()  # the places of the points are known only after this
    for axes, name in zip(row, panels, strict=False):
        _numbers(axes, configs, name)
    return figure


def _points(axes: "Axes", configs: Sequence[_CostPoint], used: Sequence[StudyRecord], name: str) -> None:
    for config in configs:
        x, error = config.cost(name), config.error()
        if x is None or error is None:
            continue
        look = style.look(used.index(config.cells[0].study))
        if error.std is not None:
            axes.plot([x, x], [error.mean - error.std, error.mean + error.std], color=look["color"], linewidth=0.7)
        axes.plot([x], [error.mean], **look | {"linestyle": "", "markersize": 4})
    axes.set_xscale("log")
    axes.set_xlabel(COSTS[name])
    axes.margins(x=0.1, y=0.08)
    style.log_ticks(axes.xaxis, *axes.get_xlim())
    style.grid(axes, "both")


def _key(axes: "Axes", configs: Sequence[_CostPoint], used: Sequence[StudyRecord], height: float) -> None:
    """Draws the key of the numbers, by study with its marker; `height`: of the panels with their labels."""
    axes.set_axis_off()
    place: Any = axes.transAxes
    step, y = LINE / (height - 0.5), 1.0
    for study in used:
        look = style.look(used.index(study)) | {"linestyle": "", "markersize": 4}
        axes.plot([0.03], [y - 0.4 * step], transform=place, clip_on=False, **look)
        axes.text(0.09, y, study.name, transform=place, va="top", fontsize=6.5)
        y -= step
        for config in configs:
            for cell in config.cells:
                if cell.study is study:
                    axes.text(0.08, y, f"{config.number}", transform=place, va="top", ha="right", fontsize=6)
                    axes.text(0.11, y, cell.name, transform=place, va="top", fontsize=6)
                    y -= step
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)


def _numbers(axes: "Axes", configs: Sequence[_CostPoint], name: str) -> None:
    """Writes each point's number beside it, covering nothing, with a line to the point if it is far."""
    scale = 72 / axes.figure.dpi  # pixels to points
    there, bars = [], []
    for config in configs:
        x, error = config.cost(name), config.error()
        if x is not None and error is not None:
            px, py = axes.transData.transform((x, error.mean)) * scale
            there.append((config.number, (x, error.mean), (float(px), float(py))))
            spread = error.std or 0
            ends = [axes.transData.transform((x, max(error.mean + s * spread, 1e-3)))[1] * scale for s in (-1, 1)]
            bars.append((px - 0.6, float(ends[0]), px + 0.6, float(ends[1])))
    box = axes.get_window_extent()
    frame = (box.x0 * scale, box.y0 * scale, box.x1 * scale, box.y1 * scale)
    taken: list[Box] = [*bars, *((px - 2.6, py - 2.6, px + 2.6, py + 2.6) for _, _, (px, py) in there)]
    for number, place, (px, py) in there:
        width, height = 3.6 * len(str(number)) + 0.8, 5.4
        dx, dy, rectangle = _free((px, py), (width, height), taken, frame)
        taken.append(rectangle)
        arrow = {"arrowstyle": "-", "linewidth": 0.35, "color": style.MUTED, "shrinkA": 0, "shrinkB": 2}
        text = axes.annotate(
            str(number), place, (dx, dy), textcoords="offset points", ha="center", va="center", fontsize=5.5,
            arrowprops=arrow if abs(dx) + abs(dy) > 10 else None,
        )  # fmt: skip
        text.set_in_layout(False)


Box = tuple[float, float, float, float]  # left, bottom, right, top, in points


def _free(
    point: tuple[float, float], size: tuple[float, float], taken: Sequence[Box], frame: Box
) -> tuple[float, float, Box]:
    """The nearest free place for a label of this size; the first place if none is free."""
    directions = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
    first = None
    for distance in range(0, 60, 3):
        for right, up in directions:
            dx = right * (size[0] / 2 + 3 + distance)
            dy = up * (size[1] / 2 + 3 + distance)
            x, y = point[0] + dx, point[1] + dy
            box = (x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)
            first = first or (dx, dy, box)
            inside = box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]
            if inside and not any(_hits(box, other) for other in taken):
                return dx, dy, box
    assert first is not None  # the loops run at least once
    return first


def _hits(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
