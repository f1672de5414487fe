"""Inner loops over contiguous values that share their parameters.

Sums go to 16 lanes, four values a lane at a time, one after the other; a tail of up to 63 values goes to 64. That order
is fixed, and LLVM vectorises it without leave to reassociate; one value a lane at a time it unrolls, and no more.
Tails are functions of slices: of ``x[whole + i]`` LLVM cannot see that it does not wrap around.
"""

from __future__ import annotations

import numpy as np

from normcore.backends.numba_loops.activation import NONE, activate, chain
from normcore.backends.numba_loops.jit import compiled
from normcore.backends.numba_loops.scalars import (
    first_shift,
    fits_backward,
    fits_forward,
    moments,
    remainder,
    second_shift,
)

WIDTH = 16
LANES = 64
FUSED = {"contract"}  # for products of two float32, which are exact in float64: fused, a sum rounds as unfused
CHUNK = 2048  # values that an activation finds in L1 after they were written


@compiled(forceinline=True)
def clear(lanes):
    for i in range(LANES):
        lanes[0, i] = 0.0
        lanes[1, i] = 0.0


@compiled(forceinline=True)
def fold(lanes):
    """The sum of the lanes."""
    for i in range(WIDTH):
        lanes[i] = (lanes[i] + lanes[i + 16]) + (lanes[i + 32] + lanes[i + 48])
    for i in range(4):
        lanes[i] = (lanes[i] + lanes[i + 4]) + (lanes[i + 8] + lanes[i + 12])
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])


@compiled(forceinline=True)
def sum_tail(x, shift, sum1, sum2):
    for i in range(x.size):
        d = x[i] - shift
        sum1[i] += d
        sum2[i] += d * d


@compiled(forceinline=True)
def sum_shifted(x, shift, sum1, sum2):
    whole = x.size - x.size % LANES
    for i in range(0, whole, LANES):
        for lane in range(WIDTH):
            d0, d1 = x[i + lane] - shift, x[i + lane + 16] - shift
            d2, d3 = x[i + lane + 32] - shift, x[i + lane + 48] - shift
            sum1[lane] = sum1[lane] + d0 + d1 + d2 + d3
            sum2[lane] = sum2[lane] + d0 * d0 + d1 * d1 + d2 * d2 + d3 * d3


@compiled(forceinline=True, fastmath=FUSED)
def sum_raw(x, sum1, sum2):
    whole = x.size - x.size % LANES
    for i in range(0, whole, LANES):
        for lane in range(WIDTH):
            x0, x1 = np.float64(x[i + lane]), np.float64(x[i + lane + 16])
            x2, x3 = np.float64(x[i + lane + 32]), np.float64(x[i + lane + 48])
            sum1[lane] = sum1[lane] + x0 + x1 + x2 + x3
            sum2[lane] = sum2[lane] + x0 * x0 + x1 * x1 + x2 * x2 + x3 * x3


@compiled(forceinline=True)
def sum_run(x, shift, sum1, sum2):
    """Sums of x - shift and of its square."""
    if shift == 0.0 and x.itemsize == 4:
        sum_raw(x, sum1, sum2)
    else:
        sum_shifted(x, shift, sum1, sum2)
    sum_tail(x[x.size - x.size % LANES :], shift, sum1, sum2)


@compiled(forceinline=True)
def sum_gradients_tail(dz, x, centre, sum1, sum2):
    for i in range(x.size):
        g = np.float64(dz[i])
        sum1[i] += g
        sum2[i] += g * (x[i] - centre)


@compiled(forceinline=True)
def sum_gradients_centred(dz, x, centre, sum1, sum2):
    whole = x.size - x.size % LANES
    for i in range(0, whole, LANES):
        for lane in range(WIDTH):
            j = i + lane
            g0, g1, g2, g3 = np.float64(dz[j]), np.float64(dz[j + 16]), np.float64(dz[j + 32]), np.float64(dz[j + 48])
            d0, d1, d2, d3 = x[j] - centre, x[j + 16] - centre, x[j + 32] - centre, x[j + 48] - centre
            sum1[lane] = sum1[lane] + g0 + g1 + g2 + g3
            sum2[lane] = sum2[lane] + g0 * d0 + g1 * d1 + g2 * d2 + g3 * d3


