"""Batch norm written a second time, from the paper, in float64: imports nothing from normcore.

Plain and slow on purpose: one channel at a time, and sums that are right to the last digit (`math.fsum`), so that a
disagreement is the library's. Names follow the paper (Ioffe & Szegedy 2015, algorithm 1 and its chain rule).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Forward(NamedTuple):
    y: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    rstd: np.ndarray


class Backward(NamedTuple):
    dx: np.ndarray
    dweight: np.ndarray
    dbias: np.ndarray


def stats(x, axis=1):
    """Mean and population variance of each channel, float64."""
    columns = _columns(x, axis)
    mean = np.array([math.fsum(column) / len(column) for column in columns])
    # the deviations are exact to a rounding each; the mean of them corrects the rounding of the mean itself
    var = []
    for column, m in zip(columns, mean, strict=True):
        deviations = column - m
        drift = math.fsum(deviations) / len(column)
        var.append(math.fsum((deviations - drift) ** 2) / len(column))
    return mean, np.array(var)


def forward(x, weight=None, bias=None, *, mean=None, var=None, eps=1e-5, axis=1):
    """Normalise by the batch, or by the `mean` and `var` given; y in float64, not rounded to x's dtype."""
    if mean is None:
        mean, var = stats(x, axis)
    mean, var = np.asarray(mean, np.float64), np.asarray(var, np.float64)
    rstd = 1.0 / np.sqrt(var + eps)
    y = (_f64(x) - _over(mean, x, axis)) * _over(rstd, x, axis)
    if weight is not None:
        y = y * _over(_f64(weight), x, axis)
    if bias is not None:
        y = y + _over(_f64(bias), x, axis)
    return Forward(y, mean, var, rstd)


def backward(dy, x, weight=None, *, mean=None, var=None, eps=1e-5, axis=1):
    """The gradients in float64: through the batch statistics, or with `mean` and `var` as constants."""
    training = mean is None
    fwd = forward(x, mean=mean, var=var, eps=eps, axis=axis)
    xhat, rstd = fwd.y, fwd.rstd
    dbias = np.array([math.fsum(column) for column in _columns(dy, axis)])
    dweight = np.array([math.fsum(column) for column in _columns(_f64(dy) * xhat, axis)])
    w = np.ones(x.shape[axis]) if weight is None else _f64(weight)
    dxhat = _f64(dy) * _over(w, x, axis)
    if training:
        # the paper's three equations, taken through the variance and the mean one after the other
        count = x.size // x.shape[axis]
        centred = _f64(x) - _over(fwd.mean, x, axis)
        dvar = _sum(dxhat * centred, axis) * -0.5 * rstd**3
        dmean = _sum(dxhat, axis) * -rstd + dvar * _sum(-2.0 * centred, axis) / count
        dx = dxhat * _over(rstd, x, axis) + _over(dvar, x, axis) * 2.0 * centred / count + _over(dmean, x, axis) / count
    else:
        dx = dxhat * _over(rstd, x, axis)
    return Backward(dx, dweight, dbias)


def running(old_mean, old_var, mean, var, count, momentum=0.1):
    """PyTorch's update: the new batch weighs `momentum`, its variance unbiased."""
    unbiased = np.asarray(var) * count / (count - 1)
    return (1 - momentum) * _f64(old_mean) + momentum * mean, (1 - momentum) * _f64(old_var) + momentum * unbiased


def fourth_order_gradient(f, x, h=1e-3):
    """df/dx of a scalar function by (-f(x+2h) + 8 f(x+h) - 8 f(x-h) + f(x-2h)) / 12h, in float64."""
    x = np.array(x, np.float64)
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        at = x[i]
        values = []
        for step in (2 * h, h, -h, -2 * h):
            x[i] = at + step
            values.append(f(x))
        x[i] = at
        gradient[i] = (-values[0] + 8 * values[1] - 8 * values[2] + values[3]) / (12 * h)
    return gradient


def _f64(a):
    return np.asarray(a, np.float64)


def _columns(x, axis):
    return np.moveaxis(_f64(x), axis, 0).reshape(x.shape[axis], -1)


def _over(v, x, axis):
    shape = [1] * x.ndim
    shape[axis] = -1
    return np.reshape(v, shape)


def _sum(a, axis):
    return np.array([math.fsum(column) for column in _columns(a, axis)])
