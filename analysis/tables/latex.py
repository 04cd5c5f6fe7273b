"""A table for LaTeX, broken into lines and panels as its text is, and never wider than the page.

It needs the packages array, booktabs and graphicx, and for more than LONGEST rows longtable.
"""

import re
from collections.abc import Iterator, Sequence

from analysis.tables import text
from analysis.tables.cells import MINUS, MISSING, Ditto, Table, format_cell

LONGEST = 40  # rows that surely fit on a page
_SHRUNK = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_EM = 0.5  # width of a character
_POINTS, _GAP = 4.2, 2  # points of a character in \scriptsize, and beside each column of a long table
_MOST = 220  # points of a line of 345 that numbers may take, so that words have room


def to_latex(table: Table) -> str:
    """Returns a table environment, or a longtable that breaks over pages."""
    long = len(table.rows) > LONGEST
    return "\n".join([*(_long(table) if long else _float(table)), ""])


def _float(table: Table) -> Iterator[str]:
    yield from (r"\begin{table}", r"\centering", r"\footnotesize", r"\setlength{\tabcolsep}{4pt}")
    yield from _named(table)
    for number, (columns, widths) in enumerate(text.panels(table)):
        places = list(zip(columns, widths, strict=True))
        align = "".join(_column(table, i, width, f"{_EM * width:g}em") for i, width in places)
        yield from ([r"\par\medskip"] if number else [])
        yield from (_SHRUNK, rf"\begin{{tabular}}{{{align}}}", r"\toprule")
        yield from (_head(table, places), r"\midrule", *_rows(table, places), r"\bottomrule")
        yield from (r"\end{tabular}%", "}")
    yield r"\end{table}"


def _long(table: Table) -> Iterator[str]:
    yield from ("{", r"\scriptsize", rf"\setlength{{\tabcolsep}}{{{_GAP}pt}}", r"\setlength{\LTcapwidth}{\linewidth}")
    for number, (columns, widths) in enumerate(text.panels(table)):
        places = list(zip(columns, widths, strict=True))
        words = {i: width for i, width in places if not table.columns[i].numeric}
        numbers = sum(width for i, width in places if i not in words)
        taken = round(_POINTS * numbers + 2 * _GAP * len(places))
        # Words share what numbers leave of the line; beside many numbers they keep a width of their own.
        shares = {
            i: rf"\dimexpr(\linewidth-{taken}pt)*{width}/{sum(words.values())}\relax"
            if taken < _MOST
            else f"{_POINTS * min(width, 12):g}pt"
            for i, width in words.items()
        }
        align = "".join(_column(table, i, 0, shares.get(i, "")) for i, _ in places)
        head = _head(table, places)
        yield rf"\begin{{longtable}}{{{align}}}"
        yield from (["".join(_named(table)) + r"\\"] if number == 0 else [])
        yield from (r"\toprule", head, r"\midrule", r"\endfirsthead")
        yield from (r"\toprule", head, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot")
        yield from _rows(table, places)
        yield r"\end{longtable}"
    yield "}"


def _named(table: Table) -> tuple[str, str]:
    label = re.sub(r"[^A-Za-z0-9-]", "-", table.stem)
    return rf"\caption{{{escaped(table.title)}. {escaped(' '.join(table.caption))}}}", rf"\label{{tab:{label}}}"


def _column(table: Table, i: int, width: int, paragraph: str) -> str:
    """The alignment: numbers right, words left, or in paragraphs of this width if they are longer than `width`."""
    if table.columns[i].numeric:
        return "r"
    ragged = r">{\raggedright\arraybackslash}"
    return f"{ragged}p{{{paragraph}}}" if any(len(format_cell(row[i])) > width for row in table.rows) else "l"


def _head(table: Table, places: Sequence[tuple[int, int]]) -> str:
    return _row(_stacked(table, i, text.header_lines(table, i, width), "b") for i, width in places)


def _rows(table: Table, places: Sequence[tuple[int, int]]) -> Iterator[str]:
    first = places[0][0]
    grouped = any(isinstance(row[first], Ditto) for row in table.rows)
    for at, row in enumerate(table.rows):
        if at and grouped and not isinstance(row[first], Ditto):
            yield r"\addlinespace"
        yield _row(
            _stacked(table, i, text.cell_lines(table, row[i], i, width), "t")
            if table.columns[i].numeric
            else escaped(format_cell(row[i]))
            for i, width in places
        )


def _row(cells: Iterator[str]) -> str:
    return " & ".join(cells) + r" \\"


def _stacked(table: Table, i: int, lines: Sequence[str], aligned: str) -> str:
    """Lines of a cell of column i, beside the others by their first ("t") or last line ("b")."""
    side = "r" if table.columns[i].numeric else "l"
    joined = r" \\ ".join(map(escaped, lines))
    return rf"\begin{{tabular}}[{aligned}]{{@{{}}{side}@{{}}}}{joined}\end{{tabular}}" if len(lines) > 1 else joined


_SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "±": r"$\pm$", MINUS: "$-$", MISSING: "--", '"': r"\textquotedbl{}",
    "[": "{[}",  # after \\ a bracket would start an optional length
}  # fmt: skip


def escaped(words: str) -> str:
    """Returns a text of one line for LaTeX."""
    return "".join(_SIGNS.get(character, character) for character in " ".join(words.split()))
