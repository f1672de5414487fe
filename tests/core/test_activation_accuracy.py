"""The activations inside the norms' kernels, against extended precision, from the smallest numbers to the largest."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import tol, ulps

import normcore as nc

FORMULAS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "silu": lambda x: x / (1 + np.exp(-x)),
}
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def activated(x, activation):
    """The activation of x alone: an inference with mean 0 and variance 1."""
    zero, one = np.zeros(1), np.ones(1)
    return nc.batch_norm_forward(
        x.reshape(1, 1, -1), running_mean=zero, running_var=one, training=False, eps=1e-300, activation=activation
    )[0].reshape(x.shape)


@pytest.mark.usefixtures("backend")
@dtypes
@pytest.mark.parametrize("activation", FORMULAS)
def test_against_extended_precision(activation, dtype):
    rng = np.random.default_rng(0)
    most = 80 if dtype == np.float32 else 700  # beyond, results are subnormal: below
    x = np.concatenate([rng.normal(size=3000), rng.uniform(-most, most, 3000), rng.normal(size=500) * 1e-20])
    x = x.astype(dtype)
    want = FORMULAS[activation](x.astype(np.longdouble)).astype(np.float64)
    assert ulps(activated(x, activation), want, want) <= tol(dtype, kind="activation")["ulps"]


@pytest.mark.usefixtures("backend")
@dtypes
@pytest.mark.parametrize("activation", [*FORMULAS, "gelu", "gelu_tanh", "relu", "leaky_relu"])
def test_the_ends(activation, dtype):
    limits = np.finfo(dtype)
    x = np.array([np.inf, limits.max, 1e4, -1e4, limits.min], dtype)
    got = activated(x, activation)
    upper = {"sigmoid": 1.0, "tanh": 1.0}.get(activation)
    lower = {"tanh": -1.0, "leaky_relu": None}.get(activation, 0.0)
    np.testing.assert_array_equal(got[:3], x[:3] if upper is None else upper)
    if lower is not None:
        np.testing.assert_array_equal(got[3:], lower)
    assert np.isnan(activated(np.array([np.nan], dtype), activation)).all()


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_subnormal_results_are_kept(activation):
    x = np.array([5e-324, -5e-324, 3e-310]) if activation == "tanh" else np.array([-744.0, -720.0, -709.0])
    want = FORMULAS[activation](x.astype(np.longdouble)).astype(np.float64)
    np.testing.assert_allclose(activated(x, activation), want, rtol=0, atol=5e-324)
