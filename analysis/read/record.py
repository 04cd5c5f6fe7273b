"""The record of a study in its parent run's study.json: what was planned, so that analysis knows what is missing."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
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
class Network:
    """The network that a cell trains, where a name and a width say it all: what a file of costs can know."""

    name: str
    width: float
    mask_structure: str
    num_classes: int
    image_size: int


@dataclass(frozen=True)
class Study:
    """One (study, profile, data set, overrides). `table`: the paper's that it fills, None for a user's own study.

    `command` and `networks` (by cell) are absent from records of earlier versions.
    """

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
    command: str | None = None
    networks: Mapping[tuple[Value, ...], Network] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes two records one study: name, profile, data set, overrides."""
        return self.name, self.profile, self.dataset, self.canonical_overrides

    @property
    def canonical_overrides(self) -> str:
        """The overrides as canonical JSON, "{}" without."""
        return json.dumps(self.overrides, sort_keys=True)

    @property
    def profile_name(self) -> str:
        """The profile without its version: "short" of "short-1"."""
        name, _, version = self.profile.rpartition("-")
        return name if version.isdecimal() else self.profile

    def baseline_of(self, cell: tuple[Value, ...]) -> tuple[Value, ...] | None:
        """Returns the cell that `cell` is compared with: the baseline's value, the other axes equal.

        None for a baseline itself and in a study that compares nothing.
        """
        if self.compare is None:
            return None
        place = [axis.name for axis in self.axes].index(self.compare.axis)
        other = (*cell[:place], self.compare.baseline, *cell[place + 1 :])
        return None if other == cell else other

    def cell_text(self, cell: tuple[Value, ...]) -> str:
        """Returns a cell as --cells takes it, e.g. "depth=92,learning=arl"; "all" of a study without axes."""
        return ",".join(f"{axis.name}={value}" for axis, value in zip(self.axes, cell, strict=True)) or "all"

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
    return read_record(raw)


def read_record(raw: Any) -> Study:
    """Returns the study that a record, the content of a study.json, describes. Raises RecordError as `parse_study`."""
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
        command=_optional(raw, "command", str),
        networks=_networks(_optional(raw, "cells", list) or [], axes),
    )


def unite_records(record: Mapping[str, Any], older: Mapping[str, Any], results: Collection[str] = ()) -> dict[str, Any]:
    """Returns one record of two readable ones of the same study: the planned runs, values and networks of both.

    Where they disagree (a cell and seed with another fingerprint, a title) `record` counts; but a plan alone does not
    replace a fingerprint in `results`, those of runs that are over. Planned runs come out sorted by seed and cell.
    Raises RecordError where the axes differ.
    """
    axes = {axis["name"]: axis for axis in record["axes"]}
    added = {axis["name"]: axis for axis in older["axes"]}
    if axes.keys() != added.keys():
        raise RecordError(
            f"two records of study {record['study']} have other axes: {', '.join(axes)} and {', '.join(added)}"
        )

    def cell(entry: Mapping[str, Any]) -> tuple[Value, ...]:
        return tuple(entry["cell"][name] for name in axes)

    planned: dict[tuple[Any, ...], dict[str, Any]] = {}
    for run in (*older["runs"], *record["runs"]):
        key = cell(run), run["seed"]
        held = planned.get(key)
        if held is None or held["fingerprint"] not in results or run["fingerprint"] in results:
            planned[key] = run
    united_axes = [_unite_axis(axis, added[name]) for name, axis in axes.items()]

    def place(run: Mapping[str, Any]) -> tuple[int, ...]:
        cells = zip(united_axes, cell(run), strict=True)
        return run["seed"], *(axis["values"].index(value) for axis, value in cells)

    united = {**older, **record, "axes": united_axes, "runs": sorted(planned.values(), key=place)}
    cells = {cell(entry): entry for source in (older, record) for entry in source.get("cells") or []}
    return united | ({"cells": list(cells.values())} if cells else {})


def add_records(
    held: dict[tuple[str, str, str, str], dict[str, Any]],
    added: Iterable[dict[str, Any]],
    results: Collection[str] = (),
) -> list[str]:
    """Adds readable records to older ones, by Study.key; returns a line for each that had to replace the one held.

    `results` as in `unite_records`. One alone comes out sorted as by `unite_records`.
    """
    problems = []
    for record in added:
        key = read_record(record).key
        try:
            held[key] = unite_records(record, held.get(key, record), results)
        except RecordError as error:
            problems.append(f"{error}; the later counts")
            held[key] = record
    return problems


def _unite_axis(axis: Mapping[str, Any], older: Mapping[str, Any]) -> dict[str, Any]:
    new = [(v, label) for v, label in zip(older["values"], older["labels"], strict=True) if v not in axis["values"]]
    return {
        **axis,
        "values": [*axis["values"], *(value for value, _ in new)],
        "labels": [*axis["labels"], *(label for _, label in new)],
    }


def _axis(raw: Any) -> Axis:
    values, labels = _field(raw, "values", list), _field(raw, "labels", list)
    name = _field(raw, "name", str)
    if len(values) != len(labels) or not values:
        raise RecordError(f"study.json: axis {name!r} has {len(values)} values and {len(labels)} labels")
    if not all(isinstance(value, Value) for value in values):
        raise RecordError(f"study.json: axis {name!r} has a value that is neither text nor a number")
    return Axis(name, _field(raw, "header", str), tuple(values), tuple(str(label) for label in labels))


def _cell(raw: Any, axes: tuple[Axis, ...]) -> tuple[Value, ...]:
    cell = _field(raw, "cell", dict)
    if set(cell) != {axis.name for axis in axes}:
        raise RecordError(f"study.json: cell {cell} does not name the axes {[axis.name for axis in axes]}")
    for axis in axes:
        if cell[axis.name] not in axis.values:
            raise RecordError(f"study.json: {cell[axis.name]!r} is not a value of axis {axis.name!r}")
    return tuple(cell[axis.name] for axis in axes)


def _run(raw: Any, axes: tuple[Axis, ...]) -> PlannedRun:
    return PlannedRun(_field(raw, "fingerprint", str), _cell(raw, axes), _field(raw, "seed", int))


def _networks(raw: list[Any], axes: tuple[Axis, ...]) -> dict[tuple[Value, ...], Network]:
    found = {}
    for entry in raw:
        cell, network = _cell(entry, axes), _optional(entry, "network", dict)
        if network is not None:
            found[cell] = Network(
                name=_field(network, "name", str),
                width=float(_field(network, "width", (int, float))),
                mask_structure=_field(network, "mask_structure", str),
                num_classes=_field(network, "num_classes", int),
                image_size=_field(network, "image_size", int),
            )
    return found


def _compare(raw: Any, axes: tuple[Axis, ...]) -> Compare | None:
    if raw is None:
        return None
    name, baseline = _field(raw, "axis", str), raw.get("baseline")
    if not any(axis.name == name and baseline in axis.values for axis in axes):
        raise RecordError(f"study.json compares against {name}={baseline!r}, which no axis has")
    return Compare(name, baseline)


def _field(raw: Any, key: str, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(raw, dict) or key not in raw:
        raise RecordError(f"study.json has no {key!r} where one is due")
    if not isinstance(raw[key], kind):
        raise RecordError(f"study.json: {key!r} is {raw[key]!r}, not {_spoken(kind)}")
    return raw[key]


def _optional(raw: Any, key: str, kind: type) -> Any:
    return None if isinstance(raw, dict) and raw.get(key) is None else _field(raw, key, kind)


def _spoken(kind: type | tuple[type, ...]) -> str:
    return kind.__name__ if isinstance(kind, type) else "a number"
