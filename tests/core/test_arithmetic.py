"""Where the kernels choose an arithmetic by the data: statistics with or without a shift, sums in float32 or float64.

A choice that turns out wrong is made good by summing again, and no group's result depends on its neighbours' choice.
"""

from __future__ import annotations

import numpy as np
import pytest
from norms import Norm, bfloat16, every_norm
from tolerances import EPS, TINY, tol

pytestmark = pytest.mark.usefixtures("backend")

ALL = every_norm(
    Norm("batch", (40, 33)),
    Norm("batch", (3, 5, 7, 11)),
    Norm("batch", (2, 3, 20_011)),
    Norm("layer", (37, 50), (50,)),
    Norm("layer", (2, 40_000), (40_000,)),
    Norm("rms", (37, 50), (50,)),
    Norm("group", (3, 6, 7, 7), (3,)),
    Norm("group", (9, 12), (4,)),
    Norm("instance", (2, 3, 13, 11)),
)
HALVES_AND_FLOATS = pytest.mark.parametrize("dtype", ["float32", "float16"])


def close_to_the_sums(got, want, magnitudes, n):
    """As close as float64 sums are, or float32 ones of 16 terms: relative to what was added."""
    limit = tol("float32", n, "dparam")
    np.testing.assert_array_less(np.abs(np.asarray(got, np.float64) - want), limit["rtol"] * magnitudes + 1e-300)


def check_gradients(norm, x, dy, weight, bias, eps):
    _, ctx = norm.forward(x, weight, bias, eps=eps)
    dx, dweight, dbias = norm.backward(dy, ctx)
    want_dx, want_dweight, want_dbias = norm.expected_backward(dy, x, weight, bias, eps=eps)
    forward = norm.expected(x, eps=eps)
    products = np.abs(np.asarray(dy, np.float64) * forward.y)
    magnitude = np.bincount(norm.parameters.ravel(), products.ravel()).reshape(norm.parameter_shape)
    close_to_the_sums(dweight, want_dweight, magnitude, x.size)
    if bias is not None:
        magnitude = np.bincount(norm.parameters.ravel(), np.abs(np.asarray(dy, np.float64)).ravel())
        close_to_the_sums(dbias, want_dbias, magnitude.reshape(norm.parameter_shape), x.size)
    scale = np.abs(np.asarray(dy, np.float64)).max() * np.abs(weight).max() * forward.rstd.max()
    np.testing.assert_allclose(
        np.asarray(dx, np.float64), want_dx, rtol=tol("float32", x.size, "dx")["rtol"], atol=16 * EPS["float32"] * scale
    )


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # the oracle's own, in a float32 cast
@ALL
@pytest.mark.parametrize("size", [1e-33, 1e-20, 1.0, 1e20, 1e33], ids=str)
@pytest.mark.parametrize("spread", [1e-12, 1e-3, 1e6], ids=str)
def test_gradients_of_any_size(norm, size, spread, rng):
    x, dy, weight, bias = norm.arrays(rng, "float32")
    if not 1e-36 < size / spread < 1e36:
        pytest.skip("dx is beyond float32 itself")
    x, dy = (x - 1) * np.float32(spread), dy * np.float32(size)
    check_gradients(norm, x, dy, weight, bias, eps=1e-30 if spread < 1 else 1e-5)


@ALL
def test_a_dy_of_zeros(norm, rng):
    x, dy, weight, bias = norm.arrays(rng, "float32")
    dy[...] = 0
    _, ctx = norm.forward(x, weight, bias)
    for gradient in norm.backward(dy, ctx):
        assert gradient is None or not gradient.any()


@ALL
@HALVES_AND_FLOATS
def test_a_wild_group_leaves_the_bits_of_the_others_alone(norm, dtype, rng):
    x, dy, weight, bias = norm.arrays(rng, dtype)
    groups = norm.groups
    wild_x, wild_dy = x.copy(), dy.copy()
    wild_x[groups == 1] *= np.asarray(1000, dtype)  # wants a shift: offset 1000, far from 0 for its spread
    wild_x[groups == 1] += np.asarray(20_000, dtype)
    wild_dy[groups == 1] = np.inf
    others = groups != 1
    plain, ctx = norm.forward(x, weight, bias)
    dx = norm.backward(dy, ctx)[0]
    y, ctx = norm.forward(wild_x, weight, bias)
    with np.errstate(all="ignore"):
        wild_dx = norm.backward(wild_dy, ctx)[0]
    assert (y[others] == plain[others]).all()
    assert (wild_dx[others] == dx[others]).all()


