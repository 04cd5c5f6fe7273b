"""Interpolation: F.interpolate's values and gradients, without its backward pass, which CUDA cannot repeat."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._dynamo.testing import AotEagerAndRecordGraphs
from torch._subclasses import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jvp, vmap
from torch.nn import functional as F
from watching import Operations

from ran.models import masks
from ran.models.interpolate import adjoint, interpolate, separable, weights
from ran.models.zoo import create_model

LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
MASK_SIZES = [(2, 4), (4, 8), (8, 16), (16, 32), (7, 14), (28, 56), (5, 9), (1, 2)]
"""(side, side after interpolation) of maps in our networks, and odd ones"""
sides = st.tuples(*[st.integers(1, 20)] * 4)


def pytorchs(x, size):
    return F.interpolate(x, size=list(size), mode="bilinear", align_corners=True)


def maps(*shape, seed=0, layout="channels_last", dtype=torch.float32):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return x.contiguous(memory_format=LAYOUTS[layout]).requires_grad_()


def output_and_gradient(function, x, upstream):
    y = function(x, upstream.shape[-2:])
    return y.detach(), torch.autograd.grad(y, x, upstream)[0]


@given(sides=sides, channels=st.integers(1, 5), layout=st.sampled_from(list(LAYOUTS)), seed=st.integers(0, 99))
def test_any_sizes_in_double_precision(sides, channels, layout, seed):
    height, width, *size = sides
    x = maps(2, channels, height, width, seed=seed, layout=layout, dtype=torch.float64)
    upstream = maps(2, channels, *size, seed=seed + 1, layout=layout, dtype=torch.float64).detach()
    (y, dx), (expected, expected_dx) = (output_and_gradient(f, x, upstream) for f in (interpolate, pytorchs))
    assert torch.equal(y, expected)
    torch.testing.assert_close(dx, expected_dx, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("few", "many"), MASK_SIZES)
def test_a_masks_sizes_in_float32(few, many, layout):
    x = maps(3, 16, few, few + 1, layout=layout)
    upstream = maps(3, 16, many, many + 3, seed=1, layout=layout).detach()
    (y, dx), (expected, expected_dx) = (output_and_gradient(f, x, upstream) for f in (interpolate, pytorchs))
    assert torch.equal(y, expected)
    torch.testing.assert_close(dx, expected_dx, rtol=0, atol=1e-6 * expected_dx.abs().max().item())
    by_products = separable(x, weights(few, many, x), weights(few + 1, many + 3, x))
    torch.testing.assert_close(by_products, expected, rtol=0, atol=1e-6 * expected.abs().max().item())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_memory_layout_stays(layout):
    x = maps(2, 6, 3, 4, layout=layout)
    for y in output_and_gradient(interpolate, x, maps(2, 6, 5, 8, layout=layout).detach()):
        assert y.is_contiguous(memory_format=LAYOUTS[layout])


def test_a_gradient_in_another_layout():
    """As of a mean, whose gradient is one number by stride 0."""
    x = maps(2, 6, 3, 4)
    found, expected = (torch.autograd.grad(f(x, (5, 7)).mean(), x)[0] for f in (interpolate, pytorchs))
    torch.testing.assert_close(found, expected)


def test_weights_by_hand():
    x = torch.empty(0)
    assert weights(2, 3, x).tolist() == [[1, 0], [0.5, 0.5], [0, 1]]
    assert weights(3, 2, x).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert weights(1, 3, x).tolist() == [[1]] * 3
    assert weights(3, 1, x).tolist() == [[1, 0, 0]]


@given(few=st.integers(1, 60), many=st.integers(1, 60))
def test_weights_are_of_two_neighbours_and_add_up(few, many):
    found = weights(few, many, torch.empty(0))
    torch.testing.assert_close(found.sum(1), torch.ones(many))
    positions = torch.arange(many) * ((few - 1) / max(many - 1, 1))
    torch.testing.assert_close(found @ torch.arange(few, dtype=torch.float32), positions, rtol=0, atol=1e-4)
    assert (found != 0).sum(1).max() <= 2


def test_weights_are_built_once():
    assert weights(5, 11, torch.empty(0)) is weights(5, 11, torch.empty(3))


def test_a_network_learns_as_with_pytorchs(monkeypatch):
    network = create_model("attention56", num_classes=3, width=0.125).double()
    images = maps(2, 3, 16, 18, dtype=torch.float64).detach()

    def gradients():
        return torch.autograd.grad(F.cross_entropy(network(images), torch.tensor([0, 2])), list(network.parameters()))

    ours = gradients()
    monkeypatch.setattr(masks, "interpolate", pytorchs)
    for found, expected in zip(ours, gradients(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_the_gradient_is_a_product():
    x = maps(2, 3, 4, 4)
    with Operations() as seen:
        interpolate(x, (8, 8)).square().sum().backward()
    assert "bmm" in seen.names
    assert "upsample_bilinear2d_backward" not in seen.names


def test_no_product_copies_a_map():
    upstream = maps(2, 3, 8, 8).detach()
    adjoint(upstream, (4, 4))  # builds the weights
    with Operations() as seen:
        adjoint(upstream, (4, 4))
    assert seen.names <= {"permute", "transpose", "expand", "view", "_unsafe_view", "bmm"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_bits_again(layout):
    x, upstream = maps(8, 16, 8, 8, layout=layout), maps(8, 16, 16, 16, layout=layout).detach()
    first = output_and_gradient(interpolate, x, upstream)
    for _ in range(5):
        assert all(map(torch.equal, output_and_gradient(interpolate, x, upstream.clone()), first))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(4, 5), (2, 3), (4, 1)])
def test_derivatives_of_both_orders(size, layout):
    x = maps(2, 2, 3, 4, layout=layout, dtype=torch.float64)
    assert gradcheck(lambda x: interpolate(x, size), x, check_batched_grad=True)
    assert gradgradcheck(lambda x: interpolate(x, size), x)


def test_without_a_gradient_only_pytorchs_operation_runs():
    x = maps(1, 2, 3, 3)
    with Operations() as seen, torch.no_grad():
        interpolate(x, (5, 5))
    assert seen.names == {"upsample_bilinear2d"}
    assert not interpolate(x.detach(), (5, 5)).requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(dtype):
    """Both dtypes are PyTorch's. Autocast would multiply in bfloat16, with three digits, if it reached the products."""
    x, upstream = maps(2, 8, 8, 8).detach().to(dtype).requires_grad_(), maps(2, 8, 16, 16, seed=1).detach().to(dtype)
    plain = output_and_gradient(interpolate, x, upstream)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = output_and_gradient(pytorchs, x, upstream)
        found = output_and_gradient(interpolate, x, upstream)
    assert [t.dtype for t in found] == [t.dtype for t in expected] == [dtype, dtype]
    assert all(map(torch.equal, found, plain))
    torch.testing.assert_close(found, expected)


