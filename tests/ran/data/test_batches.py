"""Preprocessing against a literal loop, and batches as a pure function of (seed, step)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ran.data.augment import Normalization, cifar_normalization, pixel_mean
from ran.data.loader import PIXELS, TrainBatches, chunks
from ran.models.network import initialize
from ran.models.zoo import create_model
from ran.rng import stream

PAD = 4  # section 4.1
sizes = st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 7))


def pictures(n, height=6, width=5, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (n, 3, height, width), dtype=np.uint8))


def literal(images, normalization, rows, cols, flip):
    """Subtract the mean, divide, pad with zeros, crop, flip: image by image, pixel by pixel."""
    n, _, height, width = images.shape
    pad = normalization.pad
    out = torch.empty(n, 3, height, width)
    for b in range(n):
        padded = torch.zeros(3, height + 2 * pad, width + 2 * pad)
        padded[:, pad : pad + height, pad : pad + width] = (
            images[b].float() - normalization.mean
        ) / normalization.scale
        for i in range(height):
            for j in range(width):
                column = width - 1 - j if flip[b] else j
                out[b, :, i, j] = padded[:, rows[b] + i, cols[b] + column]
    return out


def crops(rows, cols, flip):
    return torch.tensor(rows), torch.tensor(cols), torch.tensor(flip)


def by_channel(pad=0):
    """As an image folder's: one mean and one scale for each channel."""
    mean, scale = (torch.tensor(values).view(3, 1, 1) for values in ([100.0, 120.5, 90.25], [50.0, 60.0, 70.5]))
    return Normalization(mean, scale, pad=pad)


@given(sizes, st.integers(0, 2**32 - 1))
def test_crop_and_flip_is_the_literal_loop(size, seed):
    images = pictures(*size, seed=seed)
    normalization = cifar_normalization(pictures(3, *size[1:], seed=seed + 1))
    assert normalization.pad == PAD
    drawn = [torch.from_numpy(d) for d in normalization.draw(np.random.default_rng(seed), size[0])]
    assert torch.equal(normalization.augment(images, *drawn), literal(images, normalization, *drawn))


@given(sizes, st.integers(0, 2), st.integers(0, 2**32 - 1))
def test_gathered_and_copied_are_the_same_bits(size, pad, seed):
    """On a GPU pixels are gathered, on a CPU windows copied."""
    normalization = replace(cifar_normalization(pictures(3, *size[1:], seed=seed + 1)), pad=pad)
    images = pictures(*size, seed=seed)
    drawn = [torch.from_numpy(d) for d in normalization.draw(np.random.default_rng(seed), size[0])]
    gathered, copied = normalization._gathered(images, *drawn), normalization._copied(images, *drawn)
    assert torch.equal(gathered, copied)
    assert gathered.stride() == copied.stride()


@given(sizes, st.integers(0, 2), st.integers(0, 2**32 - 1))
def test_one_mean_and_scale_a_channel_is_the_literal_loop(size, pad, seed):
    images, normalization = pictures(*size, seed=seed), by_channel(pad)
    drawn = [torch.from_numpy(d) for d in normalization.draw(np.random.default_rng(seed), size[0])]
    assert torch.equal(normalization.augment(images, *drawn), literal(images, normalization, *drawn))


def test_every_offset_with_and_without_flip():
    for images, normalization in ((pictures(1), cifar_normalization(pictures(4))), (pictures(1, 9, 8), by_channel(2))):
        last = 2 * normalization.pad
        for i in range(last + 1):
            for j in range(last + 1):
                for flip in (False, True):
                    drawn = crops([i], [j], [flip])
                    assert torch.equal(normalization.augment(images, *drawn), literal(images, normalization, *drawn)), (
                        i,
                        j,
                        flip,
                    )


