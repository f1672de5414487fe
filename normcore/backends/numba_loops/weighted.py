"""The rows walk where each value has its weight and bias: layer and RMS norm, and short segments. x is (R, D).

The parameters are (P,), those of row r start at r * D % P; `weights` and `biases` are the same in the dtype of storage,
and `fit` says whether that holds them. A task takes a block of rows through all passes; sums of a backward pass, then
the parameters' gradients, then dx of a few rows at a time.

What has to be done in float64 has a loop of its own, after the usual one: in one loop, a branch to it cost 45 ns a row.
"""

from __future__ import annotations

import numpy as np

from normcore.backends.numba_loops.activation import NONE, activate, chain
from normcore.backends.numba_loops.jit import compiled, prange, serial_and_parallel
from normcore.backends.numba_loops.runs import LANES, WIDTH, clear, fold, row_stats
from normcore.backends.numba_loops.scalars import fits_backward, fits_forward, is_sound, is_tame, remainder

ROWS = 8  # that are in the nearest cache through the passes of backward

# --- inner loops ------------------------------------------------------------------------------------------------------


@compiled(forceinline=True)
def affine_loop(x, high, low, scale, weight, bias, y):
    for k in range(x.size):
        y[k] = ((x[k] - high) - low) * scale * weight[k] + bias[k]


@compiled(forceinline=True)
def sum_tail(dz, x, weight, centre, sum1, sum2):
    for i in range(x.size):
        g = dz[i] * weight[i]
        sum1[i] += g
        sum2[i] += g * (x[i] - centre)


@compiled(forceinline=True)
def sum_row(dz, x, weight, centre, sum1, sum2):
    """Sums of dxhat = dz * weight and of dxhat * (x - centre); four terms in the dtype of weight and centre."""
    whole = x.size - x.size % LANES
    for i in range(0, whole, LANES):
        for lane in range(WIDTH):
            j = i + lane
            g0, g1 = dz[j] * weight[j], dz[j + 16] * weight[j + 16]
            g2, g3 = dz[j + 32] * weight[j + 32], dz[j + 48] * weight[j + 48]
            sum1[lane] += (g0 + g1) + (g2 + g3)
            sum2[lane] += (g0 * (x[j] - centre) + g1 * (x[j + 16] - centre)) + (
                g2 * (x[j + 32] - centre) + g3 * (x[j + 48] - centre)
            )
    sum_tail(dz[whole:], x[whole:], weight[whole:], centre, sum1, sum2)


@compiled(forceinline=True)
def input_gradient_loop(dz, x, high, low, weight, mean_dxhat, slope, scale, dx):
    for k in range(x.size):
        dx[k] = (dz[k] * weight[k] - mean_dxhat - ((x[k] - high) - low) * slope) * scale


@compiled(forceinline=True)
def add_parameter_gradients(dz, x, mean, rstd, dweight, dbias):
    for k in range(x.size):
        g = np.float64(dz[k])
        dweight[k] += g * ((x[k] - mean) * rstd)
        dbias[k] += g


@compiled(forceinline=True)
def add_parameter_gradients_of_two(dz0, dz1, x0, x1, mean0, mean1, rstd0, rstd1, dweight, dbias):
    for k in range(dweight.size):
        g0, g1 = np.float64(dz0[k]), np.float64(dz1[k])
        dweight[k] += g0 * ((x0[k] - mean0) * rstd0) + g1 * ((x1[k] - mean1) * rstd1)
        dbias[k] += g0 + g1


# --- forward ----------------------------------------------------------------------------------------------------------


@compiled()
def fits_row(mean, rstd):
    return fits_forward(mean, rstd, np.float64(0.0))


@compiled()
def write_row(x, mean, rstd, weights, biases, activation, y):
    cast = x.dtype.type
    high = cast(mean)
    affine_loop(x, high, cast(remainder(mean, high)), cast(rstd), weights, biases, y)
    if activation != NONE:
        activate(activation, y)