@ALL
@HALVES_AND_FLOATS
@pytest.mark.parametrize("offset", [0.0, 1.0, 4.0, 7.0, 9.0, 10.0, 100.0, 1e4], ids=str)
def test_statistics_at_every_offset(norm, dtype, offset, rng):
    # deviations are 2: a sum without a shift is given up between 7 and 9
    x = norm.arrays(rng, dtype, offset=offset)[0]
    _, ctx = norm.forward(x)
    want = norm.expected(x)
    limits = tol("float64", x.size, "stats", scale=max(1.0, offset))
    np.testing.assert_allclose(ctx.mean, want.mean, **limits)
    np.testing.assert_allclose(ctx.rstd, want.rstd, rtol=limits["rtol"])


@every_norm(Norm("batch", (40, 49)), Norm("batch", (3, 40, 7)), Norm("group", (3, 40, 7), (40,)))
@HALVES_AND_FLOATS
@pytest.mark.parametrize("first", [1, 9, 17, 25, 33], ids=str)
def test_groups_far_from_0_begin_anywhere(norm, dtype, first, rng):
    """Vectors of groups are summed without a shift as long as all of them are near 0."""
    x = norm.arrays(rng, dtype)[0]
    x[norm.groups >= first] += np.asarray(1000, dtype)
    _, ctx = norm.forward(x)
    want = norm.expected(x)
    limits = tol("float64", x.size, "stats", scale=1000.0)
    np.testing.assert_allclose(ctx.mean, want.mean, **limits)
    np.testing.assert_allclose(ctx.rstd, want.rstd, rtol=limits["rtol"])


