"""The rows walk: x is (R, K, L), a row of K segments of L values is one statistics group.

Segments of one value (layer and RMS norm) have a parameter for each value; longer ones share theirs. A task takes a
block of rows through all passes while it is in the cache, so a call has one parallel region. Few large rows are
instead cut as the channels walk cuts channels: in the face, ``numba_kernels``, which joins the two.
"""

from __future__ import annotations

import numpy as np

from normcore.backends.numba_loops.activation import NONE, activate, chain
from normcore.backends.numba_loops.jit import compiled, prange, serial_and_parallel
from normcore.backends.numba_loops.runs import (
    CHUNK,
    LANES,
    WIDTH,
    chain_run,
    clear,
    fold,
    forward_run,
    input_gradient_run,
    sum_gradients_run,
    sum_run,
)
from normcore.backends.numba_loops.scalars import (
    centre_of_sums,
    first_shift,
    fits_backward,
    fits_forward,
    is_sound,
    is_tame,
    moments,
    remainder,
    second_shift,
)

# --- inner loops where each value of a row has its weight and bias ----------------------------------------------------


@compiled(forceinline=True)
def weighted_loop(x, high, low, scale, weight, bias, y):
    for k in range(x.size):
        y[k] = ((x[k] - high) - low) * scale * weight[k] + bias[k]


@compiled(forceinline=True)
def weighted_row(x, mean, scale, weights, biases, exact_weights, exact_biases, fit, y):
    """y = xhat * weight + bias, in the dtype of storage where that loses nothing."""
    if fit and fits_forward(mean, scale, np.float64(0.0)):
        cast = x.dtype.type
        high = cast(mean)
        weighted_loop(x, high, cast(remainder(mean, high)), cast(scale), weights, biases, y)
    else:
        weighted_loop(x, mean, np.float64(0.0), scale, exact_weights, exact_biases, y)


@compiled(forceinline=True)
def sum_weighted_tail(dz, x, weight, mean, sum1, sum2):
    for i in range(x.size):
        g = dz[i] * weight[i]
        sum1[i] += g
        sum2[i] += g * (x[i] - mean)


@compiled(forceinline=True)
def sum_weighted_row(dz, x, weight, mean, sum1, sum2):
    """Sums of dxhat = dz * weight and of dxhat * (x - mean)."""
    whole = x.size - x.size % LANES
    for i in range(0, whole, LANES):
        for lane in range(WIDTH):
            j = i + lane
            g0, g1 = dz[j] * weight[j], dz[j + 16] * weight[j + 16]
            g2, g3 = dz[j + 32] * weight[j + 32], dz[j + 48] * weight[j + 48]
            sum1[lane] += (g0 + g1) + (g2 + g3)
            sum2[lane] += (g0 * (x[j] - mean) + g1 * (x[j + 16] - mean)) + (
                g2 * (x[j + 32] - mean) + g3 * (x[j + 48] - mean)
            )
    sum_weighted_tail(dz[whole:], x[whole:], weight[whole:], mean, sum1, sum2)


@compiled(forceinline=True)
def sum_narrow_tail(dz, x, weight, centre, sum1, sum2):
    for i in range(x.size):
        g = dz[i] * weight[i]
        sum1[i] += g
        sum2[i] += g * (x[i] - centre)


@compiled(forceinline=True)
def sum_narrow_row(dz, x, weight, centre, sum1, sum2):
    """The same in float32, four values a lane before the sum goes on in float64."""
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
    sum_narrow_tail(dz[whole:], x[whole:], weight[whole:], centre, sum1, sum2)


@compiled(forceinline=True)
def weighted_gradient_loop(dz, x, high, low, weight, mean_dxhat, slope, scale, dx):
    for k in range(x.size):
        dx[k] = (dz[k] * weight[k] - mean_dxhat - ((x[k] - high) - low) * slope) * scale


@compiled(forceinline=True)
def weighted_gradient_row(dz, x, mean, weights, exact_weights, fit, mean_dxhat, slope, scale, dx):
    if fit and fits_backward(mean, np.float64(1.0), mean_dxhat, slope, scale):
        cast = x.dtype.type
        high = cast(mean)
        low = cast(remainder(mean, high))
        weighted_gradient_loop(dz, x, high, low, weights, cast(mean_dxhat), cast(slope), cast(scale), dx)
    else:
        weighted_gradient_loop(dz, x, mean, np.float64(0.0), exact_weights, mean_dxhat, slope, scale, dx)


