"""The three mask activations: what equations 4 to 6 promise of their values."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from ran.models.masks import MASK_ACTIVATIONS, mask_head

SHAPES = [(2, 8, 5, 7), (1, 3, 4, 4), (3, 16, 1, 9)]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def positive(*shape: int, seed: int = 1) -> torch.Tensor:
    return normal(*shape, seed=seed).exp()


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def test_the_papers_three_are_registered():
    assert {"mixed", "channel", "spatial"} <= set(MASK_ACTIVATIONS)


@pytest.mark.parametrize("shape", SHAPES)
def test_mixed_is_the_sigmoid_of_each_value_alone(shape):
    z = 3 * normal(*shape)
    mask = MASK_ACTIVATIONS["mixed"](z)
    close(mask, 1 / (1 + (-z).exp()))
    assert ((mask > 0) & (mask < 1)).all()
    one = torch.zeros_like(z)
    one[0, 0, 0, 0] = 2.0
    assert (MASK_ACTIVATIONS["mixed"](z + one) != mask).sum() == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_channel_squares_sum_to_one_at_each_position(shape):
    mask = MASK_ACTIVATIONS["channel"](5 * normal(*shape))
    close((mask**2).sum(1), torch.ones(shape[0], *shape[2:], dtype=torch.float64))
    assert (mask < 0).any()  # no sigmoid: also negative
    assert (mask.abs() <= 1).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_channel_ignores_a_positive_factor_at_each_position(shape):
    z = normal(*shape)
    b, _, h, w = shape
    close(MASK_ACTIVATIONS["channel"](z * positive(b, 1, h, w)), MASK_ACTIVATIONS["channel"](z))
    assert (MASK_ACTIVATIONS["channel"](z * positive(1, shape[1], 1, 1)) - MASK_ACTIVATIONS["channel"](z)).any()


def test_channel_of_zeros_is_zero_with_a_finite_gradient_behind_it():
    """ReLU and convolutions without bias make whole zero vectors in narrow networks."""
    head = mask_head(4).double()
    torch.nn.init.constant_(head[0].bias, -100.0)
    torch.nn.init.constant_(head[3].bias, -100.0)
    mask = MASK_ACTIVATIONS["channel"](head(normal(2, 4, 3, 3)))
    assert not mask.any()
    mask.sum().backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("shape", SHAPES)
def test_spatial_has_mean_zero_and_deviation_one_before_the_sigmoid(shape):
    z = 1000 * normal(*shape) + 50 * normal(1, shape[1], 1, 1)  # large, so that eps does not count
    mask = MASK_ACTIVATIONS["spatial"](z)
    assert ((mask > 0) & (mask < 1)).all()
    logit = mask.log() - (1 - mask).log()
    close(logit.mean((2, 3)), torch.zeros(shape[:2], dtype=torch.float64), 1e-9)
    close(logit.std((2, 3), correction=0), torch.ones(shape[:2], dtype=torch.float64), 1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_spatial_ignores_a_positive_affine_map_of_each_channel(shape):
    z = 1000 * normal(*shape)
    b, c, h, w = shape
    moved = z * (1 + positive(b, c, 1, 1)) + 10 * normal(b, c, 1, 1, seed=2)
    close(MASK_ACTIVATIONS["spatial"](moved), MASK_ACTIVATIONS["spatial"](z), 1e-9)
    assert (MASK_ACTIVATIONS["spatial"](z * positive(b, 1, h, w)) - MASK_ACTIVATIONS["spatial"](z)).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_spatial_of_small_values_has_eps_under_the_root(shape):
    z = 1e-3 * normal(*shape)
    mean, var = z.mean((2, 3), keepdim=True), z.var((2, 3), keepdim=True, correction=0)
    close(MASK_ACTIVATIONS["spatial"](z), torch.sigmoid((z - mean) / (var + 1e-5).sqrt()))


@given(st.sampled_from(list(MASK_ACTIVATIONS)), st.integers(0, 1000), st.floats(0.1, 100))
def test_an_image_does_not_depend_on_the_others_of_its_batch(activation, seed, scale):
    z = normal(3, 4, 3, 5, seed=seed)
    z[1:] *= scale
    whole = MASK_ACTIVATIONS[activation](z)
    for i in range(3):
        close(whole[i : i + 1], MASK_ACTIVATIONS[activation](z[i : i + 1]))


@pytest.mark.parametrize("activation", MASK_ACTIVATIONS)
def test_a_constant_map_stays_finite(activation):
    for value in (0.0, 5.0, -1e4):
        z = torch.full((2, 3, 4, 4), value, requires_grad=True)
        mask = MASK_ACTIVATIONS[activation](z)
        mask.sum().backward()
        assert mask.isfinite().all()
        assert z.grad.isfinite().all()


@pytest.mark.parametrize("activation", MASK_ACTIVATIONS)
def test_gradients_are_those_of_finite_differences(activation):
    assert torch.autograd.gradcheck(MASK_ACTIVATIONS[activation], (normal(1, 3, 2, 3).requires_grad_(),))


def test_head_is_two_convolutions_each_behind_norm_and_relu():
    head = mask_head(6).double().eval()
    for norm in (head[0], head[3]):
        norm.running_mean.copy_(normal(6))
        norm.running_var.copy_(positive(6))
    z = normal(2, 6, 3, 4)
    expected = z
    for norm, conv in ((head[0], head[2]), (head[3], head[5])):
        mean, var = norm.running_mean[:, None, None], norm.running_var[:, None, None]
        a = ((expected - mean) / (var + 1e-5).sqrt()).clamp(min=0)
        expected = torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], a)
    close(head(z), expected)
    assert (F.relu(head(z)) != head(z)).any()  # nothing clips the output
