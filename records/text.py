"""Plain text for terminals: tables, and paths as a terminal can show them."""

import io
import os
import reprlib
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from records import sane

if TYPE_CHECKING:
    from rich.table import Table


def printable(path: str | Path) -> str:
    """Returns a path with \\x.. for bytes that are not text, and for characters that control a terminal."""
    return "".join(map(_escaped, os.fsencode(path).decode(errors="backslashreplace")))


def short(value: object) -> str:
    """Returns a value as a message shows it: of a long one, the parts that fit into a line."""
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of thousands of digits
        return "an integer that is too large"


def plain(text: str) -> str:
    """Returns a text of one line, with \\x.. for characters that control a terminal or the direction of its letters."""
    if sane.is_plain(text):
        return text
    return "".join(" " if character in "\t\n\r" else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in sane.HIDDEN:
        return character
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"


def columns(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> str:
    """Returns a table as lines: headers, a rule, rows. The columns numbered in `right` are right-aligned."""
    table = plain_table()
    for i, header in enumerate(headers):
        table.add_column(header, justify="right" if i in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(plain, row))
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
