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
    seeds: tuple[int, ...]
    """planned seeds of studies that name none themselves"""
    settings: Mapping[str, Any]

    @property
    def tag(self) -> str:
        return f"{self.name}-{self.version}"

    def planned(self, seeds: tuple[int, ...] | None) -> tuple[int, ...]:
        """Returns the planned seeds of a study: its own if it names some, else the profile's."""
        return self.seeds if seeds is None else seeds


PROFILES: Registry[Profile] = Registry("profile")


def _profile(name: str, version: int, summary: str, settings: Mapping[str, Any], *, seeds: int = 3) -> None:
    profile = Profile(name=name, version=version, summary=summary, seeds=tuple(range(seeds)), settings=settings)
    PROFILES.register(name)(profile)


_profile("smoke", 1, "takes seconds; shows that everything runs, measures nothing", {
    "data.name": "cluttershapes", "data.train_images": 128, "data.val_images": 32, "data.test_images": 64,
    "model.width": 0.125, "optim.schedule": "one_cycle",
    "train.steps": 6, "train.batch_size": 16, "train.precision": "float32", "train.evals": 2,
})  # fmt: skip

# Its steps are limited by the overhead of each operation: small images in large batches learn most per second, and a
# second thread slows it down. docs/performance.md says how this recipe and that of `short` were chosen.
_profile("quick", 3, "about half a minute per run on a core, on the built-in data set", {
    "data.name": "cluttershapes", "data.difficulty": 0.0, "data.val_images": 500,
    "model.width": 0.25, "optim.schedule": "one_cycle", "optim.lr": 0.4, "optim.weight_decay": 5e-4,
    "train.steps": 130, "train.batch_size": 96, "train.precision": "float32", "train.evals": 1, "train.threads": 1,
})  # fmt: skip

_profile("short", 2, "half width, 40,000 images seen; evidence on real CIFAR without a GPU", {
    "data.name": "cifar10", "data.val_images": 5_000,
    "model.width": 0.5, "optim.schedule": "one_cycle", "optim.lr": 0.3, "optim.weight_decay": 5e-4,
    "train.steps": 1250, "train.batch_size": 32, "train.precision": "float32", "train.evals": 3, "train.threads": 1,
}, seeds=5)  # fmt: skip

_profile("paper", 1, "the paper's protocol (on CIFAR 160k steps of 64 on all 50,000 images)", {})
