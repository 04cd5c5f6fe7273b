"""The fused operations: values and gradients against PyTorch's in double, and when PyTorch's own are used."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad
from torch.nn import functional as F

from ran.kernels import ops
from ran.kernels.build import library, why_not
from ran.kernels.ops import NormReLUSequential, norm_relu, norm_relu_and_input, residual_attention, using
from ran.models.network import initialize
from ran.models.zoo import create_model, list_models

needs_kernels = pytest.mark.skipif(library() is None, reason=f"no kernels here: {why_not()}")


def channels_last(*shape, dtype=torch.float32, offset=0.0, spread=1.0):
    generator = torch.Generator().manual_seed(math.prod(shape))
    x = torch.randn(shape, generator=generator) * spread + offset
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def norm_of(channels, **options):
    norm = nn.BatchNorm2d(channels, **options)
    generator = torch.Generator().manual_seed(channels)
    with torch.no_grad():
        for value in (norm.weight, norm.bias, norm.running_mean):
            value.copy_(torch.randn(channels, generator=generator))
        norm.running_var.copy_(torch.rand(channels, generator=generator) + 0.5)
    return norm


def results(norm, x, fused):
    """Activated, passed on, gradients of x, weight and bias, running statistics; of a loss that uses both outputs."""
    norm, x = copy.deepcopy(norm), x.detach().clone().requires_grad_()
    with using(fused):
        y, passed = norm_relu_and_input(norm, x)
    slope = torch.linspace(-1, 2, x.numel()).view(x.shape).to(x.dtype)
    ((y * slope).sum() + (passed * slope.flip(0)).sum()).backward()
    assert norm.num_batches_tracked == 1
    return [y, passed, x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]


def error(found, exact):
    scale = exact.abs().max().item() + 1e-12
    return (found.double() - exact).abs().max().item() / scale


SHAPES = [(2, 1, 3, 3), (2, 3, 1, 1), (4, 16, 32, 32), (3, 64, 7, 5), (1, 300, 9, 9), (16, 24, 33, 31), (2, 2048, 3, 2)]


def compare(shape, offset=0.0, spread=1.0, tolerance=2e-6):
    """In float32: as near to double as PyTorch's operations are, or within the tolerance."""
    norm, x = norm_of(shape[1]), channels_last(*shape, offset=offset, spread=spread)
    exact = results(copy.deepcopy(norm).double(), x.double(), False)
    ours, theirs = results(norm, x, True), results(norm, x, False)
    for found, other, reference in zip(ours, theirs, exact, strict=True):
        assert found.shape == reference.shape
        assert error(found, reference) <= max(tolerance, 4 * error(other, reference))


def compare_bf16(shape):
    norm, x = norm_of(shape[1]), channels_last(*shape, dtype=torch.bfloat16)
    exact = results(copy.deepcopy(norm).double(), x.double(), False)
    ours = results(norm, x, True)
    assert [value.dtype for value in ours] == [torch.bfloat16] * 3 + [torch.float32] * 4
    for found, reference in zip(ours, exact, strict=True):
        assert error(found, reference) < 2 * 2**-8


@needs_kernels
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("offset", "spread"), [(0.0, 1.0), (50.0, 1.0), (-3.0, 1e-3)])
def test_as_exact_as_pytorch(shape, offset, spread):
    compare(shape, offset, spread)


@needs_kernels
@pytest.mark.parametrize("shape", SHAPES[1:5], ids=str)
def test_bf16(shape):
    compare_bf16(shape)


@needs_kernels
def test_rounding_to_bf16_is_to_the_nearest_ties_to_even():
    """Through a norm that changes nothing, in eval mode; each float32 comes from the bias."""
    values = torch.tensor([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, 3.3895e38, math.inf, math.nan, 0.0])
    values[-1:].view(torch.int32).fill_(0x7FFFFFFF)  # a NaN that rounding up would make a zero
    norm = nn.BatchNorm2d(len(values)).eval()
    norm.bias.data = values.clone()
    x = channels_last(2, len(values), 2, 2, dtype=torch.bfloat16) * 0
    with torch.no_grad():
        y = norm_relu(norm, x)
    expected = values.to(torch.bfloat16).view(1, -1, 1, 1).expand_as(y)
    assert torch.equal(y.nan_to_num(-1, posinf=7), expected.nan_to_num(-1, posinf=7))


