"""The record of a search in its parent run's search.json: its trials, and what was made of them."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from records import names

SCHEMA = 1
FIRST_COMMAND = "python run_ablation.py --search attention56 --trials 40"

Value = str | int | float | bool | None


class SearchError(ValueError):
    """A search.json that cannot be read, or a search that is not there; the message is one line."""


@dataclass(frozen=True)
class Parameter:
    """One dimension of the space."""

    name: str
    choices: tuple[Value, ...]
    """() for a range"""
    low: float
    high: float
    log: bool
    whole: bool
    """whether its values are whole numbers"""
    base: Value
    """what the search's base has; None = the network's own"""


@dataclass(frozen=True)
class Trial:
    """One trial that counts."""

    number: int
    outcome: str
    """finished, pruned, diverged, failed, or "" of one that is not over"""
    params: Mapping[str, Value]
    error: float | None
    """validation error in %, the mean over the seeds; finished trials only"""
    last: float | None
    """the last validation error on the way"""
    macs: float | None


@dataclass(frozen=True)
class Search:
    """One (search, profile, data set, objectives, overrides)."""

    name: str
    title: str
    profile: str
    dataset: str
    overrides: Mapping[str, Any]
    objectives: tuple[str, ...]
    seeds: tuple[int, ...]
    parameters: tuple[Parameter, ...]
    derived: Mapping[str, str]
    base_macs: float | None
    trials: tuple[Trial, ...]
    """without those that others replaced, in the order of their numbers"""
    importances: Mapping[str, Mapping[str, float]]
    """share by objective and parameter; empty where there are too few trials, or while the search goes on"""
    front: tuple[int, ...]
    command: str

    @property
    def profile_name(self) -> str:
        name, _, version = self.profile.rpartition("-")
        return name if version.isdecimal() else self.profile

    @property
    def finished(self) -> list[Trial]:
        return [t for t in self.trials if t.error is not None]

    @property
    def stem(self) -> str:
        """A part of file names that no two searches of a store share, but for their seeds and spaces."""
        parts = [self.name, self.dataset, self.profile]
        parts += [",".join(self.objectives)] if len(self.objectives) > 1 else []
        if self.overrides:
            text = json.dumps(self.overrides, sort_keys=True)
            parts.append(hashlib.sha256(text.encode()).hexdigest()[:8])
        return re.sub(r"[^\w.-]", "_", "-".join(parts))


def read_search(raw: Any) -> Search:
    """Returns the search that a search.json describes. Raises SearchError for any that is not of schema 1."""
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        there = raw.get("schema") if isinstance(raw, dict) else None
        raise SearchError(f"search.json has schema {there}, this version reads {SCHEMA}")
    try:
        return Search(
            name=str(raw["search"]), title=str(raw["title"]), profile=str(raw["profile"]), dataset=str(raw["dataset"]),
            overrides=dict(raw["overrides"]), objectives=tuple(raw["objectives"]), seeds=tuple(raw["seeds"]),
            parameters=tuple(_parameter(name, d, raw["base"].get(name)) for name, d in raw["space"].items()),
            derived=dict(raw["derived"]), base_macs=raw.get("base_macs"),
            trials=tuple(_trial(t) for t in raw["trials"] if not t["replaced"]),
            importances={key: dict(value) for key, value in raw["importances"].items()},
            front=tuple(raw["front"]), command=str(raw["command"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SearchError(f"search.json is not whole: {type(error).__name__}: {error}") from None


def _parameter(name: str, d: Mapping[str, Any], base: Value) -> Parameter:
    choices = tuple(d.get("choices", ()))
    return Parameter(
        name, choices, float(d.get("low", 0)), float(d.get("high", 0)), bool(d.get("log")), d["type"] == "int", base
    )


def _trial(raw: Mapping[str, Any]) -> Trial:
    outcome = raw["outcome"] if raw["state"] in ("complete", "pruned", "fail") else ""
    finished = outcome == names.FINISHED and raw["values"]
    on_the_way = sorted((int(step), float(value)) for step, value in raw["intermediate"].items())
    last = next((value for _, value in reversed(on_the_way) if math.isfinite(value)), None)
    error = float(raw["values"][0]) if finished else None
    return Trial(int(raw["number"]), outcome or "", dict(raw["params"]), error, last, raw.get("macs"))


def select_searches(
    searches: Sequence[Search], name: str, *, profile: str | None, data: str | None, overrides: bool, where: str
) -> list[Search]:
    """Returns the searches of a name that the options choose. Raises SearchError for what is not there."""
    if not searches:
        raise SearchError(f"no search in {where}: run `{FIRST_COMMAND}` first, or pass --tracking-uri")
    chosen = [search for search in searches if search.name == name]
    if not chosen:
        there = ", ".join(sorted({search.name for search in searches}))
        raise SearchError(f"no search {name!r}. There is: {there}.")
    for what, wanted, of in (
        ("profile", profile, lambda s: (s.profile, s.profile_name)), ("data set", data, lambda s: (s.dataset,)),
    ):  # fmt: skip
        if wanted is not None:
            there = ", ".join(sorted({of(search)[0] for search in chosen}))
            chosen = [search for search in chosen if wanted in of(search)]
            if not chosen:
                raise SearchError(f"no search {name!r} of {what} {wanted!r}. There is: {there}.")
    those = [search for search in chosen if bool(search.overrides) == overrides]
    if not those:
        hint = "with overrides" if overrides else "without overrides; --overrides draws those with"
        raise SearchError(f"no search {name!r} {hint}.")
    return those
