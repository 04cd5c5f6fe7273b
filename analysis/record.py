"""The record of a study in its parent run's study.json: what was planned, so that analysis knows what is missing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA = 1

Value = str | int | float | bool


class RecordError(ValueError):
    """A study.json that cannot be read; the message is one line and names the field."""


@dataclass(frozen=True)
class Axis:
    """One axis of the grid: its config name, its column header, its values and how each is printed."""

    name: str
    header: str
    values: tuple[Value, ...]
    labels: tuple[str, ...]

    def label(self, value: Value) -> str:
        """How `value` is printed."""
        return self.labels[self.values.index(value)]


@dataclass(frozen=True)
class Compare:
    """Which comparison the table is about: every value of `axis` against `baseline`, the other axes equal."""

    axis: str
    baseline: Value


@dataclass(frozen=True)
class PlannedRun:
    """One cell x seed of the study, run or not. `cell` holds one value per axis, in the order of the axes."""

    fingerprint: str
    cell: tuple[Value, ...]
    seed: int


@dataclass(frozen=True)
class Study:
    """One (study, profile, data set, overrides). `table`: the paper's that it fills, None for a user's own study."""

    name: str
    title: str
    table: str | None
    profile: str
    dataset: str
    overrides: Mapping[str, Any]
    selection: str
    axes: tuple[Axis, ...]
    compare: Compare | None
    runs: tuple[PlannedRun, ...]

    @property
    def canonical_overrides(self) -> str:
        """The overrides as canonical JSON, "{}" without."""
        return json.dumps(self.overrides, sort_keys=True)

    def cells(self) -> dict[tuple[Value, ...], dict[int, str]]:
        """The cells in the order of the axes, the first outermost; each maps its seeds to fingerprints.

        Where a cell and seed stand twice (a config that changed between launches), the later entry counts.
        """
        grouped: dict[tuple[Value, ...], dict[int, str]] = {}
        for run in self.runs:
            grouped.setdefault(run.cell, {})[run.seed] = run.fingerprint
        place = [{value: i for i, value in enumerate(axis.values)} for axis in self.axes]
        order = sorted(grouped, key=lambda cell: [place[i][value] for i, value in enumerate(cell)])
        return {cell: dict(sorted(grouped[cell].items())) for cell in order}


def parse_study(text: str) -> Study:
    """Returns the study that a study.json describes. Raises RecordError for any that is not consistent schema 1."""
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordError(f"study.json is not JSON: {error}") from None
    schema = _field(raw, "schema", int)
    if schema != SCHEMA:
        raise RecordError(f"study.json has schema {schema}, this version reads {SCHEMA}")
    axes = tuple(_axis(item) for item in _field(raw, "axes", list))
    if len({axis.name for axis in axes}) != len(axes):
        raise RecordError("study.json names an axis twice")
    runs = tuple(_run(item, axes) for item in _field(raw, "runs", list))
    return Study(
        name=_field(raw, "study", str),
        title=_field(raw, "title", str),
        table=_optional(raw, "table", str),
        profile=_field(raw, "profile", str),
        dataset=_field(raw, "dataset", str),
        overrides=_field(raw, "overrides", dict),
        selection=_field(raw, "selection", str),
        axes=axes,
        compare=_compare(_optional(raw, "compare", dict), axes),
        runs=runs,
    )


def _axis(raw: Any) -> Axis:
    values, labels = _field(raw, "values", list), _field(raw, "labels", list)
    name = _field(raw, "name", str)
    if len(values) != len(labels) or not values:
        raise RecordError(f"study.json: axis {name!r} has {len(values)} values and {len(labels)} labels")
    if not all(isinstance(value, Value) for value in values):
        raise RecordError(f"study.json: axis {name!r} has a value that is neither text nor a number")
    return Axis(name, _field(raw, "header", str), tuple(values), tuple(str(label) for label in labels))


def _run(raw: Any, axes: tuple[Axis, ...]) -> PlannedRun:
    cell = _field(raw, "cell", dict)
    if set(cell) != {axis.name for axis in axes}:
        raise RecordError(f"study.json: cell {cell} does not name the axes {[axis.name for axis in axes]}")
    for axis in axes:
        if cell[axis.name] not in axis.values:
            raise RecordError(f"study.json: {cell[axis.name]!r} is not a value of axis {axis.name!r}")
    return PlannedRun(
        _field(raw, "fingerprint", str), tuple(cell[axis.name] for axis in axes), _field(raw, "seed", int)
    )


def _compare(raw: Any, axes: tuple[Axis, ...]) -> Compare | None:
    if raw is None:
        return None
    name, baseline = _field(raw, "axis", str), raw.get("baseline")
    if not any(axis.name == name and baseline in axis.values for axis in axes):
        raise RecordError(f"study.json compares against {name}={baseline!r}, which no axis has")
    return Compare(name, baseline)


def _field(raw: Any, key: str, kind: type) -> Any:
    if not isinstance(raw, dict) or key not in raw:
        raise RecordError(f"study.json has no {key!r} where one is due")
    if not isinstance(raw[key], kind):
        raise RecordError(f"study.json: {key!r} is {raw[key]!r}, not {kind.__name__}")
    return raw[key]


def _optional(raw: Any, key: str, kind: type) -> Any:
    return None if isinstance(raw, dict) and raw.get(key) is None else _field(raw, key, kind)
