"""Test error against depth, with intervals: does a deeper network gain (Table 3)?"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from analysis.figures.error_vs_axis import Against, against
from analysis.figures.figure import Drawn, Skipped
from records.study_json import StudyRecord

if TYPE_CHECKING:
    from analysis.read.results import Results

DEPTH = Against(kind="depth", axis="depth", study="arl_vs_nal", label="trunk depth (layers)", factor=1)


def depth(results: "Results", studies: Sequence[StudyRecord]) -> Iterator[Drawn | Skipped]:
    """Yields a figure for each study with an axis of depths."""
    return against(DEPTH, results, studies)
