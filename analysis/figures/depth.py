"""Test error against depth, with intervals: does a deeper network gain (Table 3)?"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from analysis.figures.error_vs_axis import error_figures
from analysis.figures.figure import CaptionedFigure, MissingFigure
from analysis.figures.points import ErrorAxis
from records.study_json import StudyRecord

if TYPE_CHECKING:
    from analysis.read.results import Results

DEPTH = ErrorAxis(kind="depth", axis="depth", study="arl_vs_nal", label="trunk depth (layers)", factor=1)


def depth(results: "Results", studies: Sequence[StudyRecord]) -> Iterator[CaptionedFigure | MissingFigure]:
    """Yields a figure for each study with an axis of depths."""
    return error_figures(DEPTH, results, studies)