@needs_kernels
def test_evaluation():
    norm, x = norm_of(24).eval(), channels_last(3, 24, 9, 7)
    before = copy.deepcopy(norm.state_dict())
    with torch.inference_mode(), calls() as seen:
        y = norm_relu(norm, x)
    assert seen == ["infer"]
    torch.testing.assert_close(y, F.relu(norm(x)))
    assert all(torch.equal(before[key], value) for key, value in norm.state_dict().items())


@needs_kernels
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_values_are_passed_on(bad):
    """A divergence must reach loss and weights."""
    norm, x = norm_of(5), channels_last(2, 5, 40, 40)
    x[1, 2, 30, 3] = bad
    found = results(norm, x, True)
    for value in (found[0][:, 2], found[2][:, 2], found[3][2], found[6][2]):
        assert not value.isfinite().any()
    assert found[0][:, [0, 1, 3, 4]].isfinite().all()


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bits_do_not_depend_on_the_threads(dtype):
    norm, x = norm_of(24), channels_last(16, 24, 40, 40, dtype=dtype)
    found, threads = [], torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            found.append(results(norm, x, True))
    finally:
        torch.set_num_threads(threads)
    for one, two, three in zip(*found, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_the_gradients_of_one_output_alone():
    x = channels_last(2, 4, 5, 5).requires_grad_()
    norm = norm_of(4)
    y, passed = norm_relu_and_input(norm, x)
    (only_y,) = torch.autograd.grad(y.sum(), x)
    (only_passed,) = torch.autograd.grad(norm_relu_and_input(norm, x)[1].sum(), x)
    assert only_y.abs().sum() > 0
    assert torch.equal(only_passed, torch.ones_like(x))
    assert torch.equal(passed, x)


def test_a_gradient_of_another_layout():
    """Of a mean over positions it is an expanded scalar."""
    norm, x = norm_of(4), channels_last(2, 4, 5, 5).requires_grad_()
    found = []
    for fused in (True, False):
        with using(fused):
            y = norm_relu(norm, x)
        found += torch.autograd.grad((y.mean((2, 3)) * torch.arange(4.0)).sum() + y.contiguous().sum(), x)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("shape", [(2, 8, 5, 5), (2, 8, 1, 1)], ids=str)
def test_residual_attention(shape):
    trunk = channels_last(2, 8, 5, 5).double().requires_grad_()
    mask = channels_last(*shape).double().sigmoid().requires_grad_()
    y = residual_attention(trunk, mask)
    torch.testing.assert_close(y, (1 + mask) * trunk)
    found = torch.autograd.grad(y.square().sum(), (trunk, mask))
    exact = torch.autograd.grad(((1 + mask) * trunk).square().sum(), (trunk, mask))
    for a, b in zip(found, exact, strict=True):
        torch.testing.assert_close(a, b)


def hook(*_):
    return None


class calls:
    """Names of the kernels called within it."""

    def __enter__(self):
        self.seen, self.original = [], ops._call

        def note(name, *arguments):
            self.seen.append(name)
            return self.original(name, *arguments)

        ops._call = note
        return self.seen

    def __exit__(self, *_):
        ops._call = self.original


def hooked(register):
    norm = norm_of(4)
    getattr(norm, register)(hook)
    return norm


def not_asked():
    with using(False):
        norm_relu(norm_of(4), channels_last(*X))


X = (2, 4, 5, 5)
PYTORCH = {
    "not asked": not_asked,
    "channels outside": lambda: norm_relu(norm_of(4), channels_last(*X).contiguous()),
    "double": lambda: norm_relu(norm_of(4).double(), channels_last(*X).double()),
    "no statistics kept": lambda: norm_relu(nn.BatchNorm2d(4, track_running_stats=False), channels_last(*X)),
    "mean of all": lambda: norm_relu(nn.BatchNorm2d(4, momentum=None), channels_last(*X)),
    "no weights": lambda: norm_relu(nn.BatchNorm2d(4, affine=False), channels_last(*X)),
    "another norm": lambda: norm_relu(nn.GroupNorm(2, 4), channels_last(*X)),
    "gradients in eval mode": lambda: norm_relu(norm_of(4).eval(), channels_last(*X)),
    "hook": lambda: norm_relu(hooked("register_forward_hook"), channels_last(*X)),
    "pre-hook": lambda: norm_relu(hooked("register_forward_pre_hook"), channels_last(*X)),
    "backward hook": lambda: norm_relu(hooked("register_full_backward_hook"), channels_last(*X)),
    "torch.func": lambda: grad(lambda x: norm_relu(norm_of(4), x).sum())(channels_last(*X)),
    "meta": lambda: norm_relu(norm_of(4).to("meta"), channels_last(*X).to("meta")),
}  # fmt: skip


@needs_kernels
@pytest.mark.parametrize("case", PYTORCH.values(), ids=PYTORCH)
def test_when_pytorch_does_it(case):
    with calls() as seen:
        case()
    assert seen == []


@needs_kernels
def test_otherwise_the_kernels_do():
    with calls() as seen:
        norm_relu(norm_of(4), channels_last(*X).requires_grad_()).sum().backward()
    assert seen == ["forward", "backward"]


def test_one_value_a_channel_is_refused_as_by_pytorch():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm_relu(norm_of(4), channels_last(1, 4, 1, 1))


def test_the_sequence_is_that_of_its_layers():
    layers = [nn.Conv2d(3, 8, 3), norm_of(8), nn.ReLU(inplace=True), norm_of(8), nn.Conv2d(8, 2, 1), nn.ReLU()]
    x = channels_last(2, 3, 9, 9)
    plain = copy.deepcopy(nn.Sequential(*layers))
    torch.testing.assert_close(NormReLUSequential(*layers)(x), plain(x))


@needs_kernels
@pytest.mark.parametrize("name", [n for n in list_models() if n.startswith(("attention56", "attentioni", "wrn16"))])
def test_a_network_trains_as_with_pytorchs_operations(name):
    """Of one step in train mode. Rounding decides on which side of zero a few values before a ReLU fall.

    So float32 gradients differ from double's by up to 6 %, PyTorch's too; of a network wired otherwise by all of it.
    """
    size = 64 if name.endswith("imagenet") else 32
    network = create_model(name, num_classes=5, width=0.125).to(memory_format=torch.channels_last).train()
    initialize(network, 0)
    x = channels_last(4, 3, size, size)

    def gradients(net, x, fused):
        with using(fused):
            F.cross_entropy(net(x), torch.arange(4)).backward()
        return torch.cat([p.grad.double().flatten() for p in net.parameters()])

    exact = gradients(copy.deepcopy(network).double(), x.double(), False)
    with calls() as seen:
        ours = gradients(network, x, True)
    assert seen.count("forward") == seen.count("backward") > 0
    assert (ours - exact).norm() / exact.norm() < 0.15


def test_hooks_on_a_networks_norms_are_called():
    network = create_model("attention56", num_classes=5, width=0.125).to(memory_format=torch.channels_last)
    seen = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda *_: seen.append(1))
    network(channels_last(2, 3, 32, 32))
    assert len(seen) == sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())


