"""Tests that need a GPU: `pytest -m gpu tests/gpu`, and with two of them `pytest -m two_gpus tests/gpu`.

They import `ran` and `benchmarks` only, so a borrowed machine needs PyTorch, pytest, hypothesis and safetensors. With
RAN_TEST_DEVICE=cpu they are rehearsed without a GPU: the same code on fewer networks, without what only CUDA has.
"""

import pytest
import torch
from gpu_runs import DEVICE, REHEARSED


@pytest.fixture(autouse=True)
def _ready():
    """The random numbers of these tests are their own, and one leaves no memory to the next."""
    if not REHEARSED and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch.manual_seed(0)
    yield
    if not REHEARSED:
        torch.cuda.empty_cache()


@pytest.fixture
def device() -> torch.device:
    return DEVICE


@pytest.fixture
def cuda() -> torch.device:
    """For what a CPU has no counterpart of."""
    if REHEARSED:
        pytest.skip("CUDA alone has it")
    return DEVICE