@compiled()
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


# --- rows with a weight for each value --------------------------------------------------------------------------------
# x is (R, D), the parameters (P,): those of row r start at r * D % P. `weights` are in the dtype of storage.


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


@compiled()
def weighted_forward_block(
    x, weight, bias, weights, biases, fit, mean, var, rstd, y, eps, centred, activation, r0, r1
):  # fmt: skip
    lanes = np.empty((2, LANES))
    size = x.shape[1]
    for r in range(r0, r1):
        row, k = x[r], r * size % weight.size
        row_stats(row, r, eps, centred, lanes, mean, var, rstd)
        weighted_row(
            row, mean[r], rstd[r], weights[k : k + size], biases[k : k + size],
            weight[k : k + size], bias[k : k + size], fit, y[r],
        )  # fmt: skip
        if activation != NONE:
            activate(activation, y[r])


@compiled(forceinline=True)
def row_sums(dz, x, mean, rstd, weight, weights, fit, lanes):
    """Sums of dxhat and of dxhat * (x - mean). Only dx comes from them: in float32 where that loses nothing it keeps."""
    if fit and x.itemsize == 4 and is_tame(mean, rstd):
        clear(lanes)
        centre = np.float32(mean)
        sum_narrow_row(dz, x, weights, centre, lanes[0], lanes[1])
        sum1 = fold(lanes[0])
        sum2 = fold(lanes[1]) - sum1 * (mean - np.float64(centre))
        if is_sound(sum1, sum2):
            return sum1, sum2
    clear(lanes)
    sum_weighted_row(dz, x, weight, mean, lanes[0], lanes[1])
    return fold(lanes[0]), fold(lanes[1])


@compiled()
def weighted_row_gradient(dz, x, mean, rstd, weight, weights, fit, centred, lanes, dx):
    sum1, sum2 = row_sums(dz, x, mean, rstd, weight, weights, fit, lanes)
    mean_dxhat = sum1 / x.size if centred else np.float64(0.0)
    slope = rstd * rstd * sum2 / x.size
    weighted_gradient_row(dz, x, mean, weights, weight, fit, mean_dxhat, slope, rstd, dx)


@compiled()
def weighted_backward_block(
    dy, x, weight, bias, weights, biases, fit, mean, rstd, dx, dweight, dbias, centred, activation, r0, r1
):  # fmt: skip
    lanes = np.empty((2, LANES))
    size = x.shape[1]
    z = np.empty(size if activation != NONE else 0, x.dtype)
    dz = dy if activation == NONE else dx
    step = 2 if weight.size == size else 1  # two rows with the same parameters
    for r in range(r0, r1, step):
        last = min(r + step, r1)
        k = r * size % weight.size
        w, b = weight[k : k + size], bias[k : k + size]
        if activation != NONE:
            for i in range(r, last):
                weighted_row(x[i], mean[i], rstd[i], weights[k : k + size], biases[k : k + size], w, b, fit, z)
                chain(activation, dy[i], z, dx[i])
        dw, db = dweight[k : k + size], dbias[k : k + size]
        if last - r == 2:
            add_parameter_gradients_of_two(
                dz[r], dz[r + 1], x[r], x[r + 1], mean[r], mean[r + 1], rstd[r], rstd[r + 1], dw, db
            )  # fmt: skip
        else:
            add_parameter_gradients(dz[r], x[r], mean[r], rstd[r], dw, db)
        for i in range(r, last):
            weighted_row_gradient(dz[i], x[i], mean[i], rstd[i], w, weights[k : k + size], fit, centred, lanes, dx[i])


