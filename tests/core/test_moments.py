"""RunningMoments: against NumPy in longer arithmetic, whatever the parts, weights and holes."""

from __future__ import annotations

import copy
import pickle
import re
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normcore as nc
from normcore.moments import RunningMoments, merge_moments


def fed(x, sizes=(), axis=-1, weights=None):
    """The moments of x, updated in parts of these sizes."""
    moments = RunningMoments(axis)
    start = 0
    for size in [*sizes, len(x)]:
        part = slice(start, start + size)
        moments.update(x[part], None if weights is None else weights[part])
        start += size
    return moments


def expected(x, weights=None):
    """Count, mean, population variance, min and max of each column, in long double, two passes."""
    x = np.asarray(x, np.longdouble)
    w = np.ones(len(x), np.longdouble) if weights is None else np.asarray(weights, np.longdouble)
    rows = []
    for column in x.T:
        there = ~np.isnan(column) & (w > 0)
        v, u = column[there], w[there]
        if not len(v):
            rows.append([0.0, np.nan, np.nan, np.nan, np.nan])
            continue
        mean = (v * u).sum() / u.sum()
        rows.append([u.sum(), mean, (u * (v - mean) ** 2).sum() / u.sum(), v.min(), v.max()])
    return np.array(rows, np.float64).T


def agrees(moments, x, weights=None, scale=1.0):
    count, mean, var, low, high = expected(x, weights)
    # 1e-12: float64 sums of at most a few thousand values of magnitude `scale`
    np.testing.assert_allclose(moments.count, count, rtol=1e-12)
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-12, atol=1e-14 * scale)
    np.testing.assert_allclose(moments.var, var, rtol=1e-10, atol=1e-26 * scale**2)
    np.testing.assert_array_equal(moments.std, np.sqrt(moments.var))
    np.testing.assert_array_equal(moments.min, low)
    np.testing.assert_array_equal(moments.max, high)


def test_by_hand():
    moments = nc.RunningMoments()
    moments.update([[1.0, 10.0], [3.0, np.nan]])
    moments.update([[5.0, 30.0]])
    assert moments.count.tolist() == [3, 2]
    assert moments.mean.tolist() == [3, 20]
    np.testing.assert_allclose(moments.var, [8 / 3, 100], rtol=1e-15)
    assert moments.min.tolist() == [1, 10]
    assert moments.max.tolist() == [5, 30]


def test_before_any_update():
    moments = RunningMoments()
    assert moments.count == 0
    assert all(np.isnan(value) for value in (moments.mean, moments.var, moments.std, moments.min, moments.max))
    assert repr(moments) == "RunningMoments(axis=-1), empty"
    moments.merge(RunningMoments())
    assert moments.count == 0


def test_one_dimension_is_one_feature():
    moments = fed(np.arange(10.0), (3, 4))
    assert moments.mean.shape == (1,)
    agrees(moments, np.arange(10.0)[:, None])
    assert repr(moments) == "RunningMoments(axis=-1), 1 features, count up to 10"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint64", ml_dtypes.bfloat16, ">f8"])
@pytest.mark.parametrize("sizes", [(), (1,), (0, 2, 3), (1,) * 30])
def test_dtypes_and_parts(rng, dtype, sizes):
    x = (rng.normal(size=(37, 4)) * 10 + 50).astype(dtype)
    agrees(fed(x, sizes), x.astype(np.float64), scale=100)


@pytest.mark.parametrize("axis", [1, -3, 0, -1])
def test_axis(rng, axis):
    x = rng.normal(size=(6, 5, 4, 3))
    columns = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    agrees(fed(x, (2,) if axis in (1, -3, -1) else (), axis), columns)


def test_five_and_six_dimensions(rng):
    for shape in [(2, 3, 2, 2, 2), (2, 3, 2, 2, 2, 2)]:
        x = rng.normal(size=shape)
        agrees(fed(x, axis=1), np.moveaxis(x, 1, -1).reshape(-1, 3))


