"""Streaming statistics at the edges of shapes, states and floats: numbers by hand, quick enough for every fault."""

from __future__ import annotations

import itertools
import operator
import re
from fractions import Fraction

import numpy as np
import pytest

import normcore as nc
from normcore import _streaming
from normcore.moments import _extremes

KINDS = pytest.mark.parametrize("kind", [nc.RunningMoments, nc.RunningCovariance], ids=lambda kind: kind.__name__)
NAN, INF = np.nan, np.inf


# --- shapes -----------------------------------------------------------------------------------------------------------


@KINDS
def test_which_axis_has_the_features(kind):
    x = np.arange(24.0).reshape(2, 3, 4)
    for axis, features in ((-3, 2), (0, 2), (-2, 3), (1, 3), (-1, 4), (2, 4)):
        m = kind(axis)
        m.update(x)
        others = tuple(i for i in range(3) if i != axis % 3)
        assert m.mean.shape == (features,)
        np.testing.assert_allclose(m.mean, x.mean(axis=others), rtol=1e-15)
    for axis in (-1, 0):  # a vector is one feature
        m = kind(axis)
        m.update(np.arange(5.0))
        assert m.mean.tolist() == [2.0]
    for axis, shape in ((1, (5,)), (-2, (5,)), (2, (2, 3)), (-3, (2, 3)), (0, ()), (-1, ())):
        with pytest.raises(
            ValueError, match=re.escape(f"x has shape {shape}, which has no axis {axis} of features; reshape x.")
        ):
            kind(axis).update(np.ones(shape))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extremes_in_every_layout(rng, dtype):
    for layout in itertools.permutations(range(3)):
        x = rng.standard_normal((2, 3, 5)).astype(dtype).transpose(layout)
        for axis in range(3):
            low, high = _extremes(x, axis)
            others = tuple(i for i in range(3) if i != axis)
            assert low.dtype == high.dtype == np.float64
            np.testing.assert_array_equal((low, high), (x.min(axis=others), x.max(axis=others)))


@KINDS
@pytest.mark.parametrize("hole", [False, True])
def test_rows_longer_than_a_block(monkeypatch, kind, hole):
    """A block is one row at least."""
    monkeypatch.setattr("normcore.moments._BLOCK", 16)
    monkeypatch.setattr("normcore.covariance._BLOCK", 16)
    x = np.arange(120.0).reshape(3, 40)
    expected = np.r_[60.0, np.arange(41.0, 80.0)] if hole and kind is nc.RunningMoments else np.arange(40.0, 80.0)
    if hole:
        x[0, 0] = NAN  # a row of a covariance, a value of a moment
    if hole and kind is nc.RunningCovariance:
        expected = np.arange(60.0, 100.0)
    m = kind()
    m.update(x)
    np.testing.assert_array_equal(m.mean, expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (7, 3), (2000, 1), (1030, 2)])
@pytest.mark.parametrize(("reduce", "initial"), [(np.add, 0.0), (np.minimum, INF), (np.maximum, -INF)])
def test_a_fold_reduces_all_rows(rng, shape, reduce, initial):
    x = rng.integers(-9, 9, shape).astype(np.float32)
    down = _streaming.down(reduce, x, initial)
    assert down.dtype == np.float64
    np.testing.assert_array_equal(down, reduce.reduce(x.astype(np.float64), axis=0))


# --- what is taken ----------------------------------------------------------------------------------------------------


@KINDS
def test_what_is_no_array_is_refused(kind):
    m, name = kind(), kind.__name__
    ragged = "rows of unequal length"
    with pytest.raises(TypeError, match=f"^{name}.update: x must be an array, got {ragged}"):
        m.update([[1.0, 2.0], [3.0]])
    with pytest.raises(TypeError, match=f"^{name}.update: sample_weight must be an array, got list with rows"):
        m.update(np.ones((2, 2)), [[1.0], [2.0, 3.0]])
    for weight in (INF, -INF, NAN, -0.25):
        with pytest.raises(ValueError, match=f"^{name}.update: sample_weight must be finite and not negative, but "):
            m.update(np.ones((2, 2)), [1.0, weight])
    assert repr(m) == f"{name}(axis=-1), empty"