@compiled(forceinline=True, fastmath=FUSED)
def sum_gradients_raw(dz, x, sum1, sum2):
    whole = x.size - x.size % LANES
    for i in range(0, whole, LANES):
        for lane in range(WIDTH):
            j = i + lane
            g0, g1, g2, g3 = np.float64(dz[j]), np.float64(dz[j + 16]), np.float64(dz[j + 32]), np.float64(dz[j + 48])
            sum1[lane] = sum1[lane] + g0 + g1 + g2 + g3
            sum2[lane] = sum2[lane] + g0 * x[j] + g1 * x[j + 16] + g2 * x[j + 32] + g3 * x[j + 48]


@compiled(forceinline=True)
def sum_gradients_run(dz, x, centre, sum1, sum2):
    """Sums of dz and of dz * (x - centre)."""
    if centre == 0.0 and x.itemsize == 4:
        sum_gradients_raw(dz, x, sum1, sum2)
    else:
        sum_gradients_centred(dz, x, centre, sum1, sum2)
    whole = x.size - x.size % LANES
    sum_gradients_tail(dz[whole:], x[whole:], centre, sum1, sum2)


@compiled()
def row_stats(x, r, eps, centred, lanes, mean, var, rstd):
    """Statistics of the row x, which is row r."""
    clear(lanes)
    shift = first_shift(x, 0, 1, x.size) if centred else np.float64(0.0)
    sum_run(x, shift, lanes[0], lanes[1])
    mean[r], var[r] = moments(fold(lanes[0]), fold(lanes[1]), np.float64(x.size), shift, centred)
    better = second_shift(shift, mean[r], var[r], x.itemsize)
    if better != shift:
        clear(lanes)
        sum_run(x, better, lanes[0], lanes[1])
        mean[r], var[r] = moments(fold(lanes[0]), fold(lanes[1]), np.float64(x.size), better, centred)
    rstd[r] = 1.0 / np.sqrt(var[r] + eps)


@compiled(forceinline=True)
def affine_run(x, high, low, scale, bias, y):
    for i in range(x.size):
        y[i] = ((x[i] - high) - low) * scale + bias


@compiled(forceinline=True)
def normalize_run(x, mean, scale, bias, y):
    """y = (x - mean) * scale + bias, in the dtype of storage where that loses nothing."""
    if fits_forward(mean, scale, bias):
        cast = x.dtype.type
        high = cast(mean)
        affine_run(x, high, cast(remainder(mean, high)), cast(scale), cast(bias), y)
    else:
        affine_run(x, mean, np.float64(0.0), scale, bias, y)


@compiled()
def forward_run(x, mean, scale, bias, activation, y):
    """y = act((x - mean) * scale + bias)"""
    if activation == NONE:
        normalize_run(x, mean, scale, bias, y)
        return
    for i in range(0, x.size, CHUNK):
        chunk = y[i : i + CHUNK]
        normalize_run(x[i : i + CHUNK], mean, scale, bias, chunk)
        activate(activation, chunk)


@compiled()
def chain_run(dy, x, mean, scale, bias, activation, z, dz):
    """dz = dy * act'(z) with z recomputed, in the buffer z of CHUNK values. dz may be dy."""
    for i in range(0, x.size, CHUNK):
        part = x[i : i + CHUNK]
        normalize_run(part, mean, scale, bias, z[: part.size])
        chain(activation, dy[i : i + CHUNK], z[: part.size], dz[i : i + CHUNK])


@compiled(forceinline=True)
def input_gradient_loop(dz, x, high, low, weight, mean_dxhat, slope, scale, dx):
    for i in range(x.size):
        dx[i] = (dz[i] * weight - mean_dxhat - ((x[i] - high) - low) * slope) * scale


@compiled(forceinline=True)
def input_gradient_run(dz, x, mean, weight, mean_dxhat, slope, scale, dx):
    """dx = (dz * weight - mean(dxhat) - (x - mean) * slope) * scale; (x - mean) * slope = xhat * mean(dxhat * xhat)."""
    if fits_backward(mean, weight, mean_dxhat, slope, scale):
        cast = x.dtype.type
        high = cast(mean)
        low = cast(remainder(mean, high))
        input_gradient_loop(dz, x, high, low, cast(weight), cast(mean_dxhat), cast(slope), cast(scale), dx)
    else:
        input_gradient_loop(dz, x, mean, np.float64(0.0), weight, mean_dxhat, slope, scale, dx)


@compiled(forceinline=True)
def scale_run(dz, scale, dx):
    """dx = dz * scale: in inference the statistics do not depend on x."""
    for i in range(dz.size):
        dx[i] = dz[i] * scale
