"""What the paper reports (arXiv:1704.06904v1), read from published.csv."""

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from records.study_json import Value

PUBLISHED_CSV = Path(__file__).with_name("published.csv")

# The data set and the quantity that each of the paper's tables of errors reports.
_REPORTED = {
    "1": ("CIFAR-10", "test_err"),
    "3": ("CIFAR-10", "test_err"),
    "4": ("CIFAR-10", "test_err"),
    "5": ("CIFAR-10", "test_err"),
    "6": ("CIFAR-10", "cifar10_err"),
    "7": ("ImageNet", "top1_err"),
}


def reported(table: str, dataset: str) -> tuple[str, str] | None:
    """Returns (the paper's data set, quantity) to print beside runs on `dataset`; None for a table without errors."""
    if table == "6" and dataset == "cifar100":
        return ("CIFAR-100", "cifar100_err")
    return _REPORTED.get(table)


def published_value(table: str, cell: Mapping[str, Value], quantity: str) -> float | None:
    """Returns the paper's number in the unit of published.csv (% for errors), None if it has none."""
    return _values().get((table, cell_key(cell), quantity))


def published_networks(table: str) -> list[str]:
    """Returns the networks of one of the paper's tables, in its order."""
    found = (cell for number, cell, _ in _values() if number == table)
    named = (value for cell in found for name, _, value in (x.partition("=") for x in cell) if name == "network")
    return list(dict.fromkeys(named))


def published_text(cell: Mapping[str, Value], quantity: str) -> str | None:
    """Returns a value of the paper's text, with its place and the value in the tables; None if there is none."""
    row = _rows().get(("text", cell_key(cell), quantity))
    return None if row is None else f"{row['value']} {row['unit']} {row['note']}"


def cell_key(cell: Mapping[str, Value]) -> frozenset[str]:
    """The key of a cell whatever the order of its axes, e.g. {"depth=56", "learning=arl"}."""
    return frozenset(f"{name}={_spell(value)}" for name, value in cell.items())


def _spell(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@cache
def _values() -> dict[tuple[str, frozenset[str], str], float]:
    return {key: float(row["value"]) for key, row in _rows().items()}


@cache
def _rows() -> dict[tuple[str, frozenset[str], str], dict[str, str]]:
    with PUBLISHED_CSV.open(newline="", encoding="utf-8") as file:
        return {(r["table"], frozenset(r["cell"].split(",")), r["quantity"]): r for r in csv.DictReader(file)}
