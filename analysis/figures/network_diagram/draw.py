"""Draws a layout: the network in a row, an attention module of each stage below, and a key to the boxes."""

# ruff: noqa: RUF001 - 3×3 is printed with a true multiplication sign

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.figures import style
from analysis.figures.network_diagram.layout import UNITS, Block, MaskBranch, NetworkLayout, StageLayout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
PITCH, BOX, LEVEL, TALL = 0.7, 0.5, 0.46, 0.24
TRUNK, MASK, PLAIN = "#e4f0f9", "#f6cda8", "white"  # lightness tells them apart in greyscale, their place does, too
SMALL = 5.6


def draw(layout: NetworkLayout, title: str, subtitle: str, *, classes: int | None = None) -> "Figure":
    """Returns the drawing: the network in a row, an attention module of each stage below, and a key to the boxes."""
    modules = _modules(layout)
    notes = [line for note in _notes(layout) for line in textwrap.wrap(note, 150, subsequent_indent="   ")]
    heights = [_module_height(stages[0].mask) for stages in modules]
    height = 1.18 + sum(heights) + 0.115 * len(notes) + 0.1
    widest = max([_columns(stages[0].mask) for stages in modules], default=0)
    width = max(style.PAGE, widest * PITCH + 0.1)
    figure = style.new_figure(width, height, title, subtitle)
    figure.set_layout_engine("none")
    total = figure.get_figheight()
    axes = figure.add_axes((0, 0, 1, height / total))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    _network(axes, layout, width, height - 0.33, classes)
    top = height - 1.18
    for stages, tall in zip(modules, heights, strict=True):
        _module(axes, layout, stages, top)
        top -= tall
    for i, note in enumerate(notes):
        axes.text(0.08, top - 0.02 - 0.115 * i, note, fontsize=SMALL, va="top", color="#404040")
    return figure


def _modules(layout: NetworkLayout) -> list[list[StageLayout]]:
    """The stages in groups that share a drawing of their attention module: masks without levels look the same."""
    groups: list[list[StageLayout]] = []
    for stage in layout.stages:
        if not stage.modules:
            continue
        flat = stage.mask is None or stage.mask.levels == 0
        if flat and groups and (groups[-1][0].mask is None or groups[-1][0].mask.levels == 0):
            groups[-1].append(stage)
        else:
            groups.append([stage])
    return groups


def _notes(layout: NetworkLayout) -> list[str]:
    units = dict.fromkeys(stage.unit for stage in layout.stages)
    grouped = f"; 3×3 in {layout.groups} groups" if layout.groups > 1 else ""
    said = [f"unit ({unit}): {UNITS[unit].text}{grouped}." if unit in UNITS else f"unit: {unit}." for unit in units]
    said.append(
        "C (B): channels of the unit's output (of its bottleneck). "
        "A stage's first unit has its stride and a 1×1 projection of x."
    )
    masks = [stage.mask for stage in layout.stages if stage.mask is not None]
    if masks and masks[0].levels:
        said.append(
            "pool: max pool 3×3, stride 2. up: bilinear to the size of the map above. +: sum. "
            "Every unit of the mask has the widths of the trunk's."
        )
    if masks:
        said.append(
            f"T: the trunk's output. M: the mask, {masks[0].values}. p = {layout.p}, t = {layout.t}, r = {layout.r}."
        )
        said += list(dict.fromkeys(mask.remark for mask in masks if mask.remark))
    return said


