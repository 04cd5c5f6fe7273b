"""Profiles say how big a study's runs are; studies say what is compared. A change to a profile raises its version."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ran.registry import Registry


@dataclass(frozen=True)
class Profile:
    """Config fields that take precedence over a study's base."""

    name: str
    version: int
    summary: str
    settings: Mapping[str, Any]

    @property
    def tag(self) -> str:
        return f"{self.name}-{self.version}"


PROFILES: Registry[Profile] = Registry("profile")


def _profile(name: str, version: int, summary: str, settings: Mapping[str, Any]) -> None:
    PROFILES.register(name)(Profile(name=name, version=version, summary=summary, settings=settings))


_profile("smoke", 1, "takes seconds; shows that everything runs, measures nothing", {
    "data.name": "cluttershapes", "data.train_images": 128, "data.val_images": 32, "data.test_images": 64,
    "model.width": 0.125, "optim.schedule": "one_cycle",
    "train.steps": 6, "train.batch_size": 16, "train.precision": "float32", "train.evals": 2,
})  # fmt: skip

_profile("quick", 1, "about a minute per run on two cores, on the built-in data set", {
    "data.name": "cluttershapes", "data.val_images": 500,
    "model.width": 0.25, "optim.schedule": "one_cycle", "optim.lr": 0.5, "optim.momentum": 0.8,
    "optim.weight_decay": 5e-4, "train.steps": 150, "train.batch_size": 32, "train.evals": 2,
    # So small a network is limited by the overhead of each operation; a second thread was measured to slow it down.
    "train.threads": 1,
})  # fmt: skip

_profile("short", 1, "half width, 40,000 images seen; evidence on real CIFAR without a GPU", {
    "data.name": "cifar10", "data.val_images": 5_000,
    "model.width": 0.5, "optim.schedule": "one_cycle", "optim.lr": 0.2, "optim.weight_decay": 5e-4,
    "train.steps": 625, "train.evals": 5,
})  # fmt: skip

_profile("paper", 1, "the paper's protocol (on CIFAR 160k steps of 64 on all 50,000 images)", {})