@compiled()
def write_exact_rows(x, weight, bias, fit, mean, rstd, activation, y, r0, r1):
    size = x.shape[1]
    for r in range(r0, r1):
        if not (fit and fits_row(mean[r], rstd[r])):
            k = r * size % weight.size
            affine_loop(x[r], mean[r], np.float64(0.0), rstd[r], weight[k : k + size], bias[k : k + size], y[r])
            if activation != NONE:
                activate(activation, y[r])


@compiled()
def forward_block(
    x, weight, bias, weights, biases, fit, mean, var, rstd, y, eps, centred, activation, r0, r1
):  # fmt: skip
    lanes = np.empty((2, LANES))
    size, exact = x.shape[1], False
    for r in range(r0, r1):
        row_stats(x[r], r, eps, centred, lanes, mean, var, rstd)
        if fit and fits_row(mean[r], rstd[r]):
            k = r * size % weight.size
            write_row(x[r], mean[r], rstd[r], weights[k : k + size], biases[k : k + size], activation, y[r])
        else:
            exact = True
    if exact:
        write_exact_rows(x, weight, bias, fit, mean, rstd, activation, y, r0, r1)


# --- backward ---------------------------------------------------------------------------------------------------------


@compiled()
def chain_rows(dy, x, mean, rstd, weight, bias, weights, biases, fit, activation, dz, r0, r1):
    """dz = dy * act'(z) with z recomputed."""
    size = x.shape[1]
    z = np.empty((r1 - r0, size), x.dtype)
    exact = False
    for r in range(r0, r1):
        if fit and fits_row(mean[r], rstd[r]):
            k = r * size % weight.size
            write_row(x[r], mean[r], rstd[r], weights[k : k + size], biases[k : k + size], NONE, z[r - r0])
        else:
            exact = True
    if exact:
        for r in range(r0, r1):
            if not (fit and fits_row(mean[r], rstd[r])):
                k = r * size % weight.size
                w, b = weight[k : k + size], bias[k : k + size]
                affine_loop(x[r], mean[r], np.float64(0.0), rstd[r], w, b, z[r - r0])
    for r in range(r0, r1):
        chain(activation, dy[r], z[r - r0], dz[r])


@compiled()
def narrow_sums(dz, x, mean, weights, lanes):
    clear(lanes)
    centre = x.dtype.type(mean)
    sum_row(dz, x, weights, centre, lanes[0], lanes[1])
    sum1 = fold(lanes[0])
    return sum1, fold(lanes[1]) - sum1 * (mean - np.float64(centre))


@compiled()
def sum_rows(dz, x, mean, rstd, weight, weights, fit, lanes, sums, r0, r1):
    """Sums of dxhat and of dxhat * (x - mean). Only dx comes from them: float32 where that loses nothing it keeps."""
    size, exact = x.shape[1], False
    narrow = fit and x.itemsize == 4
    for r in range(r0, r1):
        i, k = r - r0, r * size % weight.size
        if narrow and is_tame(mean[r], rstd[r]):
            sums[i, 0], sums[i, 1] = narrow_sums(dz[r], x[r], mean[r], weights[k : k + size], lanes)
        exact = exact or not (narrow and is_tame(mean[r], rstd[r]) and is_sound(sums[i, 0], sums[i, 1]))
    if not exact:
        return
    for r in range(r0, r1):
        i, k = r - r0, r * size % weight.size
        if not (narrow and is_tame(mean[r], rstd[r]) and is_sound(sums[i, 0], sums[i, 1])):
            clear(lanes)
            sum_row(dz[r], x[r], weight[k : k + size], mean[r], lanes[0], lanes[1])
            sums[i, 0], sums[i, 1] = fold(lanes[0]), fold(lanes[1])


