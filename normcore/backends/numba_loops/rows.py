"""The rows walk where segments share weight and bias: x is (R, K, L), a row of K segments of L values is one group.

A task takes a block of rows through all passes while it is in the cache, so a call has one parallel region. Few large
rows are instead cut as the channels walk cuts channels: in the face, ``numba_kernels``, which joins the two. Segments
of one value, and other short ones, are in ``weighted``.
"""

from __future__ import annotations

import numpy as np

from normcore.backends.numba_loops.activation import NONE
from normcore.backends.numba_loops.jit import compiled, prange, serial_and_parallel
from normcore.backends.numba_loops.runs import (
    CHUNK,
    LANES,
    affine_run,
    chain_run,
    clear,
    fold,
    forward_run,
    input_gradient_loop,
    input_gradient_run,
    row_stats,
    sum_gradients_run,
)
from normcore.backends.numba_loops.scalars import centre_of_sums, fits_backward, fits_forward, remainder


@compiled()
def write_segments(x, r, start, stop, weight, bias, mean, rstd, activation, y):
    """Values start to stop of row r. What needs float64 is written after: beside the usual loop it slows that one."""
    segments, width = x.shape[1], x.shape[2]
    cast, rest = x.dtype.type, activation != NONE
    high = cast(mean[r])
    low = cast(remainder(mean[r], high))
    k0, k1 = start // width, (stop - 1) // width + 1
    p = (r * segments + k0) % weight.size
    for k in range(k0, k1 if activation == NONE else k0):
        i, j, scale = max(start - k * width, 0), min(stop - k * width, width), rstd[r] * weight[p]
        if fits_forward(mean[r], scale, bias[p]):
            affine_run(x[r, k, i:j], high, low, cast(scale), cast(bias[p]), y[r, k, i:j])
        else:
            rest = True
        p = p + 1 if p + 1 < weight.size else 0
    if not rest:
        return
    for k in range(k0, k1):
        p = (r * segments + k) % weight.size
        i, j, scale = max(start - k * width, 0), min(stop - k * width, width), rstd[r] * weight[p]
        if activation != NONE or not fits_forward(mean[r], scale, bias[p]):
            forward_run(x[r, k, i:j], mean[r], scale, bias[p], activation, y[r, k, i:j])


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
        sum2 = fold(lanes[1]) - ((mean[r] - centre) * sum1 if centre != mean[r] else 0.0)  # 0 * inf is NaN
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
def write_segment_gradients(dz, x, r, weight, mean, rstd, mean_dxhat, slope, dx):
    """Of row r."""
    segments, rest, cast = x.shape[1], False, x.dtype.type
    high = cast(mean[r])
    low = cast(remainder(mean[r], high))
    p = r * segments % weight.size
    for k in range(segments):
        if fits_backward(mean[r], weight[p], mean_dxhat, slope, rstd[r]):
            input_gradient_loop(
                dz[r, k], x[r, k], high, low, cast(weight[p]), cast(mean_dxhat), cast(slope), cast(rstd[r]), dx[r, k]
            )  # fmt: skip
        else:
            rest = True
        p = p + 1 if p + 1 < weight.size else 0
    for k in range(segments if rest else 0):
        if not fits_backward(mean[r], weight[(r * segments + k) % weight.size], mean_dxhat, slope, rstd[r]):
            write_segment_gradient(dz, x, r, k, 0, x.shape[2], weight, mean, rstd, mean_dxhat, slope, dx)


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
        write_segment_gradients(dz, x, r, weight, mean, rstd, mean_dxhat, slope, dx)


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
