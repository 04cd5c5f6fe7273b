"""Exact evaluation: every image once, counts in integers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ran.data.augment import normalize
from ran.engine.device import arithmetic, memory_format

BATCH = 500  # measured best of 100..2000 on two cores; does not change a result in eval mode


@dataclass(frozen=True)
class Score:
    loss: float
    """mean cross-entropy"""
    err: float
    """top-1 error in %"""


def evaluate(
    network: nn.Module, images: Tensor, labels: Tensor, mean: Tensor, *, precision: str, channels_last: bool
) -> Score:
    """Returns the network's score on uint8 (N, 3, H, W) with int64 (N,), left in the mode it was in."""
    was_training = network.training
    network.eval()
    loss = torch.zeros((), dtype=torch.float64, device=images.device)
    wrong = torch.zeros((), dtype=torch.int64, device=images.device)
    try:
        with torch.inference_mode(), arithmetic(images.device, precision):
            for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True):
                x = normalize(x, mean).to(memory_format=memory_format(channels_last))
                logits = network(x).float()
                loss += F.cross_entropy(logits, y, reduction="sum")
                wrong += (logits.argmax(1) != y).sum()
    finally:
        network.train(was_training)
    return Score(loss=loss.item() / len(labels), err=100 * wrong.item() / len(labels))
