"""Tiny but real: 8-pixel images, a network of one attention module, a handful of steps."""

from collections.abc import Iterator

import pytest
import torch
from crew import Crew

from ran.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from ran.data.augment import cifar_normalization
from ran.data.datasets import Images, Splits
from ran.models.network import NetworkSpec, StageSpec
from ran.models.zoo import NETWORKS

TINY = NetworkSpec(stem_channels=4, stages=(StageSpec(8, 4, stride=1, units=1, modules=1, poolings=2),))


@pytest.fixture
def tiny_network(one_thread):
    """Registers `tiny`."""
    with NETWORKS.holding("tiny", TINY):
        yield


@pytest.fixture(scope="session")
def splits() -> Splits:
    generator = torch.Generator().manual_seed(0)

    def images(n: int) -> Images:
        pixels = torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8, generator=generator)
        return Images(pixels, torch.randint(0, 3, (n,), generator=generator))

    train = images(20)
    return Splits(train, images(6), images(6), cifar_normalization(train.images))


@pytest.fixture(scope="session")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    members = Crew(3, tmp_path_factory.mktemp("crew"))
    yield members
    members.dismiss()


@pytest.fixture
def config() -> RunConfig:
    return RunConfig(
        ModelConfig("tiny"),
        DataConfig("cluttershapes"),
        OptimConfig(lr=0.02, schedule="one_cycle"),
        TrainConfig(steps=7, batch_size=8, precision="float32", evals=3),
    )
