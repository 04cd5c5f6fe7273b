"""Figure 3: measured receptive fields of trunk and mask: gradient maps, and radii by stage."""

import base64
import binascii
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.figures import captions, style
from analysis.figures.curves_over_seeds import FigureCell, baseline_first, cells_of
from analysis.figures.figure import CaptionedFigure, MissingFigure
from records.study_json import StudyRecord

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.read.results import Results

BRANCHES = ("trunk", "mask")
LOOKS: dict[str, dict[str, Any]] = {
    "trunk": {"color": style.COLOURS[0], "marker": "o", "markerfacecolor": "white"},
    "mask": {"color": style.COLOURS[1], "marker": "s"},
}


@dataclass(frozen=True)
class MeasuredField:
    """The receptive field of one branch: mean absolute gradient (H, W), and the circle with 90 % of it."""

    gradient: "np.ndarray[Any, Any]"
    centre: tuple[float, float]
    radius: float
    images: int


Fields = dict[tuple[int, str], MeasuredField]  # by stage and branch


def receptive_fields(results: "Results", studies: Sequence[StudyRecord]) -> Iterator[CaptionedFigure | MissingFigure]:
    """Yields the fields of each study, unless an earlier figure shows all of them."""
    for group in captions.comparable_groups(studies):
        shown: set[str] = set()
        for study in group:
            cells = baseline_first(cells_of(study, results))
            found = [(cell, fields) for cell in cells if (fields := _of_cell(cell, results))]
            fingerprints = [cell.finished[seed] for cell, fields in found for seed in fields]
            if set(fingerprints) <= shown:
                continue
            shown |= set(fingerprints)
            title = f"Receptive fields of trunk and mask: {study.title}"
            yield CaptionedFigure(
                kind="3",
                stem=captions.file_stem("figure3-receptive-fields", study.name, study=study),
                title=title,
                caption=tuple(_caption(found)),
                draw=lambda args=(found, title): _draw(*args),  # type: ignore[misc]
                studies=(study,),
                fingerprints=tuple(fingerprints),
            )
        if not shown:
            yield MissingFigure(
                "3", captions.missing_message("3", "no run whose probes hold receptive fields", "mask_type", group[0])
            )


def parse_fields(probes: Mapping[str, Any]) -> Fields:
    """Returns the receptive fields of a probes.json by stage and branch; {} if there are none or they are damaged.

    A gradient that is zero everywhere is left out.
    """
    import numpy as np

    fields: Fields = {}
    try:
        for entry in probes.get("receptive_fields") or []:
            gradient = entry["gradient"]
            if gradient["max"] == 0:  # zero everywhere, so no circle holds 90 % of it
                continue
            values = np.frombuffer(base64.b64decode(gradient["uint8"]), dtype=np.uint8).reshape(gradient["shape"])
            row, column = entry["centre"]
            fields[int(entry["stage"]), str(entry["branch"])] = MeasuredField(
                gradient=values * (float(gradient["max"]) / 255),
                centre=(float(row), float(column)),
                radius=float(entry["radius"]),
                images=int(entry["images"]),
            )
    except (LookupError, TypeError, ValueError, binascii.Error):
        return {}
    return fields


def _of_cell(cell: FigureCell, results: "Results") -> dict[int, Fields]:
    found = {seed: parse_fields(results.probes(fingerprint) or {}) for seed, fingerprint in cell.finished.items()}
    return {seed: fields for seed, fields in found.items() if fields}


def _caption(found: Sequence[tuple[FigureCell, dict[int, Fields]]]) -> list[str]:
    cell, by_seed = found[0]
    images = next(iter(next(iter(by_seed.values())).values())).images
    return [
        *captions.source_sentences([cell for cell, _ in found]),
        f"{captions.seeds_text(len(fields) for _, fields in found)}; "
        "radius: the distance from the centre within which 90 % of the gradient lies, marker: mean, dots: seeds.",
        f"Maps: {cell.name}, seed {min(by_seed)}: absolute gradient of the central unit of the branch's output with "
        f"respect to the image, mean of {images} test images; square root, each map on a scale of its own; circle: "
        "the radius.",
        "Of each stage the first attention module. A gradient that is zero everywhere has no radius.",
    ]


