"""The Numba backend's loops called directly, and the formulas in float64 beside them. Needs Numba."""

from __future__ import annotations

import numpy as np
from scipy import special

from normcore.backends import numba_kernels as nk

ACTIVATIONS = list(nk.ACTIVATIONS)
EPS = 1e-5


def activated(name, z):
    """act(z) and act'(z)."""
    one, s = np.ones_like(z), special.expit(z)
    u, du = np.sqrt(2 / np.pi) * (z + 0.044715 * z**3), np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z**2)
    t = np.tanh(u)
    return {
        None: lambda: (z, one),
        "relu": lambda: (np.where(z > 0, z, 0.0), np.where(z > 0, 1.0, 0.0)),
        "leaky_relu": lambda: (np.where(z > 0, z, 0.01 * z), np.where(z > 0, 1.0, 0.01)),
        "sigmoid": lambda: (s, s * (1 - s)),
        "tanh": lambda: (np.tanh(z), 1 - np.tanh(z) ** 2),
        "gelu": lambda: (
            z * special.ndtr(z),
            special.ndtr(z) + z * np.exp(-z * z / 2) / np.sqrt(2 * np.pi),
        ),
        "gelu_tanh": lambda: (z * (1 + t) / 2, (1 + t) / 2 + z * (1 - t * t) * du / 2),
        "silu": lambda: (z * s, s + z * s * (1 - s)),
    }[name]()


def data(rng, shape, dtype, params, offset=0.0):
    x = (rng.standard_normal(shape) + offset).astype(dtype)
    return x, rng.standard_normal(shape).astype(dtype), rng.standard_normal(params), rng.standard_normal(params)


def run(walk, x, dy, weight, bias, flag, activation, threads=1, in_place=False, mean=None, var=None):
    """Forward and backward of a walk: y, mean, var, rstd, dx, dweight, dbias."""
    code = nk.ACTIVATIONS[activation]
    groups = x.shape[1] if walk == "channels" else x.shape[0]
    forward, backward = (getattr(nk, f"{walk}_{way}") for way in ("forward", "backward"))
    mean = np.full(groups, np.nan) if mean is None else mean.copy()
    var = np.full(groups, np.nan) if var is None else var.copy()
    rstd = np.full(groups, np.nan)
    dweight, dbias = np.full(weight.size, np.nan), np.full(weight.size, np.nan)
    source = x.copy()
    y = source if in_place else np.full_like(x, np.nan)
    forward(source, weight, bias, mean, var, rstd, y, EPS, flag, code, threads)
    gradient = dy.copy()
    dx = gradient if in_place else np.full_like(x, np.nan)
    backward(gradient, x, weight, bias, mean, rstd, dx, dweight, dbias, flag, code, threads)
    return y, mean, var, rstd, dx, dweight, dbias


def expected(axes, parameter, x, dy, weight, bias, mean, var, centred, training, activation):
    """The same from the formulas; then what the rounding of y and dx is measured by."""
    x, dy = x.astype(np.float64), dy.astype(np.float64)
    if mean is None:
        mean = x.mean(axes, keepdims=True) * centred
        mean = mean + (x - mean).mean(axes, keepdims=True) * centred
        var = np.square(x - mean).mean(axes, keepdims=True)
    rstd = 1 / np.sqrt(var + EPS)
    xhat, w, b = (x - mean) * rstd, weight[parameter], bias[parameter]
    y, slope = activated(activation, xhat * w + b)
    dz = dy * slope
    shape = np.broadcast_to(parameter, x.shape).ravel()
    dbias, dweight = np.bincount(shape, dz.ravel()), np.bincount(shape, (dz * xhat).ravel())
    dxhat = dz * w
    dx = dxhat
    if training:
        dx = dxhat - dxhat.mean(axes, keepdims=True) * centred - xhat * (dxhat * xhat).mean(axes, keepdims=True)
    size_y = np.abs(xhat * w) + np.abs(b)
    # z comes with its own rounding, and act' passes it on
    size_dx = np.abs(dy * w) * (1 + (size_y if activation else 0)) + np.abs(xhat) + 1
    sums = np.bincount(shape, np.abs(dy).ravel()), np.bincount(shape, np.abs(dy * xhat).ravel())
    return (y, mean, var, rstd, dx * rstd, dweight, dbias), size_y, size_dx * rstd, sums


def assert_right(got, want, size_y, size_dx, sums, activation):
    y, mean, var, rstd, dx, dweight, dbias = got
    eps = np.finfo(y.dtype).eps
    # 1e-14: mean and rstd in float64 have a rounding of their own
    np.testing.assert_array_less(np.abs(y - want[0]), 4 * eps * (size_y + np.abs(want[0]) * bool(activation)) + 1e-14)
    np.testing.assert_allclose(mean, want[1].ravel(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(var, want[2].ravel(), rtol=1e-9)
    np.testing.assert_allclose(rstd, want[3].ravel(), rtol=1e-9)
    np.testing.assert_array_less(np.abs(dx - want[4]), 16 * eps * size_dx)
    wide = 16 * eps if activation else 1e-9
    np.testing.assert_array_less(np.abs(dweight - want[5]), wide * sums[1] + 1e-9)
    np.testing.assert_array_less(np.abs(dbias - want[6]), wide * sums[0] + 1e-9)


def same(a, b):
    return all(np.array_equal(u, v, equal_nan=True) for u, v in zip(a, b, strict=True))
