"""Statistics against numpy, scipy, formulas written out, and simulations of what they claim."""

import itertools
import math
import time
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis.stats import (
    CONTRADICTED,
    FAR,
    MIN_SEEDS,
    NEVER,
    NO_DIFFERENCE,
    SUPPORTED,
    UNDECIDED,
    Claimed,
    Contrast,
    MeanStd,
    contrast,
    holm,
    mean_std,
    p_value,
    seeds_needed,
    verdict,
    within,
)
from benchmarks.intervals import Spread, false_positives

errors = st.floats(0, 100).map(lambda x: round(x, 2))
p_values = st.one_of(st.floats(0, 1), st.floats(0, 0.06), st.sampled_from([0.0, 0.05, 0.025, 0.0125, 1.0]))


def measured(values: object) -> Contrast:
    found = contrast(values)  # type: ignore[arg-type]
    assert found is not None
    return found


@given(st.lists(errors, min_size=2, max_size=20))
def test_mean_std_is_numpys(values: list[float]) -> None:
    found = mean_std(values)
    assert found is not None
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert found.std == pytest.approx(np.std(values, ddof=1), abs=1e-9)


@given(st.lists(st.tuples(errors, errors), min_size=2, max_size=20), st.floats(0.5, 0.999))
def test_without_images_it_is_scipys_paired_t(pairs: list[tuple[float, float]], confidence: float) -> None:
    a, b = zip(*pairs, strict=True)
    found = measured(np.subtract(a, b))
    assert (found.n, found.images, found.df, found.se_images) == (len(pairs), 0, len(pairs) - 1, None)
    interval = found.interval(confidence)
    assert interval is not None
    if scipy.stats.sem(np.subtract(a, b)) < 1e-9:  # scipy gives nan for a spread of zero
        assert interval == (pytest.approx(found.mean, abs=1e-6), pytest.approx(found.mean, abs=1e-6))
        return
    theirs = scipy.stats.ttest_rel(a, b)
    both = theirs.confidence_interval(confidence)
    assert interval == (pytest.approx(both.low, abs=1e-6), pytest.approx(both.high, abs=1e-6))
    assert p_value(found) == pytest.approx(theirs.pvalue, abs=1e-9)


@given(st.lists(errors, min_size=2, max_size=20), st.floats(-5, 105))
def test_one_sided_p_is_scipys(values: list[float], bound: float) -> None:
    assume(np.ptp(values) > 1e-6)
    for side, alternative in ((-1, "less"), (1, "greater"), (0, "two-sided")):
        theirs = scipy.stats.ttest_1samp(values, bound, alternative=alternative).pvalue
        assert p_value(measured(values), bound, side) == pytest.approx(theirs, abs=1e-9)


def formula_df(n: int, ms_s: Any, ms_si: float, e: float) -> Any:
    m = ms_s * n / (n - 1)
    return (np.maximum(m, ms_si) + e) ** 2 / (m**2 / (n - 1))


def literal(d: np.ndarray) -> dict[str, float]:
    """Rule 2 of the method, a loop for each sum."""
    n, images = d.shape
    rows, columns, mean = d.mean(1), d.mean(0), d.mean()
    ms_s = images * sum((rows[s] - mean) ** 2 for s in range(n)) / (n - 1)
    ms_i = n * sum((columns[i] - mean) ** 2 for i in range(images)) / (images - 1)
    rest = sum((d[s, i] - rows[s] - columns[i] + mean) ** 2 for s in range(n) for i in range(images))
    ms_si = rest / ((n - 1) * (images - 1))
    s, e = max(ms_s, ms_si), max(ms_i - ms_si, 0.0)
    df = formula_df(n, ms_s, ms_si, e)
    half = scipy.stats.t.ppf(0.975, df) * math.sqrt((s + e) / (n * images))
    return {
        "mean": mean, "low": mean - half, "high": mean + half, "df": df, "se": math.sqrt((s + e) / (n * images)),
        "se_seeds": math.sqrt(s / (n * images)), "se_images": math.sqrt(e / (n * images)),
    }  # fmt: skip


@pytest.mark.parametrize(("n", "images"), [(2, 7), (3, 40), (5, 23)])
@pytest.mark.parametrize(("of_seeds", "of_images"), [(0, 0), (0, 30), (20, 0), (5, 40)])
def test_with_images_it_is_the_formula(n: int, images: int, of_seeds: float, of_images: float) -> None:
    draw = np.random.default_rng(n + images)
    seeds, per_image = of_seeds * draw.standard_normal((n, 1)), of_images * draw.standard_normal((1, images))
    d = seeds + per_image + 50 * draw.standard_normal((n, images))
    found = measured(d)
    assert (found.n, found.images) == (n, images)
    for name, value in literal(d).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-9, abs=1e-12), name


