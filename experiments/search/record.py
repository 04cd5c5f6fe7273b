"""What a search found: records of its trials for search.json, and the table of its best trials."""

import contextlib
import functools
import math
import shlex
import statistics
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, TrialState

from experiments.plan import resolved
from experiments.search import trial_state as attributes
from experiments.search.space import Space
from experiments.search.trial_state import frozen_trials, replaced
from experiments.search_spec import DERIVED
from experiments.tracking.errors import TrackingError
from experiments.tracking.store import Store
from ran.config import override
from ran.engine.device import DeviceCapabilities
from ran.fingerprints import fingerprint
from records import names
from records.search_json import CATEGORICAL, FLOAT, INT, RUNNING, WAITING, ParameterRecord, SearchRecord, TrialRecord
from records.text import columns

BEST = 10
"""maximum number of trials in the table"""
LINE = 100
"""characters of a line below the table"""


def trial_records(study: OptunaStudy, seeds: Sequence[int]) -> tuple[TrialRecord, ...]:
    """Returns every trial of a study, in the order of their numbers."""
    trials = frozen_trials(study)
    gone = replaced(trials)
    return tuple(_trial_record(t, seeds, t.number in gone) for t in trials)


def _trial_record(t: FrozenTrial, seeds: Sequence[int], gone: bool) -> TrialRecord:
    held = t.user_attrs
    return TrialRecord(
        number=t.number,
        state=t.state.name.lower(),
        outcome=held.get(attributes.OUTCOME),
        params=dict(t.params),
        settings=held.get(attributes.SETTINGS, {}),
        values=tuple(t.values) if t.state == TrialState.COMPLETE else None,
        errors=tuple(held.get(attributes.ERRORS, ())),
        macs=held.get(attributes.MACS),
        fingerprints=tuple(held.get(attributes.FINGERPRINTS, ())),
        seeds=tuple(seeds),
        intermediate={step: value for step, value in t.intermediate_values.items() if math.isfinite(value)},
        seconds=held.get(attributes.SECONDS),
        reason=held.get(attributes.REASON, ""),
        retry_of=held.get(attributes.RETRY_OF),
        replaced=gone,
    )


def base_error(space: Space, seeds: Sequence[int], capabilities: DeviceCapabilities, store: Store) -> float | None:
    """Returns the mean validation error in % of the base at these seeds; None unless the store has all these runs.

    A search does not train its base, but a study may have trained the same configuration.
    """
    configs = [resolved(override(space.base, {"seed": seed}), capabilities) for seed in seeds]
    try:
        runs = [store.run(space.source.name, fingerprint(config, space.source.digest)) for config in configs]
    except TrackingError:
        return None
    errors = [run.val_err for run in runs if run is not None and run.outcome == names.FINISHED]
    found = [error for error in errors if error is not None]
    return statistics.fmean(found) if len(found) == len(seeds) else None


