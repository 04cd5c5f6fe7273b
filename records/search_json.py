"""search.json, the record on a search's parent run: its space, its trials, and what they showed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from records import names, sane
from records.study_json import RecordError, profile_name
from records.text import short

SCHEMA = 1
CATEGORICAL, INT, FLOAT = "categorical", "int", "float"
COMPLETE, PRUNED, FAIL, RUNNING, WAITING = "complete", "pruned", "fail", "running", "waiting"
"""states of a trial; `pruned` is an outcome, too"""

MOST_CHOICES = 100_000
"""greatest range of an integer, which a figure walks through"""

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
            return cls(kind=CATEGORICAL, choices=tuple(map(_setting, raw["choices"])))
        if raw["type"] not in (INT, FLOAT):
            raise ValueError("a parameter is neither categorical nor a range")
        low, high = _number(raw["low"]), _number(raw["high"])
        step = None if raw["step"] is None else _number(raw["step"])
        if raw["type"] == INT and not high - low <= MOST_CHOICES:
            raise sane.OutOfRangeError(f"a range of more than {MOST_CHOICES:,} integers")
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
            number=_integer(raw["number"]),
            state=_line(raw["state"]),
            outcome=None if raw["outcome"] is None else _line(raw["outcome"]),
            params=_settings(raw["params"]),
            settings=_settings(raw["settings"]),
            values=None if raw["values"] is None else tuple(_number(value) for value in raw["values"]),
            errors=tuple(map(_number, raw["errors"])),
            macs=None if raw["macs"] is None else _number(raw["macs"]),
            fingerprints=tuple(sane.digits(value, "a fingerprint") for value in raw["fingerprints"]),
            seeds=tuple(map(_integer, raw["seeds"])),
            intermediate={_integer(int(step)): _number(value) for step, value in raw["intermediate"].items()},
            seconds=None if raw["seconds"] is None else _number(raw["seconds"]),
            reason=sane.text(str(raw["reason"]), "a reason"),
            retry_of=None if raw["retry_of"] is None else _integer(raw["retry_of"]),
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
            there = there if isinstance(there, int) and abs(there) < 10**9 else "unknown"
            raise RecordError(f"search.json has schema {there}, this version reads {SCHEMA}")
        try:
            return cls(
                name=sane.name(raw["search"], "its name"),
                title=_line(raw["title"], sane.LONGEST_TITLE),
                profile=sane.name(raw["profile"], "its profile"),
                dataset=sane.name(raw["dataset"], "its data set"),
                overrides=sane.tree(dict(raw["overrides"]), "its overrides", 1_000),
                objectives=tuple(map(_line, raw["objectives"])),
                seeds=tuple(map(_integer, raw["seeds"])),
                pruner=_line(raw["pruner"]),
                evaluations=_integer(raw["evaluations"]),
                total=_integer(raw["total"]),
                command=_line(raw["command"], sane.LONGEST_TEXT),
                confirm=_line(raw["confirm"], sane.LONGEST_TEXT),
                space={_line(name): ParameterRecord.from_json(item) for name, item in raw["space"].items()},
                derived={_line(key): _line(text, sane.LONGEST_TITLE) for key, text in raw["derived"].items()},
                derived_fields=tuple(map(_line, raw["derived_fields"])),
                base=_settings(raw["base"]),
                base_macs=None if raw["base_macs"] is None else _number(raw["base_macs"]),
                base_error=None if raw.get("base_error") is None else _number(raw["base_error"]),
                val_images=None if raw.get("val_images") is None else _integer(raw["val_images"]),
                trials=tuple(TrialRecord.from_json(item) for item in raw["trials"]),
                best=None if raw["best"] is None else _integer(raw["best"]),
                front=tuple(map(_integer, raw["front"])),
                importances={
                    _line(key): {_line(name): _number(share) for name, share in value.items()}
                    for key, value in raw["importances"].items()
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = str(error)[: sane.LONGEST_LABEL]
            raise RecordError(f"search.json is not whole: {type(error).__name__}: {reason}") from None

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
        raise ValueError(f"{short(value)} is not a number")
    sane.number(value, "a number")
    return value


def _integer(value: Any) -> int:
    return sane.integer(value, "an integer")


def _line(value: Any, most: int = sane.LONGEST_LABEL) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{short(value)} is not a text")
    return sane.line(value, "a text", most)


def _setting(value: Any) -> Setting:
    if value is None or isinstance(value, bool):
        return value
    return _line(value) if isinstance(value, str) else _number(value)


def _settings(raw: Mapping[str, Any]) -> dict[str, Setting]:
    return {_line(key): _setting(value) for key, value in raw.items()}
