"""Random streams: the only place where a seed is turned into random numbers.

Every random decision is a pure function of (seed, purpose, keys), so no generator state has to be saved: a run that is
stopped and resumed draws the same numbers. Streams never depend on the network, so all cells with the same seed see the
same batches and comparisons between them are paired.
"""

import hashlib
import operator

import numpy as np

SEED_LIMIT = 2**63


def _digest(seed: int, purpose: str, keys: tuple[int | str, ...]) -> bytes:
    if not 0 <= seed < SEED_LIMIT:
        raise ValueError(f"seed must lie in 0..2**63-1, got {seed}")
    # Plain ints: the repr of numpy's differs and would give another stream.
    plain = (key if isinstance(key, str) else operator.index(key) for key in keys)
    return hashlib.sha256(repr((operator.index(seed), purpose, *plain)).encode()).digest()


def stream(seed: int, purpose: str, *keys: int | str) -> np.random.Generator:
    """Returns the numpy generator for one purpose, e.g. `stream(seed, "order", epoch)`.

    Streams of different purposes or keys are independent (Philox with a 128-bit key taken from a SHA-256).
    """
    key = int.from_bytes(_digest(seed, purpose, keys)[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


def stream_seed(seed: int, purpose: str, *keys: int | str) -> int:
    """Returns a 63-bit seed for a generator other than numpy's (torch's, for the initial weights)."""
    return int.from_bytes(_digest(seed, purpose, keys)[:8], "little") >> 1
