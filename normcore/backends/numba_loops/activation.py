"""The activations and their derivatives, in place over contiguous values that were just written.

In arithmetic of their own rather than the C library's, because LLVM vectorises no call to ``exp`` or ``erf``: float64
throughout, so float32 storage sees one rounding. Largest errors against mpmath, in units of float64's eps: exponential
1.1, the normal distribution 4 (and relative, also in its tail).
"""

from __future__ import annotations

import math

import numpy as np

from normcore.backends.numba_loops.jit import compiled

NONE, RELU, LEAKY_RELU, SIGMOID, TANH, GELU, GELU_TANH, SILU = range(8)
SLOPE = 0.01  # of leaky_relu

_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_TO_INTEGER = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer, found in the low bits
_LOWEST = -708.0  # exp of it is the smallest normal number
_SQRT_HALF = 0.7071067811865476
_INVERSE_SQRT_2PI = 0.3989422804014327
_TWICE_SQRT_2_OVER_PI = 1.5957691216057308
_CUBE = 0.044715


@compiled(forceinline=True)
def exp_parts(x):
    """2^k and exp(r) - 1 with x = k ln 2 + r and |r| <= ln 2 / 2, for x <= 0. NaN comes through."""
    x = _LOWEST if x < _LOWEST else x
    shifted = np.float64(x * _LOG2_E + _TO_INTEGER)
    k = shifted - _TO_INTEGER
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    power = np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)
    p = r * (1 / 6227020800) + 1 / 479001600  # Taylor: the next term is below eps / 50
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 1 / 2
    return power, r + r * r * p


@compiled(forceinline=True)
def exp_negative(x):
    """exp(x) for x <= 0."""
    power, p = exp_parts(x)
    return 0.0 if x < _LOWEST else power + power * p


@compiled(forceinline=True)
def sigmoid(z):
    e = exp_negative(-abs(z))
    return (1.0 if z >= 0.0 else e) / (1.0 + e)


@compiled(forceinline=True)
def tanh(z):
    power, p = exp_parts(-2.0 * abs(z))
    expm1 = (power - 1.0) + power * p  # so that small z keep all their digits
    return math.copysign(-expm1 / (expm1 + 2.0), z) if z == z else z


@compiled(forceinline=True)
def normal(z):
    """The normal distribution function and its density at z."""
    a = abs(z) * _SQRT_HALF
    a = 40.0 if a > 40.0 else a
    density = exp_negative(-0.5 * z * z)
    t = (a - 4.0) / (a + 4.0)
    # (1 + 2 a) exp(a^2) erfc(a) interpolated at 24 Chebyshev nodes
    p = t * 9.655408225482863e-10 + 1.5712153638319064e-09
    p = p * t - 1.2544825403855518e-08
    p = p * t - 1.6357383982124768e-08
    p = p * t + 1.0683442926744586e-07
    p = p * t + 7.111912428010423e-08
    p = p * t - 8.218020654813044e-07
    p = p * t + 2.980596055322769e-07
    p = p * t + 5.707239573693257e-06
    p = p * t - 1.1225140354449658e-05
    p = p * t - 2.439811794207995e-05
    p = p * t + 0.0001506231178516207
    p = p * t - 0.00019925700412184815
    p = p * t - 0.0007577737141838885
    p = p * t + 0.005031970032548695
    p = p * t - 0.01619773397992426
    p = p * t + 0.0371675155318432
    p = p * t - 0.06633036582050367
    p = p * t + 0.09373283499865172
    p = p * t - 0.10103906603585294
    p = p * t + 0.0680970542546862
    p = p * t + 0.015379652102610162
    p = p * t - 0.1396211168405625
    p = p * t + 1.2329951186255526
    tail = 0.5 * density * p / (1.0 + 2.0 * a)
    return (1.0 - tail if z > 0.0 else tail), density * _INVERSE_SQRT_2PI


@compiled(forceinline=True)
def gelu(z):
    return z * normal(z)[0]


@compiled(forceinline=True)
def gelu_derivative(z):
    distribution, density = normal(z)
    return distribution + z * density


@compiled(forceinline=True)
def gelu_tanh(z):
    """z (1 + tanh(u)) / 2 = z sigmoid(2 u)"""
    return z * sigmoid(_TWICE_SQRT_2_OVER_PI * z * (1.0 + _CUBE * z * z))


@compiled(forceinline=True)
def gelu_tanh_derivative(z):
    s = sigmoid(_TWICE_SQRT_2_OVER_PI * z * (1.0 + _CUBE * z * z))
    return s + z * s * (1.0 - s) * (_TWICE_SQRT_2_OVER_PI * (1.0 + 3.0 * _CUBE * z * z))


@compiled(forceinline=True)
def silu_derivative(z):
    s = sigmoid(z)
    return s + z * s * (1.0 - s)


@compiled()
def activate(activation, y):
    """y = act(y), one loop for each activation."""
    if activation == RELU:
        zero = y.dtype.type(0.0)
        for i in range(y.size):
            z = y[i]
            y[i] = zero if z < zero else z  # NaN stays
    elif activation == LEAKY_RELU:
        for i in range(y.size):
            z = np.float64(y[i])
            y[i] = z * SLOPE if z < 0.0 else z
    elif activation == SIGMOID:
        for i in range(y.size):
            y[i] = sigmoid(np.float64(y[i]))
    elif activation == TANH:
        for i in range(y.size):
            y[i] = tanh(np.float64(y[i]))
    elif activation == GELU:
        for i in range(y.size):
            y[i] = gelu(np.float64(y[i]))
    elif activation == GELU_TANH:
        for i in range(y.size):
            y[i] = gelu_tanh(np.float64(y[i]))
    elif activation == SILU:
        for i in range(y.size):
            z = np.float64(y[i])
            y[i] = z * sigmoid(z)


@compiled()
def chain(activation, dy, z, dz):
    """dz = dy * act'(z); dz may be dy."""
    if activation == RELU:
        zero = z.dtype.type(0.0)
        for i in range(z.size):
            dz[i] = zero if z[i] <= zero else dy[i]
    elif activation == LEAKY_RELU:
        for i in range(z.size):
            dz[i] = dy[i] * (1.0 if z[i] > 0 else SLOPE)
    elif activation == SIGMOID:
        for i in range(z.size):
            s = sigmoid(np.float64(z[i]))
            dz[i] = dy[i] * (s * (1.0 - s))
    elif activation == TANH:
        for i in range(z.size):
            t = tanh(np.float64(z[i]))
            dz[i] = dy[i] * (1.0 - t * t)
    elif activation == GELU:
        for i in range(z.size):
            dz[i] = dy[i] * gelu_derivative(np.float64(z[i]))
    elif activation == GELU_TANH:
        for i in range(z.size):
            dz[i] = dy[i] * gelu_tanh_derivative(np.float64(z[i]))
    elif activation == SILU:
        for i in range(z.size):
            dz[i] = dy[i] * silu_derivative(np.float64(z[i]))
