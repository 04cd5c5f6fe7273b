"""Keeps finished runs as small files in git, because a tracking store may be lost.

    python -m analysis.archive export --profile short-1 --data cifar10
    python -m analysis.archive show

One file per data set and profile version, results/archive/<data>-<profile>.jsonl: the record of each study, and every
finished or diverged run with its tags, parameters, metrics, curves, specification and probes; no weights. One run per
study keeps its masks: the first run that has masks, in the order of cells (the comparison's baseline first) and seeds.
--masks-of chooses another run. Existing content of a file is kept, including masks.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from analysis.read.archive_file import ARCHIVE, ArchiveFile, add, read_file, read_folder, run_line
from analysis.read.mlflow_client import StoreError
from analysis.read.mlflow_store import StoreContents, read_contents
from analysis.read.runs import RESULTS, RunData
from records import names
from records.command import OneLineParser, entry
from records.files import WriteError
from records.study_json import CellKey, StudyKey, StudyRecord, add_records
from records.text import columns


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 with one line on stderr if there is nothing to keep or to show."""
    options = _parse(argv)
    try:
        return _export(options) if options.command == "export" else _show(options.out)
    except (StoreError, WriteError) as error:
        print(f"archive: {error}", file=sys.stderr)
    return 2


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = OneLineParser("archive", description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="export | show")
    export = commands.add_parser("export", help="add the finished runs of a tracking store", allow_abbrev=False)
    export.add_argument("--profile", required=True, help="profile with its version, e.g. short-1")
    export.add_argument("--data", required=True, help="data set, e.g. cifar10")
    export.add_argument("--tracking-uri", help="MLflow store; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db")
    export.add_argument(
        "--masks-of",
        nargs="+",
        default=[],
        metavar="FINGERPRINT",
        help="keep the masks of these runs (fingerprints or their first digits)",
    )
    show = commands.add_parser("show", help="print the content of the archive", allow_abbrev=False)
    for command in (export, show):
        command.add_argument("--out", type=Path, default=ARCHIVE, help=f"folder of the archive (default: {ARCHIVE})")
    return parser.parse_args(argv)


def _export(options: argparse.Namespace) -> int:
    store = read_contents(options.tracking_uri)
    records = [
        parent.record
        for parent in store.parents
        if (parent.record.profile, parent.record.dataset) == (options.profile, options.data)
    ]
    file = read_file(options.out / f"{options.data}-{options.profile}.jsonl")
    united: dict[StudyKey, StudyRecord] = {}
    add_records(united, [*file.studies, *records])
    studies = list(united.values())
    runs = _results(store, options.profile, options.data, studies)
    if not runs:
        raise StoreError(f"no finished run of profile {options.profile} on {options.data} in {store.uri}")
    chosen = masks_to_keep(studies, runs, file, [_full_fingerprint(name, runs) for name in options.masks_of])
    file, problems = add(file, records, (run_line(run, masks=run.fingerprint in chosen) for run in runs.values()))
    for problem in [*store.problems, *problems]:
        print(f"warning: {problem}", file=sys.stderr)
    print(f"{file.path}: {len(file.runs)} runs, {len(runs)} of them in {store.uri}; {_size(file.path)}")
    print("\n".join(coverage(file)))
    return 0


def _results(store: StoreContents, profile: str, data: str, studies: Sequence[StudyRecord]) -> dict[str, RunData]:
    """The finished and diverged runs of a profile and data set, and others that their studies share, by fingerprint."""
    planned = {run.fingerprint for study in studies for run in study.runs}
    found: dict[str, RunData] = {}
    for run in sorted(store.runs, key=lambda run: run.rank):
        ours = (run.tags.get(names.PROFILE), run.tags.get(names.DATASET)) == (profile, data)
        if run.outcome in RESULTS and (ours or run.fingerprint in planned):
            found[run.fingerprint] = run
    return found


def _full_fingerprint(name: str, runs: Mapping[str, RunData]) -> str:
    matching = [fingerprint for fingerprint in runs if fingerprint.startswith(name)]
    if len(matching) != 1:
        raise StoreError(f"--masks-of {name} names {len(matching) or 'none'} of the runs to keep")
    if runs[matching[0]].artifact(names.MASKS_NPZ) is None:
        raise StoreError(f"--masks-of {name}: the run has left no {names.MASKS_NPZ}")
    return matching[0]


def masks_to_keep(
    studies: Sequence[StudyRecord], runs: Mapping[str, RunData], file: ArchiveFile, wanted: Sequence[str]
) -> set[str]:
    """Returns the fingerprints of the runs whose masks are added: `wanted`, and one run of each study without any."""
    chosen = set(wanted)
    held = {fingerprint for fingerprint, line in file.lines.items() if line.get("masks")}
    for study in studies:
        planned = [fingerprint for seeds in _baseline_first(study).values() for fingerprint in seeds.values()]
        if not (held | set(wanted)) & set(planned):
            with_masks = (f for f in planned if f in runs and runs[f].artifact(names.MASKS_NPZ) is not None)
            chosen |= set(itertools.islice(with_masks, 1))
    return chosen


def _baseline_first(study: StudyRecord) -> dict[CellKey, dict[int, str]]:
    cells, compare = study.cells(), study.compare
    if compare is None:
        return cells
    place = [axis.name for axis in study.axes].index(compare.axis)
    return dict(sorted(cells.items(), key=lambda item: item[0][place] != compare.baseline))


def _show(folder: Path) -> int:
    files = read_folder(folder)
    if not files:
        raise StoreError(f"no archive in {folder}: `python -m analysis.archive export` makes one")
    headers = ("file", "studies", "runs", "seeds", "started", "size")
    head, rule, *rows = columns(headers, [_row(file) for file in files]).splitlines()
    print(f"{head}\n{rule}")
    for row, file in zip(rows, files, strict=True):
        print("\n".join([row, *coverage(file)]))
    return 0


def _row(file: ArchiveFile) -> tuple[str, ...]:
    seeds = sorted({int(run.tags[names.SEED]) for run in file.runs if run.tags.get(names.SEED, "").isdecimal()})
    starts = sorted(run.start_time for run in file.runs if run.start_time is not None)
    days = sorted({_day(starts[0]), _day(starts[-1])}) if starts else ["-"]
    shown = ",".join(map(str, seeds))
    return file.path.name, str(len(file.studies)), str(len(file.runs)), shown, " to ".join(days), _size(file.path)


def _day(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date().isoformat()


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{math.ceil(size / 1e3)} kB"


def coverage(file: ArchiveFile) -> list[str]:
    """Returns a line per study, with its planned and archived runs and its masks, and a line for runs of no study."""
    rows: list[tuple[str, str]] = []
    planned: set[str] = set()
    for study in file.studies:
        # A run's own tags name the cell of the study that ran it first.
        labels = {run.fingerprint: f"{study.cell_text(run.cell)} seed {run.seed}" for run in study.runs}
        planned |= labels.keys()
        name = study.name if not study.overrides else f"{study.name} {study.canonical_overrides}"
        masks = [labels[f] for f, line in file.lines.items() if f in labels and line.get("masks")]
        text = f"{len(labels.keys() & file.lines.keys())} of {len(labels)} planned runs"
        rows.append((name, text + (f", masks of {'; '.join(masks)}" if masks else "")))
    if others := file.lines.keys() - planned:
        rows.append(("no study here", f"{len(others)} run{'' if len(others) == 1 else 's'}"))
    width = max((len(name) for name, _ in rows), default=0)
    return [f"  {name.ljust(width)}  {text}" for name, text in rows]


if __name__ == "__main__":
    entry("archive", main)
