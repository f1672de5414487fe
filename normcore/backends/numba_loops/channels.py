"""The channels walk over long runs: x is (N, C, S), a channel is N runs of S values.

Many channels: a task takes a block of them through all passes while it is in the cache; one parallel region a call.
Few channels: each is cut into pieces; a region for the sums and one for the results, for each wave of channels.
The results are written in reverse order of n, because what was read last is what the cache still holds; within a row
forwards, because a row of short runs read backwards defeats the prefetcher (three times slower).
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
    fold,
    forward_run,
    scale_run,
    sum_gradients_run,
    sum_run,
)
from normcore.backends.numba_loops.scalars import (
    centres,
    first_shift,
    fits_backward,
    fits_forward,
    moments,
    remainder,
    second_shift,
)


@compiled()
def first_shifts(x, c0, c1, centred):
    """Of channels c0 to c1, from the first run of each."""
    shift = np.zeros(c1 - c0)
    for c in range(c0, c1 if centred else c0):
        shift[c - c0] = first_shift(x.reshape(-1), c * x.shape[2], 1, x.shape[2])
    return shift


@compiled()
def sum_part(x, n0, n1, c0, c1, start, stop, shift, sums):
    """Sums of x - shift and of its square over a part of the array; sums is (2, c1 - c0)."""
    lanes = np.zeros((c1 - c0, 2, LANES))
    for n in range(n0, n1):
        for c in range(c0, c1):
            sum_run(x[n, c, start:stop], shift[c - c0], lanes[c - c0, 0], lanes[c - c0, 1])
    fold_lanes(lanes, sums)


@compiled()
def fold_lanes(lanes, sums):
    for k in range(lanes.shape[0]):
        sums[0, k] = fold(lanes[k, 0])
        sums[1, k] = fold(lanes[k, 1])


@compiled()
def chain_part(dy, x, weight, bias, mean, rstd, dx, n0, n1, c0, c1, start, stop, activation):
    """dz = dy * act'(z), into dx."""
    z = np.empty(CHUNK, x.dtype)
    for n in range(n0, n1):
        for c in range(c0, c1):
            scale, part = rstd[c] * weight[c], x[n, c, start:stop]
            chain_run(dy[n, c, start:stop], part, mean[c], scale, bias[c], activation, z, dx[n, c, start:stop])


@compiled()
def sum_gradients_part(dz, x, n0, n1, c0, c1, start, stop, centre, sums):
    """Sums of dz and of dz * (x - centre)."""
    lanes = np.zeros((c1 - c0, 2, LANES))
    for n in range(n0, n1):
        for c in range(c0, c1):
            k = c - c0
            sum_gradients_run(dz[n, c, start:stop], x[n, c, start:stop], centre[k], lanes[k, 0], lanes[k, 1])
    fold_lanes(lanes, sums)


@compiled()
def finish_stats(x, c0, c1, sums, centred, shift, mean, var):
    """Mean and variance; whether to sum again, with other shifts."""
    again = False
    count = np.float64(x.shape[0]) * np.float64(x.shape[2])
    for c in range(c0, c1):
        k = c - c0
        mean[c], var[c] = moments(sums[0, k], sums[1, k], count, shift[k], centred)
        better = second_shift(shift[k], mean[c], var[c], x.itemsize)
        again = again or better != shift[k]
        shift[k] = better
    return again


@compiled()
def finish_gradients(c0, c1, sums, centre, mean, rstd, dweight, dbias):
    """dweight and dbias; whether to sum again, for infinities must not meet when the mean is taken out afterwards."""
    again = False
    for c in range(c0, c1):
        k = c - c0
        dbias[c] = sums[0, k]
        taken = (mean[c] - centre[k]) * sums[0, k] if centre[k] != mean[c] else 0.0  # 0 * inf is NaN
        dweight[c] = (sums[1, k] - taken) * rstd[c]
        if centre[k] != mean[c] and np.isfinite(mean[c]) and not np.isfinite(dweight[c]):
            again = True
            centre[k] = mean[c]
    return again


@compiled(forceinline=True)
def channel_gradient_loop(dz, x, high, low, mean_dz, slope, scale, dx):
    """dx = (dz - mean(dz) - (x - mean) * slope) * scale, where (x - mean) * slope = xhat * mean(dz * xhat)."""
    for i in range(x.size):
        dx[i] = (dz[i] - mean_dz - ((x[i] - high) - low) * slope) * scale


