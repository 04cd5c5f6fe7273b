"""The kernels for CUDA, run by Triton's interpreter on the CPU. test_triton.py runs this file in a process of its own:
TRITON_INTERPRET=1 must be set before triton is imported.

The interpreter cuts float32 off where it makes bfloat16 of it; a GPU rounds to the nearest.
"""

import copy
import math

import pytest
import torch
from test_ops import SHAPES, channels_last, compare, compare_bf16, error, norm_of, results
from torch import nn
from torch.nn import functional as F

from ran.kernels import channels_last_triton, ops
from ran.kernels.ops import norm_relu, norm_relu_and_input, using
from ran.models.network import initialize
from ran.models.zoo import create_model

SEVERAL = [(2, 1, 3, 3), (2, 3, 1, 1), (3, 5, 7, 9), (2, 70, 3, 3)]
"""one channel; two pixels; six tiles in three chunks; two blocks of channels and five tiles"""


@pytest.fixture(autouse=True)
def _as_on_cuda(monkeypatch):
    monkeypatch.setattr(ops, "_on_cuda", lambda x: True)


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(channels_last_triton, "TILE", 256)
    monkeypatch.setattr(channels_last_triton, "CHUNKS", 4)
    monkeypatch.setattr(channels_last_triton, "STAGE_TWO", {"DEPTH": 2, "COLUMNS": 64})


@pytest.mark.parametrize("shape", SEVERAL, ids=str)
def test_as_exact_as_pytorch(shape, small_tiles):
    compare(shape, tolerance=3e-6)


@pytest.mark.parametrize(("offset", "spread"), [(50.0, 1.0), (-3.0, 1e-3)])
def test_a_large_mean_costs_no_digits(offset, spread, small_tiles):
    compare(SEVERAL[2], offset, spread, tolerance=3e-6)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_as_exact_as_pytorch_in_tiles_of_full_size(shape):
    compare(shape, tolerance=3e-6)


@pytest.mark.parametrize("shape", SEVERAL[2:], ids=str)
def test_bf16(shape, small_tiles):
    compare_bf16(shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_evaluation(dtype, small_tiles):
    norm, x = norm_of(70).eval(), channels_last(2, 70, 3, 3, dtype=dtype)
    before = copy.deepcopy(norm.state_dict())
    with torch.inference_mode(), using(True):
        y = norm_relu(norm, x)
    exact = F.relu(copy.deepcopy(norm).double()(x.double()))
    assert y.dtype == dtype
    assert error(y, exact) < (1e-6 if dtype == torch.float32 else 2**-7)
    assert all(torch.equal(before[key], value) for key, value in norm.state_dict().items())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_values_are_passed_on(bad, small_tiles):
    norm, x = norm_of(5), channels_last(2, 5, 9, 9)
    x[1, 2, 7, 3] = bad
    found = results(norm, x, True)
    for value in (found[0][:, 2], found[2][:, 2], found[3][2], found[6][2]):
        assert not value.isfinite().any()
    assert found[0][:, [0, 1, 3, 4]].isfinite().all()


def test_the_gradients_of_one_output_alone(small_tiles):
    norm, x = norm_of(4), channels_last(2, 4, 5, 5).requires_grad_()
    plain = torch.autograd.grad((F.relu(copy.deepcopy(norm)(x)) ** 2).sum(), x)
    with using(True):
        (only_y,) = torch.autograd.grad((norm_relu(norm, x) ** 2).sum(), x)
        (only_passed,) = torch.autograd.grad(norm_relu_and_input(norm, x)[1].sum(), x)
    torch.testing.assert_close((only_y,), plain, atol=1e-5, rtol=1e-5)
    assert torch.equal(only_passed, torch.ones_like(x))


def test_no_gradient_where_the_output_is_zero(small_tiles):
    """As in PyTorch; a norm whose weights begin at zero gives nothing else."""
    norm = norm_of(4)
    nn.init.zeros_(norm.weight)
    nn.init.zeros_(norm.bias)
    x = channels_last(2, 4, 5, 5).requires_grad_()
    with using(True):
        found = torch.autograd.grad(norm_relu(norm, x).sum(), (x, norm.weight, norm.bias))
    assert [value.abs().sum() for value in found] == [0, 0, 0]


def test_pytorch_computes_unless_the_kernels_are_selected(monkeypatch):
    monkeypatch.setattr(ops, "_triton", lambda: pytest.fail("the kernels were called"))
    x = channels_last(2, 4, 5, 5)
    norm_relu(norm_of(4), x)
    with using(False):
        norm_relu(norm_of(4), x)
    with using(True):
        norm_relu(norm_of(4), x.contiguous())
        norm_relu(nn.BatchNorm2d(4, momentum=None), x)


@pytest.mark.slow
def test_a_network_takes_a_step():
    """As test_ops.py does with the kernels for the CPU."""
    network = create_model("attention32c", num_classes=5, width=0.125).to(memory_format=torch.channels_last).train()
    initialize(network, 0)
    x = channels_last(2, 3, 16, 16)

    def gradients(net, x, fused):
        with using(fused):
            F.cross_entropy(net(x), torch.arange(2)).backward()
        return torch.cat([p.grad.double().flatten() for p in net.parameters()])

    exact = gradients(copy.deepcopy(network).double(), x.double(), False)
    assert (gradients(network, x, True) - exact).norm() / exact.norm() < 0.15
