"""Mean, spread and intervals over seeds agree with SciPy's, and say when nothing can be said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normcore.studies._estimate import Estimate, difference
from normcore.studies._verdict import points

NUMBERS = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40)


def test_an_estimate_by_hand():
    estimate = Estimate.over([2.0, 4.0, None])
    assert (estimate.mean, estimate.spread, estimate.count, estimate.of) == (3.0, math.sqrt(2), 2, 3)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1.0, 2.0, 3.0], "2.0 ± 1.0"),
        ([1.0], "1.0"),
        ([1.0, None], "1.0 (1 of 2 seeds)"),
        ([1.0, 2.0, None], "1.5 ± 0.7 (2 of 3 seeds)"),
        ([None, None], "never"),
        ([math.nan], "nan"),
    ],
)
def test_an_estimate_as_text(values, shown):
    assert Estimate.over(values).show("{:.1f}".format) == shown


@given(NUMBERS)
def test_mean_and_spread_are_numpys(values):
    estimate = Estimate.over(values)
    scale = 1e-12 * max(map(abs, values))  # a few roundings of float64 sums
    assert estimate.mean == pytest.approx(np.mean(values), rel=1e-12, abs=scale)
    assert estimate.spread == pytest.approx(np.std(values, ddof=1), rel=1e-9, abs=10 * scale)


@pytest.mark.parametrize("count", [2, 3, 5, 10, 31])
def test_the_interval_is_scipys(count):
    stats = pytest.importorskip("scipy.stats", reason="the oracle is SciPy")
    rng = np.random.default_rng(count)
    a, b = rng.normal(1, 1, count), rng.normal(0, 1, count)
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    got = difference(list(a), list(b))
    # The table of quantiles has three decimals.
    np.testing.assert_allclose([got.mean, got.low, got.high], [(a - b).mean(), low, high], rtol=2e-3)
    assert got.clear == (stats.ttest_rel(a, b).pvalue < 0.05)


def test_more_seeds_than_the_table_has_take_the_normal_quantile():
    a, b = list(np.arange(100.0)), [0.0] * 100
    got = difference(a, b)
    assert got.high - got.mean == pytest.approx(1.96 * np.std(a, ddof=1) / 10)


@pytest.mark.parametrize(("a", "b"), [([1.0], [0.0]), ([], []), ([math.nan, 1.0], [0.0, 0.0])])
def test_one_seed_or_a_training_that_diverged_tells_nothing(a, b):
    assert not difference(a, b).clear


@pytest.mark.parametrize("gap", [0.0, 0.01, -0.01])
def test_seeds_that_tie_have_no_interval(gap):
    """Two seeds whose accuracies differ by the same number of rows: a spread of zero would be printed as certain."""
    got = difference([0.5 + gap, 0.5 + gap], [0.5, 0.5])
    assert got.mean == pytest.approx(gap)
    assert (got.low, got.high, got.seeds, got.tied, got.clear) == (-math.inf, math.inf, 2, True, False)
    said = points(got, "no norm")
    assert said == "as no norm did" if not gap else "the same with each of 2 seeds, so there is no interval" in said
    assert not difference([1.0], [0.0]).tied
    assert not difference([1.0, 2.0], [0.0, 0.0]).tied


@given(NUMBERS)
def test_swapping_the_arms_turns_the_interval_round(values):
    zeros = [0.0] * len(values)
    there, back = difference(values, zeros), difference(zeros, values)
    assert (there.low, there.high) == (-back.high, -back.low)
    assert there.clear == back.clear
