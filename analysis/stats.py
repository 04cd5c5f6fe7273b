"""Contrasts over seeds and test images: intervals, tests, Holm's correction, equivalence, power, verdicts.

Seeds and test images are both samples, as readers and cases are in the analysis of diagnostic studies (Dorfman, Berbaum
and Metz 1992; Hillis 2007). docs/statistics.md explains the method to its users.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

ALPHA = 0.05
POWER = 0.8
MIN_SEEDS = 3
"""fewest seeds on which anything is judged: with two, up to 10 % of the intervals over seeds and images exclude zero"""
FAR = 1000  # greatest number of seeds that is computed
NEVER = 0  # in the place of a number of seeds: none is enough

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
NO_DIFFERENCE = "no difference"


@dataclass(frozen=True)
class MeanStd:
    """Mean and sample standard deviation (n - 1 in the denominator; None for n = 1) of n values."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Contrast:
    """A combination of cells: its mean and 95 % interval over n seeds and, if `images` is not 0, over test images.

    One seed with images has the interval of these trained networks over images alone; one value has none.
    """

    mean: float
    low: float | None
    high: float | None
    se: float | None
    """standard error, of which `se_seeds` and `se_images` are the parts: se² = se_seeds² + se_images²"""
    df: float | None
    """degrees of freedom of the t-distribution"""
    se_seeds: float | None
    se_images: float | None
    n: int
    """seeds; 0 for an exact value"""
    images: int = 0

    @property
    def over(self) -> str:
        """What the interval is over: "seeds and images", "seeds", "images" (of one seed's networks), or ""."""
        if self.se is None:
            return ""
        if self.n < 2:
            return "images"
        return "seeds and images" if self.images else "seeds"

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Returns the two-sided interval at another level; None without a standard error."""
        if self.se is None or self.df is None:
            return None
        half = _quantile(self.df, (1 + confidence) / 2) * self.se
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Claimed:
    """A contrast that is claimed to lie below (side -1) or above (side +1) a bound, or at it (side 0).

    `margin` is the distance from the bound below which a difference does not matter; None: any matters.
    """

    contrast: Contrast
    side: int
    bound: float = 0.0
    margin: float | None = None


def mean_std(values: Sequence[float]) -> MeanStd | None:
    """Returns mean and sample standard deviation, None without values. Raises ValueError for one that is not finite."""
    if not values:
        return None
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"statistics need finite values, got {list(values)}")
    return MeanStd(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def contrast(differences: "Sequence[float] | np.ndarray[Any, Any]") -> Contrast | None:
    """Returns the contrast of values by seed, shape (n,), or by seed and test image, shape (n, N); None for n = 0.

    By seed: Student's t with n - 1 degrees of freedom. By seed and image, with d of shape (n, N): the mean squares of
    seeds, of images and of their interaction give var = (S + E) / (n N), S = max(MS_seeds, MS_interaction),
    E = max(MS_images - MS_interaction, 0). S is never below the interaction: seeds that agree by chance cannot look
    more precise than their test images. Of Satterthwaite's degrees of freedom, df = (n - 1) (max(M, MS_interaction) +
    E)² / M², MS_seeds alone is uncertain, and M = MS_seeds n / (n - 1) because a small one shortens the interval twice,
    by its error and by its degrees of freedom. Raises ValueError for a value that is not finite.
    """
    import numpy as np

    d = np.asarray(differences, dtype=np.float64)
    if d.ndim not in (1, 2):
        raise ValueError(f"a contrast needs shape (seeds,) or (seeds, images), got {d.shape}")
    if not np.isfinite(d).all():
        raise ValueError("a contrast needs finite values")
    n, images = len(d), d.shape[1] if d.ndim == 2 else 0
    if n == 0:
        return None
    mean = float(d.mean())
    if n == 1 and images < 2:
        return Contrast(mean, None, None, None, None, None, None, n, images)
    if images == 0:
        se = float(d.std(ddof=1)) / math.sqrt(n)
        return _with_interval(mean, se, n - 1, se, None, n, images)
    if n == 1:
        se = float(d.std(ddof=1)) / math.sqrt(images)
        return _with_interval(mean, se, images - 1, None, se, n, images)
    by_seed, by_image = d.mean(axis=1), d.mean(axis=0)
    rest = d - by_seed[:, None] - by_image[None, :] + mean
    of_rest = float((rest**2).sum()) / ((n - 1) * (images - 1))
    of_seeds = images * float(by_seed.var(ddof=1))
    s, e = max(of_seeds, of_rest), max(n * float(by_image.var(ddof=1)) - of_rest, 0.0)
    df = _degrees(n, of_seeds, of_rest, e)
    size = n * images
    return _with_interval(mean, math.sqrt((s + e) / size), df, math.sqrt(s / size), math.sqrt(e / size), n, images)


def _degrees(n: float, of_seeds: float, of_rest: float, of_images: float) -> float:
    """Satterthwaite's, of a sum in which the mean square of n seeds alone is uncertain; see `contrast`."""
    uncertain = of_seeds * n / (n - 1)
    if uncertain == 0:
        return math.inf
    ratio = (max(uncertain, of_rest) + of_images) / uncertain
    return (n - 1) * ratio * ratio


def _with_interval(
    mean: float, se: float, df: float, se_seeds: float | None, se_images: float | None, n: int, images: int
) -> Contrast:
    half = _quantile(df, 1 - ALPHA / 2) * se
    return Contrast(mean, mean - half, mean + half, se, df, se_seeds, se_images, n, images)


