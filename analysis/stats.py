"""Means over seeds, paired differences with t-intervals, Holm's correction, and verdicts on sets of intervals."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

ALPHA = 0.05
FAR = 1000  # greatest number of additional seeds that is computed


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
    confidence: float = 1 - ALPHA


@dataclass(frozen=True)
class Sample:
    """The statistics of a quantity that is claimed to lie below (side -1) or above (side +1) a bound."""

    stats: MeanStd | None
    side: int
    bound: float = 0.0


SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"


def mean_std(values: Sequence[float]) -> MeanStd | None:
    """Returns mean and sample standard deviation, None without values. Raises ValueError for one that is not finite."""
    if not values:
        return None
    _refuse_nonfinite(values)
    return MeanStd(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def differences(a: Sequence[float], b: Sequence[float]) -> MeanStd | None:
    """Returns mean and std of a[i] - b[i]. Raises ValueError for unequal lengths and values that are not finite."""
    if len(a) != len(b):
        raise ValueError(f"pairs need equal lengths, got {len(a)} and {len(b)}")
    return mean_std([x - y for x, y in zip(a, b, strict=True)])


def t_interval(stats: MeanStd | None, confidence: float = 1 - ALPHA) -> Interval | None:
    """Returns the mean with its two-sided t-interval, None without values.

    The interval is mean +- t(n - 1) * std / sqrt(n) with the sample standard deviation; with n = 1 there is a value and
    no interval, and without spread the interval is a point. Raises ValueError for a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    if stats is None or stats.std is None:
        return (
            None if stats is None else Interval(mean=stats.mean, low=None, high=None, n=stats.n, confidence=confidence)
        )
    from scipy.special import stdtrit  # not scipy.stats, which takes a second to import

    half = float(stdtrit(stats.n - 1, (1 + confidence) / 2)) * stats.std / math.sqrt(stats.n)
    return Interval(mean=stats.mean, low=stats.mean - half, high=stats.mean + half, n=stats.n, confidence=confidence)


def p_value(stats: MeanStd | None, mean: float = 0.0) -> float | None:
    """Returns p of the two-sided t-test of the given mean; None below two values.

    Without spread it is 0, or 1 if the values equal that mean.
    """
    if stats is None or stats.std is None:
        return None
    if stats.std == 0:
        return float(stats.mean == mean)
    from scipy.special import stdtr

    return float(2 * stdtr(stats.n - 1, -abs(stats.mean - mean) / (stats.std / math.sqrt(stats.n))))


def holm_levels(p_values: Sequence[float | None], alpha: float = ALPHA, size: int | None = None) -> list[float | None]:
    """Returns the confidence level of each interval, so that a family of intervals agrees with Holm's test.

    The i-th smallest of m p-values gets 1 - alpha / (m - i + 1); from the first that Holm retains, all larger ones get
    the level of that one. So an interval excludes the tested mean exactly if Holm rejects it at the family-wise error
    rate alpha. None, a comparison that was not tested, gets None. It does not count in m, unless `size` is given: the
    number of members that the family will have.
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    levels: list[float | None] = [None] * len(p_values)
    members = len(tested) if size is None else size
    share = alpha
    retained = False
    for rank, (p, place) in enumerate(tested):
        if not retained:
            share = alpha / (members - rank)
            retained = p > share
        levels[place] = 1 - share
    return levels


def holm_intervals(
    family: Sequence[MeanStd | None],
    means: Sequence[float] | None = None,
    alpha: float = ALPHA,
    size: int | None = None,
) -> list[Interval | None]:
    """Returns the interval of each member at its level of `holm_levels`; `means` are the tested ones (default: 0)."""
    tested = [0.0] * len(family) if means is None else means
    levels = holm_levels([p_value(stats, mean) for stats, mean in zip(family, tested, strict=True)], alpha, size)
    return [
        t_interval(stats, 1 - alpha if level is None else level) for stats, level in zip(family, levels, strict=True)
    ]


def verdict(samples: Sequence[Sample], alpha: float = ALPHA) -> str | None:
    """Returns the verdict of the Holm-adjusted intervals on a conjunction; None if no sample has two values.

    Supported: each lies on its claimed side. Contradicted: one lies on the other. Else undecided.
    """
    intervals = holm_intervals([s.stats for s in samples], [s.bound for s in samples], alpha, len(samples))
    sides = [_side(interval, sample.bound) for interval, sample in zip(intervals, samples, strict=True)]
    if all(side is None for side in sides):
        return None
    if any(side == -sample.side for side, sample in zip(sides, samples, strict=True)):
        return CONTRADICTED
    return SUPPORTED if all(s == sample.side for s, sample in zip(sides, samples, strict=True)) else UNDECIDED


def more_seeds(samples: Sequence[Sample], alpha: float = ALPHA) -> int | None:
    """Returns how many further seeds would decide an undecided conjunction if means and spreads stay as they are.

    FAR + 1 means more than FAR; None: unknown, because a sample has fewer than two values.
    """
    if any(sample.stats is None or sample.stats.std is None for sample in samples):
        return None

    def decided(more: int) -> bool:
        projected = [
            Sample(MeanStd(s.stats.mean, s.stats.std, s.stats.n + more), s.side, s.bound) for s in samples if s.stats
        ]
        return verdict(projected, alpha) in (SUPPORTED, CONTRADICTED)

    if not decided(FAR):
        return FAR + 1
    low, high = 0, FAR  # every p falls as n grows, so a decision stays
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high


def _side(interval: Interval | None, bound: float) -> int | None:
    """The side of the bound on which the interval lies, 0 if it covers the bound, None without an interval."""
    if interval is None or interval.low is None or interval.high is None:
        return None
    return 1 if interval.low > bound else -1 if interval.high < bound else 0


def _refuse_nonfinite(values: Sequence[float]) -> None:
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"statistics need finite values, got {list(values)}")