# --- states -----------------------------------------------------------------------------------------------------------


@KINDS
def test_counts_of_a_state(kind):
    m = kind()
    m.update(np.array([[1.0, 4.0], [3.0, 4.0]]))
    before = m.state_dict()
    several = kind is nc.RunningMoments
    for bad in (-1.0, -0.25, INF, NAN):
        count = np.array([2.0, bad]) if several else np.array(bad)
        with pytest.raises(ValueError, match=r"state_dict\['count'\] must be finite and not negative, but has other"):
            m.load_state_dict(before | {"count": count})
    for key, value in m.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    for good in (0.0, 0.25):
        nothing = {"min": [1.0, INF], "max": [3.0, -INF]} if several and good == 0.0 else {}
        m.load_state_dict(before | nothing | {"count": [2.0, good] if several else good})
        assert np.min(m.count) == good


@KINDS
def test_a_loaded_state_is_floats_of_its_own(kind):
    m = kind()
    m.update(np.array([[1.0, 4.0], [3.0, 4.0]]))
    kept = m.state_dict()
    given = {key: np.array(value) for key, value in kept.items()}
    m.load_state_dict(given)
    for value in given.values():
        value[...] = 77
    for key, value in m.state_dict().items():
        np.testing.assert_array_equal(value, kept[key])
    options = {"axis", "extremes"}
    m.load_state_dict({k: v if k in options else np.asarray(v).astype(int).tolist() for k, v in kept.items()})
    assert {np.asarray(v).dtype for k, v in m.state_dict().items() if k not in options} == {np.dtype(float)}
    m.update(np.array([[2.5, 4.0]]))
    np.testing.assert_allclose(m.mean, [6.5 / 3, 4.0], rtol=1e-15)


@KINDS
def test_a_masked_state_is_refused(kind):
    m = kind()
    m.update(np.ones((2, 2)))
    state = m.state_dict()
    with pytest.raises(ValueError, match=r"state_dict\['mean'\] must be real numbers, got MaskedArray; pass what"):
        m.load_state_dict(state | {"mean": np.ma.ones(2)})


def test_nothing_is_zeros_in_a_state():
    """JSON has no NaN: a feature without values has zeros beside its count."""
    m = nc.RunningMoments(extremes=False)
    m.update(np.array([[NAN, 1.0], [NAN, 3.0]]))
    m.update(np.array([[NAN, NAN]]))
    state = m.state_dict()
    assert {key: np.asarray(state[key]).tolist() for key in ("count", "mean", "squares")} == {
        "count": [0.0, 2.0], "mean": [0.0, 2.0], "squares": [0.0, 2.0],
    }  # fmt: skip
    c = nc.RunningCovariance()
    for _ in range(2):
        c.update(np.empty((0, 2)))
        c.update(np.full((3, 2), NAN))
        state = c.state_dict()
        assert {key: np.asarray(state[key]).tolist() for key in ("count", "mean", "products")} == {
            "count": 0.0, "mean": [0.0, 0.0], "products": [[0.0, 0.0], [0.0, 0.0]],
        }  # fmt: skip


# --- the ends of float64 ----------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 2.0]])
@pytest.mark.parametrize("at_once", [True, False])
def test_squares_beyond_every_float_are_infinite_without_a_warning(kind, weights, at_once):
    x = np.array([[1e200, NAN], [-1e200, 2.0], [1e200, 2.0]])
    if kind is nc.RunningCovariance:
        x[0, 1] = 2.0
    m = kind()
    with np.errstate(all="raise"):
        for rows in [slice(None)] if at_once else [slice(0, 1), slice(1, 2), slice(2, 3)]:
            m.update(x[rows], None if weights is None else weights[rows])
        np.testing.assert_allclose(m.mean, [1e200 / 3 if weights is None else 0.5e200, 2.0], rtol=1e-15)
        np.testing.assert_array_equal(m.var, [INF, 0.0])


