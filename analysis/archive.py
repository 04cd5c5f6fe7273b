"""Keeps runs as small files in git, because a tracking store may be lost, and fills a store from them.

    python -m analysis.archive export --profile short-2 --data cifar10
    python -m analysis.archive show
    python -m analysis.archive repeats          # runs that were trained twice: were error and weights the same?
    python -m analysis.archive restore          # into the tracking store of another machine

One file per data set and profile version, results/archive/<data>-<profile>.jsonl: the record of each study; every
finished or diverged run with its tags, parameters, metrics, curves, specification, probes and per-image results; and
every attempt that failed or was killed, without curves. No weights. One run per study keeps its masks: the first run
that has masks, in the order of cells (the comparison's baseline first) and seeds. --masks-of chooses another run.
Existing content of a file is kept: of two results of a run the first counts, and the second stays beside it.
"""

import argparse
import itertools
import math
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from analysis.commits import check_commits, launched_as
from analysis.read.archive_file import ARCHIVE, ArchiveFile, add, read_file, read_folder
from analysis.read.archive_line import Line, StudyLine, ended_line, run_line
from analysis.read.mlflow_client import StoreError
from analysis.read.mlflow_store import read_contents, read_searches
from analysis.read.runs import RunData, RunGroup, group_runs
from analysis.read.schemas import Selection, left_out_text, of_schema
from analysis.repeats import repeats, repeats_text
from records import names
from records.command import OneLineParser, entry
from records.errors import UserError
from records.mlflow_uri import resolve_uri
from records.schema import CURRENT
from records.secrets import mask_secrets
from records.study_json import CellKey, StudyKey, StudyRecord, add_records
from records.text import columns, printable


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0; 1 if runs are refused, with a line on stderr for each; 2 if nothing can be done."""
    options = _parse(argv)
    try:
        return _COMMANDS[options.command](options)
    except (StoreError, UserError) as error:
        print(f"archive: {error}", file=sys.stderr)
    return 2


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = OneLineParser("archive", description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="export | show | repeats | restore")
    export = commands.add_parser("export", help="add the finished runs of a tracking store", allow_abbrev=False)
    export.add_argument("--profile", required=True, help="profile with its version, e.g. short-2")
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
    repeated = commands.add_parser("repeats", help="compare the results of runs trained twice", allow_abbrev=False)
    restore = commands.add_parser("restore", help="fill a tracking store from the archive", allow_abbrev=False)
    restore.add_argument("--tracking-uri", help="MLflow store; default: as for export; a missing sqlite file is made")
    restore.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help=f"files of an archive (default: {ARCHIVE}/*.jsonl)"
    )
    for command in (export, show, repeated):
        command.add_argument("--out", type=Path, default=ARCHIVE, help=f"folder of the archive (default: {ARCHIVE})")
    return parser.parse_args(argv)


def _export(options: argparse.Namespace) -> int:
    store = read_contents(options.tracking_uri)
    read = Selection(tuple((found.record, found.parent) for found in store.parents), store.runs)
    current = of_schema(read, CURRENT)
    ours = [
        StudyLine(record, parent)
        for record, parent in current.studies
        if (record.profile, record.dataset) == (options.profile, options.data)
    ]
    file = read_file(options.out / f"{options.data}-{options.profile}.jsonl")
    _refuse_other_schemas(file)
    united: dict[StudyKey, StudyRecord] = {}
    add_records(united, [*file.studies, *(line.record for line in ours)])
    studies = list(united.values())
    searches, _, _ = read_searches(options.tracking_uri)
    commands = [(study.name, study.command) for study in studies]
    commands += [(search.name, search.command) for search in searches]
    planned = {run.fingerprint for study in studies for run in study.runs}
    candidates = [run for run in current.runs if _belongs(run, options.profile, options.data, planned)]
    checked = check_commits([run for run in candidates if run.is_result], launched_as(commands))
    for line in checked.refused:
        print(f"archive: {line}", file=sys.stderr)
    groups = group_runs([*checked.kept, *(run for run in candidates if not run.is_result)])
    results = {fingerprint: group.counts for fingerprint, group in groups.items() if group.results}
    if not results:
        left_out = left_out_text(read.runs, CURRENT)
        nothing = f"no finished run of profile {options.profile} on {options.data} in {store.uri}"
        others = {
            f"{run.tags.get(names.PROFILE)} on {run.tags.get(names.DATASET)}" for run in current.runs if run.is_result
        }
        there = ", ".join(sorted(others - {f"{options.profile} on {options.data}"}))
        raise StoreError("; ".join([nothing, *([f"there is {there}"] if there else []), *left_out]))
    chosen = masks_to_keep(studies, results, file, [_full_fingerprint(name, results) for name in options.masks_of])
    lines = [line for group in groups.values() for line in _lines(group, masks=group.counts.fingerprint in chosen)]
    file, problems = add(file, ours, lines)
    for problem in [*store.problems, *left_out_text(read.runs, CURRENT), *checked.warnings, *problems]:
        print(f"warning: {problem}", file=sys.stderr)
    print(f"{file.path}: {len(file.results)} runs, {len(results)} of them in {store.uri}; {_size(file.path)}")
    print("\n".join(coverage(file)))
    return 1 if checked.refused else 0


def _refuse_other_schemas(file: ArchiveFile) -> None:
    others = {run.schema for run in file.runs} - {CURRENT}
    if others:
        raise StoreError(
            f"{file.path} has runs of schema {', '.join(map(str, sorted(others)))}, and a file holds one schema: "
            f"move it to {file.path.parent}/schema-{min(others)} first"
        )


def _belongs(run: RunData, profile: str, data: str, planned: Collection[str]) -> bool:
    """Whether a run is of a profile and data set, or among the fingerprints that their studies share with others."""
    return run.fingerprint in planned or (run.tags.get(names.PROFILE), run.tags.get(names.DATASET)) == (profile, data)


def _lines(group: RunGroup, *, masks: bool) -> Iterator[Line]:
    """The lines of all results and of the failed and killed attempts of one fingerprint."""
    for run in group.results:
        yield run_line(run, masks=masks and run is group.counts)
    yield from map(ended_line, group.ended)


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
    held = {line["fingerprint"] for line in file.lines if line.get("masks")}
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


def _show(options: argparse.Namespace) -> int:
    files = _files(options.out)
    headers = ("file", "studies", "runs", "seeds", "started", "size")
    head, rule, *rows = columns(headers, [_row(file) for file in files]).splitlines()
    print(f"{head}\n{rule}")
    for row, file in zip(rows, files, strict=True):
        print("\n".join([row, *coverage(file)]))
    return 0


def _repeats(options: argparse.Namespace) -> int:
    found = repeats(run for file in _files(options.out) for run in file.runs)
    print(repeats_text(found) if found else f"no run in {options.out} was trained twice")
    return 0


def _restore(options: argparse.Namespace) -> int:
    from analysis.restore import restore

    if missing := [path for path in options.files if not path.is_file()]:
        name = printable(missing[0])
        raise StoreError(f"{name} is a folder; name its files" if missing[0].is_dir() else f"there is no file {name}")
    files = [read_file(path) for path in options.files] or _files(ARCHIVE)
    uri = resolve_uri(options.tracking_uri)
    for done in restore(files, uri):
        for problem in done.problems:
            print(f"warning: {problem}", file=sys.stderr)
        added = f"studies {done.parents}, runs {done.runs}; runs there before: {done.there}"
        print(f"{done.path}: added to {mask_secrets(uri)}: {added}")
    print("weights are not archived: evaluate, predict and export need the store that trained them", file=sys.stderr)
    return 0


def _files(folder: Path) -> list[ArchiveFile]:
    files = read_folder(folder)
    if not files:
        raise StoreError(f"no archive in {folder}: `python -m analysis.archive export` makes one")
    return files


def _row(file: ArchiveFile) -> tuple[str, ...]:
    seeds = sorted({int(run.tags[names.SEED]) for run in file.runs if run.tags.get(names.SEED, "").isdecimal()})
    days = sorted(run.day for run in file.runs if run.start_time is not None) or ["-"]
    started = " to ".join(dict.fromkeys((days[0], days[-1])))
    shown = ",".join(map(str, seeds))
    return file.path.name, str(len(file.studies)), str(len(file.results)), shown, started, _size(file.path)


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{math.ceil(size / 1e3)} kB"


def coverage(file: ArchiveFile) -> list[str]:
    """Returns a line per study and a line for runs of no study: planned and archived runs, attempts, and masks.

    The last line says what all of them have cost, by kind of machine.
    """
    rows: list[tuple[str, str]] = []
    groups = group_runs(file.runs)
    planned: set[str] = set()
    for study in file.studies:
        # A run's own tags name the cell of the study that ran it first.
        labels = {run.fingerprint: f"{study.cell_text(run.cell)} seed {run.seed}" for run in study.runs}
        planned |= labels.keys()
        name = study.name if not study.overrides else f"{study.name} {study.canonical_overrides}"
        held = dict.fromkeys(line["fingerprint"] for line in file.lines if line.get("masks"))
        masks = [labels[fingerprint] for fingerprint in held if fingerprint in labels]
        results, beyond = labels.keys() & file.results.keys(), study.beyond_plan
        text = f"{len(results - beyond)} of {study.plan_size} planned runs"
        text += f", {len(results & beyond)} beyond the plan" if results & beyond else ""
        text += _remarks([group for fingerprint, group in groups.items() if fingerprint in labels])
        rows.append((name, text + (f", masks of {'; '.join(masks)}" if masks else "")))
    if others := [group for fingerprint, group in groups.items() if fingerprint not in planned]:
        number = len(file.results.keys() - planned)
        rows.append(("no study here", f"{number} run{'' if number == 1 else 's'}{_remarks(others)}"))
    if hours := _core_hours(file.runs):
        rows.append(("core hours", hours))
    width = max((len(name) for name, _ in rows), default=0)
    return [f"  {name.ljust(width)}  {text}" for name, text in rows]


def _core_hours(runs: Sequence[RunData]) -> str:
    """Processor time by kind of machine, or "": "cpu AVX2: 0.4 over 3 runs; cpu AVX512: 8.8 over 73 runs"."""
    hours: dict[str, list[float]] = {}
    for run in runs:
        if (spent := run.metrics.get(names.COST_CPU_HOURS)) is not None:
            ways = run.tags.get(names.HOW, "machine not on record").split("; ")
            hours.setdefault(" and ".join(dict.fromkeys(way.partition(",")[0] for way in ways)), []).append(spent)
    return "; ".join(
        f"{kind}: {sum(each):.1f} over {len(each)} run{'' if len(each) == 1 else 's'}"
        for kind, each in sorted(hours.items())
    )


def _remarks(groups: Sequence[RunGroup]) -> str:
    """The numbers of attempts that failed or were killed and of further results, each after a comma."""
    counts = Counter(run.outcome for group in groups for run in group.ended)
    further = sum(max(len(group.results) - 1, 0) for group in groups)
    counts["further result" if further == 1 else "further results"] = further
    return "".join(f", {number} {what}" for what, number in sorted(counts.items()) if number)


_COMMANDS = {"export": _export, "show": _show, "repeats": _repeats, "restore": _restore}


if __name__ == "__main__":
    entry("archive", main)
