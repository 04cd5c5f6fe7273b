"""study.json, the record on a study's parent run: what was planned, so that analysis knows what is missing."""

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from records import sane
from records.errors import UserError
from records.text import short

SCHEMA = 1

Value = str | int | float | bool
CellKey = tuple[Value, ...]
"""one value per axis, in the order of the axes"""
StudyKey = tuple[str, str, str, str]
"""name, profile, data set, overrides"""


class RecordError(UserError):
    """A study.json or search.json that cannot be read; the message is one line."""


@dataclass(frozen=True)
class AxisRecord:
    """One axis of the grid: its config name, its column header, its values and how each is printed."""

    name: str
    header: str
    values: tuple[Value, ...]
    labels: tuple[str, ...]

    def label(self, value: Value) -> str:
        """Returns how `value` is printed."""
        return self.labels[self.values.index(value)]


@dataclass(frozen=True)
class ComparisonRecord:
    """The comparison that the table shows: every value of `axis` against `baseline`, the other axes equal."""

    axis: str
    baseline: Value


@dataclass(frozen=True)
class RunEntry:
    """One cell and seed of the study, run or not."""

    fingerprint: str
    cell: CellKey
    seed: int


@dataclass(frozen=True)
class NetworkKey:
    """What identifies the network of a cell in a table of counts (analysis/tables/costs.csv)."""

    name: str
    width: float
    mask_structure: str
    num_classes: int
    image_size: int


