"""The lines of an archive file, as compact JSON: what each holds of a study or a run, and how it is read back.

A study is {"kind": "study", "study": study.json, "parent": {"key", "name", "tags", "note"}}. A result is {"kind":
"run", "fingerprint", "name", "tags", "params", "metrics", "start_time": ms, "end_time": ms, "curves": {name: [[step,
value], ...]}, "spec", "probes", "provenance", "masks": base64 of masks.npz, "test_correct": {"count", "bits": base64 of
the packed bits}}. An attempt that failed or was killed is {"kind": "ended"}, the same without curves and artifacts.

Archives of before lack "parent", "name", "end_time", "provenance", "test_correct" and ended attempts, and have other
names of metrics, which `decode` replaces. Lines of the first version have no kind: they are runs without start_time,
spec and probes. Numbers that are not finite are null.
"""

import base64
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.read.npz import read_arrays
from analysis.read.runs import RunData, StudyParent, is_same_run
from analysis.read.sane_run import checked, checked_curves, checked_json, checked_parent
from records import names, sane
from records.sane import OutOfRangeError
from records.secrets import hide_folders, mask_secrets
from records.study_json import StudyRecord

STUDY, RUN, ENDED = "study", "run", "ended"
_JSON = {names.SPEC_JSON: "spec", names.PROBES_JSON: "probes", names.PROVENANCE_JSON: "provenance"}
_TEST_CORRECT = "test_correct"
_ADDED_LATER = ("curves", "spec", "probes", "provenance", "masks", _TEST_CORRECT, "start_time", "end_time", "name")
Line = dict[str, Any]


@dataclass(frozen=True)
class StudyLine:
    """The record of a study, and its parent run; None in archives of before."""

    record: StudyRecord
    parent: StudyParent | None


def kind_of(line: Line) -> str:
    """Returns STUDY, RUN or ENDED. Raises ValueError."""
    kind = str(line.get("kind", RUN))
    if kind not in (STUDY, RUN, ENDED):
        raise ValueError(f"kind {kind!r} is neither {STUDY} nor {RUN} nor {ENDED}")
    return kind


def encode(line: Line) -> str:
    """Returns a line as text, without its end."""
    return json.dumps(_finite(line), sort_keys=True, separators=(",", ":"))


def decode(text: str) -> Line:
    """Returns a line from its text, metrics and curves by their present names.

    Raises ValueError, of which OutOfRangeError if the text is JSON beyond measure.
    """
    try:
        line = _object(json.loads(text), "the line")
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise OutOfRangeError("it is nested too deeply") from None
    except ValueError as error:
        if "digits" in str(error):
            raise OutOfRangeError("it has a number of thousands of digits") from None
        raise
    by_name = {key: line[key] for key in ("metrics", "curves") if isinstance(line.get(key), dict)}
    return line | {key: names.current_metrics(held) for key, held in by_name.items()}


def study_line(study: StudyLine) -> Line:
    """Returns the line of a study, passwords and folders masked."""
    line: Line = {"kind": STUDY, "study": study.record.to_json()}
    if study.parent is not None:
        parent = study.parent
        line["parent"] = {"key": parent.key, "name": parent.name, "tags": dict(parent.tags), "note": parent.note}
    return {key: _publishable(value) for key, value in line.items()}


def read_study(line: Line) -> StudyLine:
    """Returns the study in a line. Raises KeyError, and ValueError like StudyRecord.from_json."""
    record = StudyRecord.from_json(line["study"])
    if line.get("parent") is None:
        return StudyLine(record, None)
    raw = _object(line["parent"], "parent")
    tags = _texts(raw["tags"], "tags")
    parent = StudyParent(key=str(raw["key"]), name=str(raw["name"]), tags=tags, note=str(raw["note"]))
    return StudyLine(record, checked_parent(parent))


def run_line(run: RunData, *, masks: bool) -> Line:
    """Returns the line of a result: curves with six significant digits, `masks` only if asked for.

    Passwords and the folders of absolute paths are masked.
    """
    line = _head(RUN, run) | {
        "curves": {
            name: [[step, float(f"{value:.6g}")] for step, value in points] for name, points in run.curves().items()
        },
        **{key: _parsed(run.artifact(name)) for name, key in _JSON.items()},
    }
    line["provenance"] = _publishable(line["provenance"])  # the others hold numbers, some of them as base64
    arrays = run.artifact(names.MASKS_NPZ) if masks else None
    bits = _packed(run.artifact(names.TEST_CORRECT))
    line |= {} if arrays is None else {"masks": base64.b64encode(arrays).decode("ascii")}
    return line if bits is None else line | {_TEST_CORRECT: bits}


