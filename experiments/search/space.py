"""The space of one launch of a search: what its trials draw and derive, checked before training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution

from experiments.catalog import with_import_hint
from experiments.plan import network_cost
from experiments.search_spec import DERIVED, Search, SearchError
from ran.config import RunConfig, check, flatten, identity, override
from ran.data.source import Source
from ran.engine.optim import SCHEDULES
from ran.models.attention import LEARNING
from ran.models.zoo import config_spec
from records.errors import UserError

ERROR, MACS = "error", "macs"
OBJECTIVES: dict[str, tuple[str, ...]] = {"error": (ERROR,), "error,macs": (ERROR, MACS)}
"""objectives by the value of --objectives; the first is the validation error"""
VAL_IMAGES = 5_000
"""validation images if the profile holds out none: a search chooses on validation images, never on the test set"""


@dataclass(frozen=True)
class Space:
    """What the trials of one launch draw and derive."""

    parameters: Mapping[str, BaseDistribution]
    derived: tuple[str, ...]
    base: RunConfig
    """config under the profile, with the user's overrides"""
    source: Source

    @property
    def base_values(self) -> dict[str, Any]:
        """The base's config fields by name; where a config leaves the network's own value, that value."""
        own = {f"model.{key}": value for key, value in vars(config_spec(self.base.model)).items()}
        return {key: own.get(key) if value is None else value for key, value in flatten(self.base).items()}

    def check_within(self, parameters: Mapping[str, Any]) -> None:
        """Raises SearchError for a value outside the space, as somebody may enqueue: Optuna only warns of it."""
        for name, value in parameters.items():
            distribution: Any = self.parameters[name]
            choices = getattr(distribution, "choices", None)
            within = distribution.low <= value <= distribution.high if choices is None else value in choices
            if not within:
                raise SearchError(f"{name} = {value!r} lies outside the space of the search: {distribution}")

    def settings(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Returns all config fields of a trial, drawn and derived. Raises UserError if nothing fits the budget."""
        settings = dict(parameters)
        for name in self.derived:
            settings |= DERIVED[name](override(self.base, settings), self.base, self.source)
        return settings


def make_space(search: Search, base: RunConfig, source: Source, objectives: Sequence[str]) -> Space:
    """Returns the checked space: each choice, and each end of a range, must make a config that can run.

    Raises SearchError that names the search and the field.
    """
    parameters, derived = dict(search.space), search.derived
    if MACS in objectives and search.width_range is not None:
        low, high, step = (base.model.width * factor for factor in search.width_range)
        parameters["model.width"] = FloatDistribution(low, high, step=step)
        derived = tuple(name for name in derived if name != "width")
    space = Space(parameters=parameters, derived=derived, base=base, source=source)
    for name, distribution in parameters.items():
        if not isinstance(distribution, BaseDistribution):
            raise SearchError(f"search {search.name}: {name} takes an optuna distribution, got {distribution!r}")
        if name == "seed" or name.startswith("data."):
            raise SearchError(f"search {search.name}: {name} cannot be searched: the data and seeds are the launch's")
        for value in _ends(distribution):
            _check(search, space, name, value)
    return space


def _check(search: Search, space: Space, name: str, value: Any) -> None:
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
        raise SearchError(f"search {search.name}: {with_import_hint(error)}") from None
    except Exception as error:  # whatever a user's own mask or unit raises
        raise SearchError(f"search {search.name}: {name} = {value!r}: {type(error).__name__}: {error}") from None


def _ends(distribution: Any) -> tuple[Any, ...]:
    choices = getattr(distribution, "choices", None)
    return (distribution.low, distribution.high) if choices is None else tuple(choices)


def parse_objectives(text: str) -> tuple[str, ...]:
    """Returns the objectives that --objectives names. Raises SearchError."""
    if text not in OBJECTIVES:
        raise SearchError(f"--objectives takes {' or '.join(OBJECTIVES)}; got {text!r}")
    return OBJECTIVES[text]