def test_two_seeds_that_agree_by_chance_are_no_precision() -> None:
    """-0.37 and -0.35 gave [-0.61, -0.11] in the archive; the images of the runs alone give several points."""
    draw = np.random.default_rng(1)
    d = 100.0 * (draw.random((2, 2000)) < 0.4) - 100.0 * (draw.random((2, 2000)) < 0.4)
    d += (np.array([-0.37, -0.35]) - d.mean(1))[:, None]  # the images as they are, the means as they were
    by_seed, both = measured(d.mean(1)), measured(d)
    assert (by_seed.mean, by_seed.low, by_seed.high) == pytest.approx((-0.36, -0.49, -0.23), abs=0.01)
    assert both.high is not None
    assert both.low is not None
    assert both.high - both.low > 4
    assert p_value(by_seed, side=-1) < 0.05 < p_value(both, side=-1)  # type: ignore[operator]


def test_one_seed_has_the_interval_of_its_images_and_no_p() -> None:
    d = np.array([[100.0, 0.0, 0.0, -100.0, 100.0]])
    found = measured(d)
    low, high = scipy.stats.t.interval(0.95, 4, loc=20.0, scale=scipy.stats.sem(d[0]))
    assert (found.mean, found.low, found.high) == pytest.approx((20.0, low, high))
    assert (found.n, found.se_seeds, p_value(found)) == (1, None, None)
    assert measured([3.0]) == Contrast(3.0, None, None, None, None, None, None, 1)
    assert contrast([]) is None


def test_no_spread_is_a_point() -> None:
    found = measured([2.0, 2.0, 2.0])
    assert (found.low, found.high) == (2.0, 2.0)
    assert p_value(found) is None, "equal values by seed are chance, not precision"
    assert not within(found, 5.0)
    same = measured(np.full((3, 4), 2.0))
    assert (p_value(same), p_value(same, 2.0), p_value(same, side=1), p_value(same, side=-1)) == (0.0, 1.0, 0.0, 1.0)
    alike = measured(np.tile([100.0, 0.0, 0.0, 0.0], (3, 1)))  # the same networks: images alone vary
    assert alike.df == math.inf
    assert alike.se == alike.se_images > 0  # type: ignore[operator]


@pytest.mark.parametrize("d", [[math.nan], [[1.0, math.inf]], [[[1.0]]]])
def test_refused(d: object) -> None:
    with pytest.raises(ValueError, match=r"finite|shape"):
        contrast(d)  # type: ignore[arg-type]


def holm_by_definition(p: list[float], alpha: float) -> set[int]:
    """Holm (1979): step down from the smallest p while it is at most alpha over the number of hypotheses left."""
    left, rejected = set(range(len(p))), set()
    while left:
        smallest = min(left, key=lambda i: p[i])
        if p[smallest] > alpha / len(left):
            break
        rejected.add(smallest)
        left.remove(smallest)
    return rejected


@given(st.lists(p_values, min_size=1, max_size=12), st.sampled_from([0.05, 0.01, 0.2]))
def test_holm_rejects_as_defined(p: list[float], alpha: float) -> None:
    assert {i for i, rejected in enumerate(holm(p, alpha)) if rejected} == holm_by_definition(p, alpha)


def test_a_member_that_cannot_be_tested_yet_counts_in_the_family() -> None:
    assert holm([0.02, None]) == [True, False]
    assert holm([0.03, None]) == [False, False]
    assert holm([]) == []


def test_equivalence_is_two_one_sided_tests() -> None:
    values = [0.1, -0.2, 0.15, 0.0, -0.05]
    found = measured(values)
    for margin in (0.1, 0.2, 0.3):
        p = max(
            scipy.stats.ttest_1samp(values, bound, alternative=way).pvalue
            for bound, way in ((margin, "less"), (-margin, "greater"))
        )
        assert within(found, margin) == (p <= 0.05)
    assert not within(measured([0.0]), 1.0)
    assert not within(None, 1.0)


def sample(mean: float, spread: float = 0.1, n: int = 5) -> Contrast:
    """n values of this mean and standard error."""
    steps = np.arange(n) - (n - 1) / 2
    return measured(mean + spread * math.sqrt(n) * steps / steps.std(ddof=1))


def below(mean: float, spread: float = 0.1, margin: float | None = 0.5) -> Claimed:
    return Claimed(sample(mean, spread), side=-1, margin=margin)


ONE = Claimed(measured([-5.0]), -1)


