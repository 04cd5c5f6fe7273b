"""Streams of randomness: pure functions of (seed, purpose, keys), independent, and the same for ever."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran.rng import SEED_LIMIT, stream, stream_seed

seeds = st.integers(0, SEED_LIMIT - 1)
purposes = st.text(max_size=8)
keys = st.lists(st.integers() | st.text(max_size=4), max_size=3)
names = st.tuples(seeds, purposes, keys)


def draw(seed, purpose, *key, n=8):
    return stream(seed, purpose, *key).integers(0, 2**63, n).tolist()


def test_golden():
    """Changed values mean that numpy draws otherwise, so that no earlier run can be repeated."""
    rng = stream(0, "order", 0)
    assert rng.bit_generator.random_raw(2).tolist() == [6216154690743817018, 1907415247128952769]
    assert stream(0, "order", 0).permutation(10).tolist() == [4, 6, 3, 5, 8, 2, 0, 7, 9, 1]
    assert stream(1, "augment", 7).integers(0, 9, size=(2, 3)).tolist() == [[4, 4, 6], [1, 2, 1]]
    assert stream(1, "x", "y").random() == 0.17752756926092172
    assert stream(1, "x", "y").standard_normal() == 0.4042791273327805
    assert stream_seed(0, "init") == 6109011495221250200
    assert stream_seed(SEED_LIMIT - 1, "init", 1, "a") == 2093866145591415748


@given(names)
def test_pure(name):
    seed, purpose, key = name
    assert draw(seed, purpose, *key) == draw(seed, purpose, *key)
    assert stream_seed(seed, purpose, *key) == stream_seed(seed, purpose, *key)


@given(names, names)
def test_different_names_are_different_streams(a, b):
    if a != b:
        assert draw(a[0], a[1], *a[2]) != draw(b[0], b[1], *b[2])
        assert stream_seed(a[0], a[1], *a[2]) != stream_seed(b[0], b[1], *b[2])


def test_similar_names_are_different_streams():
    similar = [
        (0, "a"),
        (1, "a"),
        (0, "b"),
        (0, "a", 0),
        (0, "a", 1),
        (0, "a", "1"),
        (0, "a", 1, 0),
        (0, "a", 10),
        (0, "a", 0, 1),
        (0, "a", "0, 1"),
        (0, "a', 1"),
        (0, ""),
        (10, "a"),
    ]
    assert len({tuple(draw(*name)) for name in similar}) == len(similar)
    assert len({stream_seed(*name) for name in similar}) == len(similar)


def test_independent_of_the_order_of_calls():
    wanted = list(itertools.product((0, 1), ("order", "augment"), (0, 1)))
    forwards = {name: draw(*name) for name in wanted}
    rngs = {name: stream(*name) for name in reversed(wanted)}
    mixed = {name: [] for name in wanted}
    for _ in range(8):
        for name, rng in rngs.items():
            mixed[name].append(int(rng.integers(0, 2**63)))
    assert mixed == forwards


def test_independent_of_numpys_global_state():
    np.random.seed(0)  # noqa: NPY002
    first = draw(3, "a")
    before = np.random.get_state()[2]  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert draw(3, "a") == first
    assert np.random.get_state()[2] == before  # noqa: NPY002


def test_the_same_in_another_process():
    """Python's own hash of a string changes with each process."""
    code = "from ran.rng import stream_seed; print(stream_seed(3, 'init', 'a', 1))"
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(out.stdout) == stream_seed(3, "init", "a", 1)


@given(names)
def test_seeds_fit_torch(name):
    seed, purpose, key = name
    assert 0 <= stream_seed(seed, purpose, *key) < SEED_LIMIT


@pytest.mark.parametrize("seed", [-1, SEED_LIMIT])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match=str(seed)):
        stream(seed, "a")
    with pytest.raises(ValueError, match=str(seed)):
        stream_seed(seed, "a")


def test_a_numpy_integer_is_its_value():
    assert draw(np.int64(3), "a", np.int64(4)) == draw(3, "a", 4)


def test_streams_look_uniform_and_uncorrelated():
    values = np.stack([stream(0, "a", i).random(200) for i in range(50)])
    assert abs(values.mean() - 0.5) < 0.01
    correlation = np.corrcoef(values) - np.eye(50)
    assert abs(correlation).max() < 0.35  # 5 standard deviations of 1/sqrt(200)
