"""Set-up of a run before its first step: threads, kernels, the network, and the images on the device."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ran.config import RunConfig
from ran.data.augment import Normalization
from ran.data.datasets import Splits
from ran.data.image_folder.pools import set_workers
from ran.data.loader import FileBatches, TrainBatches, train_batches
from ran.data.source import Images
from ran.distributed.group import Processes
from ran.engine.device import Arithmetic, keep_freed_memory
from ran.models.network import ResidualAttentionNetwork, build, initialize
from ran.models.zoo import config_spec
from ran.rng import stream_seed


@dataclass(frozen=True, eq=False)
class TrainingData:
    """A run's images on its device."""

    splits: dict[str, Images]
    """train, val and test"""
    normalization: Normalization
    batches: TrainBatches | FileBatches
    """training batches; with label noise their labels are (B, 2), given and true"""
    true_labels: Tensor | None
    """true labels of the training images; None without label noise"""

    def fetch(self, step: int, positions: np.ndarray | None) -> tuple[Tensor, ...]:
        """Returns on the device what a step's batch, or some positions in it, are made from."""
        return self.batches.fetch(step, positions)

    def make(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns images, given labels and true labels of what `fetch` returned; computed on the device alone."""
        images, labels = self.batches.make(*inputs)
        given, true = (labels, labels) if self.true_labels is None else labels.unbind(1)
        return images, given, true


def prepare_process(config: RunConfig, device: torch.device) -> None:
    """Sets threads and memory of this process, and who decodes images for it."""
    keep_freed_memory()
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    set_workers(config.data.workers, processes=device.type == "cuda")


def make_network(
    config: RunConfig, num_classes: int, device: torch.device, processes: Processes
) -> ResidualAttentionNetwork | nn.Module:
    """Returns the run's network in training mode, with the initial weights of its seed."""
    with torch.random.fork_rng(devices=[]):  # a user's own module may draw weights that `initialize` cannot know
        torch.manual_seed(stream_seed(config.seed, "build"))
        network = build(config_spec(config.model), num_classes=num_classes)
    initialize(network, config.seed)
    if processes.sync_batchnorm:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network, processes.data)
    network.to(device).to(memory_format=Arithmetic.of(config.train, device).memory_format).train()
    network.set_grad_checkpointing(config.train.recompute)
    return network


def load_data(config: RunConfig, splits: Splits, num_classes: int, device: torch.device) -> TrainingData:
    """Returns a run's data on its device. Raises DataError for a label that is not among `num_classes`."""
    normalization = splits.normalization.to(device)
    data = {name: getattr(splits, name).to(device) for name in ("train", "val", "test")}
    for images in data.values():
        images.check_classes(num_classes)
    true_labels = None if splits.noise is None else splits.noise.true_labels.to(device)
    train = data["train"]
    labels = train.labels if true_labels is None else torch.stack((train.labels, true_labels), 1)
    batches = train_batches(train.images, labels, normalization, batch_size=config.train.batch_size, seed=config.seed)
    return TrainingData(splits=data, normalization=normalization, batches=batches, true_labels=true_labels)
