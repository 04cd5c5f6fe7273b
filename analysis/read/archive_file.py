"""Reading, merging and writing the archive's files: one line per study and one per run, as compact JSON.

{"kind": "study", "study": study.json} and {"kind": "run", "fingerprint", "tags", "params", "metrics", "start_time": ms,
"curves": {name: [[step, value], ...]}, "spec", "probes", "masks": base64 of masks.npz}. Lines of the first version have
no kind: they are runs without start_time, spec and probes. Numbers that are not finite are written as null.
"""

import base64
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.read.mlflow_client import StoreError
from analysis.read.runs import RunData
from records import names
from records.errors import first_line
from records.files import write_whole
from records.secrets import mask_secrets
from records.study_json import StudyKey, StudyRecord, add_records

ARCHIVE = Path("results/archive")
_FIELD = {names.SPEC_JSON: "spec", names.PROBES_JSON: "probes"}
Line = dict[str, Any]


@dataclass(frozen=True)
class ArchiveFile:
    """One file of the archive: the records of its studies, its runs, and the runs' lines by fingerprint."""

    path: Path
    studies: tuple[StudyRecord, ...]
    runs: tuple[RunData, ...]
    lines: Mapping[str, Line]

    @property
    def experiments(self) -> set[str]:
        """The MLflow experiments that its studies and runs come from, as "ran/cifar10"."""
        datasets = {study.dataset for study in self.studies} | {run.tags.get(names.DATASET) for run in self.runs}
        return {f"{names.EXPERIMENT_PREFIX}{dataset}" for dataset in datasets if dataset}


def read_folder(folder: Path) -> list[ArchiveFile]:
    """Returns the files of an archive folder by name; none if the folder is missing. Raises StoreError."""
    return [read_file(path) for path in sorted(folder.glob("*.jsonl"))]


def read_file(path: Path) -> ArchiveFile:
    """Returns an archive file, empty if it is missing. Raises StoreError, with the number of a damaged line."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read: {first_line(str(error))}") from None
    studies: list[StudyRecord] = []
    runs: dict[str, RunData] = {}
    lines: dict[str, Line] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            content = _object(json.loads(line), "the line")
            kind = content.get("kind", "run")
            if kind == "study":
                studies.append(StudyRecord.from_json(content["study"]))
            elif kind == "run":
                # A run has two lines only after a merge of two branches.
                fingerprint = content["fingerprint"]
                content = unite_lines(content, lines[fingerprint]) if fingerprint in lines else content
                runs[fingerprint], lines[fingerprint] = _run(content, path), content
            else:
                raise ValueError(f"kind {kind!r} is neither study nor run")
        except KeyError as error:
            raise StoreError(f"{path} is damaged in line {number}: it has no {error}") from None
        except (ValueError, TypeError) as error:
            raise StoreError(f"{path} is damaged in line {number}: {first_line(str(error))}") from None
    return ArchiveFile(path=path, studies=tuple(studies), runs=tuple(runs.values()), lines=lines)


def _object(content: Any, what: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{what} is no object")
    return content


def _run(line: Line, path: Path) -> RunData:
    tags, params, metrics, points = (_object(line[key], key) for key in ("tags", "params", "metrics", "curves"))

    masks = None if line.get("masks") is None else base64.b64decode(line["masks"], validate=True)

    def artifact(name: str) -> bytes | None:
        if name == names.MASKS_NPZ:
            return masks
        content = line.get(_FIELD.get(name, ""))
        return None if content is None else json.dumps(content).encode()

    curves = {name: [(int(step), _number(value)) for step, value in curve] for name, curve in points.items()}
    start = line.get("start_time")
    return RunData(
        fingerprint=str(line["fingerprint"]),
        source=str(path),
        run_id="",
        start_time=None if start is None else int(start),
        tags={str(key): str(value) for key, value in tags.items()},
        params={str(key): str(value) for key, value in params.items()},
        metrics={str(key): _number(value) for key, value in metrics.items()},
        curves=lambda: curves,
        artifact=artifact,
    )


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def run_line(run: RunData, *, masks: bool) -> Line:
    """Returns the line of a run: curves with six significant digits, masks only if asked for, passwords masked."""
    line: Line = {
        "kind": "run",
        "fingerprint": run.fingerprint,
        "tags": _without_passwords(run.tags),
        "params": _without_passwords(run.params),
        "metrics": dict(run.metrics),
        "curves": {
            name: [[step, float(f"{value:.6g}")] for step, value in points] for name, points in run.curves().items()
        },
        "start_time": run.start_time,
        "spec": _parsed(run.artifact(names.SPEC_JSON)),
        "probes": _parsed(run.artifact(names.PROBES_JSON)),
    }
    arrays = run.artifact(names.MASKS_NPZ) if masks else None
    return line if arrays is None else line | {"masks": base64.b64encode(arrays).decode("ascii")}


def _parsed(content: bytes | None) -> Any:
    try:
        return None if content is None else json.loads(content)
    except ValueError:
        return None


def _without_passwords(content: Any) -> Any:
    if isinstance(content, str):
        return mask_secrets(content)
    if isinstance(content, Mapping):
        return {key: _without_passwords(value) for key, value in content.items()}
    return [_without_passwords(value) for value in content] if isinstance(content, list) else content


def unite_lines(line: Line, held: Line) -> Line:
    """Returns one line of two with the same fingerprint: the newer one, completed from the older one."""

    def start(content: Line) -> int:
        return -1 if content.get("start_time") is None else int(content["start_time"])

    newer, older = (line, held) if start(line) >= start(held) else (held, line)
    filled = {key: older[key] for key in ("curves", "spec", "probes", "masks") if older.get(key) and not newer.get(key)}
    return newer | filled


def add(file: ArchiveFile, studies: Iterable[StudyRecord], lines: Iterable[Line]) -> tuple[ArchiveFile, list[str]]:
    """Writes the file with studies and runs added, completely or not at all; returns it with warnings.

    There is a warning for records that could not be united, and for each result that is replaced by a newer one of the
    same run: it may differ on another machine, and tables made before show the old one. Studies are sorted by their
    keys, then runs by fingerprint.
    """
    records: dict[StudyKey, StudyRecord] = {}
    added = [StudyRecord.from_json(_without_passwords(study.to_json())) for study in studies]
    problems = add_records(records, [*file.studies, *added])
    runs = dict(file.lines)
    for line in lines:
        held = runs.get(line["fingerprint"])
        runs[line["fingerprint"]] = kept = line if held is None else unite_lines(line, held)
        if held is not None and (before := _error(held)) != (now := _error(kept)):
            problems.append(f"{line['fingerprint'][:12]}: test error {now} % replaces {before} %, of an older run")
    content = [{"kind": "study", "study": records[key].to_json()} for key in sorted(records)]
    content += [runs[key] for key in sorted(runs)]
    text = "".join(f"{json.dumps(_finite(line), sort_keys=True, separators=(',', ':'))}\n" for line in content)
    write_whole(file.path, text)
    return read_file(file.path), problems


def _error(line: Line) -> Any:
    return line["metrics"].get(names.FINAL_TEST_ERR)


def _finite(content: Any) -> Any:
    """The same content with null for numbers that JSON does not have."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list) else content
