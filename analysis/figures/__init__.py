"""Every figure, one module per kind. A new kind is one function and one line in FIGURES."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from analysis.figures.budget import budget
from analysis.figures.cost import cost
from analysis.figures.curves import curves
from analysis.figures.depth import depth
from analysis.figures.figure import FORMATS as FORMATS
from analysis.figures.figure import CaptionedFigure as CaptionedFigure
from analysis.figures.figure import MissingFigure as MissingFigure
from analysis.figures.figure import render as render
from analysis.figures.figure import write as write
from analysis.figures.forest import claims
from analysis.figures.masks import masks
from analysis.figures.network_diagram.figure import architecture
from analysis.figures.noise import noise
from analysis.figures.receptive_fields import receptive_fields
from analysis.figures.response import response
from records.study_json import StudyRecord

if TYPE_CHECKING:
    from analysis.read.results import Results

# By the name that --figure takes; 1 to 4 as in the paper. Each yields figures and missing figures.
FIGURES: dict[str, Callable[["Results", Sequence[StudyRecord]], Iterator[CaptionedFigure | MissingFigure]]] = {
    "claims": claims,
    "1": masks,
    "2": architecture,
    "3": receptive_fields,
    "4": response,
    "depth": depth,
    "noise": noise,
    "budget": budget,
    "cost": cost,
    "curves": curves,
}


def collect_figures(
    results: "Results", studies: Sequence[StudyRecord], kinds: Sequence[str] = tuple(FIGURES)
) -> tuple[list[CaptionedFigure], list[MissingFigure]]:
    """Returns the figures that can be drawn, each with a stem of its own, and the missing ones.

    `studies` are those to draw, in the order of options.select. Raises KeyError for a kind that is not in FIGURES.
    """
    drawn: list[CaptionedFigure] = []
    skipped: list[MissingFigure] = []
    stems: dict[str, int] = {}
    for kind in kinds:
        for one in FIGURES[kind](results, studies):
            if isinstance(one, MissingFigure):
                skipped.append(one)
                continue
            stems[one.stem] = stems.get(one.stem, 0) + 1
            again = f"-{stems[one.stem]}" if stems[one.stem] > 1 else ""
            drawn.append(dataclasses.replace(one, stem=f"{one.stem}{again}"))
    return drawn, skipped
