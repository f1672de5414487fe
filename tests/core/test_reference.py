"""The reference's functions one by one, against their formulas written out in extended precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerances import tol

from normcore._activation import ACTIVATIONS, LEAKY_SLOPE
from normcore.backends import reference, reference_activations

CODES = range(len(ACTIVATIONS))
SHARED = [(reference.CHANNELS, (3, 4, 5)), (reference.ROWS, (2, 3, 4, 5))]
Z = np.concatenate([np.linspace(-9.0, 9.0, 73), [-1e-9, 1e-9, -700.0, 700.0]])

FORMULAS = {
    None: lambda z: z,
    "relu": lambda z: z if z > 0 else 0.0,
    "leaky_relu": lambda z: z if z > 0 else LEAKY_SLOPE * z,
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)) if z > -700 else math.exp(z),
    "tanh": math.tanh,
    "gelu": lambda z: z * math.erfc(-z / math.sqrt(2)) / 2,
    "gelu_tanh": lambda z: z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))) / 2,
    "silu": lambda z: z / (1 + math.exp(-z)) if z > -700 else z * math.exp(z),
}


def parameters(axes, shape):
    """The shape of a weight that broadcasts: one value for each place that `axes.parameter` leaves."""
    full = tuple(1 if axis in axes.parameter else n for axis, n in enumerate(shape))
    return full[1:]


@pytest.mark.parametrize("code", CODES)
def test_an_activation_by_its_formula(code):
    want = [FORMULAS[ACTIVATIONS[code]](float(z)) for z in Z]
    np.testing.assert_allclose(reference_activations.activate(Z, code), want, rtol=1e-13, atol=1e-15)
    for function in (reference_activations.activate, reference_activations.derivative):
        nothing = function(np.empty((0, 3)), code)
        assert (nothing.shape, nothing.dtype) == ((0, 3), np.float64)


@pytest.mark.parametrize("code", CODES)
def test_the_slope_of_an_activation(code):
    """Against central differences of fourth order of the formula; at 0 the convention of PyTorch."""
    formula, h = FORMULAS[ACTIVATIONS[code]], 1e-3
    inside = Z[(np.abs(Z) < 100) & (np.abs(Z) > 2 * h)]
    want = [
        (formula(z - 2 * h) - 8 * formula(z - h) + 8 * formula(z + h) - formula(z + 2 * h)) / (12 * h)
        for z in map(float, inside)
    ]
    np.testing.assert_allclose(reference_activations.derivative(inside, code), want, **tol("float64", kind="fd"))
    at_zero = {"relu": 0.0, "leaky_relu": LEAKY_SLOPE, "sigmoid": 0.25, None: 1.0, "tanh": 1.0}
    want = at_zero.get(ACTIVATIONS[code], 0.5)
    assert reference_activations.derivative(np.zeros(1), code)[0] == want


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("axes", "shape"), SHARED, ids=["channels", "rows"])
@pytest.mark.parametrize("centred", [True, False])
def test_statistics_keep_their_axes(rng, axes, shape, dtype, centred):
    x = (rng.standard_normal(shape) + 3).astype(dtype)
    wide = x.astype(np.longdouble)
    want_mean = wide.mean(axis=axes.statistic, keepdims=True) if centred else 0.0
    want_var = ((wide - want_mean) ** 2).mean(axis=axes.statistic, keepdims=True)
    mean, var = reference.mean_and_var(x, axes, centred)
    assert (mean.dtype, var.dtype, var.shape) == (np.float64, np.float64, want_var.shape)
    assert mean.shape == (want_var.shape if centred else ())
    np.testing.assert_allclose(mean, want_mean.astype(np.float64) if centred else 0.0, **tol("float64", kind="stats"))
    np.testing.assert_allclose(var, want_var.astype(np.float64), **tol("float64", kind="stats"))


@pytest.mark.parametrize("far", [1e8, -3e11])
def test_statistics_far_from_zero(rng, far):
    """Measured from a value of the group, small deviations are not lost beside a large mean; a constant has none."""
    deviations = rng.integers(-8, 9, (4, 3, 6)) / 8  # exact beside either
    mean, var = reference.mean_and_var(far + deviations, reference.CHANNELS)
    np.testing.assert_allclose(var, deviations.var(axis=(0, 2), keepdims=True), rtol=1e-13)
    np.testing.assert_allclose(mean, far + deviations.mean(axis=(0, 2), keepdims=True), rtol=1e-15)
    mean, var = reference.mean_and_var(np.full((4, 1, 6), 0.1), reference.CHANNELS)
    assert (mean.item(), var.item()) == (0.1, 0.0)


@pytest.mark.parametrize("activation", CODES)
@pytest.mark.parametrize("through_statistics", [True, False])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(("axes", "shape"), SHARED, ids=["channels", "rows"])
def test_gradients_by_the_chain_rule(rng, axes, shape, activation, through_statistics, centred):
    """The Jacobian of xhat, one group at a time: d xhat_j / d x_i = rstd (delta_ij - 1/n - xhat_i xhat_j / n)."""
    x, dy = rng.standard_normal((2, *shape))
    weight, bias = rng.standard_normal((2, *parameters(axes, shape)))
    mean, var = reference.mean_and_var(x, axes, centred)
    rstd = 1 / np.sqrt(var + 1e-5)
    dx = np.empty(shape)
    dweight, dbias = reference.gradients(
        dy, x, weight, bias, mean, rstd, dx, axes, through_statistics, centred, activation
    )
    xhat = (x - mean) * rstd
    dz = dy * reference_activations.derivative(xhat * weight + bias, activation)
    np.testing.assert_allclose(dbias, dz.sum(axis=axes.parameter), **tol("float64", 60, kind="dparam"))
    np.testing.assert_allclose(dweight, (dz * xhat).sum(axis=axes.parameter), **tol("float64", 60, kind="dparam"))
    labels = np.arange(rstd.size).reshape(rstd.shape) + np.zeros(shape, int)
    for group in range(rstd.size):
        inside = labels == group
        h, g, n = xhat[inside], (dz * weight)[inside], inside.sum()
        jacobian = np.eye(n)
        if through_statistics:
            jacobian -= np.outer(h, h) / n + (1 / n if centred else 0.0)
        want = rstd.ravel()[group] * (jacobian @ g)
        np.testing.assert_allclose(dx[inside], want, **tol("float64", 60, kind="dx", scale=np.abs(g).max()))


def test_gradients_are_summed_in_float64():
    """Of half types too: 4096 + 1 is no float16, and 100 times 1000 beyond it."""
    x = np.array([[[1.0, -1.0] * 50]], np.float16)
    dy = np.full((1, 1, 100), 1000.0, np.float16)
    dy[0, 0, 0] = 1001.0
    one, zero, dx = np.ones((1, 1)), np.zeros((1, 1)), np.empty((1, 1, 100))
    dweight, dbias = reference.gradients(dy, x, one, zero, zero, one, dx, reference.CHANNELS, False, True, 0)
    assert (dweight.item(), dbias.item()) == (1.0, 100_001.0)
    np.testing.assert_array_equal(dx, dy)


def test_what_is_stored_is_rounded_once():
    """Numbers beside the middle between two bfloat16, which float32 rounds to the middle."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="brings bfloat16")
    low, middle, up = 1.0, 1 + 2.0**-8, 1 + 2.0**-7
    tiny = 2.0**-40
    values = [middle - tiny, middle + tiny, middle, up - tiny, up + tiny, middle + 2.0**-7]
    want = [low, up, low, up, up, 1 + 2.0**-6]  # the last is a tie: to even
    for sign in (1, -1):
        into = np.empty(len(values), ml_dtypes.bfloat16)
        reference.store(sign * np.array(values), into)
        np.testing.assert_array_equal(into.astype(np.float64), sign * np.array(want))


