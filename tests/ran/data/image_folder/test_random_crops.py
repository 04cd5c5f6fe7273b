"""What is drawn of a training image: against torchvision's rule and a literal colour jitter, and within its limits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ran.data.image_folder.dataset import imagenet_normalization
from ran.data.image_folder.random_crops import AREA, EIGENVALUES, EIGENVECTORS, RATIO, TRIES, draw, pca_colour_jitter
from ran.rng import stream

sides = st.one_of(st.integers(1, 40), st.integers(1, 3_000))


def literal_box(draws, i, width, height):
    """torchvision's RandomResizedCrop.get_params, on the numbers drawn."""
    for area, ratio in zip(draws.areas[i], draws.ratios[i], strict=True):
        w = round(math.sqrt(width * height * area * ratio))
        h = round(math.sqrt(width * height * area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = (
                math.floor(u * n) for u, n in zip(draws.places[i], (width - w + 1, height - h + 1), strict=True)
            )
            return left, top, left + w, top + h
    if width / height < min(RATIO):
        w, h = width, round(width / min(RATIO))
    elif width / height > max(RATIO):
        w, h = round(height * max(RATIO)), height
    else:
        w, h = width, height
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


@given(sides, sides, st.integers(0, 2**32 - 1))
def test_a_crop_is_torchvisions(width, height, seed):
    draws = draw(np.random.default_rng(seed), 5)
    for i in range(5):
        left, top, right, bottom = draws.box(i, width, height)
        assert (left, top, right, bottom) == literal_box(draws, i, width, height)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def test_a_crop_is_of_8_to_100_percent_and_3_4_to_4_3():
    draws = draw(stream(0, "augment", 0), 4_000)
    boxes = np.array([draws.box(i, 1_000, 800) for i in range(4_000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    areas, ratios = width * height / 800_000, width / height
    assert 0.079 < areas.min() < 0.09
    assert 0.9 < areas.max() <= 1
    assert 0.745 < ratios.min() < 0.76
    assert 1.32 < ratios.max() < 1.34
    assert boxes[:, 0].min() == boxes[:, 1].min() == 0
    assert (boxes[:, 2].max(), boxes[:, 3].max()) == (1_000, 800)
    # Of those of one size, left is uniform over all that is possible.
    small = width < 500
    assert (boxes[small, 0] / (1_000 - width[small])).mean() == pytest.approx(0.5, abs=0.03)


def test_draws_lie_in_their_ranges_and_follow_their_laws():
    draws = draw(stream(0, "augment", 0), 5_000)
    assert draws.areas.shape == draws.ratios.shape == (5_000, TRIES)
    for drawn, (low, high) in ((draws.areas, AREA), (draws.ratios, RATIO), (draws.places, (0, 1))):
        assert low <= drawn.min() < drawn.max() <= high
    assert draws.areas.mean() == pytest.approx(0.54, abs=0.01)
    assert np.log(draws.ratios).mean() == pytest.approx(0, abs=0.005)
    assert draws.flips.mean() == pytest.approx(0.5, abs=0.03)
    assert draws.colour_factors.mean() == pytest.approx(0, abs=0.005)
    assert draws.colour_factors.std() == pytest.approx(0.1, abs=0.005)


def test_a_part_of_the_draws_is_theirs():
    whole, chosen = draw(stream(0, "augment", 0), 8), np.array([5, 0, 3])
    part = whole.pick(chosen)
    assert [part.box(k, 90, 70) for k in range(3)] == [whole.box(i, 90, 70) for i in chosen]
    assert np.array_equal(part.colour_factors, whole.colour_factors[chosen])


def literal_jitter(image, light):
    """Krizhevsky et al.: [p1, p2, p3][a1 l1, a2 l2, a3 l3]^T is added to each pixel of RGB in [0, 1]."""
    values = (0.2175, 0.0188, 0.0045)
    vectors = ((-0.5675, -0.5808, -0.5836), (0.7192, -0.0045, -0.6948), (0.4009, -0.8140, 0.4203))  # p1, p2, p3
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    out = image.double() / 255
    for c in range(3):
        for a, value, vector in zip(light, values, vectors, strict=True):
            out[c] += a * value * vector[c]
        out[c] = (out[c] - mean[c]) / std[c]
    return out


def test_light_is_the_literal_one():
    images = torch.randint(0, 256, (6, 3, 5, 4), dtype=torch.uint8)
    factors = np.random.default_rng(0).normal(0, 0.5, (6, 3))
    found = pca_colour_jitter(images, factors, imagenet_normalization())
    assert found.dtype == torch.float32
    expected = torch.stack([literal_jitter(*pair) for pair in zip(images, factors, strict=True)])
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)
    assert torch.equal(
        pca_colour_jitter(images, 0 * factors, imagenet_normalization()), imagenet_normalization().normalize(images)
    )


def test_the_components_are_orthonormal():
    assert np.abs(EIGENVECTORS.T @ EIGENVECTORS - np.eye(3)).max() < 1e-3
    assert (np.diff(EIGENVALUES) < 0).all()


def test_golden():
    """Changed values mean that no earlier run on an image folder can be repeated: raise dataset.PIPELINE."""
    draws = draw(stream(0, "augment", 0), 3)
    assert [draws.box(i, 500, 375) for i in range(3)] == [(23, 21, 151, 158), (39, 24, 422, 336), (199, 76, 364, 233)]
    assert draws.flips.tolist() == [False, False, False]
    assert draws.colour_factors[0].round(4).tolist() == [0.0351, -0.1748, 0.0192]
