"""Inner loops where neighbours in memory have parameters of their own.

Four rows at a time, because then the partial sums, which live in L1, are read and written a quarter as often. Each row
is a slice: LLVM vectorises that, and not an index computed from the row's number.
"""

from __future__ import annotations

import numpy as np

from normcore.backends.numba_loops.activation import NONE, activate, chain
from normcore.backends.numba_loops.jit import compiled
from normcore.backends.numba_loops.runs import FUSED
from normcore.backends.numba_loops.scalars import (
    first_shift,
    fits_backward,
    fits_forward,
    moments,
    remainder,
    second_shift,
)

NEAR_BYTES = 4_194_304  # of x: with the result it stays in cache
PAIRED = 512  # columns, at most, for two rows to be written at a time

# --- a few rows -------------------------------------------------------------------------------------------------------


@compiled(forceinline=True)
def add_row(x, shift, sum1, sum2):
    for c in range(x.size):
        d = x[c] - shift[c]
        sum1[c] += d
        sum2[c] += d * d


@compiled(forceinline=True)
def add_rows(x0, x1, x2, x3, shift, sum1, sum2):
    for c in range(shift.size):
        d0, d1, d2, d3 = x0[c] - shift[c], x1[c] - shift[c], x2[c] - shift[c], x3[c] - shift[c]
        sum1[c] = sum1[c] + d0 + d1 + d2 + d3
        sum2[c] = sum2[c] + d0 * d0 + d1 * d1 + d2 * d2 + d3 * d3


@compiled(forceinline=True, fastmath=FUSED)
def add_raw_rows(x0, x1, x2, x3, sum1, sum2):
    for c in range(sum1.size):
        d0, d1, d2, d3 = np.float64(x0[c]), np.float64(x1[c]), np.float64(x2[c]), np.float64(x3[c])
        sum1[c] = sum1[c] + d0 + d1 + d2 + d3
        sum2[c] = sum2[c] + d0 * d0 + d1 * d1 + d2 * d2 + d3 * d3


@compiled(forceinline=True)
def add_gradients_row(g, x, centre, sum1, sum2):
    for c in range(x.size):
        h = np.float64(g[c])
        sum1[c] += h
        sum2[c] += h * (x[c] - centre[c])


@compiled(forceinline=True)
def add_gradients_rows(g0, g1, g2, g3, x0, x1, x2, x3, centre, sum1, sum2):
    for c in range(centre.size):
        m, h0, h1, h2, h3 = centre[c], np.float64(g0[c]), np.float64(g1[c]), np.float64(g2[c]), np.float64(g3[c])
        sum1[c] = sum1[c] + h0 + h1 + h2 + h3
        sum2[c] = sum2[c] + h0 * (x0[c] - m) + h1 * (x1[c] - m) + h2 * (x2[c] - m) + h3 * (x3[c] - m)


@compiled(forceinline=True, fastmath=FUSED)
def add_raw_gradients_rows(g0, g1, g2, g3, x0, x1, x2, x3, sum1, sum2):
    for c in range(sum1.size):
        h0, h1, h2, h3 = np.float64(g0[c]), np.float64(g1[c]), np.float64(g2[c]), np.float64(g3[c])
        sum1[c] = sum1[c] + h0 + h1 + h2 + h3
        sum2[c] = sum2[c] + h0 * x0[c] + h1 * x1[c] + h2 * x2[c] + h3 * x3[c]


@compiled()
def all_zero(values):
    for value in values:  # noqa: SIM110 - Numba compiles no all() of a generator
        if value != 0.0:
            return False
    return True


@compiled(forceinline=True)
def affine_row(x, high, low, scale, bias, y):
    for c in range(x.size):
        y[c] = ((x[c] - high[c]) - low[c]) * scale[c] + bias[c]


@compiled(forceinline=True)
def affine_two_rows(x0, x1, high, low, scale, bias, y0, y1):
    for c in range(x0.size):
        first, rest, s, b = high[c], low[c], scale[c], bias[c]
        y0[c] = ((x0[c] - first) - rest) * s + b
        y1[c] = ((x1[c] - first) - rest) * s + b


@compiled(forceinline=True)
def input_gradient_two_rows(dz0, dz1, x0, x1, high, low, mean_dz, slope, scale, dx0, dx1):
    for c in range(x0.size):
        first, rest, m, b, s = high[c], low[c], mean_dz[c], slope[c], scale[c]
        dx0[c] = (dz0[c] - m - ((x0[c] - first) - rest) * b) * s
        dx1[c] = (dz1[c] - m - ((x1[c] - first) - rest) * b) * s


@compiled(forceinline=True)
def input_gradient_row(dz, x, high, low, mean_dz, slope, scale, dx):
    for c in range(x.size):
        dx[c] = (dz[c] - mean_dz[c] - ((x[c] - high[c]) - low[c]) * slope[c]) * scale[c]


