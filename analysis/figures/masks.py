"""Figure 1: features before and after the soft mask, with the mask and the image, for an early and a late module."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from analysis.figures import captions, style
from analysis.figures.curves_over_seeds import FigureCell, baseline_first, cells_of
from analysis.figures.figure import CaptionedFigure, MissingFigure
from analysis.tables.cells import MINUS
from records.study_json import StudyRecord

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from analysis.read.results import Results

MOST = 6  # images per page
PARTS = ("before", "mask", "after")
MAPS = {"before": "cividis", "mask": "gray", "after": "cividis"}  # both are monotone in lightness
TITLES = {"before": "feature", "mask": "mask", "after": "masked feature"}

Arrays = dict[str, "np.ndarray[Any, Any]"]


def masks(results: "Results", studies: Sequence[StudyRecord]) -> Iterator[CaptionedFigure | MissingFigure]:
    """Yields the masks of one run per study, a run of the comparison's baseline if possible; no run twice."""
    for group in captions.comparable_groups(studies):
        seen: dict[str, tuple[list[FigureCell], int, Arrays]] = {}
        for study in group:
            found = _first(study, results)
            if found is not None:
                cell, seed, arrays = found
                seen.setdefault(cell.finished[seed], ([], seed, arrays))[0].append(cell)
        for cells, seed, arrays in seen.values():
            yield _of_run(cells, seed, arrays)
        if not seen:
            yield MissingFigure("1", captions.missing_message("1", "no run with masks", "mask_type", group[0]))


def masks_of_run(cell: FigureCell, seed: int, results: "Results") -> CaptionedFigure | None:
    """Returns the masks of one finished run of a cell, None if it kept none."""
    arrays = results.masks(cell.finished[seed])
    return None if arrays is None or not _whole(arrays) else _of_run([cell], seed, arrays)


def _of_run(cells: list[FigureCell], seed: int, arrays: Arrays) -> CaptionedFigure:
    """`cells`: those of all studies that have the run."""
    title = f"Features before and after the soft mask: {_network(cells[0], seed)}"
    return CaptionedFigure(
        kind="1",
        stem=captions.file_stem("figure1-masks", cells[0].study.name, study=cells[0].study),
        title=title,
        caption=tuple(_caption(cells, seed, arrays)),
        draw=lambda: _draw(cells, seed, arrays, title),
        studies=captions.studies_of(cells),
        fingerprints=(cells[0].finished[seed],),
    )


def module_name(dotted: str) -> str:
    """Returns "stage 1, module 1" for "stages.0.attention.0"; any other name unchanged."""
    match dotted.split("."):
        case ["stages", stage, "attention", module] if stage.isdecimal() and module.isdecimal():
            return f"stage {int(stage) + 1}, module {int(module) + 1}"
    return dotted


def _first(study: StudyRecord, results: "Results") -> tuple[FigureCell, int, Arrays] | None:
    for cell in baseline_first(cells_of(study, results)):
        for seed, fingerprint in cell.finished.items():
            arrays = results.masks(fingerprint)
            if arrays is not None and _whole(arrays):
                return cell, seed, arrays
    return None


def _whole(arrays: Arrays) -> bool:
    """Whether the arrays hold everything that the figure shows."""
    if not {"images", "labels", "classes", "modules"} <= arrays.keys() or not len(arrays["images"]):
        return False
    parts = [f"{part}_{k}" for part in PARTS for k in range(len(arrays["modules"]))]
    return bool(parts) and set(parts) <= arrays.keys()


def _network(cell: FigureCell, seed: int) -> str:
    """The cell's name, with the network's name if the cell's does not contain it."""
    model = cell.runs.by_seed[seed].params.get("model.name", "")
    return cell.name if not model or {"network", "depth"} & cell.values.keys() else f"{cell.name} ({model})"


