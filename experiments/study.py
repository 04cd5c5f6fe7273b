"""A study as data: a base config, a grid of axes, seeds, and which table it fills."""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ran.config import RunConfig
from records.errors import one_line

Value = str | int | float
Settings = Mapping[str, Any]
"""config fields by dotted name, e.g. {"model.learning": "nal"}"""


@dataclass(frozen=True)
class Axis:
    """One variable of a study: the config fields that each value sets, and its names in tables."""

    name: str
    settings: Mapping[Value, Settings]
    header: str
    """column title"""
    label: Callable[[Any], str] = str
    """returns a value's name in tables, e.g. "Attention-{}".format"""
    short: Callable[[Any], str] = str
    """returns a value's name in run names, e.g. "d{}".format"""

    def check_names(self) -> None:
        """Raises ValueError if a value has no name."""
        for role, name_of in (("label", self.label), ("short", self.short)):
            for value in self.settings:
                try:
                    name = name_of(value)
                except Exception as error:  # whatever the user's function raises
                    raise ValueError(f"axis {self.name!r}: {role}({value!r}) raises {one_line(error)}") from error
                if not isinstance(name, str):
                    raise ValueError(f"axis {self.name!r}: {role}({value!r}) is {name!r}, not a text")


def axis(
    name: str,
    settings: Mapping[Value, Settings] | Sequence[Value],
    *,
    field: str | None = None,
    header: str | None = None,
    label: Callable[[Any], str] = str,
    short: Callable[[Any], str] = str,
) -> Axis:
    """Returns an axis. `settings` maps values to config fields, or lists the values of the config field `field`."""
    if not isinstance(settings, Mapping):
        if field is None:
            raise ValueError(f"axis {name!r}: a list of values needs field='...', the config field that they set")
        settings = {value: {field: value} for value in settings}
    return Axis(name=name, settings=settings, header=header or name, label=label, short=short)


@dataclass(frozen=True)
class Cell:
    """One point of a study's grid."""

    values: Mapping[str, Value]
    settings: Settings
    short: str

    @property
    def key(self) -> tuple[Value, ...]:
        """One value per axis, in the order of the axes."""
        return tuple(self.values.values())

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in self.values.items()) or "all"


@dataclass(frozen=True)
class Comparison:
    """The paired difference that the study measures: along `axis`, each other value minus `baseline`."""

    axis: str
    baseline: Value


def check_naming(kind: str, name: str, dataset: str, requires: Sequence[str]) -> None:
    """Raises ValueError if the name or the data set of a study or search is invalid."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(f"{kind} name {name!r}: letters, digits, '_' and '-' only")
    if requires and dataset not in requires:
        raise ValueError(f"{kind} {name!r} requires {requires}, but its own data set is {dataset!r}")


@dataclass(frozen=True)
class Study:
    """What is compared. The docstring of a study file is its documentation."""

    name: str
    title: str
    axes: tuple[Axis, ...]
    base: RunConfig = field(default_factory=RunConfig)
    seeds: tuple[int, ...] | None = None
    """planned seeds; None = those of the profile"""
    compare: Comparison | None = None
    table: str | None = None
    """number of the paper's table that it fills"""
    profile: str | None = None
    """profile that it always uses; None = the launch chooses"""
    dataset: str = "cifar10"
    """data set of the paper's protocol"""
    requires: tuple[str, ...] = ()
    """data sets that the study can use, including `dataset`; () = any"""
    settings: Mapping[str, Settings] = field(default_factory=dict)
    """config fields by profile, which take precedence over the profile's own"""
    doc: str = field(default="", repr=False)
    path: str | None = None
    """path of a user's study file; None = a study of the package"""
    launch: tuple[str, ...] = ()
    """flags that launch it if --study does not, such as --search NAME --confirm"""

    def __post_init__(self) -> None:
        check_naming("study", self.name, self.dataset, self.requires)
        if "data.name" in self.axis_fields:
            raise ValueError(f"study {self.name!r}: the data set is the launch's (--data.name), not an axis")
        names = [a.name for a in self.axes]
        if len(set(names)) < len(names):
            raise ValueError(f"study {self.name!r} has two axes of one name: {', '.join(names)}")
        if empty := [a.name for a in self.axes if not a.settings]:
            raise ValueError(f"study {self.name!r} has axes without values: {', '.join(empty)}")
        for a in self.axes:
            a.check_names()
        if self.compare is not None:
            valid = {a.name: list(a.settings) for a in self.axes}
            if self.compare.baseline not in valid.get(self.compare.axis, []):
                raise ValueError(f"study {self.name!r} compares along {self.compare}, but its axes are {valid}")

    @property
    def cells(self) -> list[Cell]:
        """All combinations of the axes' values, the first axis outermost."""
        cells = []
        for combination in itertools.product(*(a.settings.items() for a in self.axes)):
            settings: dict[str, Any] = {}
            for _, values in combination:
                settings |= values
            named = list(zip(self.axes, (value for value, _ in combination), strict=True))
            cells.append(
                Cell(
                    values={a.name: value for a, value in named},
                    settings=settings,
                    short=" ".join(a.short(value) for a, value in named),
                )
            )
        return cells

    @property
    def axis_fields(self) -> dict[str, str]:
        """Config fields that the axes set, each with the name of its axis."""
        return {field: a.name for a in self.axes for settings in a.settings.values() for field in settings}