def p_value(found: Contrast | None, bound: float = 0.0, side: int = 0) -> float | None:
    """Returns p of the t-test that the true value is not below (side -1) or above (side +1) a bound; side 0: two-sided.

    None below two seeds, and for values by seed that are all equal: that is no precision. Without spread over seeds and
    images it is 0 if the value lies on the side, else 1.
    """
    if found is None or not _has_spread(found) or found.se is None or found.df is None:
        return None
    distance = found.mean - bound
    if found.se == 0:
        return 0.0 if distance and side * distance >= 0 else 1.0
    t = distance / found.se
    return 2 * _below(found.df, -abs(t)) if side == 0 else _below(found.df, -side * t)


def holm(p_values: Sequence[float | None], alpha: float = ALPHA) -> list[bool]:
    """Returns which hypotheses Holm's step-down test rejects at the family-wise error rate alpha.

    None, a member that cannot be tested yet, is not rejected and counts in the size of the family.
    """
    rejected = [False] * len(p_values)
    for rank, (p, place) in enumerate(sorted((p, place) for place, p in enumerate(p_values) if p is not None)):
        if p > alpha / (len(p_values) - rank):
            break
        rejected[place] = True
    return rejected


def within(found: Contrast | None, margin: float, bound: float = 0.0, alpha: float = ALPHA) -> bool:
    """Whether a contrast is equivalent to the bound: its interval at level 1 - 2 alpha lies within the margin."""
    interval = None if found is None or not _has_spread(found) else found.interval(1 - 2 * alpha)
    return interval is not None and abs(interval[0] - bound) <= margin and abs(interval[1] - bound) <= margin


def verdict(tested: Sequence[Claimed], alpha: float = ALPHA) -> str:
    """Returns the verdict on a conjunction of contrasts.

    Supported: the one-sided bound of every one lies on the claimed side (or all are equivalent, where that is claimed);
    all must hold, so no correction is needed. Contradicted: one lies on the other side by Holm's correction over all.
    No difference: each is equivalent to its bound within its margin. Else undecided, as with fewer than two seeds.
    Raises ValueError without contrasts.
    """
    if not tested:
        raise ValueError("a verdict needs a contrast")
    if all(_holds(one, alpha) for one in tested):
        return SUPPORTED
    if any(contradicting(tested, alpha)):
        return CONTRADICTED
    if all(one.margin is not None and within(one.contrast, one.margin, one.bound, alpha) for one in tested):
        return NO_DIFFERENCE
    return UNDECIDED


def contradicting(tested: Sequence[Claimed], alpha: float = ALPHA) -> list[bool]:
    """Returns which contrasts lie on the other side than claimed, by Holm's correction over all."""
    return holm([_against(one) for one in tested], alpha)


def _has_spread(found: Contrast) -> bool:
    return found.n >= 2 and (found.images > 0 or found.se != 0)


def _holds(one: Claimed, alpha: float) -> bool:
    if one.side == 0:
        return one.margin is not None and within(one.contrast, one.margin, one.bound, alpha)
    p = p_value(one.contrast, one.bound, one.side)
    return p is not None and p <= alpha


def _against(one: Claimed) -> float | None:
    """The p-value of the opposite of what is claimed."""
    if one.side:
        return p_value(one.contrast, one.bound, -one.side)
    margin = one.margin or 0.0
    sides = [p_value(one.contrast, one.bound + side * margin, side) for side in (1, -1)]
    return min((p for p in sides if p is not None), default=None)


def seeds_needed(assumed: Sequence[tuple[Claimed, float]], power: float = POWER, alpha: float = ALPHA) -> int:
    """Returns how many seeds in all show a whole claim with this power, if the true value of each contrast is as given.

    The variance between seeds falls with their number, that of the test images stays. The power of the conjunction is
    at least 1 minus the sum of what each lacks. At least MIN_SEEDS; FAR + 1 means that FAR are not seen to be enough;
    NEVER: no number of seeds is, because some contrast alone lacks the power, for its images or for an effect that is
    not on the claimed side. Raises ValueError for fewer than two seeds.
    """

    def reached(n: float) -> float:
        return 1 - sum(1 - _power_of(one, effect, n, alpha) for one, effect in assumed)

    if min(_power_of(one, effect, 1e9, alpha) for one, effect in assumed) < power:
        return NEVER
    if reached(FAR) < power:
        return FAR + 1
    low, high = MIN_SEEDS - 1, FAR  # the power grows with n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= power else (middle, high)
    return high


def _power_of(one: Claimed, effect: float, n: float, alpha: float) -> float:
    """Of one contrast at n seeds."""
    found = one.contrast
    if found.n < 2 or found.se_seeds is None:
        raise ValueError("the spread over seeds needs two seeds")
    between, images = found.n * found.se_seeds**2, (found.se_images or 0.0) ** 2
    se = math.sqrt(between / n + images)
    df = _degrees(n, between / n, 0.0, images)
    if one.side:
        return _power(one.side * (effect - one.bound), se, df, alpha)
    margin = one.margin or 0.0
    return sum(_power(margin + side * (effect - one.bound), se, df, alpha) for side in (1, -1)) - 1


def _power(distance: float, se: float, df: float, alpha: float) -> float:
    """Of the one-sided test at this true distance on the claimed side."""
    if se == 0:
        return float(distance > 0)
    from scipy.special import nctdtr, ndtr

    needed, shift = _quantile(df, 1 - alpha), distance / se
    if df > 1e4 or abs(shift) > 30:
        return float(ndtr(shift - needed))
    return 1 - float(nctdtr(df, shift, needed))


def _quantile(df: float, level: float) -> float:
    from scipy.special import stdtrit  # not scipy.stats, which takes a second to import

    return float(stdtrit(min(df, 1e12), level))


def _below(df: float, t: float) -> float:
    from scipy.special import stdtr

    return float(stdtr(min(df, 1e12), t))
