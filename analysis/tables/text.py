"""A table as text for a terminal, and what becomes of one that is too wide."""

import itertools
import re
import textwrap
from collections.abc import Sequence

from analysis.tables.cells import Ditto, Table, TableCell, format_cell

WIDTH = 100  # columns of a terminal that the text fits
_HARD = "\N{NO-BREAK SPACE}"


def to_text(table: Table) -> str:
    """Returns the table aligned for a terminal of WIDTH columns.

    What is too wide is broken: first headers into lines, then cells of words; then a table with groups of columns into
    panels, each with the leading columns of words, another's cells of numbers before an interval or a remark.
    """
    caption = [_soften(line) for line in textwrap.wrap(_glue(" ".join(table.caption)), WIDTH)]
    panels = ["\n".join(_panel(table, *columns)) for columns in _panels(table)]
    return "\n".join([table.title, "\n\n".join(panels), *caption]) + "\n"


def dittos(table: Table, at: int, i: int) -> int:
    """Returns how many rows below row `at` repeat its cell in column `i`."""
    rest = (isinstance(row[i], Ditto) for row in table.rows[at + 1 :])
    return sum(1 for _ in itertools.takewhile(bool, rest))


def _panels(table: Table) -> list[tuple[list[int], list[int]]]:
    """The columns of each panel with their widths: one panel where breaking headers and cells is enough."""
    everything = list(range(len(table.columns)))
    natural = _headed(table, [_width(table, i) for i in everything])
    widths, least = list(natural), [_least(table, i) for i in everything]
    words = [i for i in everything if not table.columns[i].numeric]
    grouped = any(column.group for column in table.columns)
    while _total(widths) > WIDTH and (wide := [i for i in words if widths[i] > least[i]]):
        widths[max(wide, key=lambda i: widths[i])] -= 1
    if not grouped:
        numbers = [i for i in everything if table.columns[i].numeric]
        for i in sorted(numbers, key=lambda i: sum(len(format_cell(row[i])) > least[i] for row in table.rows)):
            widths[i] = max(least[i], min(widths[i], widths[i] + WIDTH - _total(widths)))
    if _total(widths) <= WIDTH:
        return [(everything, [_used(table, i, width) for i, width in enumerate(widths)])]
    leading = list(itertools.takewhile(lambda i: not table.columns[i].numeric, everything))
    groups = [list(group) for _, group in itertools.groupby(everything[len(leading) :], lambda i: _group(table, i))]
    panels = [list(leading)]
    for group in groups:
        if panels[-1] != leading and _total([natural[i] for i in panels[-1] + group]) > WIDTH:
            panels.append(list(leading))
        panels[-1] += group
    return [(panel, [natural[i] for i in panel]) for panel in panels]


def _used(table: Table, i: int, width: int) -> int:
    """What the longest line of a column takes."""
    lines = [line for row in table.rows for line in _wrap(table, row[i], i, width)]
    return max(map(len, [*lines, *_header(table, i, width)]))


def _headed(table: Table, widths: Sequence[int]) -> list[int]:
    """The widths of columns with their headers, in as few lines as make the table fit."""
    headed = list(widths)
    for height in range(1, 1 + max(len(column.header.split()) for column in table.columns)):
        headed = [
            next(w for w in itertools.count(max(width, 1)) if _fits(table, i, w, height))
            for i, width in enumerate(widths)
        ]
        if _total(headed) <= WIDTH:
            break
    return headed


def _fits(table: Table, i: int, width: int, height: int) -> bool:
    lines = _header(table, i, width)
    return len(lines) <= height and max(map(len, lines)) <= width


def _panel(table: Table, columns: list[int], widths: list[int]) -> list[str]:
    """The lines of some columns between rules."""
    headers = [_header(table, i, width) for i, width in zip(columns, widths, strict=True)]
    height = max(map(len, headers), default=0)
    places = list(zip(columns, widths, strict=True))
    words = {i for i in columns if not table.columns[i].numeric}

    def aligned(cells: Sequence[str]) -> str:
        placed = [
            cell.rjust(width) if table.columns[i].numeric else cell.ljust(width)
            for cell, (i, width) in zip(cells, places, strict=True)
        ]
        return "  ".join(placed).rstrip()

    lines: list[list[list[str]]] = [[_wrap(table, row[i], i, width) for i, width in places] for row in table.rows]
    heights = [
        max((len(cell) for cell, (i, _) in zip(line, places, strict=True) if not dittos(table, at, i)), default=1)
        for at, line in enumerate(lines)
    ]
    # A label that the rows below repeat runs on beside them.
    for at, line in enumerate(lines):
        for cell, (i, _) in zip(line, places, strict=True):
            last = at + dittos(table, at, i)
            heights[last] += max(0, len(cell) - sum(heights[at : last + 1]))
    body: list[list[str]] = [[""] * len(columns) for _ in range(sum(heights))]
    starts = list(itertools.accumulate(heights, initial=0))
    for start, line in zip(starts[:-1], lines, strict=True):
        for place, cell in enumerate(line):
            for offset, part in enumerate(cell):
                body[start + offset][place] = part or body[start + offset][place]
    tall = any(len(cell) > 1 for line in lines for cell, (i, _) in zip(line, places, strict=True) if i in words)
    breaks = {
        start
        for start, row in zip(starts[:-1], table.rows, strict=True)
        if tall and start and not isinstance(row[columns[0]], Ditto)
    }
    rule = "─" * _total(widths)
    head = [aligned([([""] * (height - len(header)) + header)[k] for header in headers]) for k in range(height)]
    text = [line for at, cells in enumerate(body) for line in ([""] if at in breaks else []) + [aligned(cells)]]
    return [rule, *head, rule, *text, rule]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _group(table: Table, i: int) -> str:
    return table.columns[i].group or f"column {i}"


def _header(table: Table, i: int, width: int) -> list[str]:
    lines = textwrap.wrap(_glue(table.columns[i].header), width, break_long_words=False, break_on_hyphens=False)
    return [_soften(line) for line in lines] or [""]


def _width(table: Table, i: int) -> int:
    return max((len(format_cell(row[i])) for row in table.rows), default=0)


def _least(table: Table, i: int) -> int:
    """The width below which a column shall not shrink: its longest word, or a dozen of letters where it holds words."""
    texts = [_soft(table, row[i], i) for row in table.rows]
    words = [word for text in [*texts, _glue(table.columns[i].header)] for word in text.split(" ")]
    return max([len(word) for word in words] + ([] if table.columns[i].numeric else [12]))


def _soft(table: Table, cell: TableCell, i: int) -> str:
    """The cell with spaces only where a line may end: of numbers before an interval, a remark or what is counted."""
    text = format_cell(cell)
    if not table.columns[i].numeric:
        return _glue(text)
    hard = text.replace(" ", _HARD)
    return re.sub(rf"(,){_HARD}(?![^\[]*\])|(){_HARD}(?=[\[(])", r"\1 ", hard)


def _wrap(table: Table, cell: TableCell, i: int, width: int) -> list[str]:
    soft = textwrap.wrap(_soft(table, cell, i), width, break_long_words=False, break_on_hyphens=False)
    return [_soften(line) for line in soft] or [""]


def _glue(text: str) -> str:
    """The text with signs kept beside their numbers where lines end."""
    return re.sub(r" (?=%)|(?<=%) (?=interval)|(?<=[<>±]) |(?<=Table|igure) (?=\d)", _HARD, text)


def _soften(line: str) -> str:
    return line.replace(_HARD, " ")