@compiled()
def write_part(x, weight, bias, mean, rstd, y, n0, n1, c0, c1, start, stop, activation):
    params, fit = np.empty((c1 - c0, 4), x.dtype), np.empty(c1 - c0, np.bool_)
    for c in range(c0, c1):  # not for each run: a short one takes little longer than this
        k, scale = c - c0, rstd[c] * weight[c]
        fit[k] = fits_forward(mean[c], scale, bias[c])
        if fit[k]:
            params[k, 0] = mean[c]
            params[k, 1] = remainder(mean[c], params[k, 0])
            params[k, 2] = scale
            params[k, 3] = bias[c]
    for n in range(n1 - 1, n0 - 1, -1):
        for c in range(c0, c1):
            k = c - c0
            if fit[k] and activation == NONE:
                high, low, scale, shift = params[k, 0], params[k, 1], params[k, 2], params[k, 3]
                affine_run(x[n, c, start:stop], high, low, scale, shift, y[n, c, start:stop])
            else:
                scale = rstd[c] * weight[c]
                forward_run(x[n, c, start:stop], mean[c], scale, bias[c], activation, y[n, c, start:stop])


@compiled()
def write_gradients_part(dz, x, weight, mean, rstd, dx, dweight, dbias, n0, n1, c0, c1, start, stop, training):
    count = np.float64(x.shape[0]) * np.float64(x.shape[2])
    one = np.float64(1.0)
    params, fit = np.empty((c1 - c0, 5), x.dtype), np.empty(c1 - c0, np.bool_)
    for c in range(c0, c1):
        k, scale, mean_dz, slope = c - c0, rstd[c] * weight[c], dbias[c] / count, rstd[c] * dweight[c] / count
        fit[k] = fits_backward(mean[c], one, mean_dz, slope, scale)
        if fit[k]:
            params[k, 0] = mean[c]
            params[k, 1] = remainder(mean[c], params[k, 0])
            params[k, 2] = mean_dz
            params[k, 3] = slope
            params[k, 4] = scale
    for n in range(n1 - 1, n0 - 1, -1):
        for c in range(c0, c1):
            k = c - c0
            if not training:
                scale_run(dz[n, c, start:stop], rstd[c] * weight[c], dx[n, c, start:stop])
            elif fit[k]:
                p = params[k]
                channel_gradient_loop(
                    dz[n, c, start:stop], x[n, c, start:stop], p[0], p[1], p[2], p[3], p[4], dx[n, c, start:stop]
                )
            else:
                channel_gradient_loop(
                    dz[n, c, start:stop], x[n, c, start:stop], mean[c], np.float64(0.0), dbias[c] / count,
                    rstd[c] * dweight[c] / count, rstd[c] * weight[c], dx[n, c, start:stop],
                )  # fmt: skip


# --- many channels: a block of them is one task -----------------------------------------------------------------------


@compiled()
def stats_block(x, c0, c1, centred, mean, var):
    sums, shift, again = np.empty((2, c1 - c0)), first_shifts(x, c0, c1, centred), True
    while again:
        sum_part(x, 0, x.shape[0], c0, c1, 0, x.shape[2], shift, sums)
        again = finish_stats(x, c0, c1, sums, centred, shift, mean, var)


@compiled()
def forward_block(x, weight, bias, mean, var, rstd, y, eps, training, activation, c0, c1):
    if training:
        stats_block(x, c0, c1, True, mean, var)
    for c in range(c0, c1):
        rstd[c] = 1.0 / np.sqrt(var[c] + eps)
    write_part(x, weight, bias, mean, rstd, y, 0, x.shape[0], c0, c1, 0, x.shape[2], activation)


@compiled()
def backward_block(dy, x, weight, bias, mean, rstd, dx, dweight, dbias, training, activation, c0, c1):
    sums, centre, again = np.empty((2, c1 - c0)), centres(mean, rstd, c0, c1, x.itemsize), True
    rows, width = x.shape[0], x.shape[2]
    if activation != NONE:
        chain_part(dy, x, weight, bias, mean, rstd, dx, 0, rows, c0, c1, 0, width, activation)
    dz = dy if activation == NONE else dx
    while again:
        sum_gradients_part(dz, x, 0, rows, c0, c1, 0, width, centre, sums)
        again = finish_gradients(c0, c1, sums, centre, mean, rstd, dweight, dbias)
    write_gradients_part(dz, x, weight, mean, rstd, dx, dweight, dbias, 0, rows, c0, c1, 0, width, training)