def test_border_is_zero_after_the_mean_is_subtracted():
    images = torch.zeros(1, 3, 6, 5, dtype=torch.uint8)
    for mean in (torch.full((3, 6, 5), 100.0), torch.full((3, 1, 1), 100.0)):
        out = Normalization(mean, 255, pad=PAD).augment(images, *crops([0], [2 * PAD], [False]))
        assert not out[:, :, :PAD].any()
        assert not out[:, :, :, -PAD:].any()
        assert torch.equal(out[:, :, PAD:, :-PAD], torch.full((1, 3, 2, 1), -100 / 255))


def test_the_middle_crop_is_the_image_and_flipped_its_mirror():
    images, normalization = pictures(2), cifar_normalization(pictures(5))
    straight, mirrored = normalization.augment(images, *crops([PAD, PAD], [PAD, PAD], [False, True]))
    assert torch.equal(straight, normalization.normalize(images)[0])
    assert torch.equal(mirrored, normalization.normalize(images)[1].flip(-1))


def test_images_are_left_as_they_were():
    images, normalization = pictures(2), cifar_normalization(pictures(5))
    kept = images.clone(), normalization.mean.clone()
    out = normalization.augment(images, *crops([0, 8], [8, 0], [True, False]))
    assert out.dtype == torch.float32
    assert torch.equal(images, kept[0])
    assert torch.equal(normalization.mean, kept[1])


def test_batches_have_their_channels_innermost_in_memory():
    for images, normalization in ((pictures(4), cifar_normalization(pictures(5))), (pictures(4, 9, 8), by_channel())):
        out = normalization.augment(images, *crops([0] * 4, [0] * 4, [True] * 4))
        assert out.is_contiguous(memory_format=torch.channels_last)


def test_pixel_mean_is_exact_over_many_images():
    """More than one chunk, and more than float32 sums exactly."""
    images = torch.full((70_000, 3, 1, 1), 255, dtype=torch.uint8)
    images[0] = 250
    expected = images.to(torch.float64).mean(0).float()
    assert torch.equal(pixel_mean(images), expected)
    assert pixel_mean(images).dtype == torch.float32
    assert torch.equal(pixel_mean(pictures(7)), pictures(7).double().mean(0).float())


def test_draws_reach_every_offset_and_both_flips_evenly():
    n = 20_000
    rows, cols, flip = cifar_normalization(pictures(1)).draw(stream(0, "augment", 0), n)
    assert rows.shape == cols.shape == flip.shape == (n,)
    places = np.unique(np.stack([rows, cols, flip]), axis=1, return_counts=True)
    assert places[0].shape[1] == (2 * PAD + 1) ** 2 * 2
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (0, 2 * PAD, 0, 2 * PAD)
    mean = n / places[0].shape[1]
    assert abs(places[1] - mean).max() < 5 * mean**0.5


@pytest.mark.parametrize(("side", "most"), [(8, 500), (32, 500), (64, 500), (224, 41), (320, 20), (2048, 1)])
def test_large_images_come_in_smaller_chunks(side, most):
    images = torch.empty(1_001, 3, side, side, dtype=torch.uint8, device="meta")
    parts = chunks(images, 500)
    assert {len(part) for part in parts[:-1]} == {most}
    assert sum(map(len, parts)) == 1_001
    assert most * side**2 <= PIXELS or most == 1


def plain(height, width):
    return Normalization(torch.zeros(3, height, width), 255, pad=PAD)


def numbered(n, batch_size, seed=0):
    """Image i is filled with i+1 and labelled i."""
    images = (torch.arange(n) + 1).to(torch.uint8)[:, None, None, None].expand(n, 3, 9, 9).contiguous()
    return TrainBatches(images, torch.arange(n), plain(9, 9), batch_size=batch_size, seed=seed)


def seen(batches, steps):
    return torch.cat([batches(step)[1] for step in range(steps)]).tolist()


