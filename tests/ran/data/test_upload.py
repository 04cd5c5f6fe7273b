"""Draws that are sent many steps at once are those of one step after the other."""

import numpy as np
import pytest
import torch

from ran.data.augment import cifar_normalization
from ran.data.loader import TrainBatches
from ran.data.upload import Uploader

PIXELS = torch.randint(0, 256, (23, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def batches(at_once=None):
    labels = torch.arange(len(PIXELS))
    return TrainBatches(PIXELS, labels, cifar_normalization(PIXELS), batch_size=5, seed=3, at_once=at_once)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("at_once", [2, 7, 100])
def test_any_number_of_steps_at_once_makes_the_same_batches(at_once):
    one, many = batches(), batches(at_once)
    for step in (0, 1, 2, 3, 9, 10, 4, 4, 150, 151):
        assert same(one(step), many(step))
    some = np.array([3, 1])
    for step in (151, 152):
        assert same(one(step, some), many(step, some))
    assert same(one(152), many(152)), "all of it again"


def test_they_are_sent_once(monkeypatch):
    sent, made = [], batches(4)
    monkeypatch.setattr(made, "_upload", lambda *tensors: sent.append(tensors) or tensors)
    for step in range(10, 22):
        made(step)
    assert [tensor.shape for (tensor,) in sent] == [(4, 4, 5)] * 3


def test_an_uploader_keeps_values_types_and_layouts():
    images = PIXELS.to(memory_format=torch.channels_last)
    sent = Uploader(torch.device("cpu"))(images, torch.arange(3))
    assert same(sent, (images, torch.arange(3)))
    assert sent[0].is_contiguous(memory_format=torch.channels_last)