def _network(axes: "Axes", layout: NetworkLayout, width: float, top: float, classes: int | None) -> None:
    """Image, stem, stages and tail in one row; `top` is that of the boxes."""
    middle = top - 0.2
    count = 3 + sum(1 + bool(stage.modules) for stage in layout.stages)
    pitch = (width - 0.2) / count
    box = pitch - 0.14
    x = 0.1
    places: list[tuple[float, float]] = []

    def place(text: str, below: str, colour: str, stacked: bool = False) -> None:
        nonlocal x
        narrow = box - 0.06 * stacked
        for shift in (0.06, 0.03) if stacked else ():
            _box(axes, x + shift, middle + shift, (narrow, 0.4), "", colour)
        _box(axes, x, middle, (narrow, 0.4), text, colour)
        axes.text(x + box / 2, middle - 0.24, below, fontsize=SMALL, ha="center", va="top", linespacing=1.15)
        if places:
            _arrow(axes, (places[-1][1], middle), (x, middle))
        places.append((x, x + box))
        x += pitch

    place("image", _side(layout.image_size), PLAIN)
    place("\n".join(layout.stem), f"{layout.stem_channels} channels", PLAIN)
    for stage in layout.stages:
        start = x
        stride = f"\nstride {stage.stride}" if stage.stride > 1 else ""
        numbers = f"{stage.channels} ({stage.bottleneck})"
        size = _side(stage.size)
        place(f"{_plural(stage.units, 'unit')}{stride}", f"{numbers}\n{size}", TRUNK)
        if stage.modules:
            text = f"{stage.modules} attention\nmodule{'s' if stage.modules > 1 else ''}"
            place(text, f"{numbers}\n{size}", MASK if stage.mask else TRUNK, stacked=stage.modules > 1)
        end = x - pitch + box
        axes.plot(
            [start, start, end, end], [top + 0.1, top + 0.14, top + 0.14, top + 0.1], color=style.MUTED, linewidth=0.6
        )
        axes.text((start + end) / 2, top + 0.16, f"stage {stage.number}", fontsize=6.5, ha="center", va="bottom")
    before = "BN, ReLU\n" if layout.preactivated else ""
    outputs = f"{classes} classes" if classes else "classes"
    place(f"{before}global mean\nlinear", outputs, PLAIN)


def _columns(mask: MaskBranch | None) -> int:
    """Columns of a module's drawing: pre, mask branch or trunk, combination, post."""
    return 3 if mask is None else max(len(mask.path), 3) + 3


def _module_height(mask: MaskBranch | None) -> float:
    rows = 1 if mask is None else 2 + mask.levels
    return 0.34 + LEVEL * rows + 0.1


def _module(axes: "Axes", layout: NetworkLayout, stages: Sequence[StageLayout], top: float) -> None:
    """One attention module: the trunk above, the mask below it on the levels of its maps."""
    mask = stages[0].mask
    widths = "; ".join(f"{s.channels} ({s.bottleneck}), {_side(s.size)}" for s in stages)
    numbers = ", ".join(str(s.number) for s in stages)
    head = f"attention module of stage{'s' if len(stages) > 1 else ''} {numbers}: {widths}"
    axes.text(0.08, top - 0.08, head, fontsize=7, va="top")
    trunk_y = top - 0.34 - LEVEL / 2 + 0.04
    columns = _columns(mask)

    def at(column: float) -> float:
        return 0.12 + column * PITCH

    _box(axes, at(0), trunk_y, (BOX, TALL), _plural(layout.p, "unit"), TRUNK, note="p")
    _box(axes, at(columns - 1), trunk_y, (BOX, TALL), _plural(layout.p, "unit"), TRUNK, note="p")
    _arrow(axes, (at(0) - 0.1, trunk_y), (at(0), trunk_y))
    _arrow(axes, (at(columns - 1) + BOX, trunk_y), (at(columns - 1) + BOX + 0.14, trunk_y))
    middle = (at(1) + at(columns - 2) + BOX) / 2 - BOX / 2 if mask else at(1)
    _box(axes, middle, trunk_y, (BOX, TALL), _plural(layout.t, "unit"), TRUNK, note="t")
    _arrow(axes, (at(0) + BOX, trunk_y), (middle, trunk_y))
    if mask is None:
        _arrow(axes, (middle + BOX, trunk_y), (at(columns - 1), trunk_y))
        return
    axes.text(at(1) + 0.02, trunk_y + 0.04, "trunk", fontsize=SMALL, va="bottom", style="italic")
    join = at(columns - 2) + BOX / 2
    _arrow(axes, (middle + BOX, trunk_y), (join - 0.07, trunk_y))
    _circle(axes, join, trunk_y, "×")
    axes.text(join, trunk_y + 0.1, layout.combined, fontsize=6.5, ha="center", va="bottom")
    _arrow(axes, (join + 0.07, trunk_y), (at(columns - 1), trunk_y))
    _branch(axes, mask, trunk_y, at(0) + BOX + 0.1, join, [at(1 + i) for i in range(len(mask.path))])


