"""RunningCovariance where counts are nothing, fractions or one: numbers by hand, quick enough for every fault."""

from __future__ import annotations

import numpy as np
import pytest

import normcore as nc

X = np.array([[1.0, 2.0], [3.0, 8.0]])  # means 2 and 5, covariance [[1, 3], [3, 9]]
MATRICES = ("cov", "var", "std", "corr")


def of(*parts, weights=None):
    running = nc.RunningCovariance()
    for i, part in enumerate(parts):
        running.update(np.array(part, float), None if weights is None else weights[i])
    return running


def test_nothing_is_nan():
    for running in (of(np.empty((0, 2))), of([[np.nan, 1.0]]), of(X, weights=[[0.0, 0.0]])):
        with np.errstate(all="raise"):
            assert running.count == 0
            assert running.mean.shape == (2,)
            for name in ("mean", *MATRICES):
                assert np.isnan(getattr(running, name)).all(), name
            running.update(X)
        np.testing.assert_array_equal(running.mean, [2, 5])
        np.testing.assert_array_equal(running.cov, [[1, 3], [3, 9]])


def test_fractions_of_rows():
    running = of(X, weights=[[0.25, 0.25]])
    assert running.count == 0.5
    np.testing.assert_allclose(running.mean, [2, 5], rtol=1e-15)
    np.testing.assert_allclose(running.cov, [[1, 3], [3, 9]], rtol=1e-15)
    np.testing.assert_allclose(running.covariance(ddof=0.25), [[2, 6], [6, 18]], rtol=1e-15)
    uneven = of(X, weights=[[3.0, 1.0]])
    np.testing.assert_allclose(uneven.mean, [1.5, 3.5], rtol=1e-15)
    np.testing.assert_allclose(uneven.cov, np.array([[4, 12], [12, 36]]) * 3 / 16, rtol=1e-15)


@pytest.mark.parametrize("order", [1, -1])
def test_a_merge_with_nothing_is_the_other_and_not_tied_to_it(order):
    full, empty = of(X), of(np.empty((0, 2)))
    one, other = (full, empty)[::order]
    with np.errstate(all="raise"):
        one.merge(other)
    np.testing.assert_array_equal(one.cov, [[1, 3], [3, 9]])
    one.update([[2.0, 5.0]])
    assert (one.count, other.count) == (3, 0 if one is full else 2)
    if other is full:
        np.testing.assert_array_equal(other.cov, [[1, 3], [3, 9]])


def test_a_merge_by_hand():
    one, other = of([[1.0, 2.0]], [[3.0, 8.0]]), of([[8.0, 5.0]])
    one.merge(other)
    np.testing.assert_allclose(one.mean, [4, 5], rtol=1e-15)
    np.testing.assert_allclose(one.cov, np.array([[26, 6], [6, 18]]) / 3, rtol=1e-15)


def test_correlations_by_hand():
    running = of([[1.0, 2.0, 7.0, 1.0], [3.0, 8.0, 7.0, -3.0], [5.0, 5.0, 7.0, -7.0]])
    corr = running.corr
    np.testing.assert_array_equal(np.diagonal(corr), [1, 1, np.nan, 1])
    assert np.isnan(corr[2]).all()
    assert np.isnan(corr[:, 2]).all()
    np.testing.assert_allclose(corr[[0, 0, 1], [1, 3, 3]], [0.5, -1, -0.5], rtol=1e-14)
    np.testing.assert_allclose(corr, corr.T, rtol=1e-15)  # divided in another order


def test_no_correlation_leaves_its_bounds():
    for seed in range(50):
        x = np.random.default_rng(seed).standard_normal((5, 1)) * np.array([1.0, 3.0, -0.1])
        corr = of(x).corr
        assert np.abs(corr).max() <= 1
        np.testing.assert_array_equal(np.diagonal(corr), 1)


def test_what_is_given_out_is_a_copy():
    running = of(X)
    for name in ("mean", *MATRICES):
        value = getattr(running, name)
        value[...] = 99
    for value in running.state_dict().values():
        if isinstance(value, np.ndarray):
            value[...] = 99
    np.testing.assert_array_equal(running.mean, [2, 5])
    np.testing.assert_array_equal(running.cov, [[1, 3], [3, 9]])
    np.testing.assert_array_equal(running.var, [1, 9])


def test_infinities_raise_no_warning():
    with np.errstate(all="raise"):
        running = of([[np.inf, 1.0], [2.0, 3.0]], [[1.0, 5.0]])
        running.merge(of([[-np.inf, 2.0], [1e300, 2.0]]))
        assert running.count == 5
    assert np.isnan(running.mean[0])
    np.testing.assert_allclose(running.mean[1], 13 / 5, rtol=1e-15)
    with np.errstate(all="raise"):
        weighted = of([[np.inf, 1.0], [2.0, 3.0]], weights=[[1.0, 3.0]])
    np.testing.assert_array_equal(weighted.mean, [np.inf, 2.5])
    np.testing.assert_allclose(weighted.cov[1, 1], 0.75, rtol=1e-15)


@pytest.mark.parametrize("value", [-1.0, -5e-324, -np.inf])
def test_a_state_that_no_data_have_is_refused(value):
    running, other = of(X), of([[5.0, 5.0]])
    state, before = running.state_dict(), other.state_dict()
    state["products"][1, 1] = value
    with pytest.raises(
        ValueError, match=r"^RunningCovariance\.load_state_dict: state_dict\['products'\] must not be"
    ) as e:
        other.load_state_dict(state)
    assert str(e.value).endswith(f"negative on the diagonal, but has {value:g}; pass what state_dict() returned.")
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    state["products"][1, 1] = np.nan  # infinite values were seen
    other.load_state_dict(state)
    assert np.isnan(other.var[1])
