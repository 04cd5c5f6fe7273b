"""A table as typed cells, and the one formatter that turns a cell into text."""

from dataclasses import dataclass

from analysis.record import Value
from analysis.stats import Interval, MeanStd

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Label:
    """The value of an axis: as printed, and raw."""

    text: str
    value: Value


@dataclass(frozen=True)
class Count:
    """How many of the planned seeds the statistics rest on."""

    n: int
    planned: int


@dataclass(frozen=True)
class Measure:
    """Mean and standard deviation of the finished seeds, and how many of the planned ones diverged."""

    stats: MeanStd | None
    diverged: int
    planned: int


@dataclass(frozen=True)
class Published:
    """The paper's number, None where it has none."""

    value: float | None


@dataclass(frozen=True)
class Number:
    """A number that needs no runs, None where there is none, and how many decimals of it are printed."""

    value: float | None
    digits: int


@dataclass(frozen=True)
class Difference:
    """The paired difference against the baseline row. Fewer pairs than `expected`, the row's n, are said."""

    interval: Interval | None
    expected: int


@dataclass(frozen=True)
class Blank:
    """A place where nothing is due: the baseline's difference to itself."""


Cell = Label | Count | Measure | Published | Number | Difference | Blank


@dataclass(frozen=True)
class Column:
    """`key` names the column in files for machines, `header` for readers; numbers align right."""

    key: str
    header: str
    numeric: bool


@dataclass(frozen=True)
class Table:
    """`stem` is the file name without suffix; `caption` is one sentence each."""

    stem: str
    title: str
    caption: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def format_cell(cell: Cell) -> str:
    """Returns the cell as a reader sees it: two decimals, a true minus sign, an en dash for what is missing."""
    match cell:
        case Label(text=text):
            return text
        case Count(n=n, planned=planned):
            return str(n) if n == planned else f"{n}/{planned}"
        case Measure():
            parts = [_mean_std(cell.stats)] if cell.stats else []
            parts += [f"div. {cell.diverged}/{cell.planned}"] if cell.diverged else []
            return ", ".join(parts) or MISSING
        case Published(value=value):
            return MISSING if value is None else f"{value:.2f}"
        case Number(value=value, digits=digits):
            return MISSING if value is None else f"{value:.{digits}f}"
        case Difference(interval=None):
            return MISSING
        case Difference(interval=Interval() as interval, expected=expected):
            pairs = f" (n = {interval.n})" if interval.n != expected else ""
            return _interval(interval) + pairs
        case _:
            return ""


def raw_cell(column: Column, cell: Cell) -> dict[str, Value | None]:
    """Returns the numbers of a cell by name, unrounded; kind of cell and column alone decide the names."""
    match cell:
        case Label(value=value) | Number(value=value):
            return {column.key: value}
        case Count(n=n, planned=planned):
            return {"n": n, "planned": planned}
        case Measure(stats=stats, diverged=diverged):
            return {
                "mean": stats.mean if stats else None,
                "std": stats.std if stats else None,
                "diverged": diverged,
            }
        case Published(value=value):
            return {"published": value}
        case Difference(interval=Interval() as interval):
            return {"diff": interval.mean, "lo": interval.low, "hi": interval.high, "pairs": interval.n}
        case _:
            return {"diff": None, "lo": None, "hi": None, "pairs": None}


def _mean_std(stats: MeanStd) -> str:
    return f"{stats.mean:.2f}" if stats.std is None else f"{stats.mean:.2f} ± {stats.std:.2f}"


def _interval(interval: Interval) -> str:
    mean = signed(interval.mean)
    if interval.low is None or interval.high is None:
        return mean
    return f"{mean} [{signed(interval.low)}, {signed(interval.high)}]"


def signed(value: float, digits: int = 2) -> str:
    """Returns a difference with its sign, a true minus."""
    return f"{value:+z.{digits}f}".replace("-", MINUS)
