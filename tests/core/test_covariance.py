"""RunningCovariance: against NumPy, whatever the parts, weights and holes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normcore as nc
from normcore import RunningCovariance


def fed(x, weights=None, sizes=(), axis=-1):
    running = RunningCovariance(axis)
    start = 0
    for size in [*sizes, len(x)]:
        part = slice(start, start + size)
        running.update(x[part], None if weights is None else weights[part])
        start += size
    return running


def expected(x, weights=None):
    """Count, mean and population covariance in long double, two passes, over the rows without NaN."""
    x = np.asarray(x, np.longdouble)
    w = np.ones(len(x), np.longdouble) if weights is None else np.asarray(weights, np.longdouble)
    there = ~np.isnan(x).any(1)
    x, w = x[there], w[there]
    mean = (w[:, None] * x).sum(0) / w.sum()
    distance = x - mean
    return float(w.sum()), mean.astype(np.float64), ((w[:, None] * distance).T @ distance / w.sum()).astype(np.float64)


def test_by_hand():
    running = RunningCovariance()
    running.update([[1.0, 2.0], [3.0, 6.0]])
    running.update([[5.0, 10.0]])
    assert running.count == 3
    assert running.mean.tolist() == [3, 6]
    np.testing.assert_allclose(running.cov, np.array([[8, 16], [16, 32]]) / 3, rtol=1e-15)
    np.testing.assert_allclose(running.covariance(ddof=1), [[4, 8], [8, 16]], rtol=1e-15)
    np.testing.assert_allclose(running.var, np.array([8, 32]) / 3, rtol=1e-15)
    np.testing.assert_allclose(running.std**2, running.var)
    np.testing.assert_allclose(running.corr, np.ones((2, 2)), rtol=1e-15)
    assert repr(running) == "RunningCovariance(axis=-1), 2 features, count 3"


def test_before_any_update():
    running = RunningCovariance()
    assert running.count == 0
    assert all(np.isnan(v) for v in (running.mean, running.cov, running.var, running.std, running.corr))
    assert repr(running) == "RunningCovariance(axis=-1), empty"
    running.update(np.empty((0, 3)))
    assert running.mean.shape == (3,)
    assert np.isnan(running.cov).all()
    assert np.isnan(running.corr).all()


def test_a_divisor_of_nothing_gives_nan():
    running = fed(np.ones((2, 2)))
    assert np.isnan(running.covariance(ddof=2)).all()
    assert (running.covariance(ddof=1) == 0).all()


@given(
    st.integers(0, 2**32), st.lists(st.integers(0, 9), max_size=5), st.booleans(), st.booleans(), st.floats(-1e4, 1e4)
)
def test_parts_weights_and_holes(seed, sizes, weighted, holes, offset):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(30, 3)) @ rng.normal(size=(3, 3)) + offset
    if holes:
        x[rng.integers(0, 30, 6), rng.integers(0, 3, 6)] = np.nan
    weights = rng.integers(0, 3, 30) + rng.random() if weighted else None
    running = fed(x, weights, sizes)
    count, mean, cov = expected(x, weights)
    np.testing.assert_allclose(running.count, count, rtol=1e-12)
    np.testing.assert_allclose(running.mean, mean, rtol=1e-12, atol=1e-12)
    # Values of 1e4 are themselves rounded to 1e-12 of a deviation.
    np.testing.assert_allclose(running.cov, cov, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16", ">f8"])
def test_dtypes(rng, dtype):
    x = (rng.normal(size=(50, 4)) * 10 + 50).astype(dtype)
    running = fed(x, sizes=(7, 20))
    assert running.cov.dtype == np.float64
    np.testing.assert_allclose(running.cov, expected(x)[2], rtol=1e-11, atol=1e-11)


def test_far_from_zero_and_large(rng):
    x = rng.normal(size=(1000, 3)) + 1e8
    np.testing.assert_allclose(fed(x, sizes=(300,)).cov, expected(x)[2], rtol=1e-7, atol=1e-7)  # 1e8 * 2**-53 a value
    large = (rng.normal(size=(50, 2)) * 1e37).astype(np.float32)
    np.testing.assert_allclose(fed(large).corr, np.corrcoef(large.astype(np.float64), rowvar=False), rtol=1e-12)


def test_the_diagonal_is_that_of_the_moments(rng):
    x = rng.normal([0, 1, 1e3, 1e6], size=(500, 4))
    moments = nc.RunningMoments()
    moments.update(x)
    np.testing.assert_allclose(fed(x).var, moments.var, rtol=1e-10)


def test_correlations_are_symmetric_to_the_last_bit(rng):
    corr = fed(rng.normal(size=(40, 9)) * rng.uniform(0.1, 10, 9), sizes=(30,)).corr
    np.testing.assert_array_equal(corr, corr.T)


def test_a_constant_has_no_covariance(rng):
    x = np.column_stack([rng.normal(size=300), np.full(300, 0.1)])
    running = fed(x, sizes=(10, 100))
    assert (running.cov[1] == 0).all()
    assert (running.cov[:, 1] == 0).all()
    assert running.corr[0, 0] == 1
    assert np.isnan(running.corr[1]).all()


def test_no_correlation_is_beyond_one(rng):
    x = rng.normal(size=(100, 1)) * [1, -0.1, 3, 7]
    corr = fed(x, sizes=(30,)).corr
    assert np.abs(corr).max() == 1
    np.testing.assert_allclose(corr, np.corrcoef(x, rowvar=False), rtol=1e-14)


def test_it_is_symmetric_and_no_variance_is_negative(rng):
    x = rng.normal(size=(100, 2)) @ rng.normal(size=(2, 7)) * 1e3 + 1e5
    cov = fed(x, rng.random(100), (13,)).cov
    np.testing.assert_array_equal(cov, cov.T)
    assert np.linalg.eigvalsh(cov).min() > -1e-12 * np.linalg.eigvalsh(cov).max()


def test_images(rng):
    x = rng.normal(size=(4, 3, 5, 6))
    pixels = np.moveaxis(x, 1, -1).reshape(-1, 3)
    np.testing.assert_allclose(fed(x, axis=1).cov, np.cov(pixels, rowvar=False, ddof=0), atol=1e-14)
    w = np.array([0, 1, 2, 0.5])
    np.testing.assert_allclose(fed(x, w, axis=1).cov, expected(pixels, np.repeat(w, 30))[2], atol=1e-14)


def test_whole_weights_are_repetitions(rng):
    x, times = rng.normal(size=(20, 2)), rng.integers(0, 5, 20)
    one, two = fed(x, times, (7,)), fed(np.repeat(x, times, axis=0))
    assert one.count == two.count
    np.testing.assert_allclose(one.cov, two.cov, rtol=1e-12)


def test_infinity_follows_ieee():
    running = fed(np.array([[np.inf, 1.0], [2.0, 3.0]]))
    assert running.mean.tolist() == [np.inf, 2]
    assert np.isnan(running.cov[0]).all()
    assert running.cov[1, 1] == 1
