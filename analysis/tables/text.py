"""A table as text for a terminal, and how one that is too wide is broken."""

import itertools
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from analysis.tables.cells import Ditto, Table, TableCell, format_cell
from records.text import plain_table, render

WIDTH = 100  # columns of a terminal that the text fits
_HARD = "\N{NO-BREAK SPACE}"


def to_text(table: Table) -> str:
    """Returns the table aligned for a terminal of WIDTH columns.

    A table that is too wide is broken: first headers into lines, then cells of words. After that, a table with groups
    of columns is split into panels, each with the leading columns of words; in another one, cells of numbers are broken
    before an interval or a remark.
    """
    parts = ["\n".join(_panel(table, columns, widths)) for columns, widths in panels(table)]
    caption = [line.replace(_HARD, " ") for line in textwrap.wrap(_glue(" ".join(table.caption)), WIDTH)]
    return "\n".join([table.title, "\n\n".join(parts), *caption]) + "\n"


def dittos(table: Table, at: int, i: int) -> int:
    """Returns how many rows below row `at` repeat its cell in column `i`."""
    rest = (isinstance(row[i], Ditto) for row in table.rows[at + 1 :])
    return sum(1 for _ in itertools.takewhile(bool, rest))


def glued(table: Table, cell: TableCell, i: int) -> str:
    """Returns a cell of column i with spaces only where a line may end: in numbers before an interval or a remark."""
    text = format_cell(cell)
    if not table.columns[i].numeric:
        return _glue(text)
    hard = text.replace(" ", _HARD)
    return re.sub(rf"(,){_HARD}(?![^\[]*\])|(){_HARD}(?=[\[(])", r"\1 ", hard)


def panels(table: Table) -> list[tuple[list[int], list[int]]]:
    """Returns the columns of each panel with their greatest widths; one panel if breaking the text is enough."""
    everything = list(range(len(table.columns)))
    natural = _header_widths(table)
    widths, least = list(natural), [_least_width(table, i) for i in everything]
    words = [i for i in everything if not table.columns[i].numeric]
    while _total(widths) > WIDTH and (wide := [i for i in words if widths[i] > least[i]]):
        widths[max(wide, key=lambda i: widths[i])] -= 1
    if not any(column.group for column in table.columns):
        numbers = [i for i in everything if table.columns[i].numeric]
        for i in sorted(numbers, key=lambda i: sum(len(format_cell(row[i])) > least[i] for row in table.rows)):
            widths[i] = max(least[i], min(widths[i], widths[i] + WIDTH - _total(widths)))
    if _total(widths) <= WIDTH:
        return [(everything, widths)]
    leading = list(itertools.takewhile(lambda i: not table.columns[i].numeric, everything))
    grouped = itertools.groupby(everything[len(leading) :], lambda i: table.columns[i].group or f"column {i}")
    found = [list(leading)]
    for group in (list(columns) for _, columns in grouped):
        if found[-1] != leading and _total([natural[i] for i in found[-1] + group]) > WIDTH:
            found.append(list(leading))
        found[-1] += group
    return [(panel, [natural[i] for i in panel]) for panel in found]


def header_lines(table: Table, i: int, width: int) -> list[str]:
    """Returns the header of column i in lines of a width."""
    return _wrap(_glue(table.columns[i].header), width)


def cell_lines(table: Table, cell: TableCell, i: int, width: int) -> list[str]:
    """Returns a cell of column i in lines of a width."""
    return _wrap(glued(table, cell, i), width)


def _header_widths(table: Table) -> list[int]:
    """The widths of the columns unbroken, their headers in as few lines as make the table fit."""
    cells = [max((len(format_cell(row[i])) for row in table.rows), default=1) for i in range(len(table.columns))]
    headers = [_glue(column.header) for column in table.columns]

    def fits(header: str, width: int, height: int) -> bool:
        lines = _wrap(header, width)
        return len(lines) <= height and max(map(len, lines)) <= width

    widths = cells
    for height in range(1, 1 + max(len(header.split()) for header in headers)):
        widths = [
            next(w for w in itertools.count(max(width, 1)) if fits(header, w, height))
            for header, width in zip(headers, cells, strict=True)
        ]
        if _total(widths) <= WIDTH:
            break
    return widths


def _panel(table: Table, columns: Sequence[int], widths: Sequence[int]) -> list[str]:
    """The lines of some columns between rules."""
    places = list(zip(columns, widths, strict=True))
    headers = [header_lines(table, i, width) for i, width in places]
    panel = plain_table()
    for i, header in zip(columns, headers, strict=True):
        above = [""] * (max(map(len, headers)) - len(header))
        justify: Any = "right" if table.columns[i].numeric else "left"
        panel.add_column("\n".join(above + header), justify=justify, no_wrap=True)
    lines = [[cell_lines(table, row[i], i, width) for i, width in places] for row in table.rows]
    broken = any(
        len(cell) > 1 for row in lines for cell, i in zip(row, columns, strict=True) if not table.columns[i].numeric
    )
    at = 0
    while at < len(table.rows):  # rows that repeat a label are one row here, so that the label runs on beside them
        end = at + 1 + dittos(table, at, columns[0])
        repeated = [dittos(table, at, i) > 0 for i in columns]
        heights = [max((len(row[k]) for k, r in enumerate(repeated) if not r), default=1) for row in lines[at:end]]
        stacked = [
            lines[at][k]
            if r
            else [line for row, h in zip(lines[at:end], heights, strict=True) for line in _padded(row[k], h)]
            for k, r in enumerate(repeated)
        ]
        panel.add_row(*map("\n".join, stacked), end_section=broken)
        at = end
    text = render(panel).splitlines()
    rule = "─" * max(map(len, text))
    return [rule, *text, rule]


def _padded(lines: list[str], height: int) -> list[str]:
    return lines + [""] * (height - len(lines))


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _least_width(table: Table, i: int) -> int:
    """The width below which a column must not shrink: its longest word, or twelve letters if it holds words."""
    texts = [glued(table, row[i], i) for row in table.rows]
    words = [word for text in [*texts, _glue(table.columns[i].header)] for word in text.split(" ")]
    return max([len(word) for word in words] + ([] if table.columns[i].numeric else [12]))


def _glue(text: str) -> str:
    """The text with signs kept beside their numbers at the ends of lines."""
    return re.sub(r" (?=%)|(?<=%) (?=interval)|(?<=[<>±]) |(?<=Table|igure) (?=\d)", _HARD, text)


def _wrap(text: str, width: int) -> list[str]:
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace(_HARD, " ") for line in lines] or [""]
