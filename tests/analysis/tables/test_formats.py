"""The five formats: what they hold, and that nothing in a label can break them."""

# ruff: noqa: RUF001 - tables print a true minus sign and en dash

import csv
import dataclasses
import io
import math
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from results_lab import interval

from analysis.stats import MeanStd
from analysis.tables.cells import (
    Blank,
    Column,
    Count,
    Difference,
    Ditto,
    Label,
    Measure,
    Published,
    Table,
    format_cell,
    ratio_text,
)
from analysis.tables.formats import FORMATS, html_fragment, to_csv, to_html, to_latex, to_markdown, to_text, write
from records.files import WriteError

NASTY = 'a|b & <i>50 %</i> $x_1$ \\ {~^} # [ "'


def table(label: str = "ARL") -> Table:
    columns = [Column("learning", label, False), Column("n", "n", True), Column("error", "test error (%)", True)]
    columns += [Column("published", "published", True), Column("difference", "NAL − ARL", True)]
    return Table(
        "t",
        label,
        (f"About {label}.",),
        tuple(columns),
        (
            (Label(label, label), Count(2, 3), Measure(MeanStd(5.123, 0.25, 2), 1, 3), Published(5.52), Blank()),
            (
                Label("NAL", "nal"),
                Count(3, 3),
                Measure(MeanStd(6.0, 0.1, 3), 0, 3),
                Published(None),
                Difference(interval(-0.5, -1.0, 0.0, 2), 3),
            ),
        ),
    )


def test_markdown_rows_have_as_many_cells_as_columns() -> None:
    for label in ("ARL", NASTY):
        lines = [line for line in to_markdown(table(label)).splitlines() if line.startswith("|")]
        assert {line.replace(r"\|", "").count("|") for line in lines} == {6}
    assert "| NAL | 3 | 6.00 ± 0.10 | – | −0.50 \\[−1.00, +0.00\\] (n = 2) |" in to_markdown(table())
    assert "<i>" not in to_markdown(table(NASTY)).replace(r"\<i", "")


def test_latex_is_booktabs_and_escaped() -> None:
    text = to_latex(table())
    assert r"NAL & 3 & 6.00 $\pm$ 0.10 & -- & $-$0.50 {[}$-$1.00, +0.00] (n = 2) \\" in text
    assert r"test error (\%)" in text
    for word in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lrrrr}"):
        assert text.count(word) == 1
    nasty = to_latex(table(NASTY))
    escaped = r"a\textbar{}b \& \textless{}i\textgreater{}50 \%\textless{}/i\textgreater{} \$x\_1\$ \textbackslash{} "
    assert nasty.count(escaped + r"\{\textasciitilde{}\textasciicircum{}\} \# {[} \textquotedbl{}") == 3
    assert nasty.isascii()


def test_csv_holds_raw_numbers() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(table(NASTY)))))
    assert rows[0] == {
        "learning": NASTY, "n": "2", "planned": "3", "mean": "5.123", "std": "0.25", "diverged": "1",
        "failed": "0", "unfinished": "0", "published": "5.52", "diff": "", "lo": "", "hi": "", "over": "",
        "pairs": "",
    }  # fmt: skip
    assert rows[1]["learning"] == "nal"
    assert [rows[1][key] for key in ("published", "diff", "lo", "hi", "pairs")] == ["", "-0.5", "-1.0", "0.0", "2"]
    assert rows[1]["over"] == "seeds"


def test_csv_keeps_names_apart_whatever_the_first_row_holds() -> None:
    columns = (Column("claim", "claim", False), *(Column(key, key, True) for key in ("a", "b")))
    first = (Label("Sentence.", "id"), Blank(), Difference(interval(1.0, None, None, 1), 1))
    second = (Ditto("id"), Difference(interval(2.0, 1.0, 3.0, 2), 2), Blank())
    rows = list(csv.DictReader(io.StringIO(to_csv(Table("t", "t", (), columns, (first, second))))))
    assert [row["claim"] for row in rows] == ["id", "id"]
    assert [(row["a_diff"], row["b_diff"]) for row in rows] == [("", "1.0"), ("2.0", "")]
    assert [(row["a_over"], row["b_over"]) for row in rows] == [("", ""), ("seeds", "")]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name in ("src", "href") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data.replace("\N{NO-BREAK SPACE}", " ")


def test_html_is_one_page_with_every_cell_escaped() -> None:
    page = _Page()
    page.feed(to_html(table(NASTY)))
    assert page.tags.count("td") == 10
    assert "i" not in page.tags
    assert page.text.count(NASTY) == 5  # title twice, header, cell, caption
    assert "6.00 ± 0.10" in page.text


def test_text_is_aligned_and_breaks_long_headers() -> None:
    lines = to_text(table()).splitlines()
    assert lines[5].endswith("−0.50 [−1.00, +0.00] (n = 2)")
    wide = table()
    columns = tuple(Column(c.key, c.header + " with many more words", c.numeric) for c in wide.columns)
    text = to_text(Table(wide.stem, wide.title, ("word " * 60,), columns, wide.rows))
    assert max(map(len, text.splitlines())) <= 100
    assert "with many" in text


