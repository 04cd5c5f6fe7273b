"""Test error against the share of wrong training labels, with intervals (Table 5), and how many are memorised."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from analysis.figures.error_vs_axis import error_figures
from analysis.figures.figure import CaptionedFigure, MissingFigure
from analysis.figures.points import ErrorAxis
from records.study_json import StudyRecord

if TYPE_CHECKING:
    from analysis.read.results import Results

NOISE = ErrorAxis(kind="noise", axis="noise", study="noisy_labels", label="wrong training labels (%)", factor=100)


def noise(results: "Results", studies: Sequence[StudyRecord]) -> Iterator[CaptionedFigure | MissingFigure]:
    """Yields a figure for each study with an axis of noise levels."""
    return error_figures(NOISE, results, studies)
