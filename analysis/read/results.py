"""Studies and runs of the tracking store and of the archive together, for tables, claims and figures."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.read.archive_file import ARCHIVE, ArchiveFile, read_folder
from analysis.read.mlflow_client import NoRunsError, StoreError
from analysis.read.mlflow_store import StoreContents, read_contents
from analysis.read.npz import read_arrays
from analysis.read.runs import Curves, RunData, group_runs, repeated_text, tidy
from analysis.read.schemas import Selection, folders_of_others, left_out_text, of_schema, only_schema
from records import names
from records.reading import UnreadableError, parse_object
from records.schema import CURRENT
from records.study_json import StudyKey, StudyRecord, add_records
from records.text import plain

if TYPE_CHECKING:  # a second and more of imports that --help does not need
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class Results:
    """All studies and runs; each run once by its fingerprint, whether from the store or the archive."""

    sources: tuple[str, ...]
    """as printed: "sqlite:///mlflow.db: 24 runs", the number of runs used from there, and of others"""
    studies: tuple[StudyRecord, ...]
    """one per (name, profile, data set, overrides), sorted by them"""
    runs: "pd.DataFrame"
    """as by runs.tidy: a row per fingerprint, sorted by it, with the columns runs.RUN_COLUMNS"""
    problems: tuple[str, ...]
    """messages about what could not be read"""
    remarks: tuple[str, ...] = ()
    """messages about runs that are not used, as is meant"""
    kept: Mapping[str, Sequence[RunData]] = field(default_factory=dict, repr=False, compare=False)
    """by fingerprint: the run that counts, then other copies of it, which may have curves or artifacts that it lacks"""

    @property
    def notes(self) -> list[str]:
        """Lines about the sources of the runs, what is not used of them, and what could not be read."""
        lines = [f"read {source}" for source in self.sources]
        return list(map(plain, [*lines, *self.remarks, *(f"warning: {problem}" for problem in self.problems)]))

    def curves(self, fingerprint: str) -> Curves:
        """Returns name -> [(step, value), ...] of train/*, val/*, test/* and response_*; {} if there are none."""
        return next((curves for run in self.kept.get(fingerprint, ()) if (curves := run.curves())), {})

    def probes(self, fingerprint: str) -> dict[str, Any] | None:
        """Returns the content of probes.json, None if it is missing or damaged."""
        return self._first(fingerprint, names.PROBES_JSON, _json_object)

    def spec(self, fingerprint: str) -> dict[str, Any] | None:
        """Returns the network's specification, None if it is missing or damaged."""
        return self._first(fingerprint, names.SPEC_JSON, _json_object)

    def masks(self, fingerprint: str) -> "dict[str, np.ndarray] | None":
        """Returns the arrays of masks.npz, None if it is missing or damaged."""
        return self._first(fingerprint, names.MASKS_NPZ, read_arrays)

    def _first(self, fingerprint: str, name: str, parse: Any) -> Any:
        for run in self.kept.get(fingerprint, ()):
            content = run.artifact(name)
            if content is not None and (parsed := parse(content)) is not None:
                return parsed
        return None


def read_results(
    tracking_uri: str | None = None,
    archive: Path | None = ARCHIVE,
    *,
    experiment: str | None = None,
    named: bool = False,
) -> Results:
    """Returns studies and runs of a tracking store and an archive folder; `archive` None: of the store alone.

    A store that `tracking_uri` or MLFLOW_TRACKING_URI names must hold runs of ours; the default one may be missing if
    the archive has runs. `experiment`: only that one, "ran/<data set>". Runs of another schema version than the current
    one are left out, which `problems` says, or `remarks` of those that are archived apart; but if the user `named` the
    archive and it holds one other version alone, the runs of that version are read. Raises StoreError.
    """
    every = [] if archive is None else read_folder(archive)
    files = [file for file in every if experiment is None or experiment in file.experiments]
    apart = [] if named or archive is None else folders_of_others(archive)
    store = _store(tracking_uri, experiment, may_be_missing=any(file.runs for file in [*every, *apart]))
    read = _together(store, files)
    schema = only_schema(files) if named else CURRENT
    left_out = left_out_text(read.runs, schema, files)
    elsewhere = left_out_text((run for file in apart for run in file.runs), schema, apart)
    if experiment is not None and not read.runs and not read.studies:
        there = {name for file in every for name in file.experiments} | set(store.experiments if store else ())
        others = ", ".join(sorted(there - {experiment})) or "nothing"
        raise StoreError(f"no runs in experiment {experiment!r}. There is: {others}.")
    chosen = of_schema(read, schema)
    if (left_out or elsewhere) and not chosen.runs and not chosen.studies:
        raise StoreError((left_out or elsewhere)[0])
    groups = group_runs(chosen.runs)
    records: dict[StudyKey, StudyRecord] = {}
    over = {fingerprint for fingerprint, group in groups.items() if group.results}
    problems = add_records(records, [record for record, _ in chosen.studies], over)
    studies = tuple(records[key] for key in sorted(records))
    repeated = repeated_text(len(group.results) for group in groups.values())
    counts = Counter(group.counts.source for group in groups.values())
    later = Counter(
        run.source for group in groups.values() for run in group.results if run.source != group.counts.source
    )
    sources = [*([store.uri] if store else []), *(str(file.path) for file in files)]
    return Results(
        sources=tuple(_source_text(source, counts[source], later[source]) for source in sources),
        studies=studies,
        runs=tidy(chosen.runs),
        problems=(
            *(store.problems if store else ()),
            *(problem for file in files for problem in file.problems),
            *left_out,
            *problems,
            *_strays(files, studies, chosen.runs),
        ),
        remarks=(
            *elsewhere,
            *([repeated] if repeated else []),
            *(["--archive none shows the results of the store alone"] if store and later[store.uri] else []),
        ),
        kept={fingerprint: group.copies for fingerprint, group in groups.items()},
    )


def results_of_parent(tracking_uri: str, parent: str) -> Results:
    """Returns the study of one parent run, by its id, with the runs of its store. Raises StoreError."""
    store = read_contents(tracking_uri, parent=parent)
    groups = group_runs(store.runs)
    return Results(
        sources=(_source_text(store.uri, len(groups)),),
        studies=tuple(found.record for found in store.parents),
        runs=tidy(store.runs),
        problems=store.problems,
        kept={fingerprint: group.copies for fingerprint, group in groups.items()},
    )


def _source_text(source: str, runs: int, later: int = 0) -> str:
    """Returns e.g. "sqlite:///mlflow.db: 22 runs; 2 others have an earlier result elsewhere"."""
    text = f"{source}: {runs} run{'' if runs == 1 else 's'}"
    others = "1 other has" if later == 1 else f"{later} others have"
    return f"{text}; {others} an earlier result elsewhere" if later else text


def _store(tracking_uri: str | None, experiment: str | None, *, may_be_missing: bool) -> StoreContents | None:
    try:
        return read_contents(tracking_uri, experiment=experiment)
    except NoRunsError:
        if tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or not may_be_missing:
            raise
        return None


def _together(store: StoreContents | None, files: Sequence[ArchiveFile]) -> Selection:
    """Everything that was read: of studies the store's last, of which the later counts.

    Of runs the store's come first: of two copies of a run the first counts, and the store's has all artifacts.
    """
    studies = [(line.record, line.parent) for file in files for line in file.study_lines]
    runs = [run for file in files for run in file.runs]
    if store is not None:
        studies += [(found.record, found.parent) for found in store.parents]
        runs = [*store.runs, *runs]
    return Selection(tuple(studies), tuple(runs))


def _strays(files: Sequence[ArchiveFile], studies: Sequence[StudyRecord], runs: Sequence[RunData]) -> list[str]:
    """A message for each file whose runs are read and in no study: the first archives kept no records."""
    planned = {run.fingerprint for study in studies for run in study.runs}
    found: dict[str, set[str]] = {}
    for run in runs:
        found.setdefault(run.source, set()).add(run.fingerprint)
    return [
        f"{file.path} is in no table: no study's record here lists any of its {len(of_file)} runs"
        for file in files
        if (of_file := found.get(str(file.path))) and not planned & of_file
    ]


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        return parse_object(content)
    except UnreadableError:
        return None