def _caption(cells: Sequence[FigureCell], seed: int, arrays: Arrays) -> list[str]:
    modules = [
        f"{module_name(str(name))} (channel {int(arrays[f'channel_{k}'])})" if f"channel_{k}" in arrays else str(name)
        for k, name in enumerate(arrays["modules"])
    ]
    there = len(arrays["images"])
    sentences = [
        *captions.source_sentences(cells),
        f"n = 1 run: {_network(cells[0], seed)}, seed {seed}.",
        f"One channel of each of: {'; '.join(modules)}.",
        "Feature: the trunk's output T; masked feature: T combined with the mask M; one scale for both, in the units "
        "of the network, cut at the 1st and 99th percentile. Images of the test set with their true class.",
    ]
    return sentences + [f"The first {MOST} of {there} images."] * (there > MOST)


def _draw(cells: Sequence[FigureCell], seed: int, arrays: Arrays, title: str) -> "Figure":
    import numpy as np

    shown, modules = min(len(arrays["images"]), MOST), [str(name) for name in arrays["modules"]]
    columns = 1 + len(PARTS) * len(modules)
    side = (style.PAGE - 0.5) / columns
    subtitle = f"{captions.source_line(cells)} · n = 1 run, seed {seed} · one channel of each module"
    figure = style.new_figure(style.PAGE, min(shown * side + 0.75, style.HEIGHT), title, subtitle)
    # A narrow column sets the modules apart; the last row holds the scales.
    widths = [1.0]
    for _ in modules:
        widths += [0.12, *[1.0] * len(PARTS)]
    grid = figure.add_gridspec(shown + 1, len(widths), width_ratios=widths, height_ratios=[1.0] * shown + [0.09])
    for row in range(shown):
        axes = _picture(figure, grid[row, 0], arrays["images"][row].transpose(1, 2, 0))
        label = int(arrays["labels"][row])
        axes.set_ylabel(str(arrays["classes"][label]) if label < len(arrays["classes"]) else str(label))
        axes.set_title("image" if row == 0 else "")
    for k, name in enumerate(modules):
        features = np.stack([arrays[f"{part}_{k}"][:shown] for part in ("before", "after")])
        ranges = {"mask": _range(arrays[f"mask_{k}"][:shown], (0, 100))}
        ranges |= dict.fromkeys(("before", "after"), _range(features, (1, 99)))
        for j, part in enumerate(PARTS):
            column = 2 + k * (len(PARTS) + 1) + j
            low, high = ranges[part]
            for row in range(shown):
                values = arrays[f"{part}_{k}"][row].astype(np.float64)
                axes = _picture(figure, grid[row, column], values, cmap=MAPS[part], vmin=low, vmax=high)
                if row == 0:
                    head = module_name(name) if j == 1 else ""
                    axes.set_title(f"{head}\n{TITLES[part]}")
            scale = figure.add_subplot(grid[shown, column])
            bar: Any = figure.colorbar(axes.images[0], cax=scale, orientation="horizontal")
            bar.outline.set_linewidth(0.4)
            bar.set_ticks([low, high], labels=[_tick(value, high - low) for value in (low, high)])
            first, last = scale.get_xticklabels()
            first.set_horizontalalignment("left")
            last.set_horizontalalignment("right")
    return figure


def _range(values: "np.ndarray[Any, Any]", percentiles: tuple[float, float]) -> tuple[float, float]:
    """The two percentiles, made different if all values are equal."""
    import numpy as np

    finite = values[np.isfinite(values)].astype(np.float64)  # float16 overflows in a percentile
    low, high = np.percentile(finite, percentiles) if finite.size else (0.0, 1.0)
    return (float(low), float(high)) if low < high else (float(low) - 0.5, float(low) + 0.5)


def _tick(value: float, span: float) -> str:
    """The value, rounded to a hundredth of the span or finer."""
    rounded = round(value, 2 - math.floor(math.log10(span))) or 0.0  # not -0
    return f"{rounded:g}".replace("-", MINUS)


def _picture(figure: "Figure", place: Any, values: "np.ndarray[Any, Any]", **how: Any) -> Any:
    axes = figure.add_subplot(place)
    axes.imshow(values, interpolation="nearest", **how)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes
