"""On which devices the tests run: without a GPU unless they ask for one."""

import os

import pytest
import torch


def test_cuda_is_hidden():
    """Tests that compare bits are the CPU's: on a machine with a GPU they would take it."""
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert torch.cuda.device_count() == 0


@pytest.mark.parametrize(("selection", "hidden"), [
    ("not slow and not gpu and not two_gpus", True), ("slow", True), ("gpu", False), ("two_gpus", False),
    ("gpu and not slow", False), ("", True),
])  # fmt: skip
def test_who_sees_cuda(selection, hidden, monkeypatch, request):
    conftest = request.config.pluginmanager.get_plugin(os.path.join(os.path.dirname(__file__), "conftest.py"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(request.config.option, "markexpr", selection)
    conftest.pytest_configure(request.config)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ("" if hidden else "0")