@compiled(forceinline=True)
def scale_row(dz, scale, dx):
    for c in range(dz.size):
        dx[c] = dz[c] * scale[c]


# --- a part of the matrix: rows m0 to m1, columns a to b --------------------------------------------------------------
# x is flat; a row starts every `width` values; the last one may be shorter (rows folded into one leave a rest).


@compiled()
def sum_part(x, width, m0, m1, a, b, shift, sum1, sum2):
    full = min(m1, x.size // width)
    whole = m0 + max(0, full - m0) // 4 * 4
    raw = x.itemsize == 4 and all_zero(shift)
    for m in range(m0, whole, 4):
        i, j, size = m * width + a, width, b - a
        i1, i2, i3 = i + j, i + 2 * j, i + 3 * j
        x0, x1, x2, x3 = x[i : i + size], x[i1 : i1 + size], x[i2 : i2 + size], x[i3 : i3 + size]
        if raw:
            add_raw_rows(x0, x1, x2, x3, sum1, sum2)
        else:
            add_rows(x0, x1, x2, x3, shift, sum1, sum2)
    for m in range(whole, m1):
        add_row(x[m * width + a : min(m * width + b, x.size)], shift, sum1, sum2)


@compiled()
def chain_part(dy, x, width, m0, m1, a, b, params, first, activation, dz):
    """dz = dy * act'(z) with z recomputed; `params` start at column `first`. dz may be dy."""
    z = np.empty(b - a, x.dtype)
    p, q = a - first, b - first
    high, low, scale, bias = params[0, p:q], params[1, p:q], params[2, p:q], params[3, p:q]
    for m in range(m0, m1):
        i, j = m * width + a, min(m * width + b, x.size)
        affine_row(x[i:j], high, low, scale, bias, z)
        chain(activation, dy[i:j], z[: j - i], dz[i:j])


@compiled()
def sum_gradients_part(dz, x, width, m0, m1, a, b, centre, sum1, sum2):
    raw = x.itemsize == 4 and all_zero(centre)
    full = min(m1, x.size // width)
    whole = m0 + max(0, full - m0) // 4 * 4
    for m in range(m0, whole, 4):
        i, j, size = m * width + a, width, b - a
        i1, i2, i3 = i + j, i + 2 * j, i + 3 * j
        g0, g1, g2, g3 = dz[i : i + size], dz[i1 : i1 + size], dz[i2 : i2 + size], dz[i3 : i3 + size]
        x0, x1, x2, x3 = x[i : i + size], x[i1 : i1 + size], x[i2 : i2 + size], x[i3 : i3 + size]
        if raw:
            add_raw_gradients_rows(g0, g1, g2, g3, x0, x1, x2, x3, sum1, sum2)
        else:
            add_gradients_rows(g0, g1, g2, g3, x0, x1, x2, x3, centre, sum1, sum2)
    for m in range(whole, m1):
        i, j = m * width + a, min(m * width + b, x.size)
        add_gradients_row(dz[i:j], x[i:j], centre, sum1, sum2)


@compiled()
def pairs_of_rows(x, width, m0, m1, columns):
    """Up to which row two are written at a time, for one load of the parameters.

    Where the parameters are many it is slower, and for an array beyond the cache it gains nothing.
    """
    if columns > PAIRED or x.size * x.itemsize > NEAR_BYTES:
        return m0
    return m0 + max(0, min(m1, x.size // width) - m0) // 2 * 2


@compiled()
def write_part(x, width, m0, m1, a, b, params, first, activation, y):
    p, q = a - first, b - first
    high, low, scale, bias = params[0, p:q], params[1, p:q], params[2, p:q], params[3, p:q]
    pairs = pairs_of_rows(x, width, m0, m1, b - a)
    for m in range(m0, pairs, 2):
        i, j, size = m * width + a, (m + 1) * width + a, b - a
        affine_two_rows(x[i : i + size], x[j : j + size], high, low, scale, bias, y[i : i + size], y[j : j + size])
        if activation != NONE:
            activate(activation, y[i : i + size])
            activate(activation, y[j : j + size])
    for m in range(pairs, m1):
        i, j = m * width + a, min(m * width + b, x.size)
        affine_row(x[i:j], high, low, scale, bias, y[i:j])
        if activation != NONE:
            activate(activation, y[i:j])


@compiled()
def write_gradients_part(dz, x, width, m0, m1, a, b, params, first, training, dx):
    p, q = a - first, b - first
    high, low, mean_dz, slope, scale = params[0, p:q], params[1, p:q], params[2, p:q], params[3, p:q], params[4, p:q]
    pairs = pairs_of_rows(x, width, m0, m1, b - a) if training else m0
    for m in range(m0, pairs, 2):
        i, j, size = m * width + a, (m + 1) * width + a, b - a
        input_gradient_two_rows(
            dz[i : i + size], dz[j : j + size], x[i : i + size], x[j : j + size], high, low, mean_dz, slope, scale,
            dx[i : i + size], dx[j : j + size],
        )  # fmt: skip
    for m in range(pairs, m1):
        i, j = m * width + a, min(m * width + b, x.size)
        if training:
            input_gradient_row(dz[i:j], x[i:j], high, low, mean_dz, slope, scale, dx[i:j])
        else:
            scale_row(dz[i:j], scale, dx[i:j])


# --- parameters of channels c0 to c1, repeated for the columns of each and for the rows folded into one ---------------


@compiled()
def repeat(params, columns):
    for j in range(columns, params.shape[1]):
        for i in range(params.shape[0]):
            params[i, j] = params[i, j - columns]


@compiled()
def repeated(values, run, width):
    """A value for each channel, for each column."""
    columns = np.empty((1, width))
    for c in range(values.size):
        for j in range(c * run, (c + 1) * run):
            columns[0, j] = values[c]
    repeat(columns, values.size * run)
    return columns[0]


@compiled()
def first_shifts(x, c0, c1):
    """From the first run of each channel, or from all rows where runs are too short for that."""
    rows, channels, run = x.shape
    shift = np.empty(c1 - c0)
    for c in range(c0, c1):
        stride, count = (1, run) if run >= 4 else (channels * run, rows)
        shift[c - c0] = first_shift(x.reshape(-1), c * run, stride, count)
    return shift


@compiled()
def forward_params(params, weight, bias, mean, rstd, c0, c1, run):
    """Rows of `params`: mean, its remainder, scale, bias."""
    if params.shape[1] == 0:
        return
    for c in range(c0, c1):
        for j in range((c - c0) * run, (c - c0 + 1) * run):
            params[0, j] = mean[c]
            params[1, j] = remainder(mean[c], params[0, j])
            params[2, j] = rstd[c] * weight[c]
            params[3, j] = bias[c]
    repeat(params, (c1 - c0) * run)


@compiled()
def backward_params(params, weight, mean, rstd, dweight, dbias, c0, c1, run, count):
    """Rows of `params`: mean, its remainder, mean of dz, slope, scale."""
    if params.shape[1] == 0:
        return
    for c in range(c0, c1):
        for j in range((c - c0) * run, (c - c0 + 1) * run):
            params[0, j] = mean[c]
            params[1, j] = remainder(mean[c], params[0, j])
            params[2, j] = dbias[c] / count
            params[3, j] = rstd[c] * dweight[c] / count
            params[4, j] = rstd[c] * weight[c]
    repeat(params, (c1 - c0) * run)


@compiled()
def all_fit_forward(weight, bias, mean, rstd, c0, c1):
    fit = True
    for c in range(c0, c1):
        fit = fit and fits_forward(mean[c], rstd[c] * weight[c], bias[c])
    return fit


@compiled()
def all_fit_backward(weight, mean, rstd, dweight, dbias, c0, c1, count):
    fit = True
    for c in range(c0, c1):
        slope = rstd[c] * dweight[c] / count
        fit = fit and fits_backward(mean[c], np.float64(1.0), dbias[c] / count, slope, rstd[c] * weight[c])
    return fit


@compiled()
def sum_of_channel(sums, c, columns, run):
    """Fold the columns of channel c, over all rows folded into one."""
    total = np.float64(0.0)
    for start in range(c * run, sums.size, columns):
        for j in range(start, start + run):
            total += sums[j]
    return total


@compiled()
def finish_stats(x, c0, c1, shift, sum1, sum2, mean, var):
    """Mean and variance; whether to sum again, with other shifts."""
    run = x.shape[2]
    count = np.float64(x.shape[0]) * np.float64(run)
    columns = (c1 - c0) * run
    again = False
    for c in range(c0, c1):
        k = c - c0
        total1, total2 = sum_of_channel(sum1, k, columns, run), sum_of_channel(sum2, k, columns, run)
        mean[c], var[c] = moments(total1, total2, count, shift[k], True)
        better = second_shift(shift[k], mean[c], var[c], x.itemsize)
        again = again or better != shift[k]
        shift[k] = better
    return again


@compiled()
def finish_gradients(c0, c1, run, sum1, sum2, centre, mean, rstd, dweight, dbias):
    """dweight and dbias; whether to sum again, for infinities must not meet when the mean is taken out afterwards."""
    columns = (c1 - c0) * run
    again = False
    for c in range(c0, c1):
        k = c - c0
        dbias[c] = sum_of_channel(sum1, k, columns, run)
        total = sum_of_channel(sum2, k, columns, run)
        taken = (mean[c] - centre[k]) * dbias[c] if centre[k] != mean[c] else 0.0  # 0 * inf is NaN
        dweight[c] = (total - taken) * rstd[c]
        if centre[k] != mean[c] and np.isfinite(mean[c]) and not np.isfinite(dweight[c]):
            again = True
            centre[k] = mean[c]
    return again
