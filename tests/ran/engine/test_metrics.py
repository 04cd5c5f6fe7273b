"""Errors, confusions and calibration against sums written out."""

import math

import pytest
import torch

from ran.engine.metrics import BINS, assess


@pytest.mark.parametrize("classes", [2, 5, 6, 11])
def test_against_literal_sums(classes):
    generator = torch.Generator().manual_seed(classes)
    logits = 3 * torch.randn(200, classes, generator=generator)
    labels = torch.randint(0, classes, (200,), generator=generator)
    seen = assess(logits, labels)

    wrong = wrong5 = 0
    loss = 0.0
    confusion = [[0] * classes for _ in range(classes)]
    bins = [[0, 0.0, 0] for _ in range(BINS)]
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        shares = [math.exp(v) for v in row]
        p = [s / sum(shares) for s in shares]
        order = sorted(range(classes), key=lambda k: -row[k])
        wrong += order[0] != label
        wrong5 += label not in order[:5]
        loss -= math.log(p[label])
        confusion[label][order[0]] += 1
        index = next(i for i in range(BINS) if p[order[0]] <= (i + 1) / BINS + 1e-15)
        bins[index][0] += 1
        bins[index][1] += p[order[0]]
        bins[index][2] += order[0] == label
    ece = sum(abs(confidence - hits) for _, confidence, hits in bins) / 200

    assert seen.images == 200
    assert seen.err == 100 * wrong / 200
    assert seen.err5 == (None if classes <= 5 else 100 * wrong5 / 200)
    assert seen.loss == pytest.approx(loss / 200)
    assert seen.confusion.tolist() == confusion
    assert seen.ece == pytest.approx(100 * ece)
    assert seen.bins[:, 0].tolist() == [n for n, _, _ in bins]


def test_a_class_without_images_has_no_error():
    seen = assess(torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), torch.tensor([0, 0]))
    assert seen.class_err == [50.0, None, None]


def test_certain_and_right_is_calibrated_certain_and_wrong_is_not():
    certain = 100 * torch.eye(3)
    assert assess(certain, torch.arange(3)).ece == pytest.approx(0)
    assert assess(certain, torch.tensor([1, 2, 0])).ece == pytest.approx(100)
