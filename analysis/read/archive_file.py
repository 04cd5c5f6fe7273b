"""Reading, merging and writing the archive's files: one line per study and one per run, see archive_line.py.

A file keeps what it is given: of two results of one fingerprint the one that started first counts, and the other stays
beside it. An attempt that failed or was killed stays too, unless it was continued to a result.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from analysis.read.archive_line import (
    ENDED,
    RUN,
    STUDY,
    Line,
    StudyLine,
    decode,
    encode,
    kind_of,
    read_run,
    read_study,
    same_run,
    study_line,
    unite_lines,
)
from analysis.read.mlflow_client import StoreError
from analysis.read.runs import RunData, StudyParent
from records import names
from records.errors import first_line
from records.files import write_whole
from records.reading import UnreadableError, read_bytes
from records.sane import OutOfRangeError
from records.study_json import StudyKey, StudyRecord, add_records

ARCHIVE = Path("results/archive")
MOST_BYTES = 2**30
"""of a file; that of the paper's runs would have a tenth"""


@dataclass(frozen=True)
class ArchiveFile:
    """One file of the archive: its studies, and its runs with their lines in the same order."""

    path: Path
    study_lines: tuple[StudyLine, ...]
    runs: tuple[RunData, ...]
    """results and attempts that failed or were killed, by fingerprint and start, attempts last"""
    lines: tuple[Line, ...]
    problems: tuple[str, ...] = ()
    """a message for each line that is left out, because no run or study of ours has such values"""

    @property
    def studies(self) -> tuple[StudyRecord, ...]:
        """The records of its studies."""
        return tuple(line.record for line in self.study_lines)

    @property
    def parents(self) -> dict[StudyKey, StudyParent]:
        """The parent runs of its studies, of those that have them."""
        return {line.record.key: line.parent for line in self.study_lines if line.parent is not None}

    @property
    def results(self) -> dict[str, Line]:
        """The lines of the results that count, by fingerprint."""
        found: dict[str, Line] = {}
        for line in self.lines:
            if kind_of(line) == RUN:
                found.setdefault(line["fingerprint"], line)
        return found

    @property
    def experiments(self) -> set[str]:
        """The MLflow experiments that its studies and runs come from, as "ran/cifar10"."""
        datasets = {study.dataset for study in self.studies} | {run.tags.get(names.DATASET) for run in self.runs}
        return {f"{names.EXPERIMENT_PREFIX}{dataset}" for dataset in datasets if dataset}


def read_folder(folder: Path) -> list[ArchiveFile]:
    """Returns the files of an archive folder by name; none if the folder is missing. Raises StoreError."""
    return [read_file(path) for path in sorted(folder.glob("*.jsonl"))]


def read_file(path: Path) -> ArchiveFile:
    """Returns an archive file, empty if it is missing. Raises StoreError, with the number of a damaged line.

    A line whose values are out of range is left out, with a message: it spoils neither the others nor what shows them.
    """
    try:
        text = read_bytes(path, MOST_BYTES).decode() if path.exists() else ""
    except (OSError, UnicodeDecodeError, UnreadableError) as error:
        raise StoreError(f"{path} cannot be read: {first_line(str(error))}") from None
    studies: list[StudyLine] = []
    lines: list[Line] = []
    problems: list[str] = []
    for number, written in enumerate(text.split("\n"), 1):  # splitlines would also split at U+2028, within a text
        if not written:
            continue
        try:
            line = decode(written)
            if kind_of(line) == STUDY:
                studies.append(read_study(line))
            else:
                read_run(line, path)
                lines.append(line)
        except OutOfRangeError as error:
            problems.append(f"{path}: line {number} is left out: {error}")
        except KeyError as error:
            raise StoreError(f"{path} is damaged in line {number}: it has no {error}") from None
        except (ValueError, TypeError) as error:
            raise StoreError(f"{path} is damaged in line {number}: {first_line(str(error))}") from None
    merged = merge(lines)  # a run has two lines only after a merge of two branches
    runs = tuple(read_run(line, path) for line in merged)
    return ArchiveFile(path=path, study_lines=tuple(studies), runs=runs, lines=tuple(merged), problems=tuple(problems))


def merge(lines: Iterable[Line]) -> list[Line]:
    """Returns the lines of runs by fingerprint: results by their start, then attempts; each run once.

    Of two lines of the same run the later counts, completed from the earlier. An attempt is dropped if a result has its
    start: it was continued.
    """
    found: dict[str, list[Line]] = {}
    for line in lines:
        group = found.setdefault(line["fingerprint"], [])
        place = next((i for i, held in enumerate(group) if same_run(line, held)), None)
        if place is None:
            group.append(line)
        else:
            group[place] = unite_lines(line, group[place])
    return [line for fingerprint in sorted(found) for line in _in_order(found[fingerprint])]


def _in_order(group: Iterable[Line]) -> list[Line]:
    def start(line: Line) -> int:
        return -1 if line.get("start_time") is None else int(line["start_time"])

    group = sorted(group, key=start)
    results = [line for line in group if kind_of(line) == RUN]
    continued = {line.get("start_time") for line in results}
    return results + [
        line for line in group if kind_of(line) == ENDED and line.get("start_time") not in continued - {None}
    ]


def add(file: ArchiveFile, studies: Iterable[StudyLine], lines: Iterable[Line]) -> tuple[ArchiveFile, list[str]]:
    """Writes the file with studies and runs added, completely or not at all; returns it with warnings.

    There is a warning for records that could not be united, and for each further result of a run. Studies are sorted by
    their keys. The newest parent run of a study counts. Raises StoreError for a file of which a line was left out.
    """
    if file.problems:
        raise StoreError(f"{file.problems[0]}; the file is not written anew without it")
    records: dict[StudyKey, StudyRecord] = {}
    added = [read_study(study_line(study)) for study in studies]  # as it will be read back, without passwords
    problems = add_records(records, [line.record for line in (*file.study_lines, *added)])
    parents = file.parents | {line.record.key: line.parent for line in added if line.parent is not None}
    merged = merge([*file.lines, *lines])
    problems += _further_results(file.lines, merged)
    content = [study_line(StudyLine(records[key], parents.get(key))) for key in sorted(records)] + merged
    write_whole(file.path, "".join(f"{encode(line)}\n" for line in content))
    return read_file(file.path), problems


def _further_results(before: Iterable[Line], merged: Iterable[Line]) -> list[str]:
    """A line for each result that is new and not the only one of its fingerprint."""
    held: dict[str, list[Line]] = {}
    for line in before:
        held.setdefault(line["fingerprint"], []).append(line)
    first: dict[str, Line] = {}
    problems = []
    for line in merged:
        fingerprint = line["fingerprint"]
        if kind_of(line) != RUN or first.setdefault(fingerprint, line) is line:
            continue
        counts = first[fingerprint]
        if any(not any(same_run(one, other) for other in held.get(fingerprint, ())) for one in (line, counts)):
            problems.append(
                f"{fingerprint[:12]}: two results, of test errors {_error(counts)} % and {_error(line)} %, "
                "are kept; the first, which started earlier, counts"
            )
    return problems


def _error(line: Mapping[str, Line]) -> object:
    return line["metrics"].get(names.FINAL_TEST_ERR)
