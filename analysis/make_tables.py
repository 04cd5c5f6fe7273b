"""Prints the claims of the paper and every table, measured beside published, and writes them under results/.

python analysis/make_tables.py
python analysis/make_tables.py --table claims,3 --profile quick --data cluttershapes --formats md,tex
python analysis/make_tables.py --table 2,networks    # sizes and costs of networks, which need no runs
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a script: Python put this folder on the path, and the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from analysis.options import SelectionError, add_arguments, from_arguments, names_in, select
from analysis.read.mlflow_client import StoreError
from analysis.tables.cells import Table
from analysis.tables.formats import FORMATS, file_stem, to_text, write
from analysis.tables.network_table import ALL, COST_TABLES, Costs, CostsError, cost_table, read_costs
from records.command import OneLineParser, entry
from records.files import WriteError
from records.study_json import StudyRecord, profile_name

if TYPE_CHECKING:
    from analysis.read.results import Results
    from analysis.tables.cell_results import RunResult

CLAIMS = "claims"
# The paper's tables of errors and the study that fills each.
STUDIES = {
    "1": "mask_type",
    "3": "arl_vs_nal",
    "4": "mask_structure",
    "5": "noisy_labels",
    "6": "cifar",
    "7": "imagenet",
}
PAPER = ("1", "2", "3", "4", "5", "6", "7")
WITHOUT_RUNS = (*COST_TABLES, CLAIMS)  # tables that exist without a study of their own


@dataclass(frozen=True)
class SourcedTable:
    """A table and the studies whose runs it shows."""

    table: Table
    studies: tuple[StudyRecord, ...]


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 with one line on stderr for refused input."""
    options = _parse(argv)
    wanted = _split(options.table)
    try:
        formats = names_in(options.formats, FORMATS, "format")
        made, notes = _made(options, wanted)
        for one in made:
            paths = write(one.table, options.out, formats)
            print(to_text(one.table))
            print(f"wrote {', '.join(str(path) for path in paths)}", file=sys.stderr)
    except (StoreError, SelectionError, CostsError, WriteError) as error:
        print(f"make_tables: {error}", file=sys.stderr)
        return 2
    for note in notes:
        print(note, file=sys.stderr)
    return 0


def _made(options: argparse.Namespace, wanted: Sequence[str]) -> tuple[list[SourcedTable], list[str]]:
    """The tables that the options ask for, and notes on their sources and on missing tables."""
    if wanted and set(wanted) <= {"2", ALL}:  # these tables need no store
        return all_tables(None, [], wanted), []
    results = from_arguments(options)
    needed = [name for name in wanted if name not in WITHOUT_RUNS]
    _refuse_empty(needed, results)
    studies = select(
        results.studies,
        profile=options.profile,
        data=options.data,
        overrides=options.overrides,
        wanted=needed if len(needed) == len(wanted) else (),
    )
    made = all_tables(results, studies, wanted)
    return made, results.notes + _without_runs(results, studies, wanted, options.profile)


def all_tables(
    results: "Results | None", studies: Sequence[StudyRecord], wanted: Sequence[str] = ()
) -> list[SourcedTable]:
    """Returns claims, the paper's tables in its order, then those of the other studies; with `wanted` those alone.

    `studies` are chosen from those of `results`, in the order of options.select. The table of all networks is made only
    if it is wanted. Raises CostsError.
    """
    costs = read_costs()
    runs: dict[str, RunResult] = {}
    made = []
    if results is not None:
        from analysis.claims.table import claims_table
        from analysis.claims.verdicts import judge_all
        from analysis.tables.cell_results import index_runs

        runs = index_runs(results.runs, results.kept)
        if not wanted or CLAIMS in wanted:
            judged = judge_all(results, studies, costs, runs)
            of_claims = {one.study.key: one.study for one in judged if one.study is not None}
            made.append(SourcedTable(claims_table(judged, costs), tuple(of_claims.values())))
    for number in PAPER:
        of_number = [study for study in studies if study.table == number]
        chosen = [study for study in of_number if not wanted or number in wanted or study.name in wanted]
        made += _of_studies(chosen, runs, costs)
        counted = number in COST_TABLES and (not wanted or number in wanted)
        if counted and not any(one.table.stem.startswith(f"table{number}") for one in made):
            made.append(SourcedTable(cost_table(number, costs), ()))
    beyond = [study for study in studies if study.table not in PAPER]
    made += _of_studies([study for study in beyond if not wanted or study.name in wanted], runs, costs)
    if ALL in wanted:
        made.append(SourcedTable(cost_table(ALL, costs), ()))
    return _distinct(made)


