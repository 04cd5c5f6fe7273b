"""A table as text, Markdown, LaTeX, CSV or HTML. A new format is one function and one line in FORMATS."""

import csv
import dataclasses
import html
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from analysis.tables import latex, text
from analysis.tables.cells import Column, Ditto, Table, TableCell, format_cell, raw_cell
from analysis.tables.text import dittos
from records.files import write_whole
from records.text import plain

LONG = 32  # a longer cell is a sentence, which may break into lines


def cleaned(table: Table) -> Table:
    """Returns the table with visible signs for characters that control a terminal or the direction of letters.

    Every format is written from the cleaned table, so none has to think of them; each escapes what is special in it.
    """
    rows = tuple(tuple(_cleaned(cell) for cell in row) for row in table.rows)
    columns = tuple(dataclasses.replace(c, header=plain(c.header), key=plain(c.key)) for c in table.columns)
    caption = tuple(map(plain, table.caption))
    return dataclasses.replace(table, title=plain(table.title), caption=caption, columns=columns, rows=rows)


def _cleaned(cell: TableCell) -> TableCell:
    texts = {f.name: getattr(cell, f.name) for f in dataclasses.fields(cell)}
    changed = {key: plain(text) for key, text in texts.items() if isinstance(text, str) and plain(text) != text}
    return dataclasses.replace(cell, **changed) if changed else cell  # type: ignore[arg-type]


def to_text(table: Table) -> str:
    """Returns the table for a terminal, see text.py."""
    return text.to_text(cleaned(table))


def to_markdown(table: Table) -> str:
    """Returns a pipe table with its title before and its caption after it."""
    table = cleaned(table)
    head = [_markdown(column.header) for column in table.columns]
    align = ["---:" if column.numeric else "---" for column in table.columns]
    rows = [[_markdown(format_cell(cell)) for cell in row] for row in table.rows]
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, align, *rows]]
    return f"**{_markdown(table.title)}**\n\n" + "\n".join(lines) + f"\n\n{_markdown(' '.join(table.caption))}\n"


def to_latex(table: Table) -> str:
    """Returns a table environment, or a longtable, see latex.py."""
    return latex.to_latex(cleaned(table))


def to_csv(table: Table) -> str:
    """Returns the table as CSV with raw numbers in the units of its headers; errors in %, the rest counts.

    If two columns have fields of one name, the column's key is put before it. A text that a spreadsheet would take for
    a formula has an apostrophe before it.
    """
    table = cleaned(table)
    raw = [[raw_cell(column, cell) for column, cell in zip(table.columns, row, strict=True)] for row in table.rows]
    names = [_fields(cells) for cells in zip(*raw, strict=True)] if raw else [[] for _ in table.columns]
    uses = Counter(name for of_column in names for name in of_column)

    def unique(column: Column, name: str) -> str:
        return str(_csv(f"{column.key}_{name}" if uses[name] > 1 and name != column.key else name))

    fields = [unique(column, name) for column, found in zip(table.columns, names, strict=True) for name in found]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=fields, lineterminator="\n")
    writer.writeheader()
    for row in raw:
        writer.writerow({
            unique(column, name): _csv(value)
            for column, numbers, fields_of_column in zip(table.columns, row, names, strict=True)
            for name, value in numbers.items()
            if name in fields_of_column
        })  # fmt: skip
    return out.getvalue()


def _fields(cells: Sequence[Mapping[str, object]]) -> list[str]:
    """Returns the names of a column's numbers: those of the first cell that has some.

    A cell that never will, such as that of a network which we lack, may be of another kind.
    """
    with_numbers = (list(cell) for cell in cells if any(value is not None for value in cell.values()))
    return next(with_numbers, next((list(cell) for cell in cells if cell), []))


def to_html(table: Table) -> str:
    """Returns one self-contained page."""
    table = cleaned(table)
    title = html.escape(table.title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{CSS}</style></head>\n<body><h1>{title}</h1>\n{html_fragment(table)}</body></html>\n"
    )


def html_fragment(table: Table) -> str:
    """Returns the table and its caption, for a page with the CSS and the title."""
    table = cleaned(table)
    kinds = ["number" if c.numeric else "words" if _is_long(table, i) else "" for i, c in enumerate(table.columns)]
    classes = [f' class="{kind}"' if kind else "" for kind in kinds]
    head = "".join(f"<th{c}>{html.escape(col.header)}</th>" for col, c in zip(table.columns, classes, strict=True))
    grouped = any(isinstance(row[0], Ditto) for row in table.rows if row)
    rows = []
    for at, row in enumerate(table.rows):
        cells = ""
        for i, (cell, kind) in enumerate(zip(row, classes, strict=True)):
            if isinstance(cell, Ditto):
                continue
            rows_below = dittos(table, at, i)
            span = f' rowspan="{1 + rows_below}"' if rows_below else ""
            cells += f"<td{kind}{span}>{html.escape(text.glued(table, cell, i))}</td>"
        group = ' class="group"' if grouped and not isinstance(row[0], Ditto) else ""
        rows.append(f"<tr{group}>{cells}</tr>")
    body = "\n".join(rows)
    return (
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n"
        f"<p>{html.escape(' '.join(table.caption))}</p>\n"
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
    """Writes the table into `folder` (created if missing) as <stem><suffix>, one file a format, and returns the paths.

    Each file is written completely or not at all. Raises KeyError for a name not in FORMATS, and WriteError.
    """
    paths = []
    for name in formats:
        suffix, render = FORMATS[name]
        path = Path(folder) / f"{file_stem(table.stem)}{suffix}"
        write_whole(path, render(table))
        paths.append(path)
    return paths


def file_stem(stem: str) -> str:
    """Returns the stem of a table as a file name: no folders, nothing hidden, at most 200 characters."""
    return re.sub(r"[^\w.-]|^[.-]", "_", stem)[:200] or "_"


def _csv(value: object) -> object:
    """Returns a value of a CSV file; a text that begins like a formula gets an apostrophe, as spreadsheets show it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


FORMULA = ("=", "+", "-", "@", "\t", "\r")

CSS = (
    "body{font-family:sans-serif;margin:1rem}table{border-collapse:collapse;border-block:2px solid}"
    "th,td{padding:.25rem .75rem;text-align:left;white-space:nowrap}"
    "thead th{border-bottom:1px solid;white-space:normal}td{vertical-align:top}"
    "td.words{white-space:normal;min-width:16rem}tr.group td{border-top:1px solid #ccc}"
    ".number{text-align:right;font-variant-numeric:tabular-nums}h1{font-size:1.1rem}p{font-size:.9rem;max-width:60rem}"
)


def _markdown(text: str) -> str:
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", " ".join(text.split()))


def _is_long(table: Table, i: int) -> bool:
    """Whether a column of words holds whole sentences."""
    return not table.columns[i].numeric and any(len(format_cell(row[i])) > LONG for row in table.rows)
