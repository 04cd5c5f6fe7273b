"""Means over seeds and paired differences with t-intervals."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class MeanStd:
    """Mean and sample standard deviation (n - 1 in the denominator; None for n = 1) of n values."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Interval:
    """Mean of n paired differences with its confidence interval; `low` and `high` are None for n = 1."""

    mean: float
    low: float | None
    high: float | None
    n: int


def mean_std(values: Sequence[float]) -> MeanStd | None:
    """Returns mean and sample standard deviation, None without values. Raises ValueError for one that is not finite."""
    if not values:
        return None
    _refuse_nonfinite(values)
    return MeanStd(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def paired_interval(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Returns the mean of a[i] - b[i] with its two-sided t-interval, None without pairs.

    The interval is mean +- t(n - 1) * std / sqrt(n) with the sample standard deviation of the differences; with
    n = 1 there is a value and no interval. Raises ValueError for unequal lengths, values that are not finite and a
    confidence outside (0, 1).
    """
    if len(a) != len(b):
        raise ValueError(f"pairs need equal lengths, got {len(a)} and {len(b)}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    differences = mean_std([x - y for x, y in zip(a, b, strict=True)])
    if differences is None or differences.std is None:
        return None if differences is None else Interval(differences.mean, None, None, 1)
    from scipy.special import stdtrit  # not scipy.stats, which takes a second to import

    quantile = float(stdtrit(differences.n - 1, (1 + confidence) / 2))
    half = quantile * differences.std / math.sqrt(differences.n)
    return Interval(differences.mean, differences.mean - half, differences.mean + half, differences.n)


def _refuse_nonfinite(values: Sequence[float]) -> None:
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"statistics need finite values, got {list(values)}")
