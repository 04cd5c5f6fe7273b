"""A table as text, Markdown, LaTeX, CSV or HTML. A new format is one function and one line in FORMATS."""

import csv
import html
import io
import os
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from analysis.cells import MINUS, MISSING, Table, format_cell, raw_cell

WIDTH = 100  # columns of a terminal that the text format fits


def to_text(table: Table) -> str:
    """Returns the table aligned for a terminal; headers break into lines where WIDTH would not hold them."""
    body = [[format_cell(cell) for cell in row] for row in table.rows]
    headers = [[column.header] for column in table.columns]
    widths = _widths(headers, body)
    if sum(widths) + 2 * (len(widths) - 1) > WIDTH:
        narrow = _widths([[]] * len(widths), body)
        headers = [
            textwrap.wrap(column.header, max(width, 10), break_long_words=False)
            for column, width in zip(table.columns, narrow, strict=True)
        ]
        widths = _widths(headers, body)
    height = max(map(len, headers), default=0)
    lines = [[([""] * (height - len(header)) + header)[i] for header in headers] for i in range(height)]

    def aligned(cells: list[str]) -> str:
        placed = [
            cell.rjust(width) if column.numeric else cell.ljust(width)
            for cell, width, column in zip(cells, widths, table.columns, strict=True)
        ]
        return "  ".join(placed).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    caption = textwrap.wrap(" ".join(table.caption), WIDTH)
    return "\n".join([table.title, rule, *map(aligned, lines), rule, *map(aligned, body), rule, *caption]) + "\n"


def to_markdown(table: Table) -> str:
    """Returns a pipe table with its title before and its caption after it."""
    head = [_markdown(column.header) for column in table.columns]
    align = ["---:" if column.numeric else "---" for column in table.columns]
    rows = [[_markdown(format_cell(cell)) for cell in row] for row in table.rows]
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, align, *rows]]
    return f"**{_markdown(table.title)}**\n\n" + "\n".join(lines) + f"\n\n{_markdown(' '.join(table.caption))}\n"


def to_latex(table: Table) -> str:
    """Returns a table environment for the booktabs package."""
    align = "".join("r" if column.numeric else "l" for column in table.columns)
    head = " & ".join(_latex(column.header) for column in table.columns)
    rows = [" & ".join(_latex(format_cell(cell)) for cell in row) + r" \\" for row in table.rows]
    return "\n".join([
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.title)}. {_latex(' '.join(table.caption))}}}",
        rf"\label{{tab:{re.sub(r'[^A-Za-z0-9-]', '-', table.stem)}}}",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        rf"{head} \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ])  # fmt: skip


def to_csv(table: Table) -> str:
    """Returns a row per row of the table with raw numbers, in the units of its headers; errors in %, the rest counts.

    A name that two columns would share is preceded by the column's key.
    """
    records = []
    for row in table.rows:
        raw = [(column.key, raw_cell(column, cell)) for column, cell in zip(table.columns, row, strict=True)]
        uses = Counter(name for _, numbers in raw for name in numbers)
        records.append(
            {
                f"{key}_{name}" if uses[name] > 1 else name: value
                for key, numbers in raw
                for name, value in numbers.items()
            }
        )
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def to_html(table: Table) -> str:
    """Returns one self-contained page."""
    classes = [' class="number"' if column.numeric else "" for column in table.columns]
    head = "".join(f"<th{c}>{html.escape(col.header)}</th>" for col, c in zip(table.columns, classes, strict=True))
    rows = [
        "<tr>"
        + "".join(f"<td{c}>{html.escape(format_cell(x))}</td>" for x, c in zip(row, classes, strict=True))
        + "</tr>"
        for row in table.rows
    ]
    title, body = html.escape(table.title), "\n".join(rows)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{_CSS}</style></head>\n"
        f"<body><h1>{title}</h1>\n<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n"
        f"<p>{html.escape(' '.join(table.caption))}</p></body></html>\n"
    )


# Suffix of the file, and the function that returns its text.
FORMATS: dict[str, tuple[str, Callable[[Table], str]]] = {
    "text": (".txt", to_text),
    "md": (".md", to_markdown),
    "tex": (".tex", to_latex),
    "csv": (".csv", to_csv),
    "html": (".html", to_html),
}


def write(table: Table, folder: str | os.PathLike[str], formats: Iterable[str] = FORMATS) -> list[Path]:
    """Writes the table into `folder` (made if need be) as <stem><suffix>, one file a format, and returns the paths.

    Each file appears whole or not at all. Raises KeyError for a name not in FORMATS, OSError where it cannot write.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = []
    for name in formats:
        suffix, render = FORMATS[name]
        path = Path(folder) / f"{table.stem}{suffix}"
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(render(table), encoding="utf-8", newline="")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        paths.append(path)
    return paths


_CSS = (
    "body{font-family:sans-serif;margin:1rem;max-width:60rem}table{border-collapse:collapse;border-block:2px solid}"
    "th,td{padding:.25rem .75rem;text-align:left;white-space:nowrap}"
    "thead th{border-bottom:1px solid;white-space:normal}"
    ".number{text-align:right;font-variant-numeric:tabular-nums}h1{font-size:1.1rem}p{font-size:.9rem}"
)

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "±": r"$\pm$", MINUS: "$-$", MISSING: "--", '"': r"\textquotedbl{}",
    "[": "{[}",  # after \\ a bracket would be read as an optional length
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def _markdown(text: str) -> str:
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", " ".join(text.split()))


def _widths(headers: list[list[str]], body: list[list[str]]) -> list[int]:
    return [max([len(x) for x in [*lines, *(row[i] for row in body)]], default=0) for i, lines in enumerate(headers)]
