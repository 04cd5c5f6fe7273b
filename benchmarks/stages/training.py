"""Stage `training`: a real run of Attention-56, its curve, and the same run stopped and continued, compared by bits."""

import time
from collections.abc import Iterator

import torch

from benchmarks import sheets
from benchmarks.stages import Found, Work
from ran.config import RunConfig, override
from ran.data.datasets import Splits, load_splits
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
BUILT_IN = {"data.name": "cluttershapes", "data.image_size": 32, "data.val_images": 500}
"""where CIFAR-10 is not at hand, nor a part of it"""
SMALLEST = {"data.image_size": 8, "data.val_images": 20}


def images(work: Work) -> tuple[RunConfig, Splits, str]:
    """Returns the run's config, its images, and which they are: CIFAR-10, the part of it at hand, or the built-in set.

    A rehearsal takes few images, and not the whole of CIFAR-10, which takes seconds to read. Raises DataError for
    damaged files.
    """
    config = override(RunConfig(), FULL if work.full else LEAST)
    if work.full:
        try:
            return config, load_splits(config.data, config.seed), "cifar10, whole"
        except DataError as error:
            reason = str(error)
    else:
        reason = "a rehearsal does without the whole of CIFAR-10"
    if sheets.FOLDER.is_dir():
        splits = sheets.part(config.data, config.seed, folder=sheets.FOLDER, most=None if work.full else 1)
        counts = f"{len(splits.train):,} training, {len(splits.val):,} validation, {len(splits.test):,} test images"
        return config, splits, f"cifar10, the part in {sheets.FOLDER.name}: {counts}"
    config = override(config, BUILT_IN | ({} if work.full else SMALLEST))
    return config, load_splits(config.data, config.seed), f"{config.data.name}: no {sheets.FOLDER.name}, and {reason}"


def training(work: Work) -> Iterator[Found]:
    """The errors of a run, its images per second, and which tensors differ after a stop."""
    config, splits, data = images(work)
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
        "data": data, "network": config.model.name, "steps": config.train.steps, "seconds": seconds,
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