@compiled()
def add_parameter_gradients_of_rows(dz, x, mean, rstd, dweight, dbias, r0, r1):
    size = x.shape[1]
    pairs = r0 + (r1 - r0) // 2 * 2 if dweight.size == size else r0  # of rows with the same parameters
    for r in range(r0, pairs, 2):
        q = r + 1
        add_parameter_gradients_of_two(
            dz[r], dz[q], x[r], x[q], mean[r], mean[q], rstd[r], rstd[q], dweight, dbias
        )  # fmt: skip
    for r in range(pairs, r1):
        k = r * size % dweight.size
        add_parameter_gradients(dz[r], x[r], mean[r], rstd[r], dweight[k : k + size], dbias[k : k + size])


@compiled()
def slopes(sums, i, rstd, size, centred):
    """mean(dxhat), and rstd * mean(dxhat * xhat)."""
    return (sums[i, 0] / size if centred else np.float64(0.0)), rstd * rstd * sums[i, 1] / size


@compiled()
def write_gradients(dz, x, mean, rstd, weight, weights, fit, centred, sums, dx, r0, r1):
    size, exact, one = x.shape[1], False, np.float64(1.0)
    cast = x.dtype.type
    for r in range(r0, r1):
        mean_dxhat, slope = slopes(sums, r - r0, rstd[r], size, centred)
        if fit and fits_backward(mean[r], one, mean_dxhat, slope, rstd[r]):
            k, high = r * size % weight.size, cast(mean[r])
            low, w = cast(remainder(mean[r], high)), weights[k : k + size]
            input_gradient_loop(dz[r], x[r], high, low, w, cast(mean_dxhat), cast(slope), cast(rstd[r]), dx[r])
        else:
            exact = True
    if not exact:
        return
    for r in range(r0, r1):
        mean_dxhat, slope = slopes(sums, r - r0, rstd[r], size, centred)
        if not (fit and fits_backward(mean[r], one, mean_dxhat, slope, rstd[r])):
            k = r * size % weight.size
            w = weight[k : k + size]
            input_gradient_loop(dz[r], x[r], mean[r], np.float64(0.0), w, mean_dxhat, slope, rstd[r], dx[r])


@compiled()
def backward_block(
    dy, x, weight, bias, weights, biases, fit, mean, rstd, dx, dweight, dbias, centred, activation, r0, r1
):  # fmt: skip
    lanes, sums = np.empty((2, LANES)), np.empty((ROWS, 2))
    dz = dy if activation == NONE else dx
    for first in range(r0, r1, ROWS):
        last = min(first + ROWS, r1)
        if activation != NONE:
            chain_rows(dy, x, mean, rstd, weight, bias, weights, biases, fit, activation, dx, first, last)
        sum_rows(dz, x, mean, rstd, weight, weights, fit, lanes, sums, first, last)
        add_parameter_gradients_of_rows(dz, x, mean, rstd, dweight, dbias, first, last)
        write_gradients(dz, x, mean, rstd, weight, weights, fit, centred, sums, dx, first, last)


# --- drivers ----------------------------------------------------------------------------------------------------------


@serial_and_parallel
def forward(x, weight, bias, weights, biases, fit, mean, var, rstd, y, eps, centred, activation, block):
    rows = x.shape[0]
    for t in prange((rows + block - 1) // block):
        forward_block(
            x, weight, bias, weights, biases, fit, mean, var, rstd, y, eps, centred, activation,
            t * block, min((t + 1) * block, rows),
        )  # fmt: skip


@serial_and_parallel
def backward(
    dy, x, weight, bias, weights, biases, fit, mean, rstd, dx, dweight, dbias, centred, activation, block
):  # fmt: skip
    rows = x.shape[0]
    tasks = (rows + block - 1) // block
    sums = np.zeros((tasks, 2, weight.size))
    for t in prange(tasks):
        backward_block(
            dy, x, weight, bias, weights, biases, fit, mean, rstd, dx, sums[t, 0], sums[t, 1], centred, activation,
            t * block, min((t + 1) * block, rows),
        )  # fmt: skip
    dweight[:] = 0.0
    dbias[:] = 0.0
    for t in range(tasks):
        for k in range(weight.size):
            dweight[k] += sums[t, 0, k]
            dbias[k] += sums[t, 1, k]
