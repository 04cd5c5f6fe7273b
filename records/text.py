"""Plain text for terminals: tables, and paths as a terminal can show them."""

import io
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def printable(path: str | Path) -> str:
    """Returns a path with \\x.. for the bytes that are not text, which no terminal can show."""
    return os.fsencode(path).decode(errors="backslashreplace")


def on_one_line(text: str) -> str:
    """Returns a text with \\n and the like for the characters that would break a line of a table."""
    return "".join(c if c == " " or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def columns(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> str:
    """Returns a table as lines: headers, a rule, rows. The columns numbered in `right` are right-aligned."""
    table = plain_table()
    for i, header in enumerate(headers):
        table.add_column(header, justify="right" if i in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(on_one_line, row))
    return render(table)


def plain_table() -> "Table":
    """Returns an empty rich table: columns two spaces apart, a rule below the header, an empty line after a section."""
    from rich.box import Box
    from rich.table import Table

    rule_below_header = Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
    return Table(box=rule_below_header, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="")


def render(table: object) -> str:
    """Returns a rich renderable as plain lines of any length, without colours and without spaces at their ends."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=10_000, color_system=None, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
