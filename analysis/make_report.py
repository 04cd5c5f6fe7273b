"""Writes the report: one HTML file with the claims, every table and figure, and the runs behind each.

python analysis/make_report.py
python analysis/make_report.py --profile short --data cifar10 --out /tmp/report
"""

import argparse
import sys
import tempfile
from pathlib import Path

if not __package__:  # run as a script: Python put this folder on the path, and the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from analysis.options import SelectionError, add_arguments, from_arguments, select
from analysis.read.mlflow_client import StoreError
from analysis.tables.network_table import CostsError
from records.command import OneLineParser, entry
from records.files import WriteError, write_whole, writing

NAME = "report.html"


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 with one line on stderr for refused input."""
    options = _parse(argv)
    path: Path = options.out / NAME
    try:
        results = from_arguments(options)
        studies = select(results.studies, profile=options.profile, data=options.data, overrides=options.overrides)
        for note in results.notes:
            print(note, file=sys.stderr)
        with writing(path):  # now, and not after the figures are drawn
            options.out.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=options.out).close()

        from analysis.figures import collect_figures  # matplotlib, not needed for --help and refusals
        from analysis.make_tables import all_tables
        from analysis.report import page

        text = page(results, studies, all_tables(results, studies), *collect_figures(results, studies))
        write_whole(path, text)
    except (StoreError, SelectionError, CostsError, WriteError) as error:
        print(f"make_report: {error}", file=sys.stderr)
        return 2
    print(path)
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser("make_report", description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    add_arguments(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    entry("make_report", main)