@given(st.integers(1, 25), st.integers(1, 40), st.integers(0, 2**63 - 1))
def test_each_pass_sees_each_image_once(n, batch_size, seed):
    steps = -(-3 * n // batch_size)  # three passes at least
    labels = seen(numbered(n, batch_size, seed), steps)
    assert len(labels) == steps * batch_size
    for start in range(0, len(labels), n):
        one = labels[start : start + n]
        assert len(set(one)) == len(one)
        if len(one) == n:
            assert sorted(one) == list(range(n))


def test_each_pass_has_an_order_of_its_own():
    labels = seen(numbered(20, 10), 40)
    assert len({tuple(labels[i : i + 20]) for i in range(0, 400, 20)}) == 20


@pytest.mark.parametrize("batch_size", [1, 7, 10, 64, 150])
def test_order_of_a_seed_does_not_depend_on_the_batch_size(batch_size):
    assert seen(numbered(30, batch_size), 300 // batch_size) == seen(numbered(30, 1), 300 // batch_size * batch_size)


@pytest.mark.parametrize("batch_size", [3, 10, 25])
def test_images_and_labels_belong_together(batch_size):
    batches = numbered(10, batch_size)
    for step in range(5):
        images, labels = batches(step)
        assert images.shape == (batch_size, 3, 9, 9)
        assert torch.equal((255 * images.amax((1, 2, 3))).round().long(), labels + 1)


@given(st.integers(1, 12), st.integers(1, 30), st.lists(st.integers(0, 25), min_size=1, max_size=5))
def test_jumping_to_a_step_is_walking_there(n, batch_size, steps):
    walker, jumper = numbered(n, batch_size), numbered(n, batch_size)
    walked = [walker(step) for step in range(max(steps) + 1)]
    for step in steps:
        images, labels = jumper(step)
        assert torch.equal(images, walked[step][0])
        assert torch.equal(labels, walked[step][1])


def test_different_networks_of_one_seed_see_the_same_batches():
    found = []
    for name, learning in (("attention56", "arl"), ("attention92", "nal")):
        torch.manual_seed(len(found))
        np.random.seed(len(found))  # noqa: NPY002
        network = create_model(name, width=1 / 8, learning=learning)
        initialize(network, 0)
        batches = numbered(10, 4)
        runs = []
        for step in range(4):
            images, labels = batches(step)
            network(images)
            runs.append((images, labels))
        found.append(runs)
    for (a, x), (b, y) in zip(*found, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(x, y)


def test_batches_leave_the_global_generators_alone():
    before = torch.get_rng_state(), np.random.get_state()[2]  # noqa: NPY002
    numbered(10, 4)(0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[2] == before[1]  # noqa: NPY002


def test_seeds_differ_in_order_and_augmentation():
    first, second = numbered(30, 30, seed=1), numbered(30, 30, seed=2)
    assert seen(first, 1) != seen(second, 1)
    same = [TrainBatches(pictures(1), torch.zeros(1), plain(6, 5), batch_size=8, seed=s) for s in (1, 2)]
    assert not torch.equal(same[0](0)[0], same[1](0)[0])
    assert not torch.equal(same[0](0)[0], same[0](1)[0])  # each step has draws of its own


def test_golden():
    """Changed values mean that no earlier run can be repeated: raise SCHEMA_VERSION."""
    batches = numbered(10, 6)
    assert [batches(step)[1].tolist() for step in range(3)] == [
        [4, 6, 3, 5, 8, 2],
        [0, 7, 9, 1, 2, 0],
        [4, 9, 8, 5, 7, 3],
    ]
    rows, cols, flip = plain(9, 9).draw(stream(0, "augment", 0), 6)
    assert (rows.tolist(), cols.tolist(), flip.astype(int).tolist()) == (
        [8, 0, 5, 6, 3, 6],
        [0, 5, 0, 5, 4, 2],
        [0, 0, 1, 1, 1, 1],
    )


def test_orders_of_past_passes_are_forgotten():
    batches = numbered(50, 8)
    for step in range(200):
        batches(step)
    assert len(batches.indices._orders) <= 2
