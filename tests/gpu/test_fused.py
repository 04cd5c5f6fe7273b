"""BatchNorm and ReLU by our own kernels: the numbers of PyTorch's operations, the same bits each time."""

import copy

import pytest
import torch
from gpu_runs import REHEARSED, config, run
from torch import nn
from torch.nn import functional as F

from ran.engine.device import no_kernels
from ran.kernels import ops
from ran.kernels.ops import norm_relu, norm_relu_and_input, residual_attention, using

pytestmark = pytest.mark.gpu

SHAPES = [
    (2, 1, 3, 3), (2, 3, 1, 1), (4, 16, 32, 32), (3, 64, 7, 5), (1, 300, 9, 9), (16, 24, 33, 31), (2, 2048, 3, 2),
    (64, 64, 32, 32), (32, 256, 56, 56),
][: 6 if REHEARSED else None]  # fmt: skip


@pytest.fixture(autouse=True)
def _kernels(device):
    if reason := no_kernels(device):
        pytest.skip(reason)


def on(device, channels):
    norm = nn.BatchNorm2d(channels)
    for value in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(value)
    return norm.to(device)


def images(device, shape, dtype, offset=0.0):
    return (torch.randn(shape, device=device) + offset).to(dtype).contiguous(memory_format=torch.channels_last)


def results(norm, x, fused):
    """Both outputs, the gradients of x, weight and bias, and the running statistics."""
    norm, x = copy.deepcopy(norm), x.detach().clone().requires_grad_()
    with using(fused):
        y, passed = norm_relu_and_input(norm, x)
    slope = torch.linspace(-1, 2, x.numel(), device=x.device).view(x.shape).to(x.dtype)
    ((y * slope).sum() + (passed * slope.flip(0)).sum()).backward()
    return [y.detach(), passed.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]


def error(found, exact):
    return ((found.double() - exact).abs().max() / (exact.abs().max() + 1e-12)).item()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_as_exact_as_pytorch(shape, offset, device):
    norm, x = on(device, shape[1]), images(device, shape, torch.float32, offset)
    exact = results(copy.deepcopy(norm).double(), x.double(), False)
    ours, again, theirs = results(norm, x, True), results(norm, x, True), results(norm, x, False)
    for found, twice, other, reference in zip(ours, again, theirs, exact, strict=True):
        assert error(found, reference) <= max(3e-6, 4 * error(other, reference))
        assert torch.equal(found, twice), "the same bits each time"


@pytest.mark.parametrize("shape", SHAPES[2:], ids=str)
def test_bf16(shape, device):
    norm, x = on(device, shape[1]), images(device, shape, torch.bfloat16)
    exact = results(copy.deepcopy(norm).double(), x.double(), False)
    ours = results(norm, x, True)
    assert [value.dtype for value in ours] == [torch.bfloat16] * 3 + [torch.float32] * 4
    for found, twice, reference in zip(ours, results(norm, x, True), exact, strict=True):
        assert error(found, reference) < 2 * 2**-8
        assert torch.equal(found, twice)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-8)], ids=str)
def test_evaluation(dtype, limit, device):
    norm, x = on(device, 70).eval(), images(device, (3, 70, 9, 7), dtype)
    with torch.inference_mode(), using(True):
        y = norm_relu(norm, x)
    assert error(y, F.relu(copy.deepcopy(norm).double()(x.double()))) < limit


def test_residual_attention(device):
    trunk, mask = (torch.randn(2, 8, 5, 5, device=device, requires_grad=True) for _ in range(2))
    found = []
    for fused in (True, False):
        with using(fused):
            y = residual_attention(trunk, mask)
        found.append((y, *torch.autograd.grad(y.square().sum(), (trunk, mask))))
    torch.testing.assert_close(*found)


def test_kernels_are_used_only_if_selected(cuda, monkeypatch):
    seen = []
    original = ops._triton
    monkeypatch.setattr(ops, "_triton", lambda: seen.append(1) or original())
    norm, x = on(cuda, 4), images(cuda, (2, 4, 5, 5), torch.float32)
    norm_relu(norm, x)
    assert seen == []
    with using(True):
        norm_relu(norm, x)
    assert seen == [1]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_first_step_of_a_run_agrees_with_pytorch(precision, device, tmp_path):
    """Of one step: rounding grows from then on. The statistics of a norm are those of the forward pass."""
    small = {"model__width": 0.125, "model__name": "attention32c"} if REHEARSED else {}
    fused, eager = (
        run(config(**small, train__steps=1, train__precision=precision, train__kernels=way), device, tmp_path / way)
        for way in ("fused", "eager")
    )
    for key, value in eager.state.items():
        if key.endswith("running_var"):
            assert torch.allclose(fused.state[key], value, rtol=0.1 if precision == "bf16" else 1e-3, atol=1e-4), key
