"""Runs of one schema version: analysis never puts runs of two versions together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.read.archive_file import ArchiveFile
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


def left_out_text(read: Selection, schema: int, archive: Path | None, files: Sequence[ArchiveFile]) -> list[str]:
    """Returns one line about the runs of other schema versions, with what tables them; [] if there are none."""
    others = {run.fingerprint: run.schema for run in read.runs if run.schema != schema}
    if not others:
        return []
    counts = Counter(others.values())
    listed = " and ".join(
        f"{number} run{'' if number == 1 else 's'} of schema {version}" for version, number in sorted(counts.items())
    )
    text = f"{listed} {'is' if len(others) == 1 else 'are'} left out"
    if schema != CURRENT or len(counts) > 1 or archive is None:
        return [f"{text}: tables are of one schema, here {schema}"]
    (version,) = counts
    apart = archive / f"schema-{version}"
    if any(file.runs for file in files) and only_schema(files) == version:
        apart = archive
    if not apart.is_dir():
        return [f"{text}: tables are of one schema, here {schema}"]
    return [f"{text}; name their archive with --archive {apart} to table them"]