@serial_and_parallel
def weighted_forward(x, weight, bias, weights, biases, fit, mean, var, rstd, y, eps, centred, activation, block):
    rows = x.shape[0]
    for t in prange((rows + block - 1) // block):
        weighted_forward_block(
            x, weight, bias, weights, biases, fit, mean, var, rstd, y, eps, centred, activation,
            t * block, min((t + 1) * block, rows),
        )  # fmt: skip


@serial_and_parallel
def weighted_backward(
    dy, x, weight, bias, weights, biases, fit, mean, rstd, dx, dweight, dbias, centred, activation, block
):  # fmt: skip
    rows = x.shape[0]
    tasks = (rows + block - 1) // block
    sums = np.zeros((tasks, 2, weight.size))
    for t in prange(tasks):
        weighted_backward_block(
            dy, x, weight, bias, weights, biases, fit, mean, rstd, dx, sums[t, 0], sums[t, 1], centred, activation,
            t * block, min((t + 1) * block, rows),
        )  # fmt: skip
    dweight[:] = 0.0
    dbias[:] = 0.0
    for t in range(tasks):
        for k in range(weight.size):
            dweight[k] += sums[t, 0, k]
            dbias[k] += sums[t, 1, k]


# --- rows of segments that share weight and bias ----------------------------------------------------------------------


@compiled()
def write_segments(x, r, start, stop, weight, bias, mean, rstd, activation, y):
    """Values start to stop of row r."""
    segments, width = x.shape[1], x.shape[2]
    for k in range(start // width, (stop - 1) // width + 1):
        p = (r * segments + k) % weight.size
        i, j = max(start - k * width, 0), min(stop - k * width, width)
        forward_run(x[r, k, i:j], mean[r], rstd[r] * weight[p], bias[p], activation, y[r, k, i:j])


@compiled()
def segments_forward_block(x, weight, bias, mean, var, rstd, y, eps, centred, activation, r0, r1):
    lanes = np.empty((2, LANES))
    for r in range(r0, r1):
        row_stats(x[r].reshape(-1), r, eps, centred, lanes, mean, var, rstd)
        write_segments(x, r, 0, x.shape[1] * x.shape[2], weight, bias, mean, rstd, activation, y)


@compiled()
def sum_segment(dy, x, r, k, start, stop, weight, bias, mean, rstd, activation, z, lanes, dx):
    """Sums of dz and of dz * (x - mean) over a part of a segment; dz goes to dx where there is an activation."""
    part, dz = x[r, k, start:stop], dy[r, k, start:stop]
    if activation != NONE:
        p = (r * x.shape[1] + k) % weight.size
        chain_run(dz, part, mean[r], rstd[r] * weight[p], bias[p], activation, z, dx[r, k, start:stop])
        dz = dx[r, k, start:stop]
    centre = centre_of_sums(mean[r], rstd[r], x.itemsize)
    while True:
        clear(lanes)
        sum_gradients_run(dz, part, centre, lanes[0], lanes[1])
        sum1 = fold(lanes[0])
        sum2 = fold(lanes[1]) - (mean[r] - centre) * sum1
        if centre == mean[r] or np.isfinite(sum2) or not np.isfinite(mean[r]):
            return sum1, sum2
        centre = mean[r]


@compiled()
def row_slopes(sums, r, weight, rstd, count, centred):
    """From the sums of the segments of row r: mean(dxhat) and rstd * mean(dxhat * xhat)."""
    total1, total2 = np.float64(0.0), np.float64(0.0)
    segments = sums.shape[1]
    for k in range(segments):
        w = weight[(r * segments + k) % weight.size]
        total1 += sums[r, k, 0] * w
        total2 += sums[r, k, 1] * w
    return (total1 / count if centred else np.float64(0.0)), rstd[r] * rstd[r] * total2 / count


@compiled()
def add_segments(sums, rstd, dweight, dbias):
    dweight[:] = 0.0
    dbias[:] = 0.0
    rows, segments = sums.shape[0], sums.shape[1]
    for r in range(rows):
        for k in range(segments):
            p = (r * segments + k) % dweight.size
            dbias[p] += sums[r, k, 0]
            dweight[p] += sums[r, k, 1] * rstd[r]


@compiled()
def write_segment_gradient(dz, x, r, k, start, stop, weight, mean, rstd, mean_dxhat, slope, dx):
    w = weight[(r * x.shape[1] + k) % weight.size]
    input_gradient_run(
        dz[r, k, start:stop], x[r, k, start:stop], mean[r], w, mean_dxhat, slope, rstd[r], dx[r, k, start:stop]
    )  # fmt: skip


@compiled()
def segments_backward_block(dy, x, weight, bias, mean, rstd, dx, sums, centred, activation, r0, r1):
    lanes = np.empty((2, LANES))
    z = np.empty(CHUNK if activation != NONE else 0, x.dtype)
    dz = dy if activation == NONE else dx
    segments, width = x.shape[1], x.shape[2]
    count = np.float64(segments) * np.float64(width)
    for r in range(r0, r1):
        for k in range(segments):
            sums[r, k, 0], sums[r, k, 1] = sum_segment(
                dy, x, r, k, 0, width, weight, bias, mean, rstd, activation, z, lanes, dx
            )  # fmt: skip
        mean_dxhat, slope = row_slopes(sums, r, weight, rstd, count, centred)
        for k in range(segments):
            write_segment_gradient(dz, x, r, k, 0, width, weight, mean, rstd, mean_dxhat, slope, dx)


@serial_and_parallel
def segments_forward(x, weight, bias, mean, var, rstd, y, eps, centred, activation, block):
    rows = x.shape[0]
    for t in prange((rows + block - 1) // block):
        r0, r1 = t * block, min((t + 1) * block, rows)
        segments_forward_block(x, weight, bias, mean, var, rstd, y, eps, centred, activation, r0, r1)


@serial_and_parallel
def segments_backward(dy, x, weight, bias, mean, rstd, dx, dweight, dbias, centred, activation, block):
    rows = x.shape[0]
    sums = np.empty((rows, x.shape[1], 2))
    for t in prange((rows + block - 1) // block):
        r0, r1 = t * block, min((t + 1) * block, rows)
        segments_backward_block(dy, x, weight, bias, mean, rstd, dx, sums, centred, activation, r0, r1)
    add_segments(sums, rstd, dweight, dbias)


# --- few large rows: a piece of one is a task -------------------------------------------------------------------------


@serial_and_parallel
def segments_forward_pieces(x, weight, bias, mean, rstd, y, activation, width):
    """Write the results of rows whose statistics are known."""
    size = x.shape[1] * x.shape[2]
    pieces = (size + width - 1) // width
    tasks = x.shape[0] * pieces
    for i in prange(tasks):
        t = tasks - 1 - i
        start = t % pieces * width
        write_segments(x, t // pieces, start, min(start + width, size), weight, bias, mean, rstd, activation, y)


@serial_and_parallel
def segments_backward_pieces(
    dy, x, weight, bias, mean, rstd, dx, dweight, dbias, centred, activation, width, block
):  # fmt: skip
    """A task is a piece of a segment or, where segments are whole, `block` of them."""
    rows, segments, size = x.shape
    across = (size + width - 1) // width
    parts = rows * segments * across
    partial = np.empty((parts, 2))
    tasks = (parts + block - 1) // block
    for t in prange(tasks):
        sum_segment_parts(
            dy, x, weight, bias, mean, rstd, dx, activation, width, across, t * block, min((t + 1) * block, parts),
            partial,
        )  # fmt: skip
    sums = np.zeros((rows, segments, 2))
    for i in range(parts):
        r, k = i // across // segments, i // across % segments
        sums[r, k, 0] += partial[i, 0]
        sums[r, k, 1] += partial[i, 1]
    add_segments(sums, rstd, dweight, dbias)
    count = np.float64(segments) * np.float64(size)
    slopes = np.empty((rows, 2))
    for r in range(rows):
        slopes[r, 0], slopes[r, 1] = row_slopes(sums, r, weight, rstd, count, centred)
    dz = dy if activation == NONE else dx
    for t in prange(tasks):
        stop = parts - t * block
        write_segment_parts(
            dz, x, weight, mean, rstd, dx, slopes, width, across, max(0, stop - block), stop
        )  # fmt: skip


@compiled()
def sum_segment_parts(dy, x, weight, bias, mean, rstd, dx, activation, width, across, first, last, partial):
    lanes = np.empty((2, LANES))
    z = np.empty(CHUNK if activation != NONE else 0, x.dtype)
    for i in range(first, last):
        r, k, start = i // across // x.shape[1], i // across % x.shape[1], i % across * width
        stop = min(start + width, x.shape[2])
        partial[i, 0], partial[i, 1] = sum_segment(
            dy, x, r, k, start, stop, weight, bias, mean, rstd, activation, z, lanes, dx
        )  # fmt: skip


@compiled()
def write_segment_parts(dz, x, weight, mean, rstd, dx, slopes, width, across, first, last):
    for i in range(first, last):
        r, k, start = i // across // x.shape[1], i // across % x.shape[1], i % across * width
        stop = min(start + width, x.shape[2])
        write_segment_gradient(dz, x, r, k, start, stop, weight, mean, rstd, slopes[r, 0], slopes[r, 1], dx)
