"""Writes search.json, from which the figures of a search are drawn, and the table of its best trials."""

import contextlib
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from experiments.search import trial_state as attributes
from experiments.search.trial_state import frozen_trials, replaced
from experiments.search_spec import DERIVED
from records import names
from records.text import columns

SCHEMA = 1
BEST = 10
"""maximum number of trials in the table"""


def trial_entries(study: Study, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Returns every trial of a study as search.json has it, by number."""
    trials = frozen_trials(study)
    gone = replaced(trials)
    return [_entry(t, seeds, t.number in gone) for t in trials]


def _entry(t: FrozenTrial, seeds: Sequence[int], gone: bool) -> dict[str, Any]:
    said = t.user_attrs
    return {
        "number": t.number,
        "state": t.state.name.lower(),
        "outcome": said.get(attributes.OUTCOME),
        "params": dict(t.params),
        "settings": said.get(attributes.SETTINGS, {}),
        "values": t.values if t.state == TrialState.COMPLETE else None,
        "errors": said.get(attributes.ERRORS, []),
        "macs": said.get(attributes.MACS),
        "fingerprints": said.get(attributes.PRINTS, []),
        "seeds": list(seeds),
        "intermediate": {str(step): v for step, v in sorted(t.intermediate_values.items()) if math.isfinite(v)},
        "seconds": said.get(attributes.SECONDS),
        "reason": said.get(attributes.REASON, ""),
        "retry_of": said.get(attributes.RETRY_OF),
        "replaced": gone,
    }


def best(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the trials with a validation error, the lowest first; equal ones in the order of their numbers."""
    done = [e for e in entries if e["outcome"] == names.FINISHED and e["values"]]
    return sorted(done, key=lambda e: (*e["values"], e["number"]))


def front(entries: Sequence[Mapping[str, Any]]) -> list[int]:
    """Returns the numbers of the trials that no other beats in both objectives, the lowest error first."""
    found: list[int] = []
    least = math.inf
    for e in best(entries):
        if e["values"][1] < least:
            least = e["values"][1]
            found.append(e["number"])
    return found


def importances(study: Study, objectives: Sequence[str]) -> dict[str, dict[str, float]]:
    """Returns by objective the share of each parameter in the spread of the complete trials (fANOVA); {} for too few.

    Trials that diverged count with their worst value, because that a rate makes them diverge is an influence too.
    """
    found = {}
    for i, objective in enumerate(objectives):
        with contextlib.suppress(ValueError, RuntimeError, ZeroDivisionError):  # too few trials, or all alike
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            value = functools.partial(_value, i)
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator, target=value)
            if all(math.isfinite(share) for share in shares.values()):
                found[objective] = {name: round(share, 6) for name, share in shares.items()}
    return found


def _value(i: int, t: FrozenTrial) -> float:
    return t.values[i]


def search_json(
    about: Mapping[str, Any], study: Study, seeds: Sequence[int], objectives: Sequence[str], *, over: bool
) -> dict[str, Any]:
    """Returns the content of search.json; the importances, which take seconds, only when the launch is `over`."""
    entries = trial_entries(study, seeds)
    found = best(entries)
    return {
        "schema": SCHEMA,
        **about,
        "trials": entries,
        "best": found[0]["number"] if found else None,
        "front": front(entries) if len(objectives) > 1 else [],
        "importances": importances(study, objectives) if over else {},
    }


def describe_space(space: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the distributions as search.json has them."""
    found: dict[str, dict[str, Any]] = {}
    for name, d in space.items():
        choices = getattr(d, "choices", None)
        if choices is not None:
            found[name] = {"type": "categorical", "choices": list(choices)}
        else:
            kind = "int" if isinstance(d, optuna.distributions.IntDistribution) else "float"
            found[name] = {"type": kind, "low": d.low, "high": d.high, "log": d.log, "step": d.step}
    return found


def describe_derived(derived: Sequence[str]) -> dict[str, str]:
    """Returns a description of each derived setting."""
    return {name: (DERIVED[name].__doc__ or "").strip() for name in derived}


def table(record: Mapping[str, Any]) -> str:
    """Returns a table of the best trials of a search.json for a terminal, and the counts of the others."""
    entries = [e for e in record["trials"] if not e["replaced"]]
    found = best(entries)
    two = len(record["objectives"]) > 1
    if two:
        found = [e for e in found if e["number"] in record["front"]]
    fields = list(record["space"]) + [name for name in record["derived_fields"] if name not in record["space"]]
    n = len(record["seeds"])
    title = f"{record['title']}: {'the Pareto front' if two else 'the best trials'}"
    lines = [f"{title} ({record['profile']}, {record['dataset']}, n = {n} seed{'' if n == 1 else 's'} a trial)"]
    if found:
        head = ("trial", "val. error (%)", "MACs (G)", *(name.rpartition(".")[2] for name in fields))
        rows = [
            (
                str(e["number"]), f"{e['values'][0]:.2f}", f"{e['macs'] / 1e9:.4f}",
                *(_plain(e["settings"].get(name, "")) for name in fields),
            )
            for e in found[:BEST]
        ]  # fmt: skip
        lines.append(columns(head, rows, right=range(len(head))))
    lines.append(f"{_counts(entries)} Chosen on validation images; the lowest of many errors is in part luck:")
    lines.append(f"  {record['confirm']}")
    return "\n".join(lines)


def _counts(entries: Sequence[Mapping[str, Any]]) -> str:
    kinds = {"finished": names.FINISHED, "pruned": "pruned", "diverged": names.DIVERGED, "failed": names.FAILED}
    parts = [f"{n} {kind}" for kind, o in kinds.items() if (n := sum(e["outcome"] == o for e in entries))]
    if left := sum(e["state"] in ("running", "waiting") for e in entries):
        parts.append(f"{left} not over")
    return f"{len(entries)} trial{'' if len(entries) == 1 else 's'}: {', '.join(parts) or 'none over'}."


def _plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def summary(record: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics of a search's parent."""
    entries = [e for e in record["trials"] if not e["replaced"]]
    over = float(sum(e["state"] in ("complete", "pruned", "fail") for e in entries))
    found = best(entries)
    return {names.SUMMARY_TRIALS: over} | ({names.SUMMARY_BEST: found[0]["values"][0]} if found else {})
