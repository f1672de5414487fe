"""Row norms on data that leaves no room for a tolerance: exact sums, constant groups, far offsets, huge values."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from norms import DTYPES, EVERY_DTYPE, EVERY_NORM, Norm, every_norm
from tolerances import ulps

pytestmark = pytest.mark.usefixtures("backend")

# one value a segment and many, lane tails, several pieces, one long row, the parallel path
EVERY_SIZE = every_norm(
    Norm("layer", (64, 10), (10,)),
    Norm("layer", (3, 2), (2,)),
    Norm("layer", (70, 1000), (1000,)),
    Norm("layer", (4, 17, 33), ((17, 33),)),
    Norm("layer", (2, 90_000), (90_000,)),
    Norm("group", (4, 6, 33, 47), (3,)),
    Norm("group", (16, 300, 9, 9), (30,)),
    Norm("group", (5, 8), (2,)),
    Norm("instance", (2, 2, 40_000)),
    Norm("instance", (6, 4, 17)),
)


def exact_data(norm, dtype, seed=0):
    """x, its means and variances: per group half the values mean - d, half mean + d, shuffled, all whole numbers."""
    rng = np.random.default_rng(seed)
    labels = norm.groups.ravel()
    groups = labels.max() + 1
    count = labels.size // groups
    mean = rng.integers(-8, 9, groups).astype(np.float64)
    d = rng.integers(0, 5, (groups, count // 2))
    values = np.concatenate([mean[:, None] - d, mean[:, None] + d, np.repeat(mean[:, None], count % 2, axis=1)], axis=1)
    x = np.empty(labels.size)
    x[np.argsort(labels, kind="stable")] = rng.permuted(values, axis=1).ravel()
    return x.reshape(norm.shape).astype(dtype), mean, (d.astype(np.int64) ** 2).sum(axis=1) * 2 / count


@EVERY_DTYPE
@EVERY_SIZE
def test_statistics_are_exact(norm, dtype):
    x, mean, var = exact_data(norm, dtype)
    _, ctx = norm.forward(x, eps=1.0)
    np.testing.assert_array_equal(ctx.mean, mean)
    np.testing.assert_array_equal(ctx.rstd, 1 / np.sqrt(var + 1.0))


@EVERY_DTYPE
@every_norm(Norm("rms", (64, 10), (10,)), Norm("rms", (70, 1000), (1000,)), Norm("rms", (2, 90_000), (90_000,)))
def test_mean_squares_are_exact(norm, dtype):
    x, _, _ = exact_data(norm, dtype)
    _, ctx = norm.forward(x, eps=1.0)
    np.testing.assert_array_equal(ctx.mean, 0.0)
    np.testing.assert_array_equal(ctx.rstd, 1 / np.sqrt((x.astype(np.float64) ** 2).mean(-1) + 1.0))


@DTYPES
@EVERY_SIZE
def test_the_gradient_of_bias_is_exact(norm, dtype):
    x, _, _ = exact_data(norm, dtype)
    dy, _, _ = exact_data(norm, dtype, seed=1)
    _, ctx = norm.forward(x, bias=np.zeros(norm.parameter_shape))
    _, _, dbias = norm.backward(dy, ctx)
    expected = np.bincount(norm.parameters.ravel(), weights=dy.ravel())
    np.testing.assert_array_equal(dbias.ravel(), expected)


@DTYPES
@EVERY_SIZE
def test_every_parameter_reaches_its_values(norm, dtype):
    """Of x = 0 the result is bias, and dweight is 0: bias numbered by place shows which parameter a value got."""
    count = int(np.prod(norm.parameter_shape))
    bias = np.arange(count, dtype=dtype).reshape(norm.parameter_shape)
    y = norm(np.zeros(norm.shape, dtype), np.full(norm.parameter_shape, 7.0), bias)
    np.testing.assert_array_equal(y, norm.parameters)


@EVERY_DTYPE
@pytest.mark.parametrize("value", [0.0, 0.1, -1e6 / 3, 3e38, 1e-45])
@EVERY_NORM
def test_a_constant_group_gives_exactly_its_bias(norm, value, dtype):
    if not norm.centred:
        pytest.skip("RMS norm does not subtract the mean")
    with np.errstate(over="ignore"):
        x = np.full(norm.shape, value).astype(dtype)
    if not np.isfinite(x.astype(np.float64)).all():
        pytest.skip("not a finite number of this dtype")
    bias = np.linspace(-1, 1, int(np.prod(norm.parameter_shape))).reshape(norm.parameter_shape).astype(dtype)
    y, ctx = norm.forward(x, np.full(norm.parameter_shape, 1e3).astype(dtype), bias)
    np.testing.assert_array_equal(y, bias.ravel()[norm.parameters])
    np.testing.assert_array_equal(ctx.mean, float(x.flat[0]))
    np.testing.assert_array_equal(ctx.rstd, 1 / np.sqrt(1e-5))


OFFSETS = every_norm(
    Norm("batch", (1000, 3)),
    Norm("layer", (4, 1000), (1000,)),
    Norm("group", (2, 4, 15, 20), (2,)),
    Norm("instance", (2, 3, 20, 20)),
)


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4, 1e6, -1e6])
@OFFSETS
def test_digits_are_kept_at_an_offset(rng, norm, offset):
    """DESIGN.md 4.1 and 4.2, mean/std up to 1e6: the variance to 1e-6, y to 4 ulp of |xhat * weight| + |bias|."""
    x = (rng.standard_normal(norm.shape) + offset).astype(np.float32)
    weight = rng.uniform(0.5, 2, norm.parameter_shape).astype(np.float32)
    bias = rng.standard_normal(norm.parameter_shape).astype(np.float32)
    y, ctx = norm.forward(x, weight, bias)
    expected = norm.expected(x, weight, bias)
    np.testing.assert_allclose(ctx.rstd**-2.0 - 1e-5, expected.var, rtol=1e-6)
    np.testing.assert_allclose(ctx.mean, expected.mean, rtol=1e-15, atol=1e-15)
    xhat_weight = norm.expected(x, weight).y
    assert ulps(y, expected.y, np.abs(xhat_weight) + np.abs(bias.ravel()[norm.parameters])) <= 4
    dy = rng.standard_normal(norm.shape).astype(np.float32)
    dx, dweight, _ = norm.backward(dy, ctx)
    want = norm.expected_backward(dy, x, weight, bias)
    np.testing.assert_allclose(dx, want[0], rtol=1e-5, atol=2e-6 * np.abs(want[0]).max())
    np.testing.assert_allclose(dweight, want[1], rtol=1e-5, atol=2e-6 * max(1.0, np.abs(want[1]).max()))


@pytest.mark.parametrize("scale", [1e30, 1e37, 1e-30])
@EVERY_NORM
def test_no_finite_float32_overflows(rng, norm, scale):
    x = (rng.standard_normal(norm.shape) * scale).astype(np.float32)
    y, ctx = norm.forward(x)
    expected = norm.expected(x)
    np.testing.assert_allclose(ctx.rstd, expected.rstd, rtol=1e-12)
    assert ulps(y, expected.y, np.abs(expected.y) + 1e-30) <= 4
    dy = rng.standard_normal(norm.shape).astype(np.float32)
    dx = norm.backward(dy, ctx)[0]
    want = norm.expected_backward(dy, x)[0]
    np.testing.assert_allclose(dx, want, rtol=1e-5, atol=1e-6 * np.abs(want).max() + 1e-45)


@pytest.mark.walk("rows")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@every_norm(Norm("layer", (3, 40), (40,)), Norm("rms", (3, 40), (40,)), Norm("group", (2, 6, 5), (3,)),
            Norm("instance", (2, 3, 33)))  # fmt: skip
def test_nan_and_inf_stay_in_their_group(rng, norm, bad):
    x, _, weight, bias = norm.arrays(rng)
    clean = norm(x, weight, bias)
    for at in (0, -1):
        broken = x.copy()
        broken.flat[at] = bad
        y, ctx = norm.forward(broken, weight, bias)
        own = norm.groups == norm.groups.flat[at]
        np.testing.assert_array_equal(y[~own], clean[~own])
        if norm.centred or np.isnan(bad):
            assert np.isnan(y[own]).all()
        else:  # a mean square of inf: x / inf is 0, inf / inf is nan
            assert np.isnan(y.flat[at])
            assert (np.delete(y[own], 0 if at == 0 else -1) == 0).all()
            assert ctx.rstd[norm.groups.flat[at]] == 0


@EVERY_DTYPE
def test_results_are_rounded_once_to_nearest_even(rng, dtype, request):
    """Half types: the nearest of the dtype's numbers to the float64 result, within its own rounding."""
    norm = Norm("layer", (50, 64), (64,))
    if request.node.callspec.params["backend"] != "reference":
        pytest.skip("only the reference promises the float64 result")
    x, _, weight, bias = norm.arrays(rng, dtype)
    y = norm(x, weight, bias)
    expected = oracle.norm(x, norm.groups, norm.parameters, weight, bias).y
    if np.dtype(dtype) != np.float64:
        assert ulps(y, expected, np.abs(expected)) <= 0.5 + 1e-6


def test_bfloat16_is_not_rounded_by_way_of_float32(request):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="brings bfloat16")
    if request.node.callspec.params["backend"] != "reference":
        pytest.skip("only the reference promises the float64 result")
    from normcore.backends.reference import store

    half = 1 + 2.0**-8
    values = np.array(
        [half, half + 2.0**-40, half - 2.0**-40, -half - 2.0**-40, np.inf, np.nan, 0.0, -0.0, 1e39, 1e-50]
    )
    into = np.empty(len(values), ml_dtypes.bfloat16)
    with np.errstate(all="ignore"):
        store(values, into)
    up = 1 + 2.0**-7
    np.testing.assert_array_equal(
        into.astype(np.float64), [1.0, up, 1.0, -up, np.inf, np.nan, 0.0, -0.0, np.inf, 0.0]
    )  # fmt: skip