def wide_table(*, group: str, words: int) -> Table:
    columns = [Column("label", "label", False), Column("error", "test error (%)", True)]
    columns += [Column(f"d{i}", f"difference {i}", True, group=group and f"{group}{i // 2}") for i in range(4)]
    difference = Difference(interval(-12.34, -23.45, -1.23, 2), 3)
    rows = [
        (Label(f"{'word ' * words}end", 1), Measure(MeanStd(11.0, 0.5, 2), 1, 3, failed=1), *[difference] * 4),
        (Ditto(1), Measure(MeanStd(9.0, 0.5, 2), 0, 3), *[Blank()] * 4),
        (Label("short", 2), Measure(None, 0, 3), *[Difference(None, 0)] * 4),
    ]
    return Table("t", "title", ("5 % " * 30 + "end.",), tuple(columns), tuple(rows))


def test_text_breaks_words_before_numbers_and_lets_a_repeated_label_run_on() -> None:
    columns = (Column("claim", "claim", False), Column("d", "difference", True))
    rows = [
        (Label("Seven words that a terminal cannot hold at all " * 2, 1), Difference(interval(-1.0, -2.0, -0.5, 3), 3)),
        (Ditto(1), Difference(interval(-2.0, -3.0, -0.5, 3), 3)),
        (Label("short", 2), Blank()),
    ]
    text = to_text(Table("t", "title", (), columns, tuple(rows)))
    assert text.splitlines()[4:9] == [
        "Seven words that a terminal cannot hold at all Seven words that a terminal  −1.00 [−2.00, −0.50]",
        "cannot hold at all                                                          −2.00 [−3.00, −0.50]",
        "",
        "short",
        "─" * 96,
    ]


def test_text_breaks_numbers_before_an_interval_or_a_remark_only() -> None:
    text = to_text(wide_table(group="", words=0))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert "−23.45, −1.23]" in text
    assert "11.00 ± 0.50," in text
    assert "div. 1/3," in text
    assert text.count("─\n") == 3
    assert not any(line.startswith("%") for line in lines)  # the sign stays with its number


def test_text_puts_groups_below_each_other_and_repeats_the_words() -> None:
    text = to_text(wide_table(group="g", words=0))
    assert max(map(len, text.splitlines())) <= 100
    panels = text.split("─\n\n─")
    assert [[f"difference {i}" in panel for i in range(4)] for panel in panels] == [
        [False] * 4, [True, True, False, False], [False, False, True, True],
    ]  # fmt: skip
    assert "11.00 ± 0.50, div. 1/3, failed 1/3" in panels[0]
    assert all(panel.count("short") == 1 for panel in panels)


def test_html_spans_a_repeated_label() -> None:
    fragment = html_fragment(wide_table(group="", words=20))
    assert fragment.count('<td class="words" rowspan="2">word') == 1
    assert fragment.count("<td") == 3 * 6 - 1
    assert "<html" not in fragment
    assert fragment in to_html(wide_table(group="", words=20))


def test_html_breaks_numbers_before_an_interval_or_a_remark_only() -> None:
    assert "−0.50 [−1.00,\N{NO-BREAK SPACE}+0.00] (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}2)" in html_fragment(table())


def test_a_ratio_is_not_printed_as_nothing() -> None:
    low, mean, high = (math.log(value) for value in (0.00002, 0.0004, 0.339))
    found = Difference(interval(mean, low, high, 3), 3, digits=3, ratio=True)
    assert format_cell(found) == "<0.001 [<0.001, 0.339]"
    assert ratio_text(0.0006, 3) == "0.001"
    assert ratio_text(0.0, 2) == "<0.01"


def test_latex_breaks_sentences_headers_and_numbers() -> None:
    text = to_latex(wide_table(group="", words=20))
    assert re.search(r"\\begin\{tabular\}\{>\{\\raggedright\\arraybackslash\}p\{[\d.]+em\}rrrrr\}", text)
    assert r"\begin{tabular}[t]{@{}r@{}}" in text
    assert r"\begin{tabular}[b]{@{}r@{}}" in text
    assert to_latex(wide_table(group="g", words=0)).count(r"\toprule") == 3, "panels, as in the text"


PREAMBLE = (
    r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{array,booktabs,graphicx,longtable}\begin{document}"
)


def long_table(made: Table, columns: int) -> Table:
    """The table forty times below itself, with its first columns."""
    rows = tuple(row[:columns] for row in made.rows * 40)
    return dataclasses.replace(made, columns=made.columns[:columns], rows=rows)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
@pytest.mark.parametrize("name", ["sentences", "panels", "nasty", "long", "long and wide"])
def test_latex_can_be_set_on_a_page_of_an_article(name: str, tmp_path: Path) -> None:
    made = {
        "sentences": wide_table(group="", words=20), "panels": wide_table(group="g", words=0), "nasty": table(NASTY),
        "long": long_table(wide_table(group="", words=20), 3),
        "long and wide": long_table(wide_table(group="g", words=20), 6),
    }[name]  # fmt: skip
    (tmp_path / "one.tex").write_text(f"{PREAMBLE}{to_latex(made)}\\end{{document}}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "one.tex"]
    log = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=60)
    assert log.returncode == 0, log.stdout
    wide = [float(points) for points in re.findall(r"Overfull .hbox \((.*?)pt", log.stdout)]
    assert max(wide, default=0) < (100 if name == "long and wide" else 10)
    assert "too large" not in log.stdout


def test_a_table_without_rows_renders() -> None:
    empty = Table("t", "title", (), table().columns, ())
    assert all(isinstance(render(empty), str) for _, render in FORMATS.values())


def test_write_replaces_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "deep" / "results"
    paths = write(table(), folder, ["md", "csv"])
    assert paths == [folder / "t.md", folder / "t.csv"]
    before = paths[0].read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(WriteError, match="No space left"):
        write(table("other"), folder, ["md"])
    assert paths[0].read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["t.csv", "t.md"]
