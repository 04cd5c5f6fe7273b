"""Stage `training`: a real run of Attention-56, its curve, and the same run stopped and continued, compared by bits."""

import time
from collections.abc import Iterator

import torch

from benchmarks.stages import Found, Work
from ran.config import RunConfig, override
from ran.data.datasets import load_splits
from ran.engine.train import Result, TrainHooks
from records import names
from records.errors import DataError

FULL = {
    "model.name": "attention56", "data.name": "cifar10", "data.val_images": 1_000, "optim.schedule": "one_cycle",
    "optim.lr": 0.15, "optim.weight_decay": 5e-4, "train.steps": 1_500, "train.batch_size": 128, "train.evals": 10,
    "train.precision": "bf16",
}  # fmt: skip
LEAST = FULL | {
    "model.name": "attention32c", "model.width": 0.125, "train.steps": 6, "train.batch_size": 8, "train.evals": 2,
    "data.val_images": 20, "data.test_images": 20, "data.train_images": 40, "train.precision": "float32",
}  # fmt: skip
BUILT_IN = {"data.name": "cluttershapes", "data.image_size": 32}
"""where CIFAR-10 is not at hand"""


def training(work: Work) -> Iterator[Found]:
    """The errors of a run, its images per second, and which tensors differ after a stop."""
    config = override(RunConfig(), FULL if work.full else LEAST)
    if not work.full:
        config = override(config, BUILT_IN | {"data.image_size": 8})
    try:
        splits = load_splits(config.data, config.seed)
    except DataError:
        config = override(config, BUILT_IN | {"data.val_images": 500})
        splits = load_splits(config.data, config.seed)
    curve: list[tuple[int, float]] = []
    taken = [0]

    def run(folder: str, stop_at: int | None = None) -> Result:
        taken[0] = 0
        hooks = TrainHooks(
            log=lambda step, values: curve.append((step, values[names.VAL_ERR])) if names.VAL_ERR in values else None,
            on_step=lambda step: taken.__setitem__(0, step),
            stop=lambda: taken[0] == stop_at,
        )
        return work.train(config, hooks, splits=splits, folder=folder)

    began = time.monotonic()
    whole = run("whole")
    seconds = time.monotonic() - began
    found: Found = {
        "data": config.data.name, "network": config.model.name, "steps": config.train.steps, "seconds": seconds,
        "curve": list(curve), "metrics": whole.metrics, "outcome": whole.outcome,
    }  # fmt: skip
    yield found
    if 2.2 * seconds > work.seconds:
        yield found | {"resume": "no time left"}
        return
    run("parts", stop_at=config.train.steps // 3)
    rest = run("parts")
    one, other = whole.network.state_dict(), rest.network.state_dict()
    differing = [key for key in one if not torch.equal(one[key], other[key])]
    yield found | {"resume": "the same bits" if not differing else f"{len(differing)} of {len(one)} tensors differ"}
