"""search.json, the record on a search's parent run: its space, its trials, and what they showed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from records import names
from records.study_json import RecordError, profile_name

SCHEMA = 1
CATEGORICAL, INT, FLOAT = "categorical", "int", "float"
COMPLETE, PRUNED, FAIL, RUNNING, WAITING = "complete", "pruned", "fail", "running", "waiting"
"""states of a trial; `pruned` is an outcome, too"""

Setting = str | int | float | bool | None


@dataclass(frozen=True)
class ParameterRecord:
    """One dimension of the space: its choices, or its range."""

    kind: str
    """categorical, int or float"""
    choices: tuple[Setting, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "ParameterRecord":
        if raw["type"] == CATEGORICAL:
            return cls(kind=CATEGORICAL, choices=tuple(raw["choices"]))
        low, high, step = _number(raw["low"]), _number(raw["high"]), raw["step"]
        return cls(kind=str(raw["type"]), low=low, high=high, log=bool(raw["log"]), step=step)

    def to_json(self) -> dict[str, Any]:
        if self.kind == CATEGORICAL:
            return {"type": self.kind, "choices": list(self.choices)}
        return {"type": self.kind, "low": self.low, "high": self.high, "log": self.log, "step": self.step}


@dataclass(frozen=True)
class TrialRecord:
    """One trial."""

    number: int
    state: str
    """as Optuna calls it, in lower case"""
    outcome: str | None
    """finished, pruned, diverged, failed or killed; None before there is one"""
    params: Mapping[str, Setting]
    """values that were drawn"""
    settings: Mapping[str, Setting]
    """config fields that they set, with the derived ones"""
    values: tuple[float, ...] | None
    """one per objective; complete trials only"""
    errors: tuple[float, ...]
    """validation errors in % by seed"""
    macs: float | None
    fingerprints: tuple[str, ...]
    seeds: tuple[int, ...]
    intermediate: Mapping[int, float]
    """validation error in % by evaluation"""
    seconds: float | None
    reason: str
    retry_of: int | None
    """number of the trial that this one repeats"""
    replaced: bool
    """whether it no longer counts, because another trial repeats it or it drew no parameters"""

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "TrialRecord":
        return cls(
            number=int(raw["number"]),
            state=str(raw["state"]),
            outcome=raw["outcome"],
            params=dict(raw["params"]),
            settings=dict(raw["settings"]),
            values=None if raw["values"] is None else tuple(_number(value) for value in raw["values"]),
            errors=tuple(raw["errors"]),
            macs=raw["macs"],
            fingerprints=tuple(raw["fingerprints"]),
            seeds=tuple(raw["seeds"]),
            intermediate={int(step): _number(value) for step, value in raw["intermediate"].items()},
            seconds=raw["seconds"],
            reason=str(raw["reason"]),
            retry_of=raw["retry_of"],
            replaced=bool(raw["replaced"]),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "state": self.state,
            "outcome": self.outcome,
            "params": dict(self.params),
            "settings": dict(self.settings),
            "values": None if self.values is None else list(self.values),
            "errors": list(self.errors),
            "macs": self.macs,
            "fingerprints": list(self.fingerprints),
            "seeds": list(self.seeds),
            "intermediate": {str(step): value for step, value in sorted(self.intermediate.items())},
            "seconds": self.seconds,
            "reason": self.reason,
            "retry_of": self.retry_of,
            "replaced": self.replaced,
        }

    @property
    def over(self) -> bool:
        return self.state in (COMPLETE, PRUNED, FAIL)

    @property
    def error(self) -> float | None:
        """Validation error in %, the mean over the seeds; None if the trial is not finished."""
        return self.values[0] if self.over and self.outcome == names.FINISHED and self.values else None

    @property
    def last_error(self) -> float | None:
        """The last finite validation error before the end."""
        finite = {step: value for step, value in self.intermediate.items() if math.isfinite(value)}
        return finite[max(finite)] if finite else None


@dataclass(frozen=True)
class SearchRecord:
    """One (search, profile, data set, objectives, overrides)."""

    name: str
    title: str
    profile: str
    dataset: str
    overrides: Mapping[str, Any]
    objectives: tuple[str, ...]
    seeds: tuple[int, ...]
    pruner: str
    evaluations: int
    """evaluations of a run"""
    total: int
    """total number of trials, including completed ones"""
    command: str
    """the launch of this search"""
    confirm: str
    """the launch that compares its best trial with the base"""
    space: Mapping[str, ParameterRecord]
    """by config field"""
    derived: Mapping[str, str]
    """derived settings, each in words"""
    derived_fields: tuple[str, ...]
    """config fields that they set"""
    base: Mapping[str, Setting]
    """values of the search's base, of the fields above; None for the network's own"""
    base_macs: float | None
    base_error: float | None
    """validation error in % of the base's own runs at these seeds, their mean; None unless the store has them all"""
    val_images: int | None
    """validation images of each error; None in records of earlier versions"""
    trials: tuple[TrialRecord, ...]
    """all of them, in the order of their numbers"""
    best: int | None
    """number of the trial with the lowest error"""
    front: tuple[int, ...]
    """numbers of the trials on the Pareto front; empty with one objective"""
    importances: Mapping[str, Mapping[str, float]]
    """share by objective and parameter; empty for too few trials, and while the search goes on"""

    @classmethod
    def from_json(cls, raw: Any) -> "SearchRecord":
        """Returns the record in the content of a search.json. Raises RecordError unless it is whole and of schema 1."""
        if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
            there = raw.get("schema") if isinstance(raw, dict) else None
            raise RecordError(f"search.json has schema {there}, this version reads {SCHEMA}")
        try:
            return cls(
                name=str(raw["search"]),
                title=str(raw["title"]),
                profile=str(raw["profile"]),
                dataset=str(raw["dataset"]),
                overrides=dict(raw["overrides"]),
                objectives=tuple(raw["objectives"]),
                seeds=tuple(raw["seeds"]),
                pruner=str(raw["pruner"]),
                evaluations=int(raw["evaluations"]),
                total=int(raw["total"]),
                command=str(raw["command"]),
                confirm=str(raw["confirm"]),
                space={name: ParameterRecord.from_json(item) for name, item in raw["space"].items()},
                derived=dict(raw["derived"]),
                derived_fields=tuple(raw["derived_fields"]),
                base=dict(raw["base"]),
                base_macs=raw["base_macs"],
                base_error=raw.get("base_error"),
                val_images=raw.get("val_images"),
                trials=tuple(TrialRecord.from_json(item) for item in raw["trials"]),
                best=raw["best"],
                front=tuple(raw["front"]),
                importances={key: dict(value) for key, value in raw["importances"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordError(f"search.json is not whole: {type(error).__name__}: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """Returns the content of search.json."""
        return {
            "schema": SCHEMA,
            "search": self.name,
            "title": self.title,
            "profile": self.profile,
            "dataset": self.dataset,
            "overrides": dict(self.overrides),
            "objectives": list(self.objectives),
            "seeds": list(self.seeds),
            "pruner": self.pruner,
            "evaluations": self.evaluations,
            "total": self.total,
            "command": self.command,
            "confirm": self.confirm,
            "space": {name: parameter.to_json() for name, parameter in self.space.items()},
            "derived": dict(self.derived),
            "derived_fields": list(self.derived_fields),
            "base": dict(self.base),
            "base_macs": self.base_macs,
            "base_error": self.base_error,
            "val_images": self.val_images,
            "trials": [trial.to_json() for trial in self.trials],
            "best": self.best,
            "front": list(self.front),
            "importances": {name: dict(shares) for name, shares in self.importances.items()},
        }

    @property
    def profile_name(self) -> str:
        """The profile without its version."""
        return profile_name(self.profile)

    @property
    def counted(self) -> list[TrialRecord]:
        """The trials that count: those that no other replaced."""
        return [trial for trial in self.trials if not trial.replaced]

    @property
    def finished(self) -> list[TrialRecord]:
        """The trials that count and have a validation error."""
        return [trial for trial in self.counted if trial.error is not None]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is not a number")
    return value