def test_products_of_bfloat16_are_in_float32():
    """Also for a gradient of another dtype than the input's, as under autocast on CUDA, where the output is float32."""
    upstream = maps(2, 8, 16, 16).detach().bfloat16()
    found = adjoint(upstream, (8, 8))
    assert found.dtype == torch.float32
    assert torch.equal(found, adjoint(upstream.float(), (8, 8)))


def test_on_the_meta_device():
    x = torch.empty(2, 3, 4, 5, device="meta").to(memory_format=torch.channels_last).requires_grad_()
    y = interpolate(x, (7, 9))
    y.sum().backward()
    assert (y.shape, y.device.type, x.grad.shape, x.grad.device.type) == ((2, 3, 7, 9), "meta", x.shape, "meta")


def test_tensors_without_data_leave_no_weights_behind():
    size = (23, 29)  # of no other test here
    with FakeTensorMode():
        x = torch.empty(1, 2, 13, 17, requires_grad=True)
        interpolate(x, size).sum().backward()
        assert x.grad.shape == x.shape
    assert type(weights(13, 23, torch.empty(0))) is torch.Tensor
    assert weights(13, 23, torch.empty(0)).sum().item() == pytest.approx(23)
    with FakeTensorMode():  # real weights are kept now, and not mixed in
        x = torch.empty(1, 2, 13, 17, requires_grad=True)
        interpolate(x, size).sum().backward()


def test_transforms():
    x = maps(3, 2, 4, 5).detach()

    def energy(function):
        return lambda x: function(x, (7, 9)).square().sum()

    for transform in (
        lambda f: grad(energy(f))(x),
        lambda f: vmap(grad(lambda one: energy(f)(one[None])))(x),
        lambda f: jvp(lambda x: f(x, (7, 9)), (x,), (x,))[1],
    ):
        torch.testing.assert_close(transform(interpolate), transform(pytorchs))


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_the_gradient_is_a_product_too(dynamic):
    torch._dynamo.reset()
    graphs = AotEagerAndRecordGraphs()
    compiled = torch.compile(lambda x: interpolate(x.relu(), (8, 9)), backend=graphs, fullgraph=True, dynamic=dynamic)
    x, upstream = maps(2, 3, 4, 5), maps(2, 3, 8, 9, seed=1).detach()
    found = output_and_gradient(lambda x, _: compiled(x), x, upstream)
    expected = output_and_gradient(lambda x, size: pytorchs(x.relu(), size), x, upstream)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    (graph,) = graphs.bw_graphs
    called = " ".join(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
    assert "mm" in called
    assert not any(name in called for name in ("upsample", "index_put", "index_add", "scatter"))


@pytest.mark.slow
def test_exported_it_is_pytorchs_operation():
    class Layer(torch.nn.Conv2d):
        def forward(self, x):
            return interpolate(super().forward(x), (8, 9))

    batch = {"x": {0: torch.export.Dim("batch", min=1)}}
    exported = torch.export.export(Layer(3, 2, 1), (torch.randn(2, 3, 4, 5),), dynamic_shapes=batch)
    called = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert called == ["aten.conv2d.default", "aten.upsample_bilinear2d.vec"]
    assert exported.module()(torch.randn(5, 3, 4, 5)).shape == (5, 2, 8, 9)
