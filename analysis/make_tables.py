"""Prints the table of every study in the tracking store and writes it under results/.

python analysis/make_tables.py
python analysis/make_tables.py --table 3 --profile quick --data cluttershapes --formats md,tex
python analysis/make_tables.py --table 2      # sizes and costs of networks: 2, 6, 7 or networks; needs no store
"""

import argparse
import dataclasses
import io
import sys
from pathlib import Path

if not __package__:  # run as a script: Python put this folder on the path, and the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from analysis.cells import Table
from analysis.cost_tables import COST_TABLES, CostsError, cost_table, read_costs
from analysis.record import Study
from analysis.render import FORMATS, to_text, write
from analysis.store import Store, StoreError, read_store
from analysis.tables import build_table


class SelectionError(ValueError):
    """An option that names nothing; the message is one line with what there is."""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 where the input is refused with one line on stderr."""
    options = _parse(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without ± shall not end in a traceback
    try:
        formats = _formats(options.formats)
        tables = _tables(options)
        for table in tables:
            paths = write(table, options.out, formats)
            print(to_text(table))
            print(f"wrote {', '.join(str(path) for path in paths)}", file=sys.stderr)
    except (StoreError, SelectionError, CostsError) as error:
        print(f"make_tables: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"make_tables: cannot write under {options.out}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0


def _tables(options: argparse.Namespace) -> list[Table]:
    """The tables that the options ask for. Those of networks' sizes and costs need no store, so none is looked for."""
    wanted = list(dict.fromkeys(name.strip() for text in options.table for name in text.split(",") if name.strip()))
    counted = [name for name in wanted if name in COST_TABLES]
    of_studies = [name for name in wanted if name not in COST_TABLES]
    tables = [cost_table(name, read_costs()) for name in counted]
    if counted and not of_studies:
        return tables
    store = read_store(options.tracking_uri)
    for problem in store.problems:
        print(f"warning: {problem}", file=sys.stderr)
    return tables + _distinct(
        [(study, build_table(study, store.runs)) for study in _select(store, options, of_studies)]
    )


def _parse(argv: list[str] | None) -> argparse.Namespace:
    class OneLine(argparse.ArgumentParser):
        def error(self, message: str) -> None:  # type: ignore[override]
            self.exit(2, f"make_tables: {message}\n")

    parser = OneLine("make_tables", description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--table",
        action="append",
        default=[],
        help="number of a table of the paper, name of a study, or networks; repeatable, or 3,4 (default: all studies)",
    )
    parser.add_argument("--profile", help="quick-1, or quick for all its versions (default: all)")
    parser.add_argument("--data", help="data set, e.g. cluttershapes (default: all)")
    parser.add_argument(
        "--overrides", action="store_true", help="show the runs with config overrides instead of those without"
    )
    parser.add_argument("--tracking-uri", help="default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db")
    parser.add_argument("--out", default="results", type=Path, help="folder of the files (default: results)")
    parser.add_argument("--formats", default=",".join(FORMATS), help=f"some of {','.join(FORMATS)} (default: all)")
    return parser.parse_args(argv)


def _formats(text: str) -> list[str]:
    formats = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise SelectionError(f"unknown format {', '.join(unknown) or repr(text)}. Valid: {', '.join(FORMATS)}.")
    return formats


def _select(store: Store, options: argparse.Namespace, wanted: list[str]) -> list[Study]:
    """The studies that the options ask for, in the paper's order. Raises SelectionError for what the store lacks."""
    studies = sorted(
        store.studies,
        key=lambda s: (s.table is None, s.table or "", s.name, s.dataset, s.profile, s.canonical_overrides),
    )
    for name in wanted:
        if not any(name in (study.table, study.name) for study in studies):
            there = {study.name if study.table is None else f"{study.table} ({study.name})": None for study in studies}
            always = f"Without a store there are {', '.join(COST_TABLES)}."
            raise SelectionError(f"no table {name!r} in {store.uri}. It holds: {', '.join(there)}. {always}")
    if wanted:
        studies = [study for study in studies if study.table in wanted or study.name in wanted]
    if options.profile is not None:
        names = {study.profile for study in studies}
        matching = {name for name in names if options.profile in (name, name.rpartition("-")[0])}
        if not matching:
            raise SelectionError(f"no runs of profile {options.profile!r}. There is: {', '.join(sorted(names))}.")
        studies = [study for study in studies if study.profile in matching]
    if options.data is not None:
        datasets = {study.dataset for study in studies}
        if options.data not in datasets:
            raise SelectionError(f"no runs on data set {options.data!r}. There is: {', '.join(sorted(datasets))}.")
        studies = [study for study in studies if study.dataset == options.data]
    chosen = [study for study in studies if bool(study.overrides) == options.overrides]
    if not chosen:
        which, flag = ("without", "with --overrides") if not options.overrides else ("with", "without --overrides")
        raise SelectionError(f"no runs {which} overrides here; call it {flag} to see the others.")
    return chosen


def _distinct(pairs: list[tuple[Study, Table]]) -> list[Table]:
    """The tables, with the study's name added to a stem that two studies would share."""
    stems = [table.stem for _, table in pairs]
    return [
        dataclasses.replace(table, stem=f"{table.stem}-{study.name}") if stems.count(table.stem) > 1 else table
        for study, table in pairs
    ]


if __name__ == "__main__":
    sys.exit(main())