def test_what_is_left_of_a_mean_beyond_every_square():
    """The rounding of a mean near 1e300 is itself beyond what can be squared: no inf - inf."""
    x, weights = np.array([[0.1, 1.0], [0.7, 2.0], [-0.3, 2.5], [0.9, 1.5]]) * [1e300, 1.0], [0.1, 0.2, 0.3, 0.7]
    for kind in (nc.RunningMoments, nc.RunningCovariance):
        m = kind()
        m.update(x, weights)
        mean = np.average(x[:, 1], weights=weights)
        np.testing.assert_allclose(m.var, [INF, np.average((x[:, 1] - mean) ** 2, weights=weights)], rtol=1e-14)


@KINDS
def test_infinite_values_come_and_go_without_a_warning(kind):
    m = kind()
    with np.errstate(all="raise"):
        for value in (1.0, INF, 2.0, INF):
            m.update(np.array([[value, 3.0]]))
            m.update(np.array([[value, 3.0]]), [0.5])
        np.testing.assert_array_equal(m.mean, [INF, 3.0])
        np.testing.assert_array_equal(m.var, [NAN, 0.0])
        m.update(np.array([[-INF, 3.0]]))
        np.testing.assert_array_equal(m.mean, [NAN, 3.0])


@KINDS
def test_means_as_far_apart_as_floats_are(kind):
    m = kind()
    with np.errstate(all="raise"):
        for value in (1.7e308, -1.7e308):
            m.update(np.array([[value, 3.0]]))
        assert np.max(m.count) == 2.0
        assert m.mean.tolist() == [0.0, 3.0]
        far = kind()
        for value, weight in ((2.0**1023, 3.0), (-(2.0**1023), 1.0)):  # their distance is no float, their mean is
            far.update(np.array([[value, 3.0]]), [weight])
    assert far.mean.tolist() == [2.0**1022, 3.0]


@KINDS
@pytest.mark.parametrize(("values", "weights"), [((INF, 1.0), (1e-20, 1.0)), ((1.0, -INF), (1e300, 1e-300))])
def test_an_infinity_of_hardly_any_weight_is_infinite(kind, values, weights):
    """Its share of the mean is 0 as a float, or the other's is: 0 times infinity would be NaN."""
    m = kind()
    with np.errstate(invalid="raise", over="raise"):
        for value, weight in zip(values, weights, strict=True):
            m.update(np.array([[value, 3.0]]), [weight])
    assert m.mean.tolist() == [sum(values), 3.0]


@pytest.mark.parametrize("empty_first", [True, False])
def test_nothing_beside_a_large_constant_changes_it(empty_first):
    """0 times the square of a distance beyond every float would be NaN."""
    parts = [np.empty((0, 2)), np.full((3, 2), 1e200)]
    c = nc.RunningCovariance()
    with np.errstate(all="raise"):
        for part in parts if empty_first else parts[::-1]:
            c.update(part)
    np.testing.assert_array_equal(c.cov, np.zeros((2, 2)))
    assert (c.count, c.mean.tolist()) == (3.0, [1e200, 1e200])


def test_a_constant_with_weights_is_that_constant(rng):
    """Shares that do not quite add up to 1 make no variance, and none below zero."""
    for i in range(300):
        weights = rng.random(int(rng.integers(2, 9)))
        value = (rng.standard_normal(), np.finfo(float).max, -5e-324)[i % 3]
        x = np.stack([np.full(len(weights), value), np.arange(len(weights))], 1)
        for kind in (nc.RunningMoments, nc.RunningCovariance):
            m = kind()
            m.update(x, weights)
            assert m.mean[0] == value
            assert m.var[0] == 0.0
    one = nc.RunningCovariance()
    one.update(np.array([[0.1, 0.7]]), [0.3])
    np.testing.assert_array_equal(one.cov, np.zeros((2, 2)))


