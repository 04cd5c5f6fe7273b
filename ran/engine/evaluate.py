"""Exact evaluation: every image once, counts in integers."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ran.data.augment import Normalization
from ran.data.image_folder.reader import Stack
from ran.data.loader import chunk_size, chunks
from ran.data.source import Images
from ran.distributed.group import ALONE, Processes
from ran.engine.device import Arithmetic

BATCH = 200  # fastest of 25..1000 at full and quarter width on two cores; does not change results in eval mode


class Stopped(Exception):
    """The evaluation was stopped."""


@dataclass(frozen=True)
class Score:
    """Metrics over N images."""

    loss: float
    """mean cross-entropy"""
    err: float
    """top-1 error in %"""
    err5: float | None
    """top-5 error in %, None with five classes or fewer"""
    correct: Tensor = field(repr=False, compare=False)
    """bool (N,), on the device of the labels: whether each image is classified right, in the order of the images"""


@dataclass(frozen=True)
class Memorisation:
    """Errors on training images some of whose labels are wrong, all in %."""

    err: float
    """top-1 error against the labels trained on"""
    err_clean: float
    """top-1 error against the true labels"""
    memorised: float | None
    """share of the wrongly labelled images that are predicted as labelled; None without wrong labels"""


def predict(
    network: nn.Module, images: Stack, normalization: Normalization, arithmetic: Arithmetic, *,
    stop: Callable[[], bool] = lambda: False, processes: Processes = ALONE,
) -> Tensor:  # fmt: skip
    """Returns the logits, float32 (N, K), of uint8 (N, 3, H, W) in eval mode; the network is left in its own mode.

    The network lies on the device of `normalization`. `stop` is called before each batch of 200, fewer of large images;
    raises Stopped if it returns true. Several processes share the images, call `stop` equally often, and each returns
    all logits.
    """
    was_training = network.training
    network.eval()
    logits = []
    parts = iter(chunks(processes.shard(images), BATCH))
    rounds = math.ceil(len(processes.shard(images, rank=0)) / chunk_size(images, BATCH))
    try:
        with torch.inference_mode(), arithmetic.on(normalization.mean.device):
            for _ in range(rounds):
                x = next(parts, None)  # before `stop`, a collective call: reading a damaged file raises
                if stop():
                    raise Stopped
                if x is not None:
                    x = normalization.normalize(x).to(memory_format=arithmetic.memory_format)
                    logits.append(network(x).float())
    finally:
        network.train(was_training)
    return processes.gather(torch.cat(logits), len(images))


def evaluate(
    network: nn.Module, images: Stack, labels: Tensor, normalization: Normalization, arithmetic: Arithmetic, *,
    stop: Callable[[], bool] = lambda: False, processes: Processes = ALONE,
) -> Score:  # fmt: skip
    """Returns the network's score on uint8 (N, 3, H, W) with int64 (N,).

    Raises Stopped as `predict` does, and DataError for a label that is not one of the network's classes.
    """
    if (classes := getattr(network, "num_classes", None)) is not None:  # before any image is read
        Images(images, labels).check_classes(classes)
    logits = predict(network, images, normalization, arithmetic, stop=stop, processes=processes)
    pairs = zip(logits.split(BATCH), labels.split(BATCH), strict=True)
    losses = torch.stack([F.cross_entropy(x, y, reduction="sum") for x, y in pairs])
    loss = sum(losses.tolist())  # in float64, on the CPU: not every device has it
    wrong5 = None if logits.shape[1] <= 5 else (logits.topk(5).indices != labels[:, None]).all(1)
    correct = logits.argmax(1) == labels
    return Score(
        loss=loss / len(labels),
        err=_percent(~correct),
        err5=None if wrong5 is None else _percent(wrong5),
        correct=correct,
    )


def memorisation(logits: Tensor, labels: Tensor, true_labels: Tensor) -> Memorisation:
    """Returns the errors of logits (N, K) of training images against given and true labels, (N,)."""
    predicted = logits.argmax(1)
    wrong = labels != true_labels
    return Memorisation(
        err=_percent(predicted != labels),
        err_clean=_percent(predicted != true_labels),
        memorised=100 * int((wrong & (predicted == labels)).sum()) / count if (count := int(wrong.sum())) else None,
    )


def _percent(hits: Tensor) -> float:
    return 100 * int(hits.sum()) / len(hits)
