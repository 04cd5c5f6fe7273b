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

    def check(self) -> None:
        """Raises ValueError if --cells cannot name a value, or if it has no name in tables or runs."""
        if unusable := [value for value in self.settings if isinstance(value, str) and {",", "="} & set(value)]:
            raise ValueError(
                f"axis {self.name!r}: the value {unusable[0]!r} holds ',' or '=', which --cells cannot name"
            )
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
    if isinstance(settings, Mapping):
        if field is not None:
            raise ValueError(f"axis {name!r}: field={field!r} needs a list of its values, not a mapping")
    else:
        if isinstance(settings, str):
            raise ValueError(f"axis {name!r}: its values are a tuple such as ({settings!r}, ...), not one text")
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
        if not isinstance(self.axes, tuple) or not all(isinstance(a, Axis) for a in self.axes):
            raise ValueError(f"study {self.name!r}: axes must be a tuple, as in axes=(axis(...),)")
        if self.seeds is not None and not _are_seeds(self.seeds):
            raise ValueError(
                f"study {self.name!r}: seeds are different whole numbers, as (0, 1, 2), not {self.seeds!r}"
            )
        _check_axes(self)
        if self.compare is not None:
            if not isinstance(self.compare, Comparison):
                raise ValueError(f"study {self.name!r}: compare must be a Comparison(axis, baseline)")
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


def _are_seeds(seeds: object) -> bool:
    """Whether these are the planned seeds of a study: a tuple of different numbers."""
    return (
        isinstance(seeds, tuple)
        and 0 < len(set(seeds)) == len(seeds)
        and all(type(seed) is int and seed >= 0 for seed in seeds)
    )


def _check_axes(study: Study) -> None:
    """Raises ValueError if some cells cannot be told apart, or do not train what their names say."""
    about = f"study {study.name!r}"
    if "data.name" in study.axis_fields:
        raise ValueError(f"{about}: the data set is the launch's (--data.name), not an axis")
    if "seed" in study.axis_fields:
        raise ValueError(f"{about}: seeds are no axis; every cell is trained at each of them (--seeds)")
    names = [a.name for a in study.axes]
    if len(set(names)) < len(names):
        raise ValueError(f"{about} has two axes of one name: {', '.join(names)}")
    if empty := [a.name for a in study.axes if not a.settings]:
        raise ValueError(f"{about} has axes without values: {', '.join(empty)}")
    for a, b in itertools.combinations(study.axes, 2):
        if both := set().union(*a.settings.values()) & set().union(*b.settings.values()):
            raise ValueError(f"{about}: the axes {a.name} and {b.name} both set {', '.join(sorted(both))}")
    for a in study.axes:
        a.check()
    for one, other in itertools.combinations(study.cells, 2):
        if one.settings == other.settings:
            raise ValueError(f"{about}: the cells {one} and {other} have the same settings")
        if one.short == other.short:
            raise ValueError(f"{about}: the runs of the cells {one} and {other} have one name, {one.short!r}")
