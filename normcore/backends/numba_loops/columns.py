"""Inner loops where neighbours in memory have parameters of their own.

Four rows at a time, because then the partial sums, which live in L1, are read and written a quarter as often. Each row
is a slice: LLVM vectorises that, and not an index computed from the row's number.
"""

from __future__ import annotations

import numpy as np

from normcore.backends.numba_loops.activation import NONE, activate, chain
from normcore.backends.numba_loops.jit import compiled
from normcore.backends.numba_loops.scalars import (
    finite_or_zero,
    fits_backward,
    fits_forward,
    moments,
    remainder,
)

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
        sum1[c] += (d0 + d1) + (d2 + d3)
        sum2[c] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)


@compiled(forceinline=True)
def add_gradients_row(g, x, mean, sum1, sum2):
    for c in range(x.size):
        sum1[c] += g[c]
        sum2[c] += g[c] * (x[c] - mean[c])


@compiled(forceinline=True)
def add_gradients_rows(g0, g1, g2, g3, x0, x1, x2, x3, mean, sum1, sum2):
    for c in range(mean.size):
        m, h0, h1, h2, h3 = mean[c], np.float64(g0[c]), np.float64(g1[c]), np.float64(g2[c]), np.float64(g3[c])
        sum1[c] += (h0 + h1) + (h2 + h3)
        sum2[c] += (h0 * (x0[c] - m) + h1 * (x1[c] - m)) + (h2 * (x2[c] - m) + h3 * (x3[c] - m))


@compiled(forceinline=True)
def affine_row(x, high, low, scale, bias, y):
    for c in range(x.size):
        y[c] = ((x[c] - high[c]) - low[c]) * scale[c] + bias[c]


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
    for m in range(m0, whole, 4):
        i, j, size = m * width + a, width, b - a
        add_rows(
            x[i : i + size], x[i + j : i + j + size], x[i + 2 * j : i + 2 * j + size], x[i + 3 * j : i + 3 * j + size],
            shift, sum1, sum2,
        )  # fmt: skip
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
def sum_gradients_part(dz, x, width, m0, m1, a, b, mean, sum1, sum2):
    full = min(m1, x.size // width)
    whole = m0 + max(0, full - m0) // 4 * 4
    for m in range(m0, whole, 4):
        i, j, size = m * width + a, width, b - a
        i1, i2, i3 = i + j, i + 2 * j, i + 3 * j
        add_gradients_rows(
            dz[i : i + size], dz[i1 : i1 + size], dz[i2 : i2 + size], dz[i3 : i3 + size],
            x[i : i + size], x[i1 : i1 + size], x[i2 : i2 + size], x[i3 : i3 + size], mean, sum1, sum2,
        )  # fmt: skip
    for m in range(whole, m1):
        i, j = m * width + a, min(m * width + b, x.size)
        add_gradients_row(dz[i:j], x[i:j], mean, sum1, sum2)


@compiled()
def write_part(x, width, m0, m1, a, b, params, first, activation, y):
    p, q = a - first, b - first
    high, low, scale, bias = params[0, p:q], params[1, p:q], params[2, p:q], params[3, p:q]
    for m in range(m0, m1):
        i, j = m * width + a, min(m * width + b, x.size)
        affine_row(x[i:j], high, low, scale, bias, y[i:j])
        if activation != NONE:
            activate(activation, y[i:j])


@compiled()
def write_gradients_part(dz, x, width, m0, m1, a, b, params, first, training, dx):
    p, q = a - first, b - first
    high, low, mean_dz, slope, scale = params[0, p:q], params[1, p:q], params[2, p:q], params[3, p:q], params[4, p:q]
    for m in range(m0, m1):
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
def shifts(x, c0, c1, width):
    """The first value of each channel."""
    shift = np.empty((1, width))
    for c in range(c0, c1):
        value = finite_or_zero(x[0, c, 0])
        for j in range((c - c0) * x.shape[2], (c - c0 + 1) * x.shape[2]):
            shift[0, j] = value
    repeat(shift, (c1 - c0) * x.shape[2])
    return shift[0]


@compiled()
def means(mean, c0, c1, run, width):
    repeated = np.empty((1, width))
    for c in range(c0, c1):
        for j in range((c - c0) * run, (c - c0 + 1) * run):
            repeated[0, j] = mean[c]
    repeat(repeated, (c1 - c0) * run)
    return repeated[0]


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
    run = x.shape[2]
    count = np.float64(x.shape[0]) * np.float64(run)
    columns = (c1 - c0) * run
    for c in range(c0, c1):
        total1 = sum_of_channel(sum1, c - c0, columns, run)
        total2 = sum_of_channel(sum2, c - c0, columns, run)
        mean[c], var[c] = moments(total1, total2, count, shift[(c - c0) * run], True)


@compiled()
def finish_gradients(c0, c1, run, sum1, sum2, rstd, dweight, dbias):
    columns = (c1 - c0) * run
    for c in range(c0, c1):
        dbias[c] = sum_of_channel(sum1, c - c0, columns, run)
        dweight[c] = sum_of_channel(sum2, c - c0, columns, run) * rstd[c]