def test_far_from_zero(rng):
    x = rng.normal(size=(5000, 3)) + 1e9
    moments = fed(x, (17, 1000, 1))
    _, _, var, _, _ = expected(x)
    # The means of the parts are rounded to 1e9 * 2**-53, a ten-millionth of a standard deviation: that, times the
    # distance between the means and the share of the smaller part, is what merging can be off by.
    np.testing.assert_allclose(moments.var, var, rtol=1e-8)
    holes = np.where(rng.random(x.shape) < 0.3, np.nan, x)
    np.testing.assert_allclose(fed(holes, (17, 1000)).var, expected(holes)[2], rtol=1e-8)


def test_a_merge_at_an_offset_is_off_by_no_more_than_is_said(rng):
    """eps |mean| |delta| + (eps mean)**2, besides the rounding of the variance itself; against rational numbers."""
    eps = np.finfo(np.float64).eps
    for exponent in range(0, 13, 2):
        mean = 10.0**exponent
        for spread in (1e-12 * mean, 1e-9 * mean, 1e-4 * mean):
            x = mean + spread * (rng.normal(size=11) + np.repeat([0, 2], [6, 5]))
            one, two = fed(x[:6]), fed(x[6:])
            delta = abs(one.mean - two.mean)[0]
            one.merge(two)
            exact = [Fraction(value) for value in x]
            centre = sum(exact) / 11
            var = float(sum((value - centre) ** 2 for value in exact) / 11)
            assert abs(one.var[0] - var) <= eps * mean * delta + (eps * mean) ** 2 + 4 * eps * var


def test_a_constant_has_no_variance(rng):
    for value in (0.1, 1e300, -3.7e-200):
        x = np.full((999, 2), value)
        moments = fed(x, (10, 100))
        assert (moments.mean == value).all()
        assert (moments.var == 0).all()
    weighted = fed(np.full((999, 2), 0.1), (10,), weights=rng.random(999))
    np.testing.assert_allclose(weighted.var, 0, atol=1e-32)  # the square of the rounding of the mean


def test_large_float32_do_not_overflow():
    x = np.array([[3e38], [-3e38], [3e38]], np.float32)
    np.testing.assert_allclose(fed(x, (1,)).var, np.var(x.astype(np.float64)), rtol=1e-14)


def test_infinity_follows_ieee():
    x = np.array([[np.inf, 1.0, np.inf], [1.0, 2.0, -np.inf]])
    for sizes in ((), (1,)):
        moments = fed(x, sizes)
        np.testing.assert_array_equal(moments.mean, [np.inf, 1.5, np.nan])
        np.testing.assert_array_equal(moments.var, [np.nan, 0.25, np.nan])
        np.testing.assert_array_equal(moments.max, [np.inf, 2, np.inf])
    assert fed(np.full((4, 1), np.inf), (2,)).mean == np.inf


@given(
    st.integers(0, 2**32), st.lists(st.integers(0, 9), max_size=6), st.booleans(), st.booleans(), st.floats(-1e6, 1e6)
)
def test_parts_weights_and_holes(seed, sizes, weighted, holes, offset):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(24, 3)) + offset
    if holes:
        x[rng.random(x.shape) < 0.4] = np.nan
    weights = rng.integers(0, 4, 24) * rng.random() if weighted else None
    # 1e-8: the variance of values that are themselves rounded, at offsets of a million standard deviations
    moments = fed(x, sizes, weights=weights)
    count, mean, var, low, high = expected(x, weights)
    np.testing.assert_allclose(moments.count, count, rtol=1e-12)
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(moments.var, var, rtol=1e-8, atol=1e-18 * (1 + abs(offset)) ** 2)
    np.testing.assert_array_equal(moments.min, low)
    np.testing.assert_array_equal(moments.max, high)


@given(st.integers(0, 2**32), st.permutations(range(5)))
def test_merging_in_any_order_is_updating(seed, order):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(n, 2)) * 3 + 7 for n in (1, 0, 5, 2, 40)]
    whole = RunningMoments()
    for i in order:
        part = RunningMoments()
        part.update(parts[i])
        before = copy.deepcopy(part)
        whole.merge(part)
        np.testing.assert_array_equal(part.mean, before.mean)
    agrees(whole, np.concatenate(parts), scale=10)


