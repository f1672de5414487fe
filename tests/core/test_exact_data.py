"""Data whose mean and variance are representable: they must be exact, whatever the order of summation.

The idea is oneDNN's: pairs of values mean - d and mean + d, d and mean whole numbers of a few bits, so that every sum
of them or of their squares is exact in float64. A wrong kernel cannot hide behind a tolerance: there is none.
"""

from __future__ import annotations

import numpy as np
import pytest

import normcore as nc

# runs (inner > 1) and rows (inner == 1), lane tails, several pieces, several waves, the parallel path
SHAPES = [
    (2, 1),
    (2, 3),
    (64, 10),
    (4, 3, 33, 47),
    (2, 5, 1, 1, 1),
    (6, 4, 17),
    (2, 2, 40_000),
    (70_000, 3),
    (16, 300, 9, 9),
    (2, 64, 20, 20),
]
pytestmark = pytest.mark.usefixtures("backend")


def exact_data(shape, dtype, seed=0):
    """x, its means (-8 to 8) and its variances: per channel half the values mean - d, half mean + d, shuffled."""
    rng = np.random.default_rng(seed)
    channels = shape[1]
    count = int(np.prod(shape)) // channels
    mean = rng.integers(-8, 9, channels).astype(np.float64)
    d = rng.integers(0, 5, (channels, count // 2))
    x = np.concatenate([mean[:, None] - d, mean[:, None] + d, np.repeat(mean[:, None], count % 2, axis=1)], axis=1)
    x = rng.permuted(x, axis=1)
    var = (d.astype(np.int64) ** 2).sum(axis=1) * 2 / count
    x = np.moveaxis(x.reshape(channels, shape[0], *shape[2:]), 0, 1)
    return np.ascontiguousarray(x, dtype), mean, var


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_statistics_are_exact(shape, dtype):
    x, mean, var = exact_data(shape, dtype)
    got_mean, got_var = nc.batch_stats(x)
    np.testing.assert_array_equal(got_mean, mean)
    np.testing.assert_array_equal(got_var, var)
    _, ctx = nc.batch_norm_forward(x, eps=1.0)
    np.testing.assert_array_equal(ctx.mean, mean)
    np.testing.assert_array_equal(ctx.rstd, 1 / np.sqrt(var + 1.0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_parameter_gradients_are_exact(shape, dtype):
    """xhat = deviations, because the running statistics given make mean and rstd whole numbers."""
    x, mean, _ = exact_data(shape, dtype)
    dy, _, _ = exact_data(shape, dtype, seed=1)
    channels = shape[1]
    given = {"running_mean": mean, "running_var": np.full(channels, 0.75), "eps": 0.25}
    _, ctx = nc.batch_norm_forward(x, np.ones(channels), np.zeros(channels), training=False, **given)
    dx, dweight, dbias = nc.batch_norm_backward(dy, ctx)
    axes = tuple(a for a in range(len(shape)) if a != 1)
    centred = x.astype(np.int64) - mean.astype(np.int64).reshape(-1, *[1] * (len(shape) - 2))
    np.testing.assert_array_equal(dx, dy)
    np.testing.assert_array_equal(dweight, (dy.astype(np.int64) * centred).sum(axes))
    np.testing.assert_array_equal(dbias, dy.astype(np.int64).sum(axes))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e6 / 3, 3e38, 1e-45])
@pytest.mark.parametrize("shape", [(2, 1), (100, 3), (5, 3, 7, 11), (2, 2, 40_000)], ids=str)
def test_a_constant_channel_gives_exactly_its_bias(shape, value, dtype):
    x = np.full(shape, value, dtype)
    bias = np.linspace(-1, 1, shape[1]).astype(dtype)
    y, ctx = nc.batch_norm_forward(x, np.full(shape[1], 1e3, dtype), bias)
    np.testing.assert_array_equal(y, np.broadcast_to(bias.reshape(-1, *[1] * (len(shape) - 2)), shape))
    np.testing.assert_array_equal(ctx.mean, np.full(shape[1], x.flat[0], np.float64))
    np.testing.assert_array_equal(nc.batch_stats(x)[1], 0.0)


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("shape", [(1000, 4), (10, 4, 10, 10)], ids=str)
def test_variance_keeps_its_digits_at_an_offset(shape, offset, rng):
    """DESIGN.md 4.1: relative error at most 1e-6 up to mean/std = 1e6, against the variance of the float32 values."""
    import oracle

    x = (rng.standard_normal(shape) + offset).astype(np.float32)
    mean, var = nc.batch_stats(x)
    expected_mean, expected_var = oracle.stats(x)
    np.testing.assert_allclose(var, expected_var, rtol=1e-12)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-15, atol=1e-15)


def test_no_finite_float32_overflows():
    x = np.array([[3e38, -3e38], [-3e38, -3e38], [1e30, 3e38]], np.float32)
    y, ctx = nc.batch_norm_forward(x)
    assert np.isfinite(y).all()
    assert np.isfinite(ctx.mean).all()
    assert (ctx.rstd > 0).all()
