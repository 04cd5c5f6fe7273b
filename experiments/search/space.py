"""A search as data: a base config, the space that its trials are drawn from, and what follows from the base's budget.

Neither optuna nor torch is imported with this module: --help and --list do without them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from experiments.study import Settings, check_naming
from ran.config import RunConfig, check, identity, override
from ran.registry import Registry
from records.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner

    from ran.data.datasets import Source

ERROR, MACS = "error", "macs"
OBJECTIVES: dict[str, tuple[str, ...]] = {"error": (ERROR,), "error,macs": (ERROR, MACS)}
"""by the value of --objectives; the first is the validation error"""
VAL_IMAGES = 5_000
"""held out where the profile holds out nothing: a search chooses on validation images, never on the test set"""


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
"""the config field that a derivation sets, for print; a user's own goes by its name"""
WIDTH_GRID = 32
"""steps of the derived width in one base width"""


@DERIVED.register("width")
def width_for_macs(config: RunConfig, base: RunConfig, source: "Source") -> Settings:
    """the largest width, in 32nds of the base's and at most twice it, whose MACs do not exceed the base's"""
    from experiments.plan import network_cost

    def at(n: int) -> RunConfig:
        return override(config, {"model.width": base.model.width * n / WIDTH_GRID})

    budget = network_cost(base, source).macs
    low, high = 0, 2 * WIDTH_GRID  # MACs grow with the width: halve the interval, 7 networks at most
    while low < high:
        middle = (low + high + 1) // 2
        if network_cost(at(middle), source).macs <= budget:
            low = middle
        else:
            high = middle - 1
    if not low:
        raise SearchError(f"no width of this network keeps within {budget:,} MACs")
    return {"model.width": at(low).model.width}


UNPRUNED = 5
"""trials that are over before the median prunes one"""


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
"""from the evaluations of a trial in all, over its seeds"""
PRUNERS.register("median")(_median)
PRUNERS.register("hyperband")(_hyperband)
PRUNERS.register("none")(_no_pruner)


@dataclass(frozen=True)
class Search:
    """What is searched. The module's docstring is the search's documentation."""

    name: str
    title: str
    space: Mapping[str, "BaseDistribution"]
    """config fields, each with the optuna distribution that it is drawn from"""
    base: RunConfig = field(default_factory=RunConfig)
    """laid under the profile; what the best trial is compared with at the end"""
    seeds: tuple[int, ...] = (0,)
    """of each trial, one after another; its value is their mean"""
    pruner: str = "median"
    """median, hyperband or none"""
    derived: tuple[str, ...] = ()
    """names in DERIVED: what follows from a trial's parameters and the base's budget"""
    width_range: tuple[float, float, float] | None = None
    """with the objective macs, (lowest, highest, step) of a free width in base widths, in place of the derived one"""
    profile: str | None = None
    """the profile it always uses; None = the launch's choice"""
    dataset: str = "cifar10"
    requires: tuple[str, ...] = ()
    """the only data sets that it makes sense on, `dataset` among them; () = any"""
    settings: Mapping[str, Settings] = field(default_factory=dict)
    """by profile, config fields laid over the profile's own"""
    doc: str = field(default="", repr=False)
    path: str | None = None
    """of the file that --search named; None = one of the package's"""

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
        """The config fields that the trials set; those that are derived may be overridden in the base."""
        return dict.fromkeys(self.space, "its space")


@dataclass(frozen=True)
class Space:
    """What the trials of one launch draw and derive."""

    parameters: Mapping[str, "BaseDistribution"]
    derived: tuple[str, ...]
    base: RunConfig
    """under the profile, with the user's overrides"""
    source: "Source"

    def settings(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Returns all config fields of a trial, drawn and derived. Raises UserError where nothing fits the budget."""
        settings = dict(parameters)
        for name in self.derived:
            settings |= DERIVED[name](override(self.base, settings), self.base, self.source)
        return settings


def make_space(search: Search, base: RunConfig, source: "Source", objectives: Sequence[str]) -> Space:
    """Returns the space, checked: every choice and every end of a range alone must make a config that can run.

    Raises SearchError that names the search and the field.
    """
    from optuna.distributions import BaseDistribution, FloatDistribution

    parameters, derived = dict(search.space), search.derived
    if MACS in objectives and search.width_range is not None:
        low, high, step = (base.model.width * factor for factor in search.width_range)
        parameters["model.width"] = FloatDistribution(low, high, step=step)
        derived = tuple(name for name in derived if name != "width")
    space = Space(parameters, derived, base, source)
    for name, distribution in parameters.items():
        if not isinstance(distribution, BaseDistribution):
            raise SearchError(f"search {search.name}: {name} takes an optuna distribution, got {distribution!r}")
        if name == "seed" or name.startswith("data."):
            raise SearchError(f"search {search.name}: {name} cannot be searched: the data and seeds are the launch's")
        for value in _ends(distribution):
            _check(search, space, name, value)
    return space


def _check(search: Search, space: Space, name: str, value: Any) -> None:
    from experiments.plan import network_cost
    from ran.engine.optim import SCHEDULES
    from ran.models.attention import LEARNING

    try:
        alone = override(space.base, {name: value})
        if name not in identity(alone):
            raise SearchError(f"{name} does not change a result")
        if name in (fields := space.settings({name: value})) and fields[name] != value:
            raise SearchError(f"{name} is both drawn and derived")
        config = override(space.base, fields)
        check(config)
        SCHEDULES[config.optim.schedule]
        LEARNING[config.model.learning]
        network_cost(config, space.source)
    except UserError as error:
        raise SearchError(f"search {search.name}: {error}") from None
    except Exception as error:  # whatever a user's own mask or unit raises
        raise SearchError(f"search {search.name}: {name} = {value!r}: {type(error).__name__}: {error}") from None


def _ends(distribution: Any) -> tuple[Any, ...]:
    choices = getattr(distribution, "choices", None)
    return (distribution.low, distribution.high) if choices is None else tuple(choices)


def parse_objectives(text: str) -> tuple[str, ...]:
    """Returns the objectives of a --objectives. Raises SearchError."""
    if text not in OBJECTIVES:
        raise SearchError(f"--objectives takes {' or '.join(OBJECTIVES)}; got {text!r}")
    return OBJECTIVES[text]
