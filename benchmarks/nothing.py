"""For a launch with --import benchmarks.nothing, and its workers: runs log as usual but do not train."""

import time
from typing import Any

from torch import nn

from experiments.runner import execute
from ran.config import RunConfig
from ran.engine.train import Result, TrainHooks
from records import names

POINTS = 10
"""number of points of the training loss; with evaluation and final metrics a run logs about 40 numbers"""


def train(config: RunConfig, splits: Any, hooks: TrainHooks, **_: Any) -> Result:
    """Logs the metrics that a run of `config` would log, with made-up values."""
    steps, began = config.train.steps, time.monotonic()
    for i in range(1, POINTS + 1):
        hooks.log(steps * i // POINTS, {names.TRAIN_LOSS: 1 / i, names.TRAIN_ERR: 90 / i, names.LR: config.optim.lr})
    hooks.log(steps, {names.VAL_LOSS: 1.0, names.VAL_ERR: 10.0})
    hooks.flush()  # as before each checkpoint
    metrics = {
        names.FINAL_VAL_ERR: 10.0, names.FINAL_VAL_LOSS: 1.0, names.FINAL_TEST_ERR: 10.0, names.FINAL_TEST_LOSS: 1.0,
        names.COST_IMAGES_PER_S: 1e6, names.COST_HOURS: (time.monotonic() - began) / 3600,
    }  # fmt: skip
    return Result(outcome=names.FINISHED, step=steps, network=nn.Module(), metrics=metrics)


execute.train = train