@pytest.mark.parametrize(
    ("conjunction", "expected"),
    [
        ([below(-5), below(-3)], SUPPORTED),
        # 0.22 to the one side at a standard error of 0.1: the one-sided bound excludes 0, the two-sided does not
        ([below(-0.22), below(-0.22)], SUPPORTED),
        ([below(-5), below(3)], CONTRADICTED),
        # against a claim the same is tested at Holm's level: enough alone, not as one of two
        ([below(0.22, 0.1, None)], CONTRADICTED),
        ([below(0.22, 0.1, None), below(-5)], UNDECIDED),
        ([below(-5), below(-0.1)], UNDECIDED),
        ([below(0.1), below(-0.1)], NO_DIFFERENCE),
        ([below(0.1, margin=None), below(-0.1)], UNDECIDED),
        ([below(0.1, 0.4), below(-0.1)], UNDECIDED),
        # a single value agrees, but says nothing; it cannot save the other either
        ([below(-5), ONE], UNDECIDED),
        ([below(5), ONE], CONTRADICTED),
        ([ONE], UNDECIDED),
        ([Claimed(sample(0.5, 0.01), side=1, bound=0.1)], SUPPORTED),
        ([Claimed(sample(0.05, 0.01), side=1, bound=0.1)], CONTRADICTED),
        # equality is claimed: within the margin, clearly outside, neither
        ([Claimed(sample(0.1), side=0, margin=0.5)], SUPPORTED),
        ([Claimed(sample(1.0), side=0, margin=0.5)], CONTRADICTED),
        ([Claimed(sample(-1.0), side=0, margin=0.5)], CONTRADICTED),
        ([Claimed(sample(0.4), side=0, margin=0.5)], UNDECIDED),
        # no spread over seeds alone: nothing is known
        ([below(-5, 0.0)], UNDECIDED),
        ([below(0.0, 0.0)], UNDECIDED),
    ],
)
def test_verdicts(conjunction: list[Claimed], expected: str) -> None:
    assert verdict(conjunction) == expected


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("shift", [0.0, 0.03, 0.1])
def test_false_positives_are_near_5_percent_where_a_paired_t_has_twice_that(n: int, shift: float) -> None:
    """Images drawn anew, with and without variance between seeds. The whole table: python -m benchmarks.intervals."""
    both, alone = false_positives(n, Spread(networks=0.5, runs=0.35, seeds=shift), repetitions=3_000)
    assert 0.02 <= both <= 0.07
    assert alone > 0.08 or shift == 0.1


@pytest.mark.parametrize("n", [3, 4, 5, 10])
@pytest.mark.parametrize("of_seeds", [0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0])
@pytest.mark.parametrize("of_images", [1.0, 3.0, 10.0, 30.0, 100.0, 300.0])
def test_false_positives_stay_between_2_and_7_percent(n: int, of_seeds: float, of_images: float) -> None:
    """With many images the mean squares of images and of the rest are known, that of seeds is a chi-square: no draws.

    In units of the rest. That images differ by less than the rest, which these networks do not show, makes intervals
    too long, down to 1 % that exclude zero.
    """
    chi = scipy.stats.chi2.ppf((np.arange(1000) + 0.5) / 1000, n - 1) / (n - 1)
    ms_s = (1 + of_seeds) * chi
    half = scipy.stats.t.ppf(0.975, formula_df(n, ms_s, 1.0, of_images)) * np.sqrt(np.maximum(ms_s, 1) + of_images)
    assert 0.02 <= np.mean(2 * scipy.stats.norm.sf(half / math.sqrt(1 + of_seeds + of_images))) <= 0.07


@pytest.mark.parametrize(("level", "n", "two_sided", "one_sided"), [
    (0.05, 3, 0.069, 0.057), (0.05, 5, 0.056, 0.053), (0.0125, 3, 0.033, 0.0235), (0.0125, 5, 0.0185, 0.0155),
])  # fmt: skip
def test_false_positives_of_verdicts_and_stars_are_those_of_the_document(
    level: float, n: int, two_sided: float, one_sided: float
) -> None:
    """As above, at the levels of "supported" and of Holm's first step over four contrasts, at the worst mixture."""
    chi = scipy.stats.chi2.ppf((np.arange(1000) + 0.5) / 1000, n - 1) / (n - 1)
    two, one = [], []
    for of_seeds, of_images in itertools.product((0, 0.3, 1, 3, 10, 30, 100, 1000), (1, 3, 10, 30, 100, 300)):
        ms_s = (1 + of_seeds) * chi
        df, se = formula_df(n, ms_s, 1.0, of_images), np.sqrt(np.maximum(ms_s, 1) + of_images)
        ratio = se / math.sqrt(1 + of_seeds + of_images)
        two.append(np.mean(2 * scipy.stats.norm.sf(scipy.stats.t.ppf(1 - level / 2, df) * ratio)))
        one.append(np.mean(scipy.stats.norm.sf(scipy.stats.t.ppf(1 - level, df) * ratio)))
    assert two_sided - 0.002 < max(two) < two_sided
    assert one_sided - 0.002 < max(one) < one_sided


