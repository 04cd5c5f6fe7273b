"""Prints what it would take to decide each claim: seeds, and core hours from the costs of the runs that there are.

python -m analysis.plan
python -m analysis.plan arl_beats_nal --profile short --data cifar10
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analysis.options import SelectionError, add_arguments, from_arguments, select
from analysis.read.mlflow_client import StoreError
from analysis.read.runs import RESULTS
from analysis.tables.network_table import Costs, CostsError, read_costs
from records import names
from records.command import OneLineParser, entry

if TYPE_CHECKING:
    from analysis.claims.verdicts import JudgedClaim
    from analysis.tables.cell_results import CellRuns, RunResult
    from records.study_json import CellKey, StudyRecord

HEADERS = ("claim", "profile, data", "verdict", "seeds", "needed", "core hours")
NOTE = (
    "Seeds: of the plan, those that the contrasts have. Needed: seeds in all; of an interim claim those of its plan, "
    "of an undecided one those with 80 % power for all contrasts at the paper's effects (where it has none, at the "
    "margin), roughly, by the spread over these seeds. No number: the test images alone forbid it. "
    "Core hours: of the runs still to train, from runs of the same cell, else of other cells by their multiply-adds."
)


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

    from analysis.claims.table import runs_text, seeds_text
    from analysis.claims.verdicts import judge_all
    from analysis.tables.cell_results import index_runs
    from records.text import columns

    results = from_arguments(options)
    studies = select(results.studies, profile=options.profile, data=options.data, overrides=options.overrides)
    runs, costs = index_runs(results.runs, results.kept), read_costs()
    judged = judge_all(results, studies, costs, runs)
    rows = []
    for one in judged:
        if options.claim in (None, one.claim.id):
            needed, hours = _launch(one, judged) if one.study is None else _effort(one, one.study, runs, costs)
            rows.append((one.claim.id, runs_text(one), one.verdict, seeds_text(one), needed, hours))
    return "\n".join([columns(HEADERS, rows, right=(4, 5)), "", *textwrap.wrap(NOTE, 100)])


def _launch(one: "JudgedClaim", judged: "Sequence[JudgedClaim]") -> tuple[str, str]:
    """In print: what would run a claim without runs; its hours are not known."""
    from analysis.claims.table import launch_flags
    from analysis.claims.verdicts import NOT_RUN

    if one.verdict != NOT_RUN:
        return "", ""
    return launch_flags(one.claim.study, judged) if one.claim.study else "networks that we lack", ""


def _effort(
    one: "JudgedClaim", study: "StudyRecord", runs: "Mapping[str, RunResult]", costs: "Costs"
) -> tuple[str, str]:
    """In print: the seeds in all that a claim needs, and the core hours of what is not trained yet."""
    from analysis.claims.table import needed_text, one_digit
    from analysis.claims.verdicts import INTERIM
    from analysis.stats import FAR, MIN_SEEDS, NEVER
    from analysis.tables.cell_results import collect

    planned = len(study.planned_seeds)
    needed = one.needed if one.verdict != INTERIM else max(planned, MIN_SEEDS) if planned else None
    if needed is None:
        return "", ""
    if needed == NEVER or needed > FAR:
        return "no number" if needed == NEVER else f"over {FAR}", ""
    if one.has_power:
        return "as there are", ""
    cells = collect(study, runs)
    used = {key: cells[key] for found in one.findings for key in found.cells}
    hours = _hours(used, needed, costs)
    if one.verdict == INTERIM:
        return str(needed), "" if hours is None else f"{hours:.1f}"
    return needed_text(needed), "" if hours is None else f"about {one_digit(hours)}"


def _hours(cells: "Mapping[CellKey, CellRuns]", seeds: int, costs: "Costs") -> float | None:
    """Core hours of the runs that each cell still lacks, a cell without runs by its multiply-adds."""
    from analysis.tables.study_table import cell_count

    macs = {key: cell_count(cell_runs, "macs", costs) for key, cell_runs in cells.items()}
    known = {key: cost for key, cell_runs in cells.items() if (cost := _cost(list(cell_runs.by_seed.values())))}
    if not known:
        return None
    per_mac = [cost / size for key, cost in known.items() if (size := macs[key])]
    usual = sum(known.values()) / len(known)
    total = 0.0
    for key, cell_runs in cells.items():
        over = sum(outcome in RESULTS for outcome in cell_runs.outcomes.values())
        size = macs[key]
        guess = usual if size is None or not per_mac else size * sum(per_mac) / len(per_mac)
        total += max(0, seeds - over) * known.get(key, guess)
    return total


def _cost(runs: "Sequence[RunResult]") -> float | None:
    """Mean processor hours of finished runs; of runs that did not log them the wall time, which is of one thread."""
    hours = [run.metrics.get(names.COST_CPU_HOURS, run.hours) for run in runs if run.outcome == names.FINISHED]
    found = [value for value in hours if value > 0]
    return sum(found) / len(found) if found else None


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser("plan", description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("claim", nargs="?", metavar="CLAIM", help="only this claim, by its id (default: all)")
    add_arguments(parser, out=False)
    return parser.parse_args(argv)


if __name__ == "__main__":
    entry("plan", main)