def _draw(found: Sequence[tuple[FigureCell, dict[int, Fields]]], title: str) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    cell, by_seed = found[0]
    seed = min(by_seed)
    stages = sorted({stage for _, fields in found for one in fields.values() for stage, _ in one})
    counts = captions.seeds_text(len(fields) for _, fields in found)
    several = any(len(fields) > 1 for _, fields in found)
    marker = "marker: mean, dots: seeds" if several else "marker: the one run"
    subtitle = (
        f"{captions.source_line([cell for cell, _ in found])} · {counts} · {marker} · maps: {cell.name}, seed {seed}"
    )
    columns = len(stages)
    height = max(2.5, 0.75 + 0.19 * len(found))
    figure = style.new_figure(style.PAGE, min(height, style.HEIGHT), title, subtitle)
    halves: Any = figure.subfigures(1, 2, width_ratios=(1, 1.15))
    left, right = halves

    maps = left.subplots(len(BRANCHES), columns, squeeze=False)
    for i, branch in enumerate(BRANCHES):
        for j, stage in enumerate(stages):
            _map(maps[i][j], by_seed[seed].get((stage, branch)))
            if i == 0:
                maps[i][j].set_title(f"stage {stage}")
        maps[i][0].set_ylabel(branch)

    row = right.subplots(1, columns, squeeze=False, sharey=True)[0]
    for axes, stage in zip(row, stages, strict=True):
        for y, (_, fields) in enumerate(found):
            _radii(axes, y, stage, list(fields.values()))
        axes.set_title(f"stage {stage}")
        style.grid(axes, "x")
    row[0].set_yticks(range(len(found)), [textwrap.fill(one.name, 22) for one, _ in found])
    row[0].set_ylim(len(found) - 0.5, -0.5)
    limit = max(axes.get_xlim()[1] for axes in row)
    for axes in row:
        axes.set_xlim(0, 1.03 * limit)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        axes.tick_params(axis="y", length=0)
    row[columns // 2].set_xlabel("radius of 90 % of the gradient (px)")
    _legend(right)
    return figure


def _map(axes: "Axes", field: MeasuredField | None) -> None:
    from matplotlib.patches import Circle

    axes.set_xticks([])
    axes.set_yticks([])
    if field is None:
        axes.set_frame_on(False)
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", va="center", color=style.MUTED)
        return
    axes.imshow(field.gradient**0.5, cmap="gray_r", vmin=0, interpolation="nearest")
    row, column = field.centre
    axes.add_patch(Circle((column, row), field.radius, fill=False, color=style.COLOURS[1], linewidth=0.9))
    for spine in axes.spines.values():
        spine.set(visible=True, color=style.FAINT)
    axes.set_xlabel(f"{field.radius:.1f} px", labelpad=2)


def _radii(axes: "Axes", y: float, stage: int, fields: Sequence[Fields]) -> None:
    means = {}
    for branch in BRANCHES:
        radii = [one[stage, branch].radius for one in fields if (stage, branch) in one]
        radii = [radius for radius in radii if math.isfinite(radius)]
        if not radii:
            continue
        means[branch] = sum(radii) / len(radii)
        if len(radii) > 1:
            axes.plot(radii, [y + 0.22] * len(radii), ".", color=LOOKS[branch]["color"], markersize=2.5, clip_on=False)
    if len(means) > 1:
        axes.plot(list(means.values()), [y] * len(means), color=style.MUTED, linewidth=0.8, zorder=1.5)
    for branch, mean in means.items():
        axes.plot([mean], [y], **LOOKS[branch])


def _legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linestyle="", label=branch, **LOOKS[branch]) for branch in BRANCHES]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
