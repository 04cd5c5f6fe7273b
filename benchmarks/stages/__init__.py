"""The stages of `python -m benchmarks.device`. Each runs in a process of its own: `python -m benchmarks.stages NAME`.

A stage is a function of a `Work` that yields what it has found so far, as a JSON object: what it has yielded is kept if
its time ends. On a CPU each does the least that runs all of its code, and its figures mean nothing.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ran.config import RunConfig, override
from ran.data.augment import cifar_normalization
from ran.data.datasets import Images, Splits
from ran.engine.train import Checkpointing, Result, TrainHooks, train

Found = dict[str, Any]
Stage = Callable[["Work"], Iterator[Found]]


@dataclass(frozen=True)
class Work:
    """Where a stage works, and for how long."""

    device: torch.device
    seconds: float
    """its limit"""
    kept: Path
    """folder of files that are kept"""
    scratch: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="stage-")))
    """folder of files that are not"""

    @property
    def full(self) -> bool:
        """Whether figures are wanted; else the stage is rehearsed."""
        return self.device.type == "cuda"

    def config(self, name: str, **settings: Any) -> RunConfig:
        """Returns the config of a run of a network at full size, or of the smallest; `settings` with __ for dots."""
        size = {"model.name": name, "train.batch_size": 64, "train.precision": "bf16"}
        if not self.full:
            size = {"model.name": "attention32c", "model.width": 0.125, "train.batch_size": 4}
        base = {"train.steps": 100_000, "train.evals": 0, "train.precision": "float32", "data.name": "cifar10"}
        return override(RunConfig(), base | size | {key.replace("__", "."): value for key, value in settings.items()})

    def train(self, config: RunConfig, hooks: TrainHooks, *, splits: Splits | None = None, folder: str = "") -> Result:
        """Trains a run on `splits`, by default of noise, and saves no checkpoint before it stops."""
        return train(
            config, splits or noise(), hooks, num_classes=10, fingerprint="f" * 64, device=self.device,
            checkpoints=Checkpointing(self.scratch / folder if folder else Path(tempfile.mkdtemp(dir=self.scratch))),
        )  # fmt: skip


def noise(count: int = 2_000) -> Splits:
    """Returns images of 32x32 made of noise: what a step costs does not depend on them."""
    generator = torch.Generator().manual_seed(0)

    def drawn(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    images = Images(drawn(256, count, 3, 32, 32).to(torch.uint8), drawn(10, count))
    few = Images(images.images[:64], images.labels[:64])
    return Splits(images, few, few, cifar_normalization(images.images))
