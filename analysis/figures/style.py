"""The style of all figures: page sizes, colours for colour-blind readers, fonts, the header."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # half a second that --help does not need
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.5, 7.2  # inches: one column of a paper, and both
HEIGHT = 9.5  # greatest height that fits a page with a caption
MUTED = "#808080"
FAINT = "#d9d9d9"
# Okabe and Ito's colours that are visible on white; line styles and markers tell the same in greyscale.
COLOURS = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (8, 3)), (0, (2, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*")
MEAN_STD = "mean ± sample standard deviation"
INTERVAL = "mean with its 95 % interval"

_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 7,
    "text.parse_math": False,  # a $ in a label is a $
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,  # fonts embedded as outlines that stay text
    "pdf.compression": 6,
    "savefig.dpi": 220,
}


@contextmanager
def styled() -> Iterator[None]:
    """Applies this style to the figures of a block, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def new_figure(width: float, height: float, title: str, subtitle: str) -> "Figure":
    """Returns a figure of this size in inches, with title and subtitle above the space for its axes."""
    from matplotlib.figure import Figure

    lines = _wrap(title, width, 8.5), _wrap(subtitle, width, 6.5)
    head = (len(lines[0]) * 8.5 + len(lines[1]) * 6.5) * 1.3 / 72 + 0.06
    figure = Figure(figsize=(width, height + head), layout="constrained")
    engine = figure.get_layout_engine()
    assert engine is not None  # the line above sets it
    engine.set(rect=(0, 0, 1, 1 - head / (height + head)))  # type: ignore[call-arg]
    figure.text(0.005, 1 - 0.03 / (height + head), "\n".join(lines[0]), fontsize=8.5, va="top", linespacing=1.2)
    below = 1 - (0.04 + len(lines[0]) * 8.5 * 1.3 / 72) / (height + head)
    figure.text(0.005, below, "\n".join(lines[1]), fontsize=6.5, va="top", color="#404040", linespacing=1.2)
    return figure


def look(i: int) -> dict[str, Any]:
    """Returns colour, line style and marker of the i-th item of a comparison."""
    return {
        "color": COLOURS[i % len(COLOURS)],
        "linestyle": LINES[i % len(LINES)],
        "marker": MARKERS[i % len(MARKERS)],
    }


def line_look(i: int) -> dict[str, Any]:
    """Returns colour and line style of the i-th item, for curves of many points."""
    return {key: value for key, value in look(i).items() if key != "marker"}


def curve(axes: "Axes", steps: Any, mean: Any, spread: tuple[Any, Any] | None, look: dict[str, Any]) -> None:
    """Draws a curve with its band; a curve of one point, which no line shows, as a marker with a bar."""
    if len(steps) == 1:
        axes.plot(steps, mean, **look, marker="o")
        if spread is not None:
            axes.vlines(steps, *spread, color=look["color"], linewidth=0.8)
        return
    axes.plot(steps, mean, **look)
    if spread is not None:
        axes.fill_between(steps, *spread, color=look["color"], alpha=0.2, linewidth=0)


def grid(axes: "Axes", axis: str = "y") -> None:
    """Draws faint lines to read values by."""
    axes.grid(visible=True, axis=axis)  # type: ignore[arg-type]


def error_scale(axes: Sequence["Axes"], values: Sequence[float]) -> None:
    """Makes the y axes of errors in % logarithmic if the errors span almost a decade."""
    import numpy as np

    positive = [value for value in values if np.isfinite(value) and value > 0]
    if not positive or len(positive) < 2 or np.quantile(positive, 0.05) * 8 > max(positive):
        return
    low = max(min(positive), 0.05) * 0.9
    high = min(100, max(positive) * 1.1)
    for one in axes:
        one.set_yscale("log", nonpositive="clip")
        one.set_ylim(low, high)
        log_ticks(one.yaxis, low, high)


def log_ticks(axis: Any, low: float, high: float) -> None:
    """Puts at least three ticks on a logarithmic axis, if possible, and labels them with plain numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    steps: Sequence[tuple[float, ...]] = (
        (1,),
        (1, 3),
        (1, 2, 5),
        (1, 1.5, 2, 3, 5, 7),
        (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9),
    )
    ticks: list[float] = []
    for multiples in steps:
        ticks = [m * 10.0**e for e in range(-6, 10) for m in multiples if low <= m * 10.0**e <= high]
        if len(ticks) >= 3:
            break
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def plain(value: float) -> str:
    """Returns a number as a tick of a logarithmic axis has it: 0.01, 10, 1e6."""
    return re.sub(r"e([+-])0*", lambda found: "e" + found[1].replace("+", ""), f"{value:g}")


def step_axis(axes: "Axes", last: float) -> None:
    """Labels an axis of optimizer steps, in thousands from 10,000 on."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    if last >= 10_000:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}k" if value else "0"))


def _wrap(text: str, width: float, size: float) -> list[str]:
    held = text.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")  # "n = 3" stays on one line
    # A character of DejaVu Sans takes about half of its size; lines of many capitals need the rest.
    lines = textwrap.wrap(held, int((width - 0.1) * 72 / (0.53 * size))) or [""]
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