def test_a_neighbour_with_hardly_any_weight_makes_no_variance_below_zero(rng):
    """What is subtracted for a rounded mean is nearly all there is, and may be a rounding more."""
    for _ in range(100):
        weights = np.r_[1e-20, rng.random(int(rng.integers(2, 8)))]
        value = rng.standard_normal()
        x = np.stack([np.full(len(weights), value), np.arange(len(weights))], 1)
        x[0, 0] = np.nextafter(value, INF)
        for kind in (nc.RunningMoments, nc.RunningCovariance):
            m = kind()
            m.update(x, weights)
            assert 0.0 <= m.var[0] <= np.spacing(value) ** 2


# --- holes, weights and roundings -------------------------------------------------------------------------------------


def test_holes_are_of_values_in_moments_and_of_rows_in_covariances():
    x = np.array([[1.0, 10.0], [NAN, 20.0], [3.0, 60.0], [5.0, NAN]])
    m, c = nc.RunningMoments(), nc.RunningCovariance()
    m.update(x)
    c.update(x)
    assert (m.count.tolist(), m.mean.tolist()) == ([3.0, 3.0], [3.0, 30.0])
    np.testing.assert_allclose(m.var, [8 / 3, 1400 / 3], rtol=1e-15)
    assert (c.count, c.mean.tolist(), c.cov.tolist()) == (2.0, [2.0, 35.0], [[1.0, 25.0], [25.0, 625.0]])
    weights = [1.0, 5.0, 3.0, 0.0]
    m, c = nc.RunningMoments(), nc.RunningCovariance()
    m.update(x, weights)
    c.update(x, weights)
    assert (m.count.tolist(), m.mean.tolist()) == ([4.0, 9.0], [2.5, 290 / 9])
    np.testing.assert_allclose(m.var[0], 0.75, rtol=1e-15)
    assert (m.min.tolist(), m.max.tolist()) == ([1.0, 10.0], [3.0, 60.0])
    assert (c.count, c.mean.tolist()) == (4.0, [2.5, 47.5])
    np.testing.assert_allclose(c.cov, [[0.75, 18.75], [18.75, 468.75]], rtol=1e-15)
    c = nc.RunningCovariance()
    c.update(np.r_[x, [[7.0, 8.0]]], [1.0, 5.0, 3.0, 1.0, 0.0])  # a row without weight that has all its values
    assert (c.count, c.mean.tolist()) == (4.0, [2.5, 47.5])


@KINDS
def test_an_infinity_without_weight_is_not_there(kind):
    m = kind()
    with np.errstate(all="raise"):
        m.update(np.array([[1.0, 10.0], [INF, 20.0], [3.0, 30.0]]), [1.0, 0.0, 1.0])
    assert (m.mean.tolist(), m.var.tolist()) == ([2.0, 20.0], [1.0, 100.0])


def test_neighbours_among_floats_are_told_apart():
    """Their mean lies between them: the variance is taken about it, not about the float beside it."""
    step = 2.0**-52
    x = np.array([[1.0, 3.0], [1.0 + step, 5.0]])
    for kind in (nc.RunningMoments, nc.RunningCovariance):
        m = kind()
        m.update(x, [1.5, 1.5])
        np.testing.assert_allclose(m.var, [step**2 / 4, 1.0], rtol=1e-15)
    np.testing.assert_allclose(m.cov[0, 1], step / 2, rtol=1e-15)


@KINDS
def test_a_weighted_mean_is_the_nearest_float_or_the_next(rng, kind):
    x, weights = rng.standard_normal((300, 4)) * 1e-3 + 1e3, rng.random(300)
    exact_weights = [Fraction(w) for w in weights]
    m = kind()
    m.update(x, weights)
    for feature, mean in enumerate(m.mean):
        values = [Fraction(v) for v in x[:, feature]]
        exact = sum(map(operator.mul, exact_weights, values)) / sum(exact_weights)
        assert abs(Fraction(mean) - exact) <= Fraction(np.spacing(mean))
        var = sum(w * (v - exact) ** 2 for w, v in zip(exact_weights, values, strict=True)) / sum(exact_weights)
        np.testing.assert_allclose(m.var[feature], float(var), rtol=1e-13)