def _branch(axes: "Axes", mask: MaskBranch, trunk_y: float, split: float, join: float, xs: Sequence[float]) -> None:
    """The mask branch from the point where it leaves the trunk to where it meets it again."""

    def y_of(level: int) -> float:
        return trunk_y - LEVEL * (1 + level)

    axes.plot([split], [trunk_y], marker="o", markersize=2.5, color="black")
    axes.text(split + 0.05, y_of(0) + 0.13, "mask", fontsize=SMALL, va="bottom", style="italic")
    x, y, level = split, trunk_y, 0
    axes.plot([x, x], [y, y_of(0)], color="black", linewidth=0.7)
    y = y_of(0)
    ends = {skip.end: skip for skip in mask.skips}
    for i, block in enumerate(mask.path):
        left = xs[i]
        gap = split if i == 0 else xs[i - 1] + BOX + (PITCH - BOX) * 0.42
        target = y_of(block.level)
        if block.level != level:
            axes.plot([x, gap], [y, y], color="black", linewidth=0.7)
            down = block.level > level
            stop = target + 0.055 if i in ends else target
            if i in ends:
                _arrow(axes, (gap, y), (gap, target - 0.055))
            else:
                axes.plot([gap, gap], [y, stop], color="black", linewidth=0.7)
            label_y = (y + target) / 2
            axes.text(gap + 0.025, label_y, "pool" if down else "up", fontsize=SMALL, va="center", ha="left")
            if i in ends:
                _circle(axes, gap, target, "+", 0.055)
            _arrow(axes, (gap + 0.055 * (i in ends), target), (left, target))
        else:
            _arrow(axes, (x, y), (left, target))
        _block(axes, block, left, target)
        x, y, level = left + BOX, target, block.level
    for skip in mask.skips:
        start, end = xs[skip.start] + BOX, xs[skip.end] - (PITCH - BOX) * 0.58
        center = (start + end) / 2 - BOX / 2
        height = y_of(skip.level)
        _arrow(axes, (start, height), (center, height))
        _box(axes, center, height, (BOX, TALL), _plural(skip.units, "unit"), MASK, note="skip")
        _arrow(axes, (center + BOX, height), (end - 0.055, height))
    axes.plot([x, join], [y, y], color="black", linewidth=0.7)
    _arrow(axes, (join, y), (join, trunk_y - 0.07))
    axes.text(join + 0.03, (y + trunk_y) / 2, "M", fontsize=6.5, va="center")


def _block(axes: "Axes", block: Block, x: float, y: float) -> None:
    lines = textwrap.wrap(block.text.replace("_", " "), 10)
    below = _side(block.size) if block.level else ""
    _box(
        axes,
        x,
        y,
        (BOX, max(TALL, 0.085 * len(lines) + 0.06)),
        "\n".join(lines),
        MASK if block.units else PLAIN,
        note=block.note,
        below=below,
    )


def _box(
    axes: "Axes",
    x: float,
    y: float,
    size: tuple[float, float],
    text: str,
    colour: str,
    *,
    note: str = "",
    below: str = "",
) -> None:
    """A box whose left edge is at x and whose middle is at y."""
    from matplotlib.patches import FancyBboxPatch

    width, height = size
    shape = "round,pad=0,rounding_size=0.03"
    axes.add_patch(
        FancyBboxPatch(
            (x, y - height / 2),
            width,
            height,
            boxstyle=shape,
            facecolor=colour,
            edgecolor="black",
            linewidth=0.6,
            zorder=2,
        )
    )
    fontsize = 6.3 if max(map(len, text.split("\n"))) <= 9 and "\n" not in text else SMALL
    axes.text(x + width / 2, y, text, fontsize=fontsize, ha="center", va="center", linespacing=1.0, zorder=3)
    axes.text(x + width / 2, y + height / 2 + 0.015, note, fontsize=SMALL, ha="center", va="bottom", style="italic")
    axes.text(x + width / 2, y - height / 2 - 0.02, below, fontsize=SMALL, ha="center", va="top", color="#404040")


def _circle(axes: "Axes", x: float, y: float, text: str, radius: float = 0.07) -> None:
    from matplotlib.patches import Circle

    axes.add_patch(Circle((x, y), radius, facecolor="white", edgecolor="black", linewidth=0.6, zorder=2))
    axes.text(x, y - 0.003, text, fontsize=6.5, ha="center", va="center", zorder=3)


def _arrow(axes: "Axes", start: tuple[float, float], end: tuple[float, float]) -> None:
    arrow = {
        "arrowstyle": "-|>,head_width=0.12,head_length=0.22",
        "linewidth": 0.7,
        "shrinkA": 0,
        "shrinkB": 0,
        "color": "black",
    }
    axes.annotate("", end, start, arrowprops=arrow)


def _plural(n: int, word: str) -> str:
    return f"{n} {word}{'s' if n != 1 else ''}"


def _side(size: int | None) -> str:
    return "" if size is None else f"{size}×{size}"
