"""Results per image, as runs leave them."""

import io
from typing import Any

import numpy as np
import pytest
import torch

from analysis.read.npz import read_correct
from experiments.runner.artifacts import npz_bytes, packed


def content(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


@pytest.mark.parametrize("count", [1, 8, 13, 10_000])
def test_what_a_run_writes_is_read(count: int) -> None:
    right = np.random.default_rng(count).random(count) < 0.6
    found = read_correct(npz_bytes(packed(torch.from_numpy(right))))
    assert found is not None
    assert found.dtype == bool
    assert (found == right).all()


@pytest.mark.parametrize(
    "damaged",
    [
        b"", b"PK", content(correct=np.zeros(2, np.uint8)), content(correct=np.zeros(2, np.uint8), count=17),
        content(correct=np.zeros(2, np.uint8), count=8), content(correct=np.zeros(2), count=16),
        content(correct=np.zeros((2, 1), np.uint8), count=16), content(correct=np.zeros(2, np.uint8), count=-1),
        content(correct=np.zeros(0, np.uint8), count=0), content(correct=np.zeros(2, np.uint8), count=np.array([1, 2])),
    ],
)  # fmt: skip
def test_what_is_damaged_is_none(damaged: bytes) -> None:
    assert read_correct(damaged) is None