def test_a_merged_part_is_not_tied_to_the_whole():
    whole, part = RunningMoments(), RunningMoments()
    part.update([[1.0], [2.0]])
    whole.merge(part)
    part.update([[100.0]])
    assert whole.mean.tolist() == [1.5]
    whole.mean[...] = 0  # a copy
    assert whole.mean.tolist() == [1.5]


def test_whole_weights_are_repetitions(rng):
    x, times = rng.normal(size=(20, 2)), rng.integers(0, 5, 20)
    one, two = fed(x, (7,), weights=times), fed(np.repeat(x, times, axis=0))
    for name in ("count", "mean", "var", "min", "max"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-13)


def test_weights_of_images(rng):
    x, w = rng.normal(size=(5, 3, 4, 4)), np.array([0, 1, 2, 0.5, 3])
    agrees(fed(x, (2,), 1, w), np.moveaxis(x, 1, -1).reshape(-1, 3), np.repeat(w, 16))


def test_blocks_change_nothing(rng, monkeypatch):
    x = rng.normal(size=(100, 3))
    x[4, 1] = np.nan
    whole = fed(x)
    monkeypatch.setattr("normcore.moments._BLOCK", 20)
    np.testing.assert_allclose(fed(x).var, whole.var, rtol=1e-14)
    np.testing.assert_array_equal(fed(x).count, whole.count)


def test_batch_statistics_merge_to_those_of_all(rng):
    x = rng.normal(size=(50, 4))
    total = tuple(np.zeros(4) for _ in range(3))
    for part in np.split(x, [1, 20, 23]):
        mean, var = nc.batch_stats(part)
        count = np.full(4, float(len(part)))
        total = merge_moments(total, (count, mean, var * count))
    np.testing.assert_allclose(total[1], x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(total[2] / 50, x.var(0), rtol=1e-13)


def test_pickle_and_copy(rng):
    moments = fed(rng.normal(size=(9, 2)))
    for twin in (pickle.loads(pickle.dumps(moments)), copy.deepcopy(moments)):
        twin.update(np.ones((1, 2)))
        assert twin.count.tolist() == [10, 10]
    assert moments.count.tolist() == [9, 9]


@pytest.mark.parametrize(
    ("x", "weights", "error", "message"),
    [
        ([["a"]], None, TypeError, "x must be floating point (up to float64) or integers, got <U1; convert it with"),
        ([[1j]], None, TypeError, "x must be floating point (up to float64) or integers, got complex128"),
        ([[1.0], [1.0, 2.0]], None, TypeError, "x must be an array, got rows of unequal length."),
        (np.ma.array([[1.0]]), None, TypeError, "x is a masked array, whose mask would be ignored; pass x.filled"),
        (1.0, None, ValueError, "x has shape (), which has no axis -1 of features; reshape x."),
        ([[1.0, 2.0, 3.0]], None, ValueError, "x has shape (1, 3) and so has 3 features, but there were 2 before;"),
        ([[1.0, 2.0]], [1, 2], ValueError, "sample_weight has shape (2,), but x has 1 rows; pass one weight for each."),
        ([[1.0, 2.0]], [-1], ValueError, "sample_weight must be finite and not negative, but has other values or NaN."),
        ([[1.0, 2.0]], [np.nan], ValueError, "sample_weight must be finite and not negative"),
        ([[1.0, 2.0]], ["a"], TypeError, "sample_weight must be real numbers, got <U1."),
        ([[1.0, 2.0]], np.ma.array([1]), TypeError, "sample_weight is a masked array"),
    ],
)
def test_errors_change_nothing(x, weights, error, message):
    moments = fed(np.eye(2))
    with pytest.raises(error, match=re.escape(message)):
        moments.update(x, weights)
    assert moments.count.tolist() == [2, 2]


def test_other_errors():
    with pytest.raises(TypeError, match="axis must be an int, got 'x'"):
        RunningMoments("x")
    with pytest.raises(ValueError, match="has no axis 3"):
        RunningMoments(3).update(np.ones((2, 2)))
    with pytest.raises(TypeError, match="other must be a RunningMoments, got list"):
        RunningMoments().merge([])
    one, two = fed(np.ones((2, 2))), fed(np.ones((2, 3)))
    with pytest.raises(ValueError, match="other has 3 features, but there were 2 before"):
        one.merge(two)
