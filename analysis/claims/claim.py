"""What a claim is: hypotheses on combinations of quantities of a study's cells, all of which must hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from records.study_json import Value

ERROR, ERROR5, PARAMS, MACS = "error", "error5", "params", "macs"
RESPONSE = {2: "response2", 3: "response3"}  # of a stage, relative to stage 1's
OURS = "ours"
MARGIN = 0.5  # points of error below which a difference does not matter

CellValues = Mapping[str, Value]


@dataclass(frozen=True)
class Term:
    """One quantity of one cell. `published`: its table and cell in published.csv, if they are not the study's."""

    weight: float
    cell: CellValues
    quantity: str = ERROR
    published: tuple[str, CellValues] | None = None


@dataclass(frozen=True)
class Hypothesis:
    """A combination that is claimed to lie below (side -1) or above (side +1) a bound, or at it within a margin (0).

    The combination is the weighted sum of the terms; as a `ratio` that of their logarithms, and `bound` and `margin`
    are then a ratio and a factor.
    """

    label: str
    terms: tuple[Term, ...]
    side: int = -1
    bound: float = 0.0
    margin: float | None = MARGIN
    """distance from the bound below which a difference does not matter; None: any matters"""
    ratio: bool = False

    @property
    def sentence(self) -> str:
        """What is claimed, as an inequality."""
        if self.side:
            return f"{self.label} {'<' if self.side < 0 else '>'} {self.bound:g}"
        return f"{self.label} = {self.bound:g}" + (
            f" within a factor of {self.margin:g}" if self.ratio else f" ± {self.margin:g}"
        )

    @property
    def quantity(self) -> str:
        """The quantity of all its terms."""
        return self.terms[0].quantity


@dataclass(frozen=True)
class Claim:
    """A sentence with its hypotheses, by the study that tests them, and with counts of networks, which need no runs.

    If several studies test it, the first with runs is used.
    """

    id: str
    sentence: str
    table: str = ""
    """the paper's table of its numbers; "" for a claim on other numbers, whose terms name them, or none"""
    place: str = ""
    """where the paper says it, if not in that table alone; OURS for a claim that it does not make"""
    hypotheses: Mapping[str, tuple[Hypothesis, ...]] = field(default_factory=dict)
    counts: tuple[Hypothesis, ...] = ()
    """on PARAMS and MACS of networks at full width"""
    text: tuple[tuple[CellValues, str], ...] = ()
    """cells and quantities of the rows "text" in published.csv, for which the paper's text disagrees with its tables"""
    remark: str = ""
    """a sentence for the caption"""

    @property
    def where(self) -> str:
        """Table, figure or section of the paper, or OURS."""
        return self.place or f"Table {self.table}"
