"""A figure with its caption, and the writer of its files."""

import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.figures.style import styled
from records.files import write_whole
from records.study_json import StudyRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf")


@dataclass(frozen=True)
class CaptionedFigure:
    """One figure. `draw` returns a new matplotlib figure; `render` and `write` make files."""

    kind: str
    """1 to 4 as in the paper, or curves, depth, noise, cost"""
    stem: str
    """file name without suffix; no two figures share one"""
    title: str
    caption: tuple[str, ...]
    """one sentence each: study, profile, data set, n, and what bands and points are"""
    draw: "Callable[[], Figure]"
    studies: tuple[StudyRecord, ...]
    fingerprints: tuple[str, ...]
    """fingerprints of all runs that it shows"""


@dataclass(frozen=True)
class MissingFigure:
    """A figure without data, with the reason and the command that makes the data."""

    kind: str
    message: str
    """one line"""


def render(drawn: CaptionedFigure, format: str, dots: int = 220) -> bytes:
    """Returns the figure as a png or pdf file: the same bytes for the same data. Raises ValueError for other formats.

    The png has `dots` an inch; the pdf embeds its fonts as text.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}. Valid: {', '.join(FORMATS)}.")
    # Without these keys matplotlib writes the time into a pdf and its own version into both.
    metadata: dict[str, str | None] = {"Title": drawn.title}
    metadata |= {"Software": None} if format == "png" else {"CreationDate": None, "Creator": None, "Producer": None}
    out = io.BytesIO()
    with styled():
        drawn.draw().savefig(out, format=format, metadata=metadata, dpi=dots)
    return out.getvalue()


def write(drawn: CaptionedFigure, folder: str | os.PathLike[str], formats: Iterable[str] = FORMATS) -> list[Path]:
    """Writes the figure into `folder` (created if missing) as <stem>.<format> and returns the paths.

    Each file is written completely or not at all. Raises ValueError like `render`, and WriteError.
    """
    paths = []
    for name in formats:
        path = Path(folder) / f"{drawn.stem}.{name}"
        write_whole(path, render(drawn, name))
        paths.append(path)
    return paths
