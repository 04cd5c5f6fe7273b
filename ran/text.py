"""Plain text for terminals."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path


def printable(path: str | Path) -> str:
    """Returns a path with \\x.. for the bytes that are no text, which no terminal takes."""
    return os.fsencode(path).decode(errors="backslashreplace")


def columns(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> str:
    """Returns lines of aligned columns under their heads; those numbered in `right` to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    return "\n".join([*header(heads, widths, right), *(aligned(row, widths, right) for row in rows)])


def header(heads: Sequence[str], widths: Sequence[int], right: Collection[int] = ()) -> list[str]:
    """Returns the two lines above columns of known widths."""
    return [aligned(heads, widths, right), "  ".join("-" * width for width in widths)]


def aligned(cells: Sequence[str], widths: Sequence[int], right: Collection[int] = ()) -> str:
    """Returns a line of columns of known widths; those numbered in `right` to the right."""
    placed = (c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
    return "  ".join(placed).rstrip()
