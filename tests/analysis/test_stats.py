"""Statistics against numpy and scipy."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from analysis.stats import Interval, MeanStd, mean_std, paired_interval

errors = st.floats(0, 100).map(lambda x: round(x, 2))


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
    found = paired_interval(a, b, confidence)
    assert found is not None
    differences = np.subtract(a, b)
    scale = scipy.stats.sem(differences)
    assert (found.mean, found.n) == (pytest.approx(differences.mean(), abs=1e-9), len(pairs))
    if scale < 1e-9:  # scipy gives nan for a spread of zero
        assert found.low == pytest.approx(found.mean, abs=1e-6)
        assert found.high == pytest.approx(found.mean, abs=1e-6)
    else:
        low, high = scipy.stats.t.interval(confidence, len(pairs) - 1, loc=differences.mean(), scale=scale)
        assert (found.low, found.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


@given(st.lists(st.tuples(errors, errors), min_size=2, max_size=20))
def test_interval_excludes_zero_as_the_paired_test_rejects(pairs: list[tuple[float, float]]) -> None:
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    found = paired_interval(list(a), list(b))
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    if np.ptp(a - b) > 1e-6:
        p = scipy.stats.ttest_rel(a, b).pvalue
        if abs(p - 0.05) > 1e-6:
            assert (found.low > 0 or found.high < 0) == (p < 0.05)


def test_small_n() -> None:
    assert mean_std([]) is None
    assert mean_std([5.0]) == MeanStd(5.0, None, 1)
    assert paired_interval([], []) is None
    assert paired_interval([5.5], [5.0]) == Interval(0.5, None, None, 1)


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
        paired_interval(a, b, confidence)
