"""Prints what it would take to decide each claim: seeds, and core hours from the costs of the runs that there are.

python -m analysis.plan
python -m analysis.plan arl_beats_nal --profile short --data cifar10
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.options import SelectionError, add_arguments, from_arguments, select
from analysis.read.mlflow_client import StoreError
from analysis.tables.network_table import CostsError
from records import names
from records.command import OneLineParser, entry

if TYPE_CHECKING:
    from analysis.claims.verdicts import JudgedClaim
    from analysis.tables.cell_results import CellRuns, RunResult
    from records.study_json import CellKey

HEADERS = ("claim", "profile, data", "verdict", "seeds", "to decide", "core hours")
NOTE = (
    "Seeds: of the plan, those that every contrast has. To decide: seeds in all; of an undecided claim, those that "
    "show each contrast at the paper's effect (where it has none, at the margin) with 80 % power, the spread over "
    "seeds and test images as measured. never: the test images alone forbid it. Core hours: of the runs still to "
    "train, from the runs of the same cell, else of the claim's other cells."
)


@dataclass(frozen=True)
class _Effort:
    """Seeds in all that decide a claim, in print, and the core hours of what is not trained yet; None: unknown."""

    seeds: str
    hours: float | None


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 with one line on stderr for refused input."""
    options = _parse(argv)
    try:
        from analysis.claims.paper import CLAIMS

        if options.claim is not None and options.claim not in {claim.id for claim in CLAIMS}:
            raise SelectionError(f"no claim {options.claim!r}. There is: {', '.join(claim.id for claim in CLAIMS)}.")
        print(_planned(options))
    except (StoreError, SelectionError, CostsError) as error:
        print(f"plan: {error}", file=sys.stderr)
        return 2
    return 0


def _planned(options: argparse.Namespace) -> str:
    import textwrap

    from analysis.claims.table import runs_text
    from analysis.claims.verdicts import judge_all
    from analysis.tables.cell_results import index_runs
    from records.text import columns

    results = from_arguments(options)
    studies = select(results.studies, profile=options.profile, data=options.data, overrides=options.overrides)
    runs = index_runs(results.runs, results.kept)
    rows = []
    for one in judge_all(results, studies, runs=runs):
        if options.claim not in (None, one.claim.id):
            continue
        effort = _effort(one, runs)
        hours = "" if effort.hours is None else f"{effort.hours:.1f}"
        seeds = f"{one.n} of {one.planned}" if one.planned else "no plan" if one.study is not None else ""
        rows.append((one.claim.id, runs_text(one), one.verdict, seeds, effort.seeds, hours))
    return "\n".join([columns(HEADERS, rows, right=(3, 4, 5)), "", *textwrap.wrap(NOTE, 100)])


def _effort(one: "JudgedClaim", runs: "Mapping[str, RunResult]") -> _Effort:
    from analysis.claims.verdicts import INTERIM, NEVER, NOT_RUN
    from analysis.stats import FAR, UNDECIDED
    from analysis.tables.cell_results import collect

    if one.study is None:
        return _Effort(_launch(one) if one.verdict == NOT_RUN else "", None)
    cells = collect(one.study, runs)
    used = {key: cells[key] for found in one.findings for key in found.cells}
    if one.verdict == INTERIM and one.planned:
        return _Effort(str(one.planned), _hours(used, one.planned))
    if one.verdict != UNDECIDED or one.needed is None:
        return _Effort("", None)
    if one.needed == NEVER or not isinstance(one.needed, int):
        return _Effort(NEVER, None)
    return _Effort(f"over {FAR}", None) if one.needed > FAR else _Effort(str(one.needed), _hours(used, one.needed))


def _launch(one: "JudgedClaim") -> str:
    return f"--study {next(iter(one.claim.hypotheses))}"


def _hours(cells: "Mapping[CellKey, CellRuns]", seeds: int) -> float | None:
    """Core hours of the runs that each cell still lacks."""
    costs = {key: _cost(list(cell_runs.by_seed.values())) for key, cell_runs in cells.items()}
    known = [cost for cost in costs.values() if cost is not None]
    if not known:
        return None
    usual = sum(known) / len(known)
    return sum(
        max(0, seeds - len(cell_runs.values())) * (usual if (cost := costs[key]) is None else cost)
        for key, cell_runs in cells.items()
    )


def _cost(runs: "Sequence[RunResult]") -> float | None:
    """Mean processor hours of finished runs; of runs that did not log them the wall time, which is of one thread."""
    found = [
        run.metrics.get(names.COST_CPU_HOURS, run.hours)
        for run in runs
        if run.outcome == names.FINISHED and run.metrics.get(names.COST_CPU_HOURS, run.hours) > 0
    ]
    return sum(found) / len(found) if found else None


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser("plan", description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("claim", nargs="?", metavar="CLAIM", help="only this claim, by its id (default: all)")
    add_arguments(parser, out=False)
    return parser.parse_args(argv)


if __name__ == "__main__":
    entry("plan", main)