@dataclass(frozen=True)
class StudyRecord:
    """One (study, profile, data set, overrides)."""

    name: str
    title: str
    table: str | None
    """number of the paper's table that it fills; None for a user's own study"""
    profile: str
    """with its version, as "short-1\""""
    dataset: str
    overrides: Mapping[str, Any]
    selection: str
    """rule of selection, as captions print it"""
    axes: tuple[AxisRecord, ...]
    compare: ComparisonRecord | None
    runs: tuple[RunEntry, ...]
    command: str | None = None
    """the launch that plans these runs; None in records of earlier versions"""
    planned_seeds: tuple[int, ...] = ()
    """seeds that the study itself plans, whatever --seeds of a launch says; () in records of earlier versions"""
    networks: Mapping[CellKey, NetworkKey | None] = field(default_factory=dict)
    """by cell; None for a network that no table of counts can list; empty in records of earlier versions"""

    @classmethod
    def from_json(cls, raw: Any) -> "StudyRecord":
        """Returns the record in the content of a study.json. Raises RecordError unless it is consistent schema 1.

        Raises OutOfRangeError for names, texts and numbers that no study of ours has.
        """
        schema = _field(raw, "schema", int)
        if sane.integer(schema, "study.json: 'schema'") != SCHEMA:
            raise RecordError(f"study.json has schema {schema}, this version reads {SCHEMA}")
        for key in ("axes", "runs", "cells", "planned_seeds"):
            sane.entries(raw.get(key) or (), f"study.json: {key!r}")
        axes = tuple(_axis(item) for item in _field(raw, "axes", list))
        if len({axis.name for axis in axes}) != len(axes):
            raise RecordError("study.json names an axis twice")
        return cls(
            name=_name(raw, "study"),
            title=_line(raw, "title", sane.LONGEST_TITLE),
            table=None if raw.get("table") is None else _name(raw, "table"),
            profile=_name(raw, "profile"),
            dataset=_name(raw, "dataset"),
            overrides=sane.tree(_field(raw, "overrides", dict), "study.json: 'overrides'", 1_000),
            selection=_line(raw, "selection", sane.LONGEST_TITLE),
            axes=axes,
            compare=_comparison(_optional(raw, "compare", dict), axes),
            runs=tuple(
                RunEntry(_fingerprint(item), _cell(item, axes), _seed(_field(item, "seed", int)))
                for item in _field(raw, "runs", list)
            ),
            command=None if raw.get("command") is None else _line(raw, "command", sane.LONGEST_TEXT),
            planned_seeds=_seeds(_optional(raw, "planned_seeds", list) or []),
            networks={_cell(item, axes): _network(item) for item in _optional(raw, "cells", list) or []},
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the content of study.json."""
        cells = [
            {"cell": self.named(c), "network": network and asdict(network)} for c, network in self.networks.items()
        ]
        return {
            "schema": SCHEMA,
            "study": self.name,
            "title": self.title,
            "table": self.table,
            "profile": self.profile,
            "dataset": self.dataset,
            "overrides": dict(self.overrides),
            "selection": self.selection,
            "axes": [
                {"name": a.name, "header": a.header, "values": list(a.values), "labels": list(a.labels)}
                for a in self.axes
            ],
            "compare": self.compare and asdict(self.compare),
            **({} if self.command is None else {"command": self.command}),
            **({"planned_seeds": list(self.planned_seeds)} if self.planned_seeds else {}),
            **({"cells": cells} if cells else {}),
            "runs": [
                {"fingerprint": run.fingerprint, "cell": self.named(run.cell), "seed": run.seed} for run in self.runs
            ],
        }

    @property
    def key(self) -> StudyKey:
        """What makes two records one study."""
        return self.name, self.profile, self.dataset, self.canonical_overrides

    @property
    def canonical_overrides(self) -> str:
        """The overrides as canonical JSON, "{}" without."""
        return json.dumps(self.overrides, sort_keys=True)

    @property
    def plan_size(self) -> int:
        """Runs of the plan, launched or not: every cell at every planned seed; without a plan, those launched."""
        return len(self.cells()) * len(self.planned_seeds) or len({run.fingerprint for run in self.runs})

    @property
    def beyond_plan(self) -> set[str]:
        """The fingerprints of launched seeds that are not planned; empty without a plan."""
        return {run.fingerprint for run in self.runs if self.planned_seeds and run.seed not in self.planned_seeds}

    @property
    def profile_name(self) -> str:
        """The profile without its version."""
        return profile_name(self.profile)

    def named(self, cell: CellKey) -> dict[str, Value]:
        """Returns the values of a cell by the names of the axes."""
        return {axis.name: value for axis, value in zip(self.axes, cell, strict=True)}

    def baseline_of(self, cell: CellKey) -> CellKey | None:
        """Returns the cell that `cell` is compared with: the baseline's value, the other axes equal.

        None for a baseline itself and in a study that compares nothing.
        """
        if self.compare is None:
            return None
        place = [axis.name for axis in self.axes].index(self.compare.axis)
        other = (*cell[:place], self.compare.baseline, *cell[place + 1 :])
        return None if other == cell else other

    def cell_text(self, cell: CellKey) -> str:
        """Returns a cell as --cells takes it, e.g. "depth=92,learning=arl"; "all" in a study without axes."""
        return ",".join(f"{name}={value}" for name, value in self.named(cell).items()) or "all"

    def cells(self) -> dict[CellKey, dict[int, str]]:
        """Returns the cells in the order of the axes, the first outermost; each maps its seeds to fingerprints.

        If a cell and seed are listed twice (a config that changed between launches), the later entry counts.
        """
        grouped: dict[CellKey, dict[int, str]] = {}
        for run in self.runs:
            grouped.setdefault(run.cell, {})[run.seed] = run.fingerprint
        order = sorted(grouped, key=lambda cell: _position(cell, self.axes))
        return {cell: dict(sorted(grouped[cell].items())) for cell in order}


def profile_name(profile: str) -> str:
    """Returns a profile without its version: "short" for "short-1"."""
    name, _, version = profile.rpartition("-")
    return name if version.isdecimal() else profile


def unite(
    record: StudyRecord, older: StudyRecord, results: Collection[str] = (), *, same_cells: bool = False
) -> StudyRecord:
    """Returns one record of two of the same study: the planned runs, values and networks of both.

    Where they disagree (a cell and seed with another fingerprint, a title) `record` counts, except that a plan does not
    replace a fingerprint in `results`, those of runs that are over. Planned runs are sorted by seed and cell.
    `same_cells`: only the runs of the cells of `record` are added, so a cell that the study no longer has is dropped.
    Raises RecordError if the axes differ and `same_cells` is not set.
    """
    places = {axis.name: i for i, axis in enumerate(older.axes)}
    names = [axis.name for axis in record.axes]
    if set(names) != places.keys():
        if same_cells:
            return record
        raise RecordError(
            f"two records of study {record.name} have other axes: {', '.join(names)} and {', '.join(places)}"
        )

    def reordered(cell: CellKey) -> CellKey:
        return tuple(cell[places[name]] for name in names)

    ours = {run.cell for run in record.runs}
    earlier = [replace(run, cell=reordered(run.cell)) for run in older.runs]
    planned: dict[tuple[CellKey, int], RunEntry] = {}
    for run in (*(run for run in earlier if not same_cells or run.cell in ours), *record.runs):
        held = planned.get((run.cell, run.seed))
        if held is None or held.fingerprint not in results or run.fingerprint in results:
            planned[run.cell, run.seed] = run
    axes, networks = record.axes, record.networks
    if not same_cells:
        axes = tuple(_united_axis(axis, older.axes[places[axis.name]]) for axis in axes)
        networks = {reordered(cell): network for cell, network in older.networks.items()} | dict(networks)
    return replace(
        record,
        axes=axes,
        runs=tuple(sorted(planned.values(), key=lambda run: (run.seed, _position(run.cell, axes)))),
        command=older.command if record.command is None else record.command,
        planned_seeds=record.planned_seeds or older.planned_seeds,
        networks=networks,
    )


def add_records(
    held: dict[StudyKey, StudyRecord], added: Iterable[StudyRecord], results: Collection[str] = ()
) -> list[str]:
    """Unites records with older ones, by StudyRecord.key; returns a line for each that had to replace the one held.

    `results` as in `unite`. A record that is alone comes out sorted as by `unite`.
    """
    problems = []
    for record in added:
        try:
            held[record.key] = unite(record, held.get(record.key, record), results)
        except RecordError as error:
            problems.append(f"{error}; the later counts")
            held[record.key] = record
    return problems


def _position(cell: CellKey, axes: tuple[AxisRecord, ...]) -> tuple[int, ...]:
    return tuple(axis.values.index(value) for axis, value in zip(axes, cell, strict=True))


def _united_axis(axis: AxisRecord, older: AxisRecord) -> AxisRecord:
    added = [value for value in older.values if value not in axis.values]
    labels = tuple(older.label(value) for value in added)
    return replace(axis, values=(*axis.values, *added), labels=(*axis.labels, *labels))


def _axis(raw: Any) -> AxisRecord:
    values, labels = _field(raw, "values", list), _field(raw, "labels", list)
    name, header = _line(raw, "name"), _line(raw, "header")
    if len(values) != len(labels) or not values:
        raise RecordError(f"study.json: axis {name!r} has {len(values)} values and {len(labels)} labels")
    if not all(isinstance(value, Value) for value in values):
        raise RecordError(f"study.json: axis {name!r} has a value that is neither text nor a number")
    for value in values:
        if isinstance(value, str):
            sane.line(value, f"study.json: a value of axis {name!r}")
        elif math.isnan(sane.number(float(value) if isinstance(value, bool) else value, f"study.json: axis {name!r}")):
            raise sane.OutOfRangeError(f"study.json: a value of axis {name!r} is no number")
    texts = [label if isinstance(label, str) else short(label) for label in labels]
    for text in texts:
        sane.line(text, f"study.json: a label of axis {name!r}")
    return AxisRecord(name=name, header=header, values=tuple(values), labels=tuple(texts))


def _cell(raw: Any, axes: tuple[AxisRecord, ...]) -> CellKey:
    cell = _field(raw, "cell", dict)
    if set(cell) != {axis.name for axis in axes}:
        raise RecordError(f"study.json: cell {short(cell)} does not name the axes {[axis.name for axis in axes]}")
    for axis in axes:
        if cell[axis.name] not in axis.values:
            value = short(cell[axis.name])
            raise RecordError(f"study.json: {value} is not a value of axis {axis.name!r}")
    return tuple(cell[axis.name] for axis in axes)


def _seeds(raw: list[Any]) -> tuple[int, ...]:
    if not all(isinstance(seed, int) and not isinstance(seed, bool) for seed in raw):
        raise RecordError(f"study.json: planned_seeds {short(raw)} are not all integers")
    return tuple(map(_seed, raw))


def _seed(seed: int) -> int:
    return sane.integer(seed, "study.json: a seed")


def _network(raw: Any) -> NetworkKey | None:
    network = _optional(raw, "network", dict)
    if network is None:
        return None
    return NetworkKey(
        name=_line(network, "name"),
        width=sane.number(_field(network, "width", (int, float)), "study.json: 'width'"),
        mask_structure=_line(network, "mask_structure"),
        num_classes=sane.integer(_field(network, "num_classes", int), "study.json: 'num_classes'"),
        image_size=sane.integer(_field(network, "image_size", int), "study.json: 'image_size'"),
    )


def _comparison(raw: Any, axes: tuple[AxisRecord, ...]) -> ComparisonRecord | None:
    if raw is None:
        return None
    name, baseline = _field(raw, "axis", str), raw.get("baseline")
    if not any(axis.name == name and baseline in axis.values for axis in axes):
        raise RecordError(f"study.json compares against {short(name)}={short(baseline)}, which no axis has")
    return ComparisonRecord(name, baseline)


def _name(raw: Any, key: str) -> str:
    return sane.name(_field(raw, key, str), f"study.json: {key!r}")


def _line(raw: Any, key: str, most: int = sane.LONGEST_LABEL) -> str:
    return sane.line(_field(raw, key, str), f"study.json: {key!r}", most)


def _fingerprint(raw: Any) -> str:
    return sane.digits(_field(raw, "fingerprint", str), "study.json: 'fingerprint'")


def _field(raw: Any, key: str, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(raw, dict) or key not in raw:
        raise RecordError(f"study.json has no {key!r}")
    if not isinstance(raw[key], kind):
        expected = kind.__name__ if isinstance(kind, type) else "a number"
        raise RecordError(f"study.json: {key!r} is {short(raw[key])}, not {expected}")
    return raw[key]


def _optional(raw: Any, key: str, kind: type) -> Any:
    return None if isinstance(raw, dict) and raw.get(key) is None else _field(raw, key, kind)
