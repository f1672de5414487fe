"""One statistics group: its moments from its sums, its numbers in the dtype of storage."""

from __future__ import annotations

import numpy as np

from normcore.backends.numba_loops.jit import compiled

# Float32 arithmetic neither overflows nor loses digits to subnormals with numbers in this range, products included.
LARGE = 2.0**60
SMALL = 2.0**-60
WEIGHT_LARGE = 2.0**30  # a gradient is multiplied by weight before anything takes its size away


@compiled()
def finite_or_zero(value):
    return np.float64(value) if np.isfinite(value) else np.float64(0.0)


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
    return moderate(mean) and moderate_factor(scale) and moderate(bias)


@compiled()
def fits_backward(mean, weight, mean_dxhat, slope, scale):
    small_weight = (abs(weight) < WEIGHT_LARGE and abs(weight) * WEIGHT_LARGE > 1.0) or weight == 0.0
    return small_weight and moderate(mean) and moderate(mean_dxhat) and moderate(slope) and moderate_factor(scale)


@compiled()
def remainder(mean, high):
    """What ``high``, the mean in the dtype of storage, leaves of it: x - high - low keeps all digits of x - mean."""
    low = mean - np.float64(high)
    return low if np.isfinite(low) else np.float64(0.0)
