"""A table as typed cells, and the one formatter that turns a cell into text."""

import math
from dataclasses import dataclass

from analysis.stats import FAR, NEVER, Contrast, MeanStd
from records.study_json import Value

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Label:
    """The value of an axis, as printed and raw."""

    text: str
    value: Value


@dataclass(frozen=True)
class Count:
    """The number of seeds, or pairs of seeds, in the statistics, of planned and diverged ones, and beyond the plan.

    `diverged` is None where another cell of the row counts them.
    """

    n: int
    planned: int
    diverged: int | None = None
    beyond: int = 0


@dataclass(frozen=True)
class Measure:
    """Mean and standard deviation of the finished seeds, and the numbers of the other seeds.

    `unfinished` seeds were begun and are neither over nor failed; the rest was not run.
    """

    stats: MeanStd | None
    diverged: int
    planned: int
    failed: int = 0
    unfinished: int = 0


@dataclass(frozen=True)
class Average:
    """Mean and standard deviation of a second quantity of the finished seeds; the error's cell counts the others."""

    stats: MeanStd | None


@dataclass(frozen=True)
class Published:
    """The paper's number, None if it has none; a difference is printed with its sign."""

    value: float | None
    digits: int = 2
    signed: bool = False


@dataclass(frozen=True)
class Number:
    """A number that needs no runs, None if there is none, and the number of printed decimals."""

    value: float | None
    digits: int


@dataclass(frozen=True)
class Difference:
    """A difference, e.g. to the baseline row. Its n is printed if it is not `expected`, the n of the row.

    `marked`: whether it differs from 0 by the test that the caption names; None where nothing is marked. `ratio`: the
    contrast is of logarithms, and a ratio with its interval is printed. `says_over`: what the interval is over is
    printed, because other cells have others.
    """

    contrast: Contrast | None
    expected: int
    digits: int = 2
    marked: bool | None = None
    ratio: bool = False
    says_over: bool = False


@dataclass(frozen=True)
class Blank:
    """An empty place: the baseline's difference to itself."""


@dataclass(frozen=True)
class Ditto:
    """The label of the row above, which is valid for this row too and is not printed again."""

    value: Value | None


@dataclass(frozen=True)
class Judgement:
    """The result for a claim: as printed, the verdict, and the number of seeds with power for it, if known."""

    text: str
    verdict: str
    seeds_needed: int | None


TableCell = Label | Count | Measure | Average | Published | Number | Difference | Blank | Ditto | Judgement


@dataclass(frozen=True)
class Column:
    """`key` names the column in files for machines, `header` for readers; numbers align right.

    Neighbours of one `group` stay side by side if a table is too wide for the page.
    """

    key: str
    header: str
    numeric: bool
    group: str = ""


@dataclass(frozen=True)
class Table:
    """`stem` is the file name without suffix; `caption` is one sentence each."""

    stem: str
    title: str
    caption: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[tuple[TableCell, ...], ...]


def format_cell(cell: TableCell) -> str:
    """Returns the cell as text: two decimals, a true minus sign, an en dash for missing values."""
    match cell:
        case Label(text=text) | Judgement(text=text):
            return text
        case Count(n=n, planned=planned, diverged=diverged, beyond=beyond):
            pairs = (str(n) if n == planned else f"{n}/{planned}") + (f" +{beyond}" if beyond else "")
            return f"{pairs}, div. {diverged}" if diverged else pairs
        case Measure(stats=stats, planned=planned):
            parts = [_mean_std(stats)] if stats else []
            shortfalls = {"div.": cell.diverged, "failed": cell.failed, "unfinished": cell.unfinished}
            parts += [f"{word} {number}/{planned}" for word, number in shortfalls.items() if number]
            return ", ".join(parts) or MISSING
        case Average(stats=stats):
            return _mean_std(stats) if stats else MISSING
        case Published(value=value, digits=digits) if cell.signed:
            return MISSING if value is None else signed(value, digits)
        case Published(value=value, digits=digits) | Number(value=value, digits=digits):
            return MISSING if value is None else f"{value:.{digits}f}"
        case Difference(contrast=None):
            return MISSING
        case Difference(contrast=Contrast() as contrast):
            pairs = f" (n = {contrast.n})" if contrast.n != cell.expected else ""
            over = f" ({contrast.over})" if cell.says_over and contrast.over else ""
            return _interval(cell, contrast) + " *" * bool(cell.marked) + over + pairs
        case _:
            return ""


def raw_cell(column: Column, cell: TableCell) -> dict[str, Value | None]:
    """Returns the numbers of a cell by name, unrounded; {} for a blank."""
    match cell:
        case Label(value=value) | Number(value=value) | Ditto(value=value):
            return {column.key: value}
        case Judgement(verdict=verdict, seeds_needed=seeds_needed):
            return {column.key: verdict, "seeds_needed": None if seeds_needed is None else _seeds(seeds_needed)}
        case Count(n=n, planned=planned, diverged=diverged):
            return {"n": n, "planned": planned, **({} if diverged is None else {"diverged": diverged})}
        case Measure(stats=stats):
            others = {"diverged": cell.diverged, "failed": cell.failed, "unfinished": cell.unfinished}
            return _mean_and_std(stats) | others
        case Average(stats=stats):
            return _mean_and_std(stats)
        case Published(value=value):
            return {"published": value}
        case Difference(contrast=Contrast() as contrast):
            mean, low, high = (
                math.exp(value) if cell.ratio and value is not None else value
                for value in (contrast.mean, contrast.low, contrast.high)
            )
            mark = {} if cell.marked is None else {"marked": cell.marked}
            return {"diff": mean, "lo": low, "hi": high, "over": contrast.over, **mark, "pairs": contrast.n}
        case Difference():
            keys = ("diff", "lo", "hi", "over", *(() if cell.marked is None else ("marked",)), "pairs")
            return dict.fromkeys(keys)
        case _:
            return {}


def _mean_and_std(stats: MeanStd | None) -> dict[str, Value | None]:
    return {"mean": stats.mean if stats else None, "std": stats.std if stats else None}


def _seeds(needed: int) -> int | str:
    return "none" if needed == NEVER else f">{FAR}" if needed > FAR else needed


def _mean_std(stats: MeanStd) -> str:
    return f"{stats.mean:.2f}" if stats.std is None else f"{stats.mean:.2f} ± {stats.std:.2f}"


def _interval(cell: Difference, contrast: Contrast) -> str:
    def text(value: float) -> str:
        return ratio_text(math.exp(value), cell.digits) if cell.ratio else signed(value, cell.digits)

    if contrast.low is None or contrast.high is None:
        return text(contrast.mean)
    return f"{text(contrast.mean)} [{text(contrast.low)}, {text(contrast.high)}]"


def signed(value: float, digits: int = 2) -> str:
    """Returns a difference with its sign, a true minus."""
    return f"{value:+z.{digits}f}".replace("-", MINUS)


def ratio_text(value: float, digits: int = 2) -> str:
    """Returns a ratio, which is above 0: one that would be printed as 0 is printed as below the last digit."""
    text = f"{value:.{digits}f}"
    return text if float(text) else f"<{10**-digits:.{digits}f}"
