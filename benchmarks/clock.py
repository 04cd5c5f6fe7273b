"""For a launch with --import benchmarks.clock: writes the times of its runs' phases to the file $RAN_CLOCK."""

import functools
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.runner import execute
from ran.engine import checkpoint, scoring
from ran.engine.train import Result, TrainHooks
from records import names

_spent: dict[str, float] = {}


def _timed(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        began = time.monotonic()
        try:
            return function(*arguments, **options)
        finally:
            _spent[what] = _spent.get(what, 0.0) + time.monotonic() - began

    return call


def train(config: Any, splits: Any, hooks: TrainHooks, **options: Any) -> Result:
    """Trains as usual."""
    _spent.clear()
    steps: list[float] = []

    def on_step(step: int) -> None:
        steps.append(time.monotonic())
        hooks.on_step(step)

    timed = replace(
        hooks,
        log=_timed("MLflow", hooks.log),
        flush=_timed("MLflow", hooks.flush),
        after_save=_timed("checkpoints", hooks.after_save),
        on_step=on_step,
    )
    began = time.monotonic()
    result = original(config, splits, timed, **options)
    rate = result.metrics[names.COST_IMAGES_PER_S]
    of_steps = config.train.steps * config.train.batch_size / rate
    found = {
        "began": began, "ended": time.monotonic(), "steps": of_steps, "first": steps[0] - of_steps / config.train.steps,
        "network": str(config.model.name), "images_per_s": rate, **_spent,
    }  # fmt: skip
    with Path(os.environ["RAN_CLOCK"]).open("a") as file:
        file.write(json.dumps(found) + "\n")
    return result


original = execute.train
execute.train = train
for _name in ("evaluate", "stage_responses"):
    setattr(scoring, _name, _timed("evaluation", getattr(scoring, _name)))
checkpoint.save = _timed("checkpoints", checkpoint.save)
