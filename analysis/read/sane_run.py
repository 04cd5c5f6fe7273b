"""Checks a run that was read: its tags, parameters, metrics and times are data that somebody else can have made."""

from typing import Any

from analysis.read.runs import COMMIT, Curves, RunData, StudyParent
from records import names, sane
from records.reading import UnreadableError, parse_object

LAST_STEP = 10**12
MOST_TAGS = 10_000
"""tags, parameters or metrics of a run"""
MOST_UNITS = 1_000
"""greatest count in a network's specification, of its stages, modules and units"""
WIDEST = 10**6
"""greatest number of channels in a network's specification"""
PERCENT = (names.FINAL_TEST_ERR, names.FINAL_VAL_ERR)
NAMES = (names.STUDY, names.PROFILE, names.DATASET)


def checked(run: RunData) -> RunData:
    """Returns the run. Raises OutOfRangeError for a value that no run of ours has, and TypeError for its type.

    Curves and artifacts are not read here; see `checked_curves` and `checked_json`.
    """
    sane.digits(run.fingerprint, "its fingerprint")
    sane.line(run.name, "its name", sane.LONGEST_TITLE)
    for what, time in (("start_time", run.start_time), ("end_time", run.end_time)):
        if time is not None:
            sane.milliseconds(time, what)
    for what, texts in (("tag", run.tags), ("parameter", run.params)):
        sane.entries(texts, f"its {what}s", MOST_TAGS)
        for key, value in texts.items():
            sane.line(key, f"the name of a {what}", sane.LONGEST_TITLE)
            sane.text(value, f"{what} {key}")
    for key in NAMES:
        if run.tags.get(key):
            sane.name(run.tags[key], f"tag {key}")
    if commit := run.tags.get(COMMIT):
        sane.digits(commit, f"tag {COMMIT}")
    sane.entries(run.metrics, "its metrics", MOST_TAGS)
    for key, metric in run.metrics.items():
        sane.line(key, "the name of a metric", sane.LONGEST_TITLE)
        sane.number(metric, f"metric {key}", 100.0 if key in PERCENT else sane.GREATEST)
    return run


def checked_parent(parent: StudyParent) -> StudyParent:
    """Returns a study's parent run. Raises OutOfRangeError."""
    sane.digits(parent.key, "the parent's key")
    sane.line(parent.name, "the parent's name", sane.LONGEST_TEXT)
    sane.text(parent.note, "the parent's note")
    for key, value in parent.tags.items():
        sane.line(key, "the name of a tag", sane.LONGEST_TITLE)
        sane.text(value, f"tag {key}")
    return parent


def checked_curves(curves: Curves) -> Curves:
    """Returns curves. Raises OutOfRangeError, and TypeError for a step or value that is no number."""
    sane.entries(curves, "its curves", MOST_TAGS)
    for name, points in curves.items():
        sane.line(name, "the name of a curve", sane.LONGEST_TITLE)
        sane.entries(points, f"curve {name}")
        for step, value in points:
            sane.integer(step, f"a step of curve {name}", 0, LAST_STEP)
            sane.number(value, f"a value of curve {name}")
    return curves


def checked_json(name: str, content: bytes) -> bytes | None:
    """Returns the content of a JSON artifact; None if it is none that a run of ours leaves."""
    try:
        found = sane.tree(parse_object(content), name)
        if name == names.SPEC_JSON:
            _check_spec(found)
    except (UnreadableError, sane.OutOfRangeError, TypeError):
        return None
    return content


def _check_spec(spec: dict[str, Any]) -> None:
    """Raises OutOfRangeError for a network that would take minutes to draw."""
    sane.entries(spec.get("stages") or (), "its stages", 100)
    left: list[tuple[str, Any]] = list(spec.items())
    while left:
        key, value = left.pop()
        if isinstance(value, dict):
            left += value.items()
        elif isinstance(value, list):
            left += [(key, one) for one in value]
        elif isinstance(value, int):
            sane.integer(int(value), key, 0, WIDEST if "channels" in key or key == "bottleneck" else MOST_UNITS)
        elif isinstance(value, str):
            sane.line(value, key)