@needs_kernels
@pytest.mark.parametrize("learning", ["arl", "nal"])
def test_gradients_can_be_differentiated(learning):
    """A gradient penalty: the norm of the gradient in the loss."""

    def penalty(fused):
        network = create_model("attention32c", width=0.125, learning=learning).to(memory_format=torch.channels_last)
        initialize(network, 0)
        network.double() if fused is None else None
        x = channels_last(4, 3, 32, 32).to(next(network.parameters()).dtype).requires_grad_()
        with using(bool(fused)):
            (gradient,) = torch.autograd.grad(network(x).square().sum(), x, create_graph=True)
            gradient.square().sum().backward()
        return [x.grad, *(p.grad for p in network.parameters() if p.grad is not None)]

    exact, ours, theirs = penalty(None), penalty(True), penalty(False)
    assert len(exact) == len(ours) == len(theirs)
    for one, other, true in zip(ours, theirs, exact, strict=True):
        assert error(one, true) <= 2 * error(other, true) + 1e-4


def test_a_functional_call_differentiates():
    network = create_model("attention56", num_classes=5, width=0.125).to(memory_format=torch.channels_last).eval()
    weights = {key: value.detach() for key, value in network.named_parameters()}
    x = channels_last(2, 3, 32, 32)
    found = grad(lambda w: functional_call(network, w, (x,)).sum())(weights)
    assert found["head.weight"].abs().sum() > 0
