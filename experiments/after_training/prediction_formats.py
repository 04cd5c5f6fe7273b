"""Predictions as table, csv or json, line by line as they become available."""

import csv
import io
import itertools
import json
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass

from records.text import plain

Lines = Generator[str, None, None]


@dataclass(frozen=True)
class Prediction:
    image: str
    """printable path, "-" for an image from stdin"""
    classes: list[tuple[str, float]]
    """classes with their probabilities, sorted from the most probable"""


def as_table(predictions: Iterable[Prediction], widths: tuple[int, int], top: int) -> Lines:
    """One line per image. `widths`: lengths of the longest path and class; the rows are not all known in advance."""
    headers = ("image", "class", *(f"{i}." for i in range(2, top + 1)))
    columns = [max(widths[0], len("image")), *[widths[1] + len(" 100.0 %")] * top]

    def line(*cells: str) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, columns, strict=True)).rstrip()

    for i, one in enumerate(predictions):
        if i == 0:
            yield line(*headers)
            yield "─" * (sum(columns) + 2 * top)
        yield line(plain(one.image), *(f"{plain(name)} {100 * p:.1f} %" for name, p in one.classes))


def as_csv(predictions: Iterable[Prediction], *_: object) -> Lines:
    """One line per image and class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="")

    def line(*cells: str | int) -> str:
        text.seek(0)
        text.truncate()
        writer.writerow(cells)
        return text.getvalue()

    yield line("image", "rank", "class", "probability")
    for one in predictions:
        for rank, (name, p) in enumerate(one.classes, 1):
            yield line(one.image, rank, name, f"{p:.6f}")


def as_json(predictions: Iterable[Prediction], *_: object) -> Lines:
    """A list with one line per image. It is valid JSON even if a damaged image or Ctrl-C ends it early."""
    marks = itertools.chain(["["], itertools.repeat(","))
    try:
        for one in predictions:
            classes = [{"class": name, "probability": round(p, 6)} for name, p in one.classes]
            yield next(marks) + json.dumps({"image": one.image, "classes": classes})
    except (Exception, KeyboardInterrupt):
        yield _closing(next(marks))
        raise
    yield _closing(next(marks))


def _closing(mark: str) -> str:
    return "[]" if mark == "[" else "]"


Form = Callable[[Iterable[Prediction], tuple[int, int], int], Lines]
FORMATS: dict[str, Form] = {"table": as_table, "csv": as_csv, "json": as_json}
