"""Values that somebody could put into a store or an archive, and what nothing may make of them."""

import csv
import io
import json
import re
import sys
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

TEXTS = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)",
    "</title><svg onload=a()>", "javascript:alert(1)",
    "\\input{/etc/passwd}", "\\write18{rm -rf x}", "}\\end{table}\\immediate", "$\\catcode`$",
    "=cmd|' /C calc'!A0", "+1+1", "@SUM(A1)", "-2+3", "\tx",
    "\x1b[2J\x1b]0;title\x07", "a\nb\rc", "\u202eevil\u2066", "\0", "\ud800",
    "x/../../outside", "/etc/passwd", "../" * 30 + "outside", "..", "", "a" * 20_000, "9" * 5_000, "%s{}",
)  # fmt: skip
NUMBERS = (10**18, -1, 0, 1e308, -1e308, 10**400, 10**5_000, float("nan"), float("inf"), 1e-320, 2**63, 0.5, True, None)
SHAPES: tuple[Any, ...] = ([], {}, [[]], {"a": {}}, [1, "2", None], {"": 1}, [[1, 2, 3]], "x", 5)
EVERY = (*TEXTS, *NUMBERS, *SHAPES)

TAGS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td",
    "section", "div", "nav", "header", "main", "h3", "figure", "figcaption", "strong",
    "ul", "li", "a", "details", "summary", "code", "img",
}  # fmt: skip
ATTRIBUTES = {
    "lang",
    "charset",
    "name",
    "content",
    "class",
    "rowspan",
    "colspan",
    "id",
    "href",
    "title",
    "alt",
    "src",
    "loading",
    "open",
}


def leaves(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in JSON content, of objects and lists too; of long lists, of the first two entries."""
    yield path
    if isinstance(content, dict):
        for key, value in content.items():
            yield from leaves(value, (*path, key))
    elif isinstance(content, list):
        for i, value in enumerate(content[:2]):
            yield from leaves(value, (*path, i))


def replaced(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The content with another value at a path."""
    if not path:
        return value
    changed = content.copy()
    changed[path[0]] = replaced(content[path[0]], path[1:], value)
    return changed


def dumped(content: Any) -> str:
    """JSON, also of integers of more digits than Python writes by default."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(content)
    finally:
        sys.set_int_max_str_digits(limit)


class Page(HTMLParser):
    """Collects what is active in a page."""

    def __init__(self, text: str):
        super().__init__()
        self.active: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.active.append(f"<{tag}>")
        for name, value in attrs:
            place = {"href": "#", "src": "data:image/png;base64,"}.get(name, "")
            if name not in ATTRIBUTES or not (value or "").startswith(place):
                self.active.append(f"{tag} {name}={value}")


def active_html(text: str) -> list[str]:
    return Page(text).active


# What the format writes around the texts, whole: none of these commands counts as ours with other arguments.
TEX_LAYOUT = re.compile(
    r"""\\setlength\{\\tabcolsep\}\{\d+pt\}|\\setlength\{\\LTcapwidth\}\{\\linewidth\}
    |\\resizebox\{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi\}\{!\}\{%
    |>\{\\raggedright\\arraybackslash\}p\{(?:[\d.]+(?:em|pt)|\\dimexpr\(\\linewidth-\d+pt\)\*\d+/\d+\\relax)\}
    |^(?:\\scriptsize|\\endfirsthead|\\endhead|\\endfoot|\\addlinespace|\\par\\medskip)$""",
    re.VERBOSE | re.MULTILINE,
)


def active_tex(text: str) -> list[str]:
    """Commands of a table that are none of ours."""
    ours = {
        "begin", "end", "centering", "footnotesize", "caption", "label", "toprule", "midrule", "bottomrule", "pm",
        "textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar", "textquotedbl",
    }  # fmt: skip
    return [command for command in re.findall(r"\\([A-Za-z]+)", TEX_LAYOUT.sub("", text)) if command not in ours]


def active_csv(text: str) -> list[str]:
    """Cells that a spreadsheet takes for formulas."""
    return [
        cell
        for row in csv.reader(io.StringIO(text))
        for cell in row
        if cell.startswith(("=", "+", "-", "@", "\t", "\r"))
        and not re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?|-?inf|-?nan", cell)
    ]


def controls(text: str) -> list[str]:
    """Characters that a terminal or a browser does not show as they are."""
    return sorted(
        {hex(ord(c)) for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    )


CHECKS = {".html": active_html, ".tex": active_tex, ".csv": active_csv}


def wrong_in(path: Path) -> list[str]:
    """What is active in a written file."""
    text = path.read_text() if path.suffix in (".txt", ".md", ".tex", ".csv", ".html") else ""
    return controls(text) + CHECKS.get(path.suffix, lambda _: [])(text)
