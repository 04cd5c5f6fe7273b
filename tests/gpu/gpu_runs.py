"""Short runs on images made of noise."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ran.config import RunConfig, override
from ran.data.augment import cifar_normalization
from ran.data.datasets import Images, Splits
from ran.engine import train as loop
from ran.engine.train import Checkpointing, Result, TrainHooks, train

DEVICE = torch.device(os.environ.get("RAN_TEST_DEVICE", "cuda"))
REHEARSED = DEVICE.type == "cpu"
STEPS, WINDOW = 20, 10
BASE = {
    "model.name": "attention56", "model.width": 0.25, "data.name": "cluttershapes", "optim.schedule": "one_cycle",
    "train.steps": STEPS, "train.batch_size": 16, "train.precision": "float32", "train.evals": 2,
}  # fmt: skip


def config(**settings: object) -> RunConfig:
    """Returns the config of a short run; `settings` with __ for dots."""
    return override(RunConfig(), BASE | {key.replace("__", "."): value for key, value in settings.items()})


def noise(train: int = 100, test: int = 40) -> Splits:
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> Images:
        pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
        return Images(pixels, torch.randint(0, 10, (count,), generator=generator))

    training = images(train)
    return Splits(training, images(test), images(test), cifar_normalization(training.images))


@dataclass
class Outcome:
    """A run and what it logged."""

    result: Result
    points: dict[tuple[int, str], float] = field(default_factory=dict)

    @property
    def state(self) -> dict[str, Tensor]:
        return {key: value.cpu() for key, value in self.result.network.state_dict().items()}


def run(
    settings: RunConfig, device: torch.device, folder: Path, *, stop_at: int | None = None, begun: int = 0,
    on_step: Callable[[int], None] = lambda step: None,
) -> Outcome:  # fmt: skip
    """Trains in windows of ten steps, until `stop_at` or the end; `begun`: step of the checkpoint in the folder."""
    taken, points, interval = [begun], {}, loop.log_interval

    def note(step: int) -> None:
        taken[0] = step
        on_step(step)

    def log(step: int, values: dict[str, float]) -> None:
        points.update({(step, key): value for key, value in values.items()})

    loop.log_interval = lambda steps: WINDOW
    try:
        result = train(
            settings, noise(), TrainHooks(log=log, on_step=note, stop=lambda: taken[0] == stop_at), num_classes=10,
            fingerprint="f" * 64, device=device, checkpoints=Checkpointing(folder),
        )  # fmt: skip
    finally:
        loop.log_interval = interval
    return Outcome(result, points)


def differing(one: Outcome, other: Outcome) -> list[str]:
    """Returns the names of the tensors, and of logged points, whose bits differ."""
    a, b = one.state, other.state
    points = [str(key) for key in one.points | other.points if one.points.get(key) != other.points.get(key)]
    return [key for key in a if not torch.equal(a[key], b[key])] + points
