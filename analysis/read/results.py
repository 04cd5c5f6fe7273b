"""Studies and runs of the tracking store and of the archive together, for tables, claims and figures."""

import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.read.archive_file import ARCHIVE, ArchiveFile, read_folder
from analysis.read.mlflow_client import NoRunsError, StoreError
from analysis.read.mlflow_store import read_contents
from analysis.read.runs import RESULTS, Curves, RunData, tidy
from records import names
from records.study_json import StudyKey, StudyRecord, add_records

if TYPE_CHECKING:  # a second and more of imports that --help does not need
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class Results:
    """All studies and runs; each run once by its fingerprint, whether from the store or the archive."""

    sources: tuple[str, ...]
    """as printed: "sqlite:///mlflow.db: 24 runs", the number of runs used from there"""
    studies: tuple[StudyRecord, ...]
    """one per (name, profile, data set, overrides), sorted by them"""
    runs: "pd.DataFrame"
    """a row per fingerprint, sorted by it, with the columns runs.RUN_COLUMNS"""
    problems: tuple[str, ...]
    """messages about what could not be read"""
    kept: Mapping[str, Sequence[RunData]] = field(default_factory=dict, repr=False, compare=False)
    """by fingerprint: the run that counts, then other copies, which may have curves or artifacts that it lacks"""

    @property
    def notes(self) -> list[str]:
        """Lines about the sources of the runs and about what could not be read."""
        return [f"read {source}" for source in self.sources] + [f"warning: {problem}" for problem in self.problems]

    def curves(self, fingerprint: str) -> Curves:
        """Returns name -> [(step, value), ...] of train/*, val/*, test/* and response/*; {} if there are none."""
        return next((curves for run in self.kept.get(fingerprint, ()) if (curves := run.curves())), {})

    def probes(self, fingerprint: str) -> dict[str, Any] | None:
        """Returns the content of probes.json, None if it is missing or damaged."""
        return self._first(fingerprint, names.PROBES_JSON, _json_object)

    def spec(self, fingerprint: str) -> dict[str, Any] | None:
        """Returns the network's specification, None if it is missing or damaged."""
        return self._first(fingerprint, names.SPEC_JSON, _json_object)

    def masks(self, fingerprint: str) -> "dict[str, np.ndarray] | None":
        """Returns the arrays of masks.npz, None if it is missing or damaged."""
        return self._first(fingerprint, names.MASKS_NPZ, _arrays)

    def _first(self, fingerprint: str, name: str, parse: Any) -> Any:
        for run in self.kept.get(fingerprint, ()):
            content = run.artifact(name)
            if content is not None and (parsed := parse(content)) is not None:
                return parsed
        return None


def read_results(
    tracking_uri: str | None = None, archive: Path | None = ARCHIVE, *, experiment: str | None = None
) -> Results:
    """Returns studies and runs of a tracking store and an archive folder; `archive` None: of the store alone.

    A store that `tracking_uri` or MLFLOW_TRACKING_URI names must hold runs of ours; the default one may be missing if
    the archive has runs. `experiment`: only that one, "ran/<data set>". Raises StoreError.
    """
    records: dict[StudyKey, StudyRecord] = {}
    problems: list[str] = []
    every = [] if archive is None else read_folder(archive)
    there = {name for file in every for name in file.experiments}
    files = [file for file in every if experiment is None or experiment in file.experiments]
    planned = [record for file in files for record in file.studies]
    runs = [run for file in files for run in file.runs]
    sources = [str(file.path) for file in files]
    try:
        store = read_contents(tracking_uri, experiment=experiment)
    except NoRunsError:
        if tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or not any(file.runs for file in every):
            raise
    else:
        problems += store.problems
        planned += [parent.record for parent in store.parents]
        runs = [
            *store.runs,
            *runs,
        ]  # the store's first: if two copies have the same start, the store's has all artifacts
        sources = [store.uri, *sources]
        there |= set(store.experiments)
    over = {run.fingerprint for run in runs if run.outcome in RESULTS}
    problems += add_records(records, planned, over)
    if experiment is not None and not runs and not records:
        others = ", ".join(sorted(there - {experiment})) or "nothing"
        raise StoreError(f"no runs in experiment {experiment!r}. There is: {others}.")
    kept: dict[str, list[RunData]] = {}
    for run in sorted(runs, key=lambda run: run.rank, reverse=True):
        kept.setdefault(run.fingerprint, []).append(run)
    chosen = [kept[fingerprint][0] for fingerprint in sorted(kept)]
    studies = tuple(records[key] for key in sorted(records))
    counts = Counter(run.source for run in chosen)
    return Results(
        sources=tuple(f"{source}: {counts[source]} run{'' if counts[source] == 1 else 's'}" for source in sources),
        studies=studies,
        runs=tidy(chosen),
        problems=(*problems, *_strays(files, studies)),
        kept=kept,
    )


def _strays(files: Sequence[ArchiveFile], studies: Sequence[StudyRecord]) -> list[str]:
    """A message for each file whose runs are in no study: the first archives kept no records."""
    planned = {run.fingerprint for study in studies for run in study.runs}
    return [
        f"{file.path} is in no table: no study's record here lists any of its {len(file.runs)} runs"
        for file in files
        if file.runs and not planned & file.lines.keys()
    ]


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(content)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _arrays(content: bytes) -> "dict[str, np.ndarray] | None":
    import numpy as np

    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception:  # zip, header and compressed stream raise errors of their own
        return None
