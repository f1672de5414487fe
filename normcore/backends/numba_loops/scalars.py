"""One statistics group: its moments from its sums, its numbers in the dtype of storage."""

from __future__ import annotations

import numpy as np

from normcore.backends.numba_loops.jit import compiled

# Float32 arithmetic neither overflows nor loses digits to subnormals with numbers in this range, products included.
LARGE = 2.0**60
SMALL = 2.0**-60
FAR = 4.0
WEIGHT_LARGE = 2.0**30  # a gradient is multiplied by weight before anything takes its size away


@compiled()
def finite_or_zero(value):
    return np.float64(value) if np.isfinite(value) else np.float64(0.0)


@compiled()
def first_shift(x, start, stride, count):
    """The shift to begin with, of a group that has `count` values `stride` apart: 0 where four of them surround it.

    Float32 is then summed as it is: its squares are exact in float64.
    """
    first = np.float64(x[start])
    if x.itemsize > 4:
        return finite_or_zero(first)
    low, high = first, first
    for i in range(1, 4):
        value = np.float64(x[start + i * (count - 1) // 3 * stride])
        low, high = min(low, value), max(high, value)
    if high - low > 0.25 * max(abs(low), abs(high)):
        return np.float64(0.0)
    return finite_or_zero(first)


@compiled()
def second_shift(shift, mean, var, itemsize):
    """The shift to sum again with; the same one where the sums are good.

    They are with a shift within FAR deviations of the mean: four of 53 bits cancel then.
    """
    mean_xshift = mean - shift
    if not mean_xshift * mean_xshift > FAR * FAR * var:
        return shift
    return finite_or_zero(mean if itemsize > 4 else np.float64(np.float32(mean)))


@compiled()
def centre_of_sums(mean, rstd, itemsize):
    """What a backward pass takes from x before it multiplies with dz: 0 where the mean may be taken out afterwards."""
    near = abs(mean) * rstd <= FAR
    return np.float64(0.0) if itemsize == 4 and near else mean


@compiled()
def centres(mean, rstd, c0, c1, itemsize):
    centre = np.empty(c1 - c0)
    for c in range(c0, c1):
        centre[c - c0] = centre_of_sums(mean[c], rstd[c], itemsize)
    return centre


@compiled()
def is_tame(mean, rstd):
    """Whether the sums of a backward pass may be tried in float32."""
    return moderate_factor(mean) and 1e-10 < rstd < 1e10


@compiled()
def is_sound_sum(value):
    return value == 0.0 or 1e-25 < abs(value) < 1e30


@compiled()
def is_sound(sum1, sum2):
    """Whether they came out: far from overflow, and not so small that products may have vanished."""
    return is_sound_sum(sum1) and is_sound_sum(sum2)


@compiled()
def moments(sum1, sum2, count, shift, centred):
    """Mean and population variance from the sums of ``x - shift`` and of its square."""
    if not centred:  # RMS: shift is 0
        return np.float64(0.0), sum2 / count
    mean_xshift = sum1 / count
    var = (sum2 - sum1 * mean_xshift) / count
    if var < 0.0:  # rounding; NaN stays
        var = np.float64(0.0)
    return shift + mean_xshift, var


@compiled()
def moderate(value):
    """Whether float32 holds it well. Inf and NaN are right in any format and must not change their neighbours' bits."""
    return abs(value) < LARGE or not np.isfinite(value)


@compiled()
def moderate_factor(value):
    return (abs(value) < LARGE and (abs(value) > SMALL or value == 0.0)) or not np.isfinite(value)


@compiled()
def fits_forward(mean, scale, bias):
    """Whether the normalisation may be computed in float32 without losing more than rounding."""
    return moderate_factor(mean) and moderate_factor(scale) and moderate(bias)


@compiled()
def fits_backward(mean, weight, mean_dxhat, slope, scale):
    small_weight = (abs(weight) < WEIGHT_LARGE and abs(weight) * WEIGHT_LARGE > 1.0) or weight == 0.0
    return (
        small_weight and moderate_factor(mean) and moderate(mean_dxhat) and moderate(slope) and moderate_factor(scale)
    )


@compiled()
def remainder(mean, high):
    """What ``high``, the mean in the dtype of storage, leaves of it: x - high - low keeps all digits of x - mean."""
    low = mean - np.float64(high)
    return low if np.isfinite(low) else np.float64(0.0)