@serial_and_parallel
def stats_blocks(x, mean, var, block):
    channels = x.shape[1]
    for t in prange((channels + block - 1) // block):
        stats_block(x, t * block, min((t + 1) * block, channels), True, mean, var)


@serial_and_parallel
def forward_blocks(x, weight, bias, mean, var, rstd, y, eps, training, activation, block):
    channels = x.shape[1]
    for t in prange((channels + block - 1) // block):
        c0, c1 = t * block, min((t + 1) * block, channels)
        forward_block(x, weight, bias, mean, var, rstd, y, eps, training, activation, c0, c1)


@serial_and_parallel
def backward_blocks(dy, x, weight, bias, mean, rstd, dx, dweight, dbias, training, activation, block):
    channels = x.shape[1]
    for t in prange((channels + block - 1) // block):
        c0, c1 = t * block, min((t + 1) * block, channels)
        backward_block(dy, x, weight, bias, mean, rstd, dx, dweight, dbias, training, activation, c0, c1)


# --- few channels: a piece of one is a task ---------------------------------------------------------------------------


@compiled()
def pieces_of(x, rows, width):
    """Pieces across a run, pieces of a channel."""
    across = (x.shape[2] + width - 1) // width
    return across, across * ((x.shape[0] + rows - 1) // rows)


@compiled()
def bounds(x, t, across, pieces, rows, width):
    """The part of the array that is task t of a wave: channel of the wave, range of outer rows, range of a run."""
    p = t % pieces
    n0, start = p // across * rows, p % across * width
    return t // pieces, n0, min(n0 + rows, x.shape[0]), start, min(start + width, x.shape[2])


@compiled()
def add_pieces(sums, channels):
    """The sums of each channel: of its pieces, in order."""
    total = np.zeros((2, channels))
    pieces = sums.shape[0] // channels
    for k in range(channels):
        for p in range(pieces):
            total[0, k] += sums[k * pieces + p, 0, 0]
            total[1, k] += sums[k * pieces + p, 1, 0]
    return total


@serial_and_parallel
def stats_pieces(x, mean, var, centred, rows, width, wave):
    across, pieces = pieces_of(x, rows, width)
    for first in range(0, x.shape[1], wave):
        channels = min(wave, x.shape[1] - first)
        last = first + channels
        sums, shift, again = np.empty((channels * pieces, 2, 1)), first_shifts(x, first, last, centred), True
        while again:
            for t in prange(channels * pieces):
                k, n0, n1, start, stop = bounds(x, t, across, pieces, rows, width)
                sum_part(x, n0, n1, first + k, first + k + 1, start, stop, shift[k : k + 1], sums[t])
            again = finish_stats(x, first, last, add_pieces(sums, channels), centred, shift, mean, var)


@serial_and_parallel
def forward_pieces(x, weight, bias, mean, var, rstd, y, eps, training, activation, rows, width, wave):
    across, pieces = pieces_of(x, rows, width)
    for first in range(0, x.shape[1], wave):
        channels = min(wave, x.shape[1] - first)
        tasks = channels * pieces
        last = first + channels
        sums, shift, again = np.empty((tasks, 2, 1)), first_shifts(x, first, last, True), training
        while again:
            for t in prange(tasks):
                k, n0, n1, start, stop = bounds(x, t, across, pieces, rows, width)
                sum_part(x, n0, n1, first + k, first + k + 1, start, stop, shift[k : k + 1], sums[t])
            again = finish_stats(x, first, last, add_pieces(sums, channels), True, shift, mean, var)
        for c in range(first, first + channels):
            rstd[c] = 1.0 / np.sqrt(var[c] + eps)
        for i in prange(tasks):
            k, n0, n1, start, stop = bounds(x, tasks - 1 - i, across, pieces, rows, width)
            write_part(x, weight, bias, mean, rstd, y, n0, n1, first + k, first + k + 1, start, stop, activation)


@serial_and_parallel
def backward_pieces(
    dy, x, weight, bias, mean, rstd, dx, dweight, dbias, training, activation, rows, width, wave
):  # fmt: skip
    across, pieces = pieces_of(x, rows, width)
    dz = dy if activation == NONE else dx
    for first in range(0, x.shape[1], wave):
        channels = min(wave, x.shape[1] - first)
        tasks = channels * pieces
        last = first + channels
        sums, centre = np.empty((tasks, 2, 1)), centres(mean, rstd, first, last, x.itemsize)
        again, chained = True, activation == NONE
        while again:
            for t in prange(tasks):
                k, n0, n1, start, stop = bounds(x, t, across, pieces, rows, width)
                c = first + k
                if not chained:
                    chain_part(dy, x, weight, bias, mean, rstd, dx, n0, n1, c, c + 1, start, stop, activation)
                sum_gradients_part(dz, x, n0, n1, c, c + 1, start, stop, centre[k : k + 1], sums[t])
            total = add_pieces(sums, channels)
            again, chained = finish_gradients(first, last, total, centre, mean, rstd, dweight, dbias), True
        for i in prange(tasks):
            k, n0, n1, start, stop = bounds(x, tasks - 1 - i, across, pieces, rows, width)
            c = first + k
            write_gradients_part(
                dz, x, weight, mean, rstd, dx, dweight, dbias, n0, n1, c, c + 1, start, stop, training
            )  # fmt: skip
