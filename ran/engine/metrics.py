"""Errors by class and calibration of a network, from its logits on labelled images."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

BINS = 15  # number of confidence bins, as in Guo et al. 2017 (arXiv 1706.04599)


@dataclass(frozen=True, eq=False)
class Assessment:
    """Metrics over N images; errors in %."""

    images: int
    loss: float
    """mean cross-entropy"""
    err: float
    """top-1"""
    err5: float | None
    """top-5, None with five classes or fewer"""
    ece: float
    """expected calibration error in %: mean distance of accuracy and confidence over 15 bins, weighted by their size"""
    confusion: Tensor
    """int64 (K, K), on the CPU: images of class (row) that are predicted as class (column)"""
    bins: Tensor
    """float64 (15, 3), on the CPU: images, mean confidence and accuracy per bin; the latter are 0 for an empty bin"""

    @property
    def class_err(self) -> list[float | None]:
        """Top-1 error of each class; None of a class without images."""
        counts = self.confusion.sum(1)
        wrong = counts - self.confusion.diagonal()
        return [100 * w / n if n else None for w, n in zip(wrong.tolist(), counts.tolist(), strict=True)]


def assess(logits: Tensor, labels: Tensor) -> Assessment:
    """Returns the assessment of float32 logits (N, K) against int64 labels (N,), N at least 1."""
    logits, labels = logits.cpu(), labels.cpu()
    n, k = logits.shape
    confidence, predicted = logits.double().softmax(1).max(1)
    hit = predicted == labels
    bins = calibration(confidence, hit)
    gap = (bins[:, 0] * (bins[:, 1] - bins[:, 2]).abs()).sum().item()
    wrong5 = None if k <= 5 else (logits.topk(5).indices != labels[:, None]).all(1)
    return Assessment(
        images=n,
        loss=F.cross_entropy(logits.double(), labels).item(),
        err=100 * int((~hit).sum()) / n,
        err5=None if wrong5 is None else 100 * int(wrong5.sum()) / n,
        ece=100 * gap / n,
        confusion=torch.bincount(labels * k + predicted, minlength=k * k).reshape(k, k),
        bins=bins,
    )


def calibration(confidence: Tensor, hit: Tensor) -> Tensor:
    """Returns number of images, mean confidence and accuracy, float64 (15, 3), per bin of equal width, closed above."""
    index = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    bins = torch.zeros(BINS, 3, dtype=torch.float64)
    for column, values in enumerate((torch.ones_like(confidence), confidence, hit)):
        bins[:, column].index_add_(0, index, values.double())
    bins[:, 1:] /= bins[:, :1].clamp(min=1)
    return bins
