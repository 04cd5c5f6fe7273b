"""The state of trials in Optuna: user attributes, which trials count, and how one is handed on to another launch."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, Trial, TrialState

from records import names

logger = logging.getLogger(__name__)

LAUNCH, OUTCOME, REASON, SECONDS = "launch", "outcome", "reason", "seconds"
SETTINGS, FINGERPRINTS, ERRORS, MACS, RETRY_OF, DEATHS, VOID = (
    "settings", "fingerprints", "errors", "macs", "retry_of", "deaths", "void",
)  # fmt: skip
"""user attributes of a trial"""
PRUNED = "pruned"
RETRIES = 2
"""number of times that a trial is tried again after its launch died; a third death fails it"""


def frozen_trials(study: OptunaStudy) -> list[FrozenTrial]:
    """Reads the trials and returns them in the order of their numbers."""
    return study.get_trials(deepcopy=False)


def replaced(trials: list[FrozenTrial]) -> set[int]:
    """Returns the numbers of trials that no longer count: another has their parameters, or they drew none."""
    retried = {t.user_attrs["retry_of"] for t in trials if "retry_of" in t.user_attrs}
    return retried | {t.number for t in trials if t.user_attrs.get("void")}


def count(trials: list[FrozenTrial]) -> int:
    """Returns the number of trials that are finished or running, without those that were replaced."""
    gone = replaced(trials)
    return sum(t.state != TrialState.WAITING and t.number not in gone for t in trials)


def count_over(trials: list[FrozenTrial], *, failed: bool = True) -> int:
    """Returns the number of finished trials, with or without those that `failed`, without those that were replaced."""
    gone = replaced(trials)
    over = [t for t in trials if t.state.is_finished() and t.number not in gone]
    return sum(failed or t.state != TrialState.FAIL for t in over)


def tell(study: OptunaStudy, trial: Trial, attributes: Mapping[str, Any], values: Any, state: TrialState) -> None:
    """Ends a trial and sets its attributes. A trial that another launch has handed on stays as it is."""
    try:
        for key, value in attributes.items():
            trial.set_user_attr(key, value)
        study.tell(trial.number, values, state)
    except optuna.exceptions.UpdateFinishedTrialError:
        logger.warning("trial %s: another launch took this one for dead, and has its runs now", trial.number)


def hand_on(study: OptunaStudy, t: FrozenTrial, trials: list[FrozenTrial], reason: str, *, deaths: int) -> str:
    """Fails a running trial and enqueues its parameters, so that a launch continues from its checkpoints.

    Returns a message if the trial is given up instead, else "". Parameters are enqueued first, so a kill loses nothing.
    """
    parameters = {**t.system_attrs.get("fixed_params", {}), **t.params}
    attributes: dict[str, Any] = {OUTCOME: names.KILLED, REASON: reason}
    if not parameters:
        attributes[VOID] = True  # it had drawn nothing, so there is nothing to continue
    elif deaths > RETRIES:
        attributes = {OUTCOME: names.FAILED, REASON: f"{reason} {deaths} times in a row"}
    elif t.number not in replaced(trials):
        study.enqueue_trial(parameters, user_attrs={RETRY_OF: t.number, DEATHS: deaths})
    tell(study, Trial(study, t._trial_id), attributes, None, TrialState.FAIL)
    return f"trial {t.number}: failed: {attributes[REASON]}" if attributes[OUTCOME] == names.FAILED else ""


def take_over(
    study: OptunaStudy, trials: list[FrozenTrial], others: list[FrozenTrial], is_dead: Callable[[str], bool]
) -> list[str]:
    """Hands on those of the running trials `others` whose launches have died; returns messages about those given up.

    A trial without an owner belongs to a launch that died before it could sign, since launches ask in turn.
    """
    dead = {"": True}
    lines = []
    for t in others:
        owner = str(t.user_attrs.get(LAUNCH, ""))
        if owner not in dead:
            dead[owner] = is_dead(owner)
        if dead[owner]:
            logger.warning("trial %s: its launch has died; its parameters are tried again", t.number)
            lines.append(hand_on(study, t, trials, "its launch died", deaths=t.user_attrs.get(DEATHS, 0) + 1))
    return [line for line in lines if line]


def enqueue_failed(study: OptunaStudy) -> None:
    """Enqueues the parameters of failed trials, except those that were tried again already."""
    trials = frozen_trials(study)
    gone = replaced(trials)
    for t in trials:
        if t.state == TrialState.FAIL and t.number not in gone and t.params:
            study.enqueue_trial(t.params, user_attrs={RETRY_OF: t.number, DEATHS: 0})
