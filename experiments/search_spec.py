"""A search as data: a base config, the space that its trials are drawn from, and what follows from the base's budget.

This module imports neither optuna nor torch, because --help and --list do not need them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from experiments.study import Settings, check_naming
from ran.config import RunConfig, override
from ran.registry import Registry
from records.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner

    from ran.data.source import Source


class SearchError(UserError):
    """A search that cannot be run; one line."""


Derivation = Callable[[RunConfig, RunConfig, "Source"], Settings]
"""(config with a trial's parameters, base, data) -> the config fields that follow"""
DERIVED: Registry[Derivation] = Registry("derived setting")


@DERIVED.register("steps")
def steps_for_images(config: RunConfig, base: RunConfig, source: "Source") -> Settings:
    """as many steps as see the base's number of images"""
    images = base.train.steps * base.train.batch_size
    return {"train.steps": max(1, round(images / config.train.batch_size))}


DERIVED_FIELDS = {"width": "model.width", "steps": "train.steps"}
"""config field that a derivation sets, for printing; a user's own derivation is printed by its name"""
WIDTH_GRID = 32
"""number of steps of the derived width in one base width"""


@DERIVED.register("width")
def width_for_macs(config: RunConfig, base: RunConfig, source: "Source") -> Settings:
    """the largest width, in 32nds of the base's and at most twice it, whose MACs do not exceed the base's"""
    from ran.models.cost import model_cost  # torch

    def at(n: int) -> RunConfig:
        return override(config, {"model.width": base.model.width * n / WIDTH_GRID})

    def macs(run: RunConfig) -> int:
        return model_cost(run.model, num_classes=source.num_classes, image_size=source.image_size).macs

    budget = macs(base)
    low, high = 0, 2 * WIDTH_GRID  # MACs grow with the width: halve the interval, 7 networks at most
    while low < high:
        middle = (low + high + 1) // 2
        if macs(at(middle)) <= budget:
            low = middle
        else:
            high = middle - 1
    if not low:
        raise SearchError(f"no width of this network keeps within {budget:,} MACs")
    return {"model.width": at(low).model.width}


UNPRUNED = 5
"""number of trials that finish before the median prunes one"""


def _median(resource: int) -> "BasePruner":
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=UNPRUNED, n_warmup_steps=0)


def _hyperband(resource: int) -> "BasePruner":
    from optuna.pruners import HyperbandPruner

    return HyperbandPruner(min_resource=1, max_resource=resource, reduction_factor=3)


def _no_pruner(resource: int) -> "BasePruner":
    from optuna.pruners import NopPruner

    return NopPruner()


PRUNERS: Registry[Callable[[int], "BasePruner"]] = Registry("pruner")
"""pruners, made from the total number of evaluations of a trial over its seeds"""
PRUNERS.register("median")(_median)
PRUNERS.register("hyperband")(_hyperband)
PRUNERS.register("none")(_no_pruner)


@dataclass(frozen=True)
class Search:
    """What is searched. The docstring of a search file is its documentation."""

    name: str
    title: str
    space: Mapping[str, "BaseDistribution"]
    """config fields, each with the Optuna distribution that it is drawn from"""
    base: RunConfig = field(default_factory=RunConfig)
    """config below the profile, with which the best trial is compared at the end"""
    seeds: tuple[int, ...] = (0,)
    """seeds of each trial, trained one after another; the trial's value is their mean"""
    pruner: str = "median"
    """median, hyperband or none"""
    derived: tuple[str, ...] = ()
    """names in DERIVED: settings that follow from a trial's parameters and the base's budget"""
    width_range: tuple[float, float, float] | None = None
    """with the objective macs: (lowest, highest, step) of a free width in base widths, instead of the derived width"""
    profile: str | None = None
    """profile that it always uses; None = the launch chooses"""
    dataset: str = "cifar10"
    requires: tuple[str, ...] = ()
    """data sets that the search can use, including `dataset`; () = any"""
    settings: Mapping[str, Settings] = field(default_factory=dict)
    """config fields by profile, which take precedence over the profile's own"""
    doc: str = field(default="", repr=False)
    path: str | None = None
    """path of a user's search file; None = a search of the package"""

    def __post_init__(self) -> None:
        check_naming("search", self.name, self.dataset, self.requires)
        if not self.space:
            raise ValueError(f"search {self.name!r} has an empty space")
        if not self.seeds:
            raise ValueError(f"search {self.name!r} has no seeds")
        PRUNERS[self.pruner]
        for name in self.derived:
            DERIVED[name]

    @property
    def axis_fields(self) -> dict[str, str]:
        """Config fields that the trials set; derived fields may be overridden in the base."""
        return dict.fromkeys(self.space, "its space")