def best(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Returns the trials with a validation error, the lowest first; equal ones in the order of their numbers."""
    return sorted((t for t in trials if t.error is not None), key=lambda t: (*(t.values or ()), t.number))


def front(trials: Sequence[TrialRecord]) -> tuple[int, ...]:
    """Returns the numbers of the trials that no other beats in both objectives, the lowest error first."""
    found: list[int] = []
    least = math.inf
    for trial in best(trials):
        macs = (trial.values or ())[1]
        if macs < least:
            least = macs
            found.append(trial.number)
    return tuple(found)


def importances(study: OptunaStudy, objectives: Sequence[str]) -> dict[str, dict[str, float]]:
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


def parameter_records(space: Mapping[str, BaseDistribution]) -> dict[str, ParameterRecord]:
    """Returns the distributions of a space as search.json has them."""
    return {name: _parameter_record(distribution) for name, distribution in space.items()}


def _parameter_record(d: Any) -> ParameterRecord:
    if (choices := getattr(d, "choices", None)) is not None:
        return ParameterRecord(kind=CATEGORICAL, choices=tuple(choices))
    kind = INT if isinstance(d, IntDistribution) else FLOAT
    return ParameterRecord(kind=kind, low=d.low, high=d.high, log=d.log, step=d.step)


def describe_derived(derived: Sequence[str]) -> dict[str, str]:
    """Returns a description of each derived setting."""
    return {name: (DERIVED[name].__doc__ or "").strip() for name in derived}


def describe_value(val_images: int, seeds: Sequence[int]) -> str:
    """Returns what the value of a trial rests on, in words."""
    over = f"seed {seeds[0]}" if len(seeds) == 1 else f"the mean over seeds {', '.join(map(str, seeds))}"
    return f"on {val_images:,} validation images (one image is {100 / val_images:.2g} points), {over}"


def table(record: SearchRecord) -> str:
    """Returns a table of the base and the best trials for a terminal, what it means, and the counts of the others."""
    found = best(record.counted)
    two = len(record.objectives) > 1
    if two:
        found = [trial for trial in found if trial.number in record.front]
    fields = list(record.space) + [name for name in record.derived_fields if name not in record.space]
    n = len(record.seeds)
    title = f"{record.title}: {'the Pareto front' if two else 'the best trials'}"
    lines = [f"{title} ({record.profile}, {record.dataset}, n = {n} seed{'' if n == 1 else 's'} per trial)"]
    if found:
        headers = ("trial", "val. error (%)", "MACs (G)", *(name.rpartition(".")[2] for name in fields))
        rows = [("base", record.base_error, record.base_macs, record.base)]
        rows += [(str(trial.number), trial.error, trial.macs, trial.settings) for trial in found[:BEST]]
        texts = [
            (label, _percent(error), _giga(macs), *(setting_text(settings.get(name, "")) for name in fields))
            for label, error, macs, settings in rows
        ]
        lines.append(columns(headers, texts, right=range(len(headers))))
        lines.append(textwrap.fill(" ".join(_notes(record)), LINE, break_long_words=False, break_on_hyphens=False))
        lines.append(f"Figures: {_figures_command(record)}")
    lines.append(f"{_counts(record.counted)} Chosen on validation images; the lowest of many errors is partly luck:")
    lines.append(f"  {record.confirm}")
    return "\n".join(lines)


def _notes(record: SearchRecord) -> Iterator[str]:
    if record.val_images is not None:
        yield f"Error: {describe_value(record.val_images, record.seeds)}."
    if record.base_error is None:
        yield "The search does not train its base; the comparison below does."
    else:
        yield "The base's error is that of its runs in a study."
    if record.derived:
        fields = zip(record.derived_fields, record.derived.values(), strict=True)
        yield f"Not drawn, but derived from the base: {'; '.join(f'{name}, {text}' for name, text in fields)}."


def _figures_command(record: SearchRecord) -> str:
    """Returns the command that draws the figures of this search, also if others have its name."""
    words = ["--search", record.name, "--profile", record.profile_name, "--data", record.dataset]
    return shlex.join(["python", "analysis/make_figures.py", *words, *(["--overrides"] if record.overrides else [])])


def _counts(trials: Sequence[TrialRecord]) -> str:
    outcomes = Counter(trial.outcome for trial in trials)
    kinds = (names.FINISHED, attributes.PRUNED, names.DIVERGED, names.FAILED)
    parts = [f"{outcomes[kind]} {kind}" for kind in kinds if outcomes[kind]]
    if left := sum(trial.state in (RUNNING, WAITING) for trial in trials):
        parts.append(f"{left} not over")
    return f"{len(trials)} trial{'' if len(trials) == 1 else 's'}: {', '.join(parts) or 'none over'}."


def _percent(error: float | None) -> str:
    return "\N{EN DASH}" if error is None else f"{error:.2f}"


def _giga(macs: float | None) -> str:
    return f"{(macs or 0) / 1e9:.4f}"


def setting_text(value: Any) -> str:
    """Returns the value of a config field as the tables of a search show it."""
    return "the net's" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def summary(record: SearchRecord) -> dict[str, float]:
    """Returns the metrics of a search's parent run."""
    found = best(record.counted)
    over = float(sum(trial.over for trial in record.counted))
    return {names.SUMMARY_TRIALS: over} | ({names.SUMMARY_BEST: found[0].error or 0.0} if found else {})