@pytest.mark.parametrize("shape", [(2, 3, 40_000), (60_000, 3)], ids=str)
def test_a_sample_that_misleads(shape, rng):
    """Of a large array four values are looked at before the choice: here they say the opposite of the rest."""
    for inside, sampled in ((1e4, (-1.0, 2.0, 5.0, 9.0)), (0.0, (1e4, 1e4, 1e4, 1e4))):
        x = (rng.standard_normal(shape) + inside).astype("float32")
        along = x[0, 0] if len(shape) == 3 else x[:, 0]
        last = len(along) - 1
        along[[0, last // 3, 2 * last // 3, last]] = sampled
        norm = Norm("batch", shape)
        _, ctx = norm.forward(x)
        want = norm.expected(x)
        np.testing.assert_allclose(ctx.mean, want.mean, **tol("float64", x.size, "stats", scale=1e4))
        np.testing.assert_allclose(ctx.rstd, want.rstd, **tol("float64", x.size, "stats"))


@ALL
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("outlier", [1e4, -1e8], ids=str)
def test_a_first_value_that_misleads(norm, dtype, outlier, rng):
    """float64 is summed from a group's first value: where that is an outlier, it is summed again from the mean."""
    x = norm.arrays(rng, dtype)[0]
    plain = norm.forward(x, eps=1e-30)[0]
    x.reshape(-1)[np.unique(norm.groups, return_index=True)[1][1]] = outlier  # the first value of group 1
    y, ctx = norm.forward(x, eps=1e-30)
    want = norm.expected(x, eps=1e-30)
    limits = tol("float64", x.size, "stats", scale=abs(outlier))
    np.testing.assert_allclose(ctx.mean, want.mean, **limits)
    np.testing.assert_allclose(ctx.rstd, want.rstd, rtol=limits["rtol"])
    others = norm.groups != 1
    assert (y[others] == plain[others]).all()


@ALL
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_infinite_dy_gives_an_infinite_parameter_gradient(norm, dtype, rng):
    """Not NaN: nothing is taken from a sum that is infinite, or it would meet an infinity of its own."""
    x, dy, weight, bias = norm.arrays(rng, dtype)
    dy[0, 1] = 1.0
    first = (0, 1, *[0] * (x.ndim - 2))
    dy[first] = np.inf
    _, ctx = norm.forward(x, weight, bias)
    with np.errstate(all="ignore"):
        _, dweight, dbias = norm.backward(dy, ctx)
    hit = norm.parameters[first]
    assert dweight.ravel()[hit] == np.inf * np.sign(norm.expected(x).y[first])
    assert np.isfinite(np.delete(dweight.ravel(), hit)).all()
    if bias is not None:
        assert dbias.ravel()[hit] == np.inf
        assert np.isfinite(np.delete(dbias.ravel(), hit)).all()


@every_norm(
    Norm("batch", (2, 2, 70_001)),
    Norm("batch", (70_001, 3)),
    Norm("batch", (9_000, 40)),
    Norm("instance", (1, 2, 70_001)),
    Norm("layer", (9_000, 40), (40,)),
)
def test_long_sums_of_gradients_keep_their_digits(norm):
    """Terms of one sign and size: in float32 alone each addition would round the same way."""
    x = np.where(np.indices(norm.shape).sum(axis=0) % 2, 1.0, -1.0).astype("float32")
    ones = np.ones(norm.parameter_shape, "float32")
    _, ctx = norm.forward(x, ones, ones)
    for dy, which in ((np.full_like(x, 0.1), 2), (np.float32(0.1) * x, 1)):
        gradient = norm.backward(dy, ctx)[which]
        want = norm.expected_backward(dy, x, ones, ones)[which]
        # sixteen terms in float32, each off by half an ulp of the sum, and the rounding of the result
        np.testing.assert_allclose(gradient, want, rtol=tol("float32", x.size, "dparam")["rtol"])


@every_norm(
    Norm("batch", (2, 2, 1024)),
    Norm("batch", (1024, 64)),
    Norm("batch", (1025, 9)),
    Norm("instance", (1, 2, 1024)),
    Norm("layer", (1024, 64), (64,)),
)
def test_a_large_term_hides_few_of_the_others(norm):
    """Beside 2**24 a 1 vanishes in float32: of sixteen terms fifteen are lost, before the sum goes on in float64."""
    x = np.where(np.indices(norm.shape).sum(axis=0) % 2, 1.0, -1.0).astype("float32")
    ones = np.ones(norm.parameter_shape)  # gradients of float64: what is added is not rounded again
    terms = np.ones_like(x)
    terms.ravel()[np.unique(norm.parameters, return_index=True)[1]] = 2.0**24
    _, ctx = norm.forward(x, ones, ones, eps=1e-30)
    for dy, which in ((terms, 2), (terms * x, 1)):
        gradient = norm.backward(dy, ctx)[which]
        want = norm.expected_backward(dy, x, ones, ones, eps=1e-30)[which]
        np.testing.assert_allclose(gradient, want, rtol=0, atol=15.5)


@every_norm(
    Norm("batch", (3, 2, 300)), Norm("batch", (40, 33)), Norm("instance", (3, 2, 300)), Norm("layer", (40, 33), (33,))
)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_scale_beyond_float32(norm, sign, rng):
    """rstd times weight is beyond the dtype, or vanishes in it, where the result does neither."""
    x, *_ = norm.arrays(rng, "float32")
    x = (x * np.float32(10.0 ** (-15 * sign))).astype("float32")
    weight = np.full(norm.parameter_shape, 10.0 ** (30 * sign))
    y, ctx = norm.forward(x, weight, eps=1e-60)
    want = norm.expected(x, weight, eps=1e-60)
    assert not 1e-38 < ctx.rstd.max() * weight.max() < 1e38
    np.testing.assert_allclose(y, want.y, rtol=1e-5, atol=1e-5 * np.abs(want.y).max())


@ALL
@pytest.mark.parametrize("size", [1e-35, 1e-37, 1e-41], ids=str)
@pytest.mark.parametrize("offset", [0.0, 3.0], ids=str)
def test_values_near_the_end_of_float32(norm, size, offset, rng):
    """The mean's remainder beside its float32 part, and products of a backward pass, must not be subnormal."""
    x, dy, weight, _ = norm.arrays(rng, "float32")
    x = ((x.astype(np.float64) + offset) * size).astype(np.float32)
    dy *= np.float32(1e-5)
    y, ctx = norm.forward(x, weight, eps=1e-12)
    want = norm.expected(x, weight, eps=1e-12)
    subnormal = np.finfo(np.float32).smallest_subnormal
    np.testing.assert_allclose(
        y.astype(np.float64), want.y, rtol=tol("float32", x.size, "y")["rtol"], atol=float(4 * subnormal)
    )
    dweight = norm.backward(dy, ctx)[1]
    want_dweight = norm.expected_backward(dy, x, weight, eps=1e-12)[1]
    products = np.abs(dy.astype(np.float64) * norm.expected(x, eps=1e-12).y)
    magnitude = np.bincount(norm.parameters.ravel(), products.ravel()).reshape(norm.parameter_shape)
    limit = tol("float32", x.size, "dparam")["rtol"] * magnitude + 4 * subnormal
    np.testing.assert_array_less(np.abs(dweight.astype(np.float64) - want_dweight), limit)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_outlier_of_1e30_in_front(dtype, rng):
    x = rng.standard_normal((10_000, 3)).astype(dtype)
    x[0] = 1e30
    norm = Norm("batch", x.shape)
    _, ctx = norm.forward(x)
    want = norm.expected(x)
    np.testing.assert_allclose(ctx.mean, want.mean, **tol("float64", 1, "stats"))
    np.testing.assert_allclose(ctx.rstd, want.rstd, **tol("float64", 1, "stats"))


# --- the ends of float32 and float64 ----------------------------------------------------------------------------------

VALUES = every_norm(
    Norm("layer", (5, 6), (6,)),
    Norm("layer", (2, 40), (40,)),
    Norm("rms", (5, 6), (6,)),
    Norm("group", (5, 8), (2,)),
    Norm("group", (3, 6, 7), (3,)),
    Norm("batch", (6, 5)),
    Norm("batch", (6, 5, 3)),
    Norm("instance", (2, 3, 6)),
)


@VALUES
@pytest.mark.parametrize("dtype", ["float32", bfloat16])
@pytest.mark.parametrize(
    ("large", "small", "weight"), [(1e10, 1e-35, 1e20), (1e10, 1e-35, 1e28), (1.0, 1e-38, 1e10), (1e4, 1e-36, 30.0)]
)
def test_an_xhat_that_is_subnormal_in_float32(norm, dtype, large, small, weight, rng, backend):
    """A large weight brings such an xhat back to normal numbers: float32 must not have rounded it before."""
    if backend == "numba" and weight < 2.0**30:
        pytest.skip("Numba's loops keep weights up to 2^30 in float32: docs/reliability.md, what is left of accuracy")
    x = (small * rng.uniform(1, 2, norm.shape)).astype(dtype)
    for group in range(norm.groups.max() + 1):
        values = x[norm.groups == group]
        values[0] = large
        if norm.centred:  # the mean is then not large
            values[len(values) // 2 :] = -values[: len(values) // 2]
        x[norm.groups == group] = values
    weights = (weight * rng.uniform(0.5, 2, norm.parameter_shape)).astype(dtype)
    weights.flat[0] = 1.0
    y, ctx = norm.forward(x, weights, None)
    if norm.centred:  # of means, small values beside large ones have no digits: as it was found
        xhat = (x.astype(np.float64) - ctx.mean.ravel()[norm.groups]) * ctx.rstd.ravel()[norm.groups]
        want = xhat * weights.astype(np.float64).ravel()[norm.parameters]
    else:
        want = norm.expected(x, weights).y
    y, name = np.asarray(y, np.float64), np.dtype(dtype).name
    # atol: y itself may be subnormal, where the weight is 1
    np.testing.assert_allclose(y, want, rtol=tol(dtype, x.size)["rtol"], atol=4 * TINY[name] * EPS[name])


@VALUES
def test_small_and_large_weights_at_once(norm, rng):
    x, _, _, bias = norm.arrays(rng, "float32")
    for weight in (1e-29, 1e-15, 1.0, 1e7, 1e15, 1e29):
        weights = rng.uniform(1, 2, norm.parameter_shape).astype("float32")
        weights.flat[1], weights.flat[2] = weight, 0.0
        y, want = norm.forward(x, weights, bias)[0], norm.expected(x, weights, bias).y
        size = np.abs(want) + (0 if bias is None else np.abs(bias.ravel()[norm.parameters]))
        assert (np.abs(y - want) <= tol("float32", x.size)["rtol"] * size + 1e-30).all()


@VALUES
@pytest.mark.parametrize(
    ("size", "weight", "gradient", "eps"),
    [
        (1e136, 1e-57, 1.0, 1e-5),
        (1e-145, 1e71, 1.0, 1e-300),
        (1e130, 1.0, 1e-60, 1e-5),
        (1e-130, 1.0, 1e60, 1e-300),
        (1e100, 1e-90, 1e-10, 1e-5),
        (1.0, 1e-90, 1e-90, 1e-5),
        (1.0, 1e120, 1e120, 1e-5),
    ],
)
def test_a_dx_of_normal_numbers_whose_factors_are_extreme(norm, size, weight, gradient, eps, rng):
    """rstd * rstd * weight * dy is beyond float64 here, or below, where dx is not."""
    x, dy, weights, _ = norm.arrays(rng)
    x, dy, weights = x * size, dy * gradient, weights * weight
    # The oracle takes the numbers as they are, in units (of powers of 2) in which it can square them.
    units = (2.0 ** np.round(np.log2(v)) for v in (size, weight, gradient))
    per_x, per_weight, per_dy = units
    want = norm.expected_backward(dy / per_dy, x / per_x, weights / per_weight, eps=eps / per_x / per_x)[0]
    with np.errstate(under="ignore"):
        dx = norm.backward(dy, norm.forward(x, weights, None, eps=eps)[1])[0]
        got = dx / (per_weight * (per_dy / per_x))
    np.testing.assert_allclose(got, want, **tol("float64", x.size, "dx", scale=np.abs(want).max()))


@VALUES
def test_an_extreme_group_leaves_the_bits_of_the_others_alone(norm, rng):
    x, dy, weights, _ = norm.arrays(rng)
    plain = norm.backward(dy, norm.forward(x, weights, None)[1])[0]
    x[norm.groups == 1] *= 1e130
    dy[norm.groups == 1] *= 1e-60
    dx = norm.backward(dy, norm.forward(x, weights, None)[1])[0]
    np.testing.assert_array_equal(dx[norm.groups != 1], plain[norm.groups != 1])
    assert np.abs(dx[norm.groups == 1]).max() > 0
