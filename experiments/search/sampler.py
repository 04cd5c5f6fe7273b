"""Draws the parameters of a trial: TPE, seeded by the trial's number."""

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial

from ran.rng import stream_seed

STARTUP = 10
"""number of trials drawn at random before TPE draws the first"""


class Sampler(BaseSampler):
    """TPE whose draws for a trial are a function of (seed, trial number, what is known by then).

    Optuna's own sampler restarts its random numbers in each process, so a continued search or a second launch would
    draw what was drawn before.
    """

    def __init__(self, seed: int):
        self._seed = seed
        self._number: int | None = None
        self._tpe = TPESampler()

    def _of(self, trial: FrozenTrial) -> TPESampler:
        if trial.number != self._number:
            self._number = trial.number
            seed = stream_seed(self._seed, "sampler", trial.number) % 2**32
            self._tpe = TPESampler(n_startup_trials=STARTUP, seed=seed)
        return self._tpe

    def infer_relative_search_space(self, study: OptunaStudy, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: OptunaStudy, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: OptunaStudy, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)