def ended_line(run: RunData) -> Line:
    """Returns the line of an attempt that failed or was killed; its tags say which, and why."""
    return _head(ENDED, run)


def _head(kind: str, run: RunData) -> Line:
    line: Line = {
        "kind": kind,
        "fingerprint": run.fingerprint,
        "tags": _publishable(run.tags),
        "params": _publishable(run.params),
        "metrics": dict(run.metrics),
        "start_time": run.start_time,
    }
    line |= {"name": run.name} if run.name else {}
    return line if run.end_time is None else line | {"end_time": run.end_time}


def read_run(line: Line, path: Path) -> RunData:
    """Returns the run in a line of the file `path`. Raises KeyError, TypeError and ValueError.

    The ValueError is OutOfRangeError for values that no run of ours has.
    """
    points = _object(line["curves"] if kind_of(line) == RUN else {}, "curves")
    curves = {name: [(step, _number(value)) for step, value in curve] for name, curve in points.items()}
    start, end = line.get("start_time"), line.get("end_time")
    checked_curves(curves)
    return checked(RunData(
        fingerprint=str(line["fingerprint"]),
        source=str(path),
        run_id="",
        start_time=start,
        tags=_texts(line["tags"], "tags"),
        params=_texts(line["params"], "params"),
        metrics={str(key): _number(value) for key, value in _object(line["metrics"], "metrics").items()},
        curves=lambda: curves,
        artifact=_artifacts(line),
        name=str(line.get("name", "")),
        end_time=end,
    ))  # fmt: skip


def _artifacts(line: Line) -> Any:
    """The function from names to contents of the artifacts in a line."""
    masks = None if line.get("masks") is None else base64.b64decode(line["masks"], validate=True)
    bits, count = None, 0
    if line.get(_TEST_CORRECT) is not None:
        raw = _object(line[_TEST_CORRECT], _TEST_CORRECT)
        bits, count = base64.b64decode(raw["bits"], validate=True), sane.integer(raw["count"], "its count")
        if len(bits) != (count + 7) // 8:
            raise ValueError(f"{_TEST_CORRECT} has {len(bits)} bytes for {count} images")

    def artifact(name: str) -> bytes | None:
        if name == names.MASKS_NPZ:
            return masks
        if name == names.TEST_CORRECT:
            return None if bits is None else _unpacked(bits, count)
        content = line.get(_JSON.get(name, ""))
        return None if content is None else checked_json(name, json.dumps(content).encode())

    return artifact


def _packed(content: bytes | None) -> dict[str, Any] | None:
    """{"count", "bits"} of the content of test_correct.npz; None without the artifact, and for a damaged one."""
    arrays = None if content is None else read_arrays(content)
    if arrays is None or not {"correct", "count"} <= arrays.keys():
        return None
    bits, count = arrays["correct"].astype("uint8"), int(arrays["count"])
    whole = bits.size == (count + 7) // 8
    return {"count": count, "bits": base64.b64encode(bits.tobytes()).decode("ascii")} if whole else None


def _unpacked(bits: bytes, count: int) -> bytes:
    """The content of test_correct.npz."""
    import numpy as np

    out = io.BytesIO()
    np.savez_compressed(out, correct=np.frombuffer(bits, dtype=np.uint8), count=np.array(count))
    return out.getvalue()


def same_run(line: Line, held: Line) -> bool:
    """Whether two lines of one fingerprint hold the same run: results as by `is_same_run`, attempts by their start."""
    start, before = line.get("start_time"), held.get("start_time")
    if kind_of(line) != kind_of(held):
        return False
    return start == before if kind_of(line) == ENDED else is_same_run(start, line["metrics"], before, held["metrics"])


def unite_lines(line: Line, held: Line) -> Line:
    """Returns one line of two of the same run: `line` completed from `held`, or the reverse if it has no start."""
    if line.get("start_time") is None:
        line, held = held, line
    filled = {key: held[key] for key in _ADDED_LATER if held.get(key) and not line.get(key)}
    return line | filled


def _object(content: Any, what: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{what} is no object")
    return content


def _texts(content: Any, what: str) -> dict[str, str]:
    return {str(key): str(value) for key, value in _object(content, what).items()}


def _number(value: Any) -> float:
    return sane.number(value, "a number")


def _parsed(content: bytes | None) -> Any:
    try:
        return None if content is None else json.loads(content)
    except ValueError:
        return None


def _publishable(content: Any) -> Any:
    if isinstance(content, str):
        return hide_folders(mask_secrets(content))
    if isinstance(content, Mapping):
        return {key: _publishable(value) for key, value in content.items()}
    return [_publishable(value) for value in content] if isinstance(content, list) else content


def _finite(content: Any) -> Any:
    """The same content with null for numbers that JSON does not have."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list) else content
