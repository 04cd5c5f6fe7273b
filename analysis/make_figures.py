"""Draws every figure from the runs that exist and writes it under results/figures/, as png and pdf.

python analysis/make_figures.py
python analysis/make_figures.py --search attention56
python analysis/make_figures.py --figure 4,curves --profile short --formats pdf
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a script: Python put this folder on the path, and the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from analysis.figures import FIGURES, FORMATS, CaptionedFigure, MissingFigure, collect_figures, write
from analysis.options import SelectionError, add_arguments, from_arguments, names_in, select, select_searches
from analysis.read.mlflow_client import StoreError
from records.command import OneLineParser, entry
from records.files import WriteError
from records.text import plain

FOLDER = "figures"  # below --out


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 with one line on stderr for refused input."""
    options = _parse(argv)
    try:
        formats = names_in(options.formats, FORMATS, "format")
        if options.search is not None:
            return _searches(options, formats)
        kinds = names_in(",".join(options.figure) or ",".join(FIGURES), FIGURES, "figure")
        results = from_arguments(options)
        studies = select(results.studies, profile=options.profile, data=options.data, overrides=options.overrides)
        drawn, skipped = collect_figures(results, studies, kinds)
        for one in drawn:
            _write(one, options.out / FOLDER, formats)
    except (StoreError, SelectionError, WriteError) as error:
        print(f"make_figures: {error}", file=sys.stderr)
        return 2
    for note in results.notes + [gap.message for gap in skipped]:
        print(note, file=sys.stderr)
    return 0


def _searches(options: argparse.Namespace, formats: list[str]) -> int:
    """Draws the figures of --search. Searches are only in the tracking store, so the archive is not read."""
    from analysis.figures.search import KINDS, figures_of
    from analysis.read.mlflow_store import read_searches

    kinds = names_in(",".join(options.figure) or ",".join(KINDS), KINDS, "figure of a search")
    searches, notes, source = read_searches(options.tracking_uri, experiment=options.experiment)
    chosen = select_searches(
        searches, options.search, profile=options.profile, data=options.data, overrides=options.overrides, source=source
    )  # fmt: skip
    for search in chosen:
        for one in figures_of(search, kinds):
            if isinstance(one, MissingFigure):
                notes.append(one.message)
                continue
            _write(one, options.out / FOLDER, formats)
    for note in notes:
        print(note, file=sys.stderr)
    return 0


def _write(figure: CaptionedFigure, folder: Path, formats: list[str]) -> None:
    """Writes the files of a figure and prints their paths, title and caption."""
    paths = ", ".join(str(path) for path in write(figure, folder, formats))
    print(f"{paths}\n  {plain(figure.title)}. {plain(' '.join(figure.caption))}", flush=True)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser("make_figures", description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument(
        "--figure",
        action="append",
        default=[],
        help=f"figures to draw, of {', '.join(FIGURES)}; several as 4,curves or by repeating the option (default: all)",
    )
    parser.add_argument(
        "--search", metavar="NAME", help="draw the figures of this search instead: history, importances, slices, front"
    )
    add_arguments(parser)
    parser.add_argument(
        "--formats", default=",".join(FORMATS), help=f"file formats, of {','.join(FORMATS)} (default: all)"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    entry("make_figures", main)
