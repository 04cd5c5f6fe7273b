"""The options that make_tables, make_figures and make_report share, and how they select studies and searches."""

import argparse
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.read.archive_file import ARCHIVE
from analysis.read.mlflow_client import StoreError
from records.search_json import SearchRecord
from records.study_json import StudyRecord

if TYPE_CHECKING:
    from analysis.read.results import Results

FIRST_SEARCH = "python run_ablation.py --search attention56 --trials 40"


class SelectionError(ValueError):
    """An option that matches nothing; the message is one line that lists the valid values."""


def add_arguments(parser: argparse.ArgumentParser, *, out: bool = True) -> None:
    """Adds --profile, --data, --experiment, --overrides, --tracking-uri, --archive and, if files are written, --out."""
    parser.add_argument("--profile", help="only this profile, e.g. quick or quick-3")
    parser.add_argument("--data", help="only this data set")
    parser.add_argument("--experiment", help="only this MLflow experiment, e.g. ran/cifar10")
    parser.add_argument(
        "--overrides", action="store_true", help="use the runs with overrides instead of the runs without"
    )
    parser.add_argument("--tracking-uri", help="MLflow store; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db")
    parser.add_argument(
        "--archive", metavar="DIR", help=f"folder of archived runs, all of one schema, or none (default: {ARCHIVE})"
    )
    if out:
        parser.add_argument("--out", default="results", type=Path, help="folder to write to (default: results)")


def from_arguments(options: argparse.Namespace) -> "Results":
    """Reads the results that the options name. Raises StoreError."""
    from analysis.read.results import read_results

    named = options.archive not in (None, "none")
    archive = None if options.archive == "none" else Path(options.archive or ARCHIVE)
    if named and archive != ARCHIVE and archive is not None and not archive.is_dir():
        hint = f": --archive takes its folder, {archive.parent}" if archive.exists() else ""
        raise StoreError(f"no archive folder {archive}{hint}")
    return read_results(options.tracking_uri, archive, experiment=options.experiment, named=named)


def select(
    studies: Iterable[StudyRecord],
    *,
    profile: str | None = None,
    data: str | None = None,
    overrides: bool = False,
    wanted: Sequence[str] = (),
) -> list[StudyRecord]:
    """Returns the studies asked for, in the paper's order.

    `profile`: with or without its version; `overrides`: studies with overrides instead of those without; `wanted`:
    names of studies or numbers of the paper's tables. Raises SelectionError if nothing matches.
    """
    chosen = sorted(studies, key=lambda s: (s.table is None, s.table or "", s.name, s.dataset, *s.key))
    if not chosen:
        raise SelectionError("no study is on record here, only runs: launch one, its record says what was planned.")
    for name in wanted:
        if not any(name in (study.table, study.name) for study in chosen):
            there = {study.name if study.table is None else f"{study.table} ({study.name})": None for study in chosen}
            raise SelectionError(f"no study or table {name!r}. There is: {', '.join(there)}.")
    if wanted:
        chosen = [study for study in chosen if study.table in wanted or study.name in wanted]
    if profile is not None:
        matching = [study for study in chosen if profile in (study.profile, study.profile_name)]
        if not matching:
            profiles = {study.profile for study in chosen}
            raise SelectionError(f"no runs of profile {profile!r}. There is: {', '.join(sorted(profiles))}.")
        chosen = matching
    if data is not None:
        datasets = {study.dataset for study in chosen}
        if data not in datasets:
            raise SelectionError(f"no runs on data set {data!r}. There is: {', '.join(sorted(datasets))}.")
        chosen = [study for study in chosen if study.dataset == data]
    found = [study for study in chosen if bool(study.overrides) == overrides]
    if not found:
        which, flag = ("with", "without --overrides") if overrides else ("without", "with --overrides")
        raise SelectionError(f"no runs {which} overrides here; call it {flag} to see the others.")
    return found


def select_searches(
    searches: Sequence[SearchRecord],
    name: str,
    *,
    profile: str | None,
    data: str | None,
    overrides: bool,
    source: str,
) -> list[SearchRecord]:
    """Returns the searches of a name that the options choose. Raises SelectionError if nothing in `source` matches."""
    if not searches:
        raise SelectionError(f"no search in {source}: run `{FIRST_SEARCH}` first, or pass --tracking-uri")
    chosen = [search for search in searches if search.name == name]
    if not chosen:
        there = ", ".join(sorted({search.name for search in searches}))
        raise SelectionError(f"no search {name!r}. There is: {there}.")
    if profile is not None:
        there = ", ".join(sorted({search.profile for search in chosen}))
        chosen = [search for search in chosen if profile in (search.profile, search.profile_name)]
        if not chosen:
            raise SelectionError(f"no search {name!r} of profile {profile!r}. There is: {there}.")
    if data is not None:
        there = ", ".join(sorted({search.dataset for search in chosen}))
        chosen = [search for search in chosen if search.dataset == data]
        if not chosen:
            raise SelectionError(f"no search {name!r} of data set {data!r}. There is: {there}.")
    found = [search for search in chosen if bool(search.overrides) == overrides]
    if not found:
        hint = "with overrides" if overrides else "without overrides; --overrides draws those with"
        raise SelectionError(f"no search {name!r} {hint}.")
    return found


def names_in(text: str, valid: Collection[str], what: str) -> list[str]:
    """Returns the names in a comma-separated list, each once. Raises SelectionError for an unknown name."""
    found = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in found if name not in valid]
    if unknown or not found:
        raise SelectionError(f"unknown {what} {', '.join(unknown) or repr(text)}. Valid: {', '.join(valid)}.")
    return found