def _of_studies(studies: Sequence[StudyRecord], runs: "dict[str, RunResult]", costs: Costs) -> list[SourcedTable]:
    """One table per study, but one table for all data sets of a table of networks."""
    if not studies:
        return []
    from analysis.tables.network_runs import fits, network_runs
    from analysis.tables.study_table import build_table

    united: dict[tuple[str, str, str], list[StudyRecord]] = {}
    for study in studies:
        if fits(study):
            united.setdefault((study.name, study.profile, study.canonical_overrides), []).append(study)
    made = [
        SourcedTable(cost_table(group[0].table or "", costs, network_runs(group, runs, costs)), tuple(group))
        for group in united.values()
    ]
    return made + [SourcedTable(build_table(study, runs, costs), (study,)) for study in studies if not fits(study)]


def _distinct(made: Sequence[SourcedTable]) -> list[SourcedTable]:
    """The tables, with the study's name added to stems that are not unique."""
    stems = [one.table.stem for one in made]

    def alone(one: SourcedTable) -> SourcedTable:
        if stems.count(one.table.stem) == 1 or not one.studies:
            return one
        stem = file_stem(f"{one.table.stem}-{one.studies[0].name}")
        return dataclasses.replace(one, table=dataclasses.replace(one.table, stem=stem))

    return [alone(one) for one in made]


def _refuse_empty(wanted: Sequence[str], results: "Results") -> None:
    """Raises SelectionError for a wanted table without a study on record, with the command that fills it."""
    for name in wanted:
        if name in STUDIES and not any(study.table == name for study in results.studies):
            raise SelectionError(f"no runs yet of Table {name}: {_command(name)}")
        if name not in STUDIES and not any(name in (study.name, study.table) for study in results.studies):
            there = dict.fromkeys(study.name for study in results.studies)
            valid = ", ".join([CLAIMS, *PAPER, ALL, *there])
            raise SelectionError(f"no table {name!r}. Valid: {valid}. Another study has one as soon as it has runs.")


def _without_runs(
    results: "Results", studies: Sequence[StudyRecord], wanted: Sequence[str], profile: str | None
) -> list[str]:
    """A note for each of the paper's tables without a finished or diverged run."""
    from analysis.read.runs import RESULTS

    over = set(results.runs.loc[results.runs["outcome"].isin(list(RESULTS)), "fingerprint"])
    filled = {study.table for study in studies if any(run.fingerprint in over for run in study.runs)}
    return [
        f"no runs yet of Table {number}: {_command(number, profile)}"
        for number in STUDIES
        if number not in filled and (not wanted or number in wanted)
    ]


def _command(number: str, profile: str | None = None) -> str:
    """The launch that fills a table; `profile` with or without its version."""
    if profile is None:
        return f"python run_ablation.py --study {STUDIES[number]}"
    return f"python run_ablation.py --study {STUDIES[number]} --profile {profile_name(profile)}"


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser("make_tables", description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument(
        "--table",
        action="append",
        default=[],
        help=f"{CLAIMS}, 1 to 7, a study's name or {ALL}; several as 3,4 or by repeating the option "
        f"(default: all but {ALL})",
    )
    add_arguments(parser)
    parser.add_argument(
        "--formats", default=",".join(FORMATS), help=f"file formats, of {','.join(FORMATS)} (default: all)"
    )
    return parser.parse_args(argv)


def _split(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name.strip() for text in texts for name in text.split(",") if name.strip()))


if __name__ == "__main__":
    entry("make_tables", main)