def test_a_verdict_needs_a_contrast() -> None:
    with pytest.raises(ValueError, match="contrast"):
        verdict([])


def test_chance_never_supports_more_often_than_it_may() -> None:
    """A conjunction of two nulls, one-sided: at most the 5 % of one of them."""
    draw = np.random.default_rng(3)
    found = [
        verdict([Claimed(measured(draw.standard_normal(5)), -1), Claimed(measured(draw.standard_normal(5)), -1)])
        for _ in range(2_000)
    ]
    assert found.count(SUPPORTED) / len(found) < 0.01
    assert 0.02 < found.count(CONTRADICTED) / len(found) < 0.07


@settings(max_examples=40, deadline=None)
@given(st.floats(0.2, 3), st.floats(-4, -0.1), st.sampled_from([0.0, 0.05]))
def test_the_power_is_that_of_the_noncentral_t(spread: float, effect: float, images: float) -> None:
    base = sample(0.0, spread)
    found = Contrast(0.0, None, None, math.hypot(spread, images), 4, spread, images, base.n, 1000)
    needed = seeds_needed([(Claimed(found, -1), effect)])

    def power(n: int) -> float:
        of_seeds = spread**2 * found.n / n
        se = math.sqrt(of_seeds + images**2)
        wide = of_seeds * n / (n - 1)
        df = (n - 1) * ((wide + images**2) / wide) ** 2
        return float(scipy.stats.nct.sf(scipy.stats.t.ppf(0.95, df), df, -effect / se))

    if needed == NEVER:
        assert -effect / images < 2.5  # the quantiles of 5 % and of 80 %
    elif needed > FAR:
        assert power(FAR) < 0.8
    else:
        assert power(needed) >= 0.8 - 1e-6
        assert needed == MIN_SEEDS or power(needed - 1) < 0.8 + 1e-6


def test_seeds_that_are_never_enough() -> None:
    base = sample(0.0, 1.0)
    with_images = Contrast(0.0, None, None, 1.1, 4, 1.0, 0.5, base.n, 1000)
    assert seeds_needed([(Claimed(base, -1), 1.0)]) == NEVER, "the effect is on the other side"
    assert seeds_needed([(Claimed(with_images, -1), -1.0)]) == NEVER, "two standard errors of the images"
    assert 2 < seeds_needed([(Claimed(with_images, -1), -1.3)]) < FAR
    assert seeds_needed([(Claimed(base, -1), -0.01)]) == FAR + 1
    three = [(Claimed(with_images, -1), -1.35)] * 3
    assert seeds_needed(three) == FAR + 1, "each alone may reach 80 %; the bound of all three does not show it"
    assert 2 < seeds_needed([(Claimed(base, 0, margin=3.0), 0.0)]) < FAR
    assert seeds_needed([(Claimed(base, 0, margin=3.0), 3.0)]) == NEVER, "at the margin it is not within it"
    with pytest.raises(ValueError, match="two seeds"):
        seeds_needed([(ONE, -1.0)])


@pytest.mark.parametrize("contrasts", [1, 4])
def test_simulated_seeds_have_the_power_that_was_said_of_the_whole_claim(contrasts: int) -> None:
    draw = np.random.default_rng(5)
    one = Claimed(sample(0.0, 1 / math.sqrt(5)), -1)  # a standard deviation of 1 over seeds
    needed = seeds_needed([(one, -1.0)] * contrasts)
    hits = [
        verdict([Claimed(measured(draw.standard_normal(needed) - 1.0), -1) for _ in range(contrasts)]) == SUPPORTED
        for _ in range(2_000)
    ]
    assert 0.78 < sum(hits) / len(hits) < 0.89


def test_five_seeds_of_ten_thousand_images_take_milliseconds() -> None:
    d = np.random.default_rng(0).standard_normal((5, 10_000))
    measured(d)
    began = time.perf_counter()
    for _ in range(20):
        measured(d)
    assert (time.perf_counter() - began) / 20 < 0.02


def test_small_samples_of_means() -> None:
    assert mean_std([]) is None
    assert mean_std([5.0]) == MeanStd(5.0, None, 1)
    with pytest.raises(ValueError, match="finite"):
        mean_std([math.nan])
