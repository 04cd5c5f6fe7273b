"""Runs of one schema version: analysis never puts runs of two versions together."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.read.archive_file import ArchiveFile, read_folder
from analysis.read.runs import RunData, StudyParent
from records import names
from records.schema import CURRENT, schema_of
from records.study_json import StudyRecord


@dataclass(frozen=True)
class Selection:
    """Studies with their parent runs, None in archives of before, and runs."""

    studies: tuple[tuple[StudyRecord, StudyParent | None], ...]
    runs: tuple[RunData, ...]


def only_schema(files: Sequence[ArchiveFile]) -> int:
    """Returns the schema version of all runs of the files, or CURRENT if they have several or none."""
    found = {run.schema for file in files for run in file.runs}
    return found.pop() if len(found) == 1 else CURRENT


def of_schema(read: Selection, schema: int) -> Selection:
    """Returns the runs of one schema version and their studies.

    A study is of the version in its parent's tags, else of the version of its runs; without runs it is kept.
    """
    versions: dict[str, set[int]] = {}
    for run in read.runs:
        versions.setdefault(run.fingerprint, set()).add(run.schema)
    studies = tuple((record, parent) for record, parent in read.studies if _is_of(record, parent, schema, versions))
    return Selection(studies, tuple(run for run in read.runs if run.schema == schema))


def _is_of(record: StudyRecord, parent: StudyParent | None, schema: int, versions: Mapping[str, set[int]]) -> bool:
    if parent is not None and names.SCHEMA in parent.tags:
        return schema_of(parent.tags) == schema
    found = {version for run in record.runs for version in versions.get(run.fingerprint, ())}
    return schema in found or not found


def folders_of_others(archive: Path) -> list[ArchiveFile]:
    """Returns the archive files of other schema versions, in the folders schema-<version> of an archive."""
    return [file for folder in sorted(archive.glob("schema-*")) for file in read_folder(folder)]


def left_out_text(runs: Iterable[RunData], schema: int, files: Sequence[ArchiveFile] = ()) -> list[str]:
    """Returns one line about the runs of other versions than `schema`, with what tables them; [] if there are none.

    `files` are the archive files among what was read.
    """
    versions = {run.fingerprint: run.schema for run in runs}
    counts = Counter(version for version in versions.values() if version != schema)
    if not counts:
        return []
    listed = " and ".join(
        f"{number} run{'' if number == 1 else 's'} of schema {version}" for version, number in sorted(counts.items())
    )
    text = f"{listed} are left out" if counts.total() > 1 else f"1 run of schema {min(counts)} is left out"
    if len(counts) > 1 or not files or only_schema(files) not in counts:
        return [f"{text}: here are those of schema {schema}, and no table has both"]
    return [f"{text}; name their archive with --archive {files[0].path.parent} to table them"]
