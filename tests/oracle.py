"""The norms written a second time, from the papers, in float64: imports nothing from normcore.

Plain and slow on purpose: one group at a time, and sums that are right to the last digit (`math.fsum`), so that a
disagreement is the library's. Names follow the paper (Ioffe & Szegedy 2015, algorithm 1 and its chain rule).

Batch norm comes first, by axis. Below it any norm, told by two arrays of labels with the shape of x: which statistics
group each value belongs to, and which parameter scales and shifts it. No walk, no layout: nothing to share a mistake
with the library.
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


# --- any norm, by labels ----------------------------------------------------------------------------------------------


def norm(x, groups, parameters, weight=None, bias=None, *, eps=1e-5, centred=True, activation=None):
    """Normalise each group of labels; weight and bias are numbered by `parameters`. y is not rounded to x's dtype."""
    mean, var = [], []
    for values in gathered(x, groups):
        m = math.fsum(values) / len(values) if centred else 0.0
        deviations = values - m
        drift = math.fsum(deviations) / len(values) if centred else 0.0
        mean.append(m)
        var.append(math.fsum((deviations - drift) ** 2) / len(values))
    mean, var = np.array(mean), np.array(var)
    rstd = 1.0 / np.sqrt(var + eps)
    z = (_f64(x) - mean[groups]) * rstd[groups]
    if weight is not None:
        z = z * _f64(weight).ravel()[parameters]
    if bias is not None:
        z = z + _f64(bias).ravel()[parameters]
    return Forward(each(ACTIVATIONS[activation][0], z), mean, var, rstd)


def norm_backward(
    dy, x, groups, parameters, weight=None, bias=None, *, eps=1e-5, centred=True, activation=None
):  # fmt: skip
    """The gradients in float64, through the statistics, the chain rule taken one equation after the other."""
    z, mean, _, rstd = norm(x, groups, parameters, weight, bias, eps=eps, centred=centred)
    dz = _f64(dy) * each(ACTIVATIONS[activation][1], z)
    centred_x = _f64(x) - mean[groups]
    xhat = centred_x * rstd[groups]
    dbias = np.array([math.fsum(v) for v in gathered(dz, parameters)])
    dweight = np.array([math.fsum(v) for v in gathered(dz * xhat, parameters)])
    dxhat = dz if weight is None else dz * _f64(weight).ravel()[parameters]
    count = np.bincount(groups.ravel())[groups]
    dvar = np.array([math.fsum(v) for v in gathered(dxhat * centred_x, groups)]) * -0.5 * rstd**3
    dx = dxhat * rstd[groups] + dvar[groups] * 2.0 * centred_x / count
    if centred:
        dmean = np.array([math.fsum(v) for v in gathered(dxhat, groups)]) * -rstd
        dmean += dvar * np.array([math.fsum(v) for v in gathered(-2.0 * centred_x / count, groups)])
        dx = dx + dmean[groups] / count
    return Backward(dx, dweight, dbias)


def gathered(values, labels):
    """The values of each label 0, 1, 2, ..., as one-dimensional float64 arrays."""
    labels = labels.ravel()
    order = np.argsort(labels, kind="stable")
    return np.split(_f64(values).ravel()[order], np.cumsum(np.bincount(labels))[:-1])


def each(function, values):
    return np.array([function(v) for v in values.ravel()]).reshape(values.shape)


def _sigmoid(z):
    return 1.0 / (1.0 + math.exp(-z)) if z > -700 else math.exp(z)


def _phi(z):
    """The normal distribution function; erfc does not cancel where it is small."""
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def _gelu_tanh(z):
    return 0.5 * z * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3)))


def _gelu_tanh_derivative(z):
    # (1 + tanh u) / 2 = sigmoid(2u)
    s = _sigmoid(2.0 * math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3))
    return s + z * s * (1.0 - s) * 2.0 * math.sqrt(2.0 / math.pi) * (1.0 + 0.134145 * z * z)


# name: the function and its derivative, of one number
ACTIVATIONS = {
    None: (lambda z: z, lambda _: 1.0),
    "relu": (lambda z: max(z, 0.0), lambda z: float(z > 0)),
    "leaky_relu": (lambda z: z if z > 0 else 0.01 * z, lambda z: 1.0 if z > 0 else 0.01),
    "sigmoid": (_sigmoid, lambda z: _sigmoid(z) * _sigmoid(-z)),
    "tanh": (math.tanh, lambda z: 1.0 / math.cosh(z) ** 2 if abs(z) < 300 else 0.0),
    "gelu": (
        lambda z: z * _phi(z),
        lambda z: _phi(z) + z * math.exp(-z * z / 2) / math.sqrt(2 * math.pi),
    ),
    "gelu_tanh": (_gelu_tanh, _gelu_tanh_derivative),
    "silu": (lambda z: z * _sigmoid(z), lambda z: _sigmoid(z) * (1.0 + z * _sigmoid(-z))),
}


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