def test_rows_share_parameters_in_turn():
    """Segment k of row r has parameter (r K + k) % P."""
    x, weight = np.arange(48.0).reshape(4, 3, 4), np.arange(6.0)  # K = 3, P = 6: two rows until they come again
    views = reference.RowViews.of(x, weight)
    assert views == ((2, 2, 3, 4), (2, 2, 1, 1), (2, 3, 1))
    seen = np.broadcast_to(weight.reshape(views.parameters), views.values).reshape(x.shape)
    for row in range(4):
        for segment in range(3):
            np.testing.assert_array_equal(seen[row, segment], (row * 3 + segment) % 6)


def test_kernels_of_the_reference(rng):
    """The five loops write all that they promise, and nothing warns whatever NumPy's settings are."""
    kernels = reference.kernels(np.dtype(np.float64))
    x = rng.standard_normal((4, 3, 5))
    weight, bias = rng.standard_normal((2, 3))
    mean, var, rstd = np.full((3, 3), np.nan)
    y = np.empty_like(x)
    with np.errstate(all="raise"):
        kernels.channels_stats(x, mean, var)
        np.testing.assert_allclose(mean, x.mean(axis=(0, 2)), rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(var, x.var(axis=(0, 2)), rtol=1e-13)
        kept = mean + 1, var + 1
        kernels.channels_forward(x, weight, bias, *kept, rstd, y, 0.5, False, 0)  # inference: with what is given
        np.testing.assert_allclose(rstd, 1 / np.sqrt(var + 1.5), rtol=1e-14)
        want = (x - kept[0][:, None]) * (rstd * weight)[:, None] + bias[:, None]
        np.testing.assert_allclose(y, want, rtol=1e-13, atol=1e-15)
        np.testing.assert_array_equal(kept, (mean + 1, var + 1))
        kernels.channels_forward(x, weight, bias, *kept, rstd, y, 0.5, True, 0)
        np.testing.assert_array_equal(kept, (mean, var))
        infinite = np.array([[[np.inf, -np.inf, 1e308, 1e308]]])
        one, zero, out = np.ones(1), np.zeros(1), np.empty_like(infinite)
        sums = np.empty((2, 1))
        for walk in ("channels", "rows"):  # IEEE, without a warning or an error
            found = np.empty((3, 1))
            getattr(kernels, f"{walk}_forward")(infinite, one, zero, *found, out, 0.0, True, 0)
            assert np.isnan(out).all()
            getattr(kernels, f"{walk}_backward")(infinite, infinite, one, zero, zero, one, out, *sums, True, 0)
            assert np.isnan(out).all()
        kernels.channels_stats(infinite, *np.empty((2, 1)))
