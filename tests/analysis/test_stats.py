"""Statistics against numpy, scipy and definitions written out."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis.stats import (
    CONTRADICTED,
    FAR,
    SUPPORTED,
    UNDECIDED,
    Interval,
    MeanStd,
    Sample,
    differences,
    holm_intervals,
    holm_levels,
    mean_std,
    more_seeds,
    p_value,
    t_interval,
    verdict,
)

errors = st.floats(0, 100).map(lambda x: round(x, 2))
samples = st.lists(errors.map(lambda x: x - 50), min_size=2, max_size=12)
p_values = st.one_of(st.floats(0, 1), st.floats(0, 0.06), st.sampled_from([0.0, 0.05, 0.025, 0.0125, 1.0]))


@given(st.lists(errors, min_size=2, max_size=20))
def test_mean_std_is_numpys(values: list[float]) -> None:
    found = mean_std(values)
    assert found is not None
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert found.std == pytest.approx(np.std(values, ddof=1), abs=1e-9)


@given(st.lists(st.tuples(errors, errors), min_size=2, max_size=20), st.floats(0.5, 0.999))
def test_paired_interval_is_scipys(pairs: list[tuple[float, float]], confidence: float) -> None:
    a, b = zip(*pairs, strict=True)
    found = t_interval(differences(a, b), confidence)
    assert found is not None
    of_pairs = np.subtract(a, b)
    scale = scipy.stats.sem(of_pairs)
    assert (found.mean, found.n) == (pytest.approx(of_pairs.mean(), abs=1e-9), len(pairs))
    if scale < 1e-9:  # scipy gives nan for a spread of zero
        assert found.low == pytest.approx(found.mean, abs=1e-6)
        assert found.high == pytest.approx(found.mean, abs=1e-6)
    else:
        low, high = scipy.stats.t.interval(confidence, len(pairs) - 1, loc=of_pairs.mean(), scale=scale)
        assert (found.low, found.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))
        both = scipy.stats.ttest_rel(a, b).confidence_interval(confidence)
        assert (found.low, found.high) == (pytest.approx(both.low, abs=1e-6), pytest.approx(both.high, abs=1e-6))


@given(st.lists(st.tuples(errors, errors), min_size=2, max_size=20), st.floats(-5, 5))
def test_p_is_scipys(pairs: list[tuple[float, float]], mean: float) -> None:
    differences = np.subtract(*zip(*pairs, strict=True))
    assume(np.ptp(differences) > 1e-6)
    found = p_value(mean_std(list(differences)), mean)
    assert found == pytest.approx(scipy.stats.ttest_1samp(differences, mean).pvalue, abs=1e-9)
    a, b = zip(*pairs, strict=True)
    assert p_value(mean_std(list(differences))) == pytest.approx(scipy.stats.ttest_rel(a, b).pvalue, abs=1e-9)


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
def test_levels_reject_as_holm_does(p: list[float], alpha: float) -> None:
    levels = holm_levels(p, alpha)
    rejected = holm_by_definition(p, alpha)
    for i, level in enumerate(levels):
        assert level is not None
        assert 1 - alpha <= level <= 1 - alpha / len(p)
        if abs(p[i] - (1 - level)) > 1e-12:
            assert (p[i] < 1 - level) == (i in rejected)
    # those that Holm retains share the level at which the first of them was retained
    assert len({level for i, level in enumerate(levels) if i not in rejected}) <= 1
    by_p = sorted(range(len(p)), key=lambda i: (p[i], -(levels[i] or 0)))
    assert [levels[i] for i in by_p] == sorted((level or 0 for level in levels), reverse=True)


@given(st.lists(samples, min_size=1, max_size=8))
def test_intervals_exclude_zero_exactly_where_holm_rejects(families: list[list[float]]) -> None:
    assume(all(np.ptp(values) > 1e-3 for values in families))
    p = [float(scipy.stats.ttest_1samp(values, 0).pvalue) for values in families]
    thresholds = [0.05 / k for k in range(1, len(p) + 1)]
    assume(all(abs(x - threshold) > 1e-9 for x in p for threshold in thresholds))
    rejected = holm_by_definition(p, 0.05)
    for i, interval in enumerate(holm_intervals([mean_std(values) for values in families])):
        assert interval is not None
        assert interval.low is not None
        assert interval.high is not None
        assert (interval.low > 0 or interval.high < 0) == (i in rejected)


def test_holm_by_hand() -> None:
    # 0.01 <= 0.05/4, 0.02 > 0.05/3: the second is retained, and with it those that 0.05/2 and 0.05 would reject
    assert holm_levels([0.024, 0.01, 0.02, 0.04]) == pytest.approx(
        [1 - 0.05 / 3, 1 - 0.05 / 4, 1 - 0.05 / 3, 1 - 0.05 / 3]
    )
    assert holm_levels([0.01, None, 0.04]) == [0.975, None, 0.95]
    assert holm_levels([]) == []
    assert holm_levels([None]) == [None]


def test_small_n_and_no_spread() -> None:
    assert mean_std([]) is None
    assert mean_std([5.0]) == MeanStd(5.0, None, 1)
    assert t_interval(differences([], [])) is None
    assert t_interval(differences([5.5], [5.0])) == Interval(0.5, None, None, 1)
    assert t_interval(MeanStd(2.0, 0.0, 3)) == Interval(2.0, 2.0, 2.0, 3)
    assert [p_value(stats) for stats in (None, MeanStd(1.0, None, 1))] == [None, None]
    assert [p_value(MeanStd(mean, 0.0, 3)) for mean in (0.0, 1.0)] == [1.0, 0.0]
    assert holm_intervals([None, MeanStd(1.0, None, 1)]) == [None, Interval(1.0, None, None, 1)]


@pytest.mark.parametrize(
    ("a", "b", "confidence", "message"),
    [
        ([1.0], [1.0, 2.0], 0.95, "equal lengths"),
        ([math.nan], [1.0], 0.95, "finite"),
        ([1.0], [math.inf], 0.95, "finite"),
        ([1.0], [1.0], 95, "between 0 and 1"),
    ],
)
def test_refused(a: list[float], b: list[float], confidence: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        t_interval(differences(a, b), confidence)


def below(mean: float, std: float | None = 0.1, n: int = 3) -> Sample:
    return Sample(MeanStd(mean, std, n), side=-1)


@pytest.mark.parametrize(
    ("conjunction", "expected"),
    [
        ([below(-5), below(-3)], SUPPORTED),
        ([below(-5), below(3)], CONTRADICTED),
        ([below(-5), below(-0.1)], UNDECIDED),
        ([below(-5), below(0.1)], UNDECIDED),
        # a single value agrees, but says nothing; it cannot save the other either
        ([below(-5), below(-5, None, 1)], UNDECIDED),
        ([below(5), below(-5, None, 1)], CONTRADICTED),
        ([below(-5), Sample(None, -1)], UNDECIDED),
        ([below(-5, None, 1), Sample(None, -1)], None),
        ([Sample(MeanStd(5.0, 0.1, 3), side=1)], SUPPORTED),
        ([Sample(MeanStd(0.5, 0.01, 3), side=1, bound=0.1)], SUPPORTED),
        ([Sample(MeanStd(0.05, 0.01, 3), side=1, bound=0.1)], CONTRADICTED),
        ([Sample(MeanStd(0.05, 0.01, 3), side=-1, bound=0.1)], SUPPORTED),
        # no spread: the interval is a point
        ([below(-5, 0.0)], SUPPORTED),
        ([below(0.0, 0.0)], UNDECIDED),
    ],
)
def test_verdicts(conjunction: list[Sample], expected: str | None) -> None:
    assert verdict(conjunction) == expected


def test_holm_decides_what_plain_intervals_would_not() -> None:
    # p = 0.03 alone is enough, among two of its kind it is not
    alone = below(-1.0, 0.1, 2)
    scale = 0.03 / p_value(alone.stats)  # type: ignore[operator]
    one = below(-1.0, 0.1 * scale, 2)
    assert p_value(one.stats) == pytest.approx(0.03, rel=0.02)
    assert verdict([one]) == SUPPORTED
    assert verdict([one, one]) == UNDECIDED


means = st.one_of(st.floats(-3, 3), st.just(0.0))


@settings(max_examples=60)
@given(st.lists(st.tuples(means, st.floats(0.05, 4), st.integers(2, 6)), min_size=1, max_size=4))
def test_more_seeds_is_the_first_number_that_decides(parts: list[tuple[float, float, int]]) -> None:
    conjunction = [below(mean, std, n) for mean, std, n in parts]
    assume(verdict(conjunction) == UNDECIDED)
    found = more_seeds(conjunction)

    def decided(more: int) -> bool:
        return verdict([below(mean, std, n + more) for mean, std, n in parts]) != UNDECIDED

    first = next((more for more in range(1, 200) if decided(more)), None)
    if first is not None:
        assert found == first
    else:
        assert found is not None
        assert found >= 200
        assert found == FAR + 1 or (decided(found) and not decided(found - 1))


def test_more_seeds_says_when_it_cannot_be_said() -> None:
    assert more_seeds([below(-1), below(-1, None, 1)]) is None
    assert more_seeds([below(-1), Sample(None, -1)]) is None
    assert more_seeds([below(0.0)]) == FAR + 1


def test_a_family_whose_members_are_not_all_measured_has_its_whole_size():
    assert holm_levels([0.01, None, None, None]) == [0.95, None, None, None]
    assert holm_levels([0.01, None, None, None], size=4) == pytest.approx([1 - 0.05 / 4, None, None, None])
    two = MeanStd(1.0, 0.05, 2)  # p = 0.02: excludes 0 alone, not as one of four
    alone, one_of_four = verdict([Sample(two, -1)]), verdict([Sample(two, -1), *[Sample(None, -1)] * 3])
    assert (alone, one_of_four) == (CONTRADICTED, UNDECIDED)
