"""The channels walk over short runs: x is (N, C, S), a matrix of C * S columns; a channel is S neighbouring columns.

Few rows: a task takes a block of channels through all passes while it is in the cache; one parallel region a call.
Many rows: a task takes a piece of the rows; a region for the sums and one for the results. `width` is that of a row, or
of several short ones folded into one, so that inner loops are long enough for vectors.
Pieces are written in reverse, because what was read last is what the cache still holds.
"""

from __future__ import annotations

import numpy as np

from normcore.backends.numba_loops.activation import NONE
from normcore.backends.numba_loops.columns import (
    all_fit_backward,
    all_fit_forward,
    backward_params,
    chain_part,
    finish_gradients,
    finish_stats,
    first_shifts,
    forward_params,
    repeated,
    sum_gradients_part,
    sum_part,
    write_gradients_part,
    write_part,
)
from normcore.backends.numba_loops.jit import compiled, prange, serial_and_parallel
from normcore.backends.numba_loops.scalars import centres

TILE = 1024  # columns whose partial sums and parameters stay in L1 from row to row; a folded row is one of them


# --- few rows: a block of channels is one task ------------------------------------------------------------------------


@compiled()
def stats_block(x, c0, c1, mean, var):
    rows, channels, run = x.shape
    size = (c1 - c0) * run
    shift, again = first_shifts(x, c0, c1), True
    while again:
        sum1, sum2 = np.zeros(size), np.zeros(size)
        columns = repeated(shift, run, size)
        sum_part(x.reshape(-1), channels * run, 0, rows, c0 * run, c1 * run, columns, sum1, sum2)
        again = finish_stats(x, c0, c1, shift, sum1, sum2, mean, var)


@compiled()
def forward_block(x, weight, bias, mean, var, rstd, y, eps, training, activation, c0, c1):
    if training:
        stats_block(x, c0, c1, mean, var)
    for c in range(c0, c1):
        rstd[c] = 1.0 / np.sqrt(var[c] + eps)
    rows, channels, run = x.shape
    width, a, b = channels * run, c0 * run, c1 * run
    if all_fit_forward(weight, bias, mean, rstd, c0, c1):
        params = np.empty((4, b - a), x.dtype)
        forward_params(params, weight, bias, mean, rstd, c0, c1, run)
        write_part(x.reshape(-1), width, 0, rows, a, b, params, a, activation, y.reshape(-1))
    else:
        exact = np.empty((4, b - a))
        forward_params(exact, weight, bias, mean, rstd, c0, c1, run)
        write_part(x.reshape(-1), width, 0, rows, a, b, exact, a, activation, y.reshape(-1))


@compiled()
def backward_block(dy, x, weight, bias, mean, rstd, dx, dweight, dbias, training, activation, c0, c1):
    rows, channels, run = x.shape
    width, a, b = channels * run, c0 * run, c1 * run
    dy, x, dx = dy.reshape(-1), x.reshape(-1), dx.reshape(-1)
    centre, again = centres(mean, rstd, c0, c1, x.itemsize), True
    dz = dy
    if activation != NONE:
        dz = dx
        if all_fit_forward(weight, bias, mean, rstd, c0, c1):
            params = np.empty((4, b - a), x.dtype)
            forward_params(params, weight, bias, mean, rstd, c0, c1, run)
            chain_part(dy, x, width, 0, rows, a, b, params, a, activation, dx)
        else:
            exact = np.empty((4, b - a))
            forward_params(exact, weight, bias, mean, rstd, c0, c1, run)
            chain_part(dy, x, width, 0, rows, a, b, exact, a, activation, dx)
    while again:
        sum1, sum2 = np.zeros(b - a), np.zeros(b - a)
        sum_gradients_part(dz, x, width, 0, rows, a, b, repeated(centre, run, b - a), sum1, sum2)
        again = finish_gradients(c0, c1, run, sum1, sum2, centre, mean, rstd, dweight, dbias)
    count = np.float64(rows) * np.float64(run)
    if all_fit_backward(weight, mean, rstd, dweight, dbias, c0, c1, count):
        params = np.empty((5, b - a), x.dtype)
        backward_params(params, weight, mean, rstd, dweight, dbias, c0, c1, run, count)
        write_gradients_part(dz, x, width, 0, rows, a, b, params, a, training, dx)
    else:
        exact = np.empty((5, b - a))
        backward_params(exact, weight, mean, rstd, dweight, dbias, c0, c1, run, count)
        write_gradients_part(dz, x, width, 0, rows, a, b, exact, a, training, dx)


@serial_and_parallel
def stats_blocks(x, mean, var, block):
    channels = x.shape[1]
    for t in prange((channels + block - 1) // block):
        stats_block(x, t * block, min((t + 1) * block, channels), mean, var)


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


# --- many rows: a piece of them is a task -----------------------------------------------------------------------------


@compiled()
def stats_piece(x, width, m0, m1, shift, sums):
    for a in range(0, width, TILE):
        b = min(a + TILE, width)
        sum_part(x, width, m0, m1, a, b, shift[a:b], sums[0, a:b], sums[1, a:b])


@compiled()
def write_piece(x, width, m0, m1, params, exact, activation, y):
    """One of `params`, in the dtype of storage, and `exact` is empty."""
    for a in range(0, width, TILE):
        b = min(a + TILE, width)
        if params.shape[1]:
            write_part(x, width, m0, m1, a, b, params, 0, activation, y)
        else:
            write_part(x, width, m0, m1, a, b, exact, 0, activation, y)


@compiled()
def gradients_piece(dy, x, width, m0, m1, centre, params, exact, activation, chained, dx, sums):
    """`chained` where dx already holds dz."""
    dz = dy if activation == NONE else dx
    for a in range(0, width, TILE):
        b = min(a + TILE, width)
        if activation != NONE and not chained:
            if params.shape[1]:
                chain_part(dy, x, width, m0, m1, a, b, params, 0, activation, dx)
            else:
                chain_part(dy, x, width, m0, m1, a, b, exact, 0, activation, dx)
        sum_gradients_part(dz, x, width, m0, m1, a, b, centre[a:b], sums[0, a:b], sums[1, a:b])


@compiled()
def write_gradients_piece(dz, x, width, m0, m1, params, exact, training, dx):
    for a in range(0, width, TILE):
        b = min(a + TILE, width)
        if params.shape[1]:
            write_gradients_part(dz, x, width, m0, m1, a, b, params, 0, training, dx)
        else:
            write_gradients_part(dz, x, width, m0, m1, a, b, exact, 0, training, dx)


@compiled()
def add_pieces(sums):
    """Add the sums of all pieces to those of the first, in order."""
    total = sums[0]
    for p in range(1, sums.shape[0]):
        for i in range(2):
            for j in range(sums.shape[2]):
                total[i, j] += sums[p, i, j]
    return total


@serial_and_parallel
def stats_pieces(x, mean, var, width, rows):
    flat = x.reshape(-1)
    total_rows = (x.size + width - 1) // width
    pieces = (total_rows + rows - 1) // rows
    shift, again = first_shifts(x, 0, x.shape[1]), True
    while again:
        columns, sums = repeated(shift, x.shape[2], width), np.zeros((pieces, 2, width))
        for p in prange(pieces):
            stats_piece(flat, width, p * rows, min((p + 1) * rows, total_rows), columns, sums[p])
        total = add_pieces(sums)
        again = finish_stats(x, 0, x.shape[1], shift, total[0], total[1], mean, var)


@serial_and_parallel
def forward_pieces(x, weight, bias, mean, var, rstd, y, eps, training, activation, width, rows):
    flat, flat_y = x.reshape(-1), y.reshape(-1)
    channels, run = x.shape[1], x.shape[2]
    total_rows = (x.size + width - 1) // width
    pieces = (total_rows + rows - 1) // rows
    if training:  # all of it in here: with `again = training`, LLVM's loop for the results took twice as long
        shift, again = first_shifts(x, 0, channels), True
        while again:
            columns, sums = repeated(shift, run, width), np.zeros((pieces, 2, width))
            for p in prange(pieces):
                stats_piece(flat, width, p * rows, min((p + 1) * rows, total_rows), columns, sums[p])
            total = add_pieces(sums)
            again = finish_stats(x, 0, channels, shift, total[0], total[1], mean, var)
    for c in range(channels):
        rstd[c] = 1.0 / np.sqrt(var[c] + eps)
    fit = all_fit_forward(weight, bias, mean, rstd, 0, channels)
    params, exact = np.empty((4, width if fit else 0), x.dtype), np.empty((4, 0 if fit else width))
    forward_params(params, weight, bias, mean, rstd, 0, channels, run)
    forward_params(exact, weight, bias, mean, rstd, 0, channels, run)
    for i in prange(pieces):
        p = pieces - 1 - i
        write_piece(flat, width, p * rows, min((p + 1) * rows, total_rows), params, exact, activation, flat_y)


@serial_and_parallel
def backward_pieces(dy, x, weight, bias, mean, rstd, dx, dweight, dbias, training, activation, width, rows):
    flat, flat_dy, flat_dx = x.reshape(-1), dy.reshape(-1), dx.reshape(-1)
    channels, run = x.shape[1], x.shape[2]
    total_rows = (x.size + width - 1) // width
    pieces = (total_rows + rows - 1) // rows
    centre, again, chained = centres(mean, rstd, 0, channels, x.itemsize), True, False
    fit = all_fit_forward(weight, bias, mean, rstd, 0, channels)
    needed = width if activation != NONE else 0
    params, exact = np.empty((4, needed if fit else 0), x.dtype), np.empty((4, 0 if fit else needed))
    forward_params(params, weight, bias, mean, rstd, 0, channels, run)
    forward_params(exact, weight, bias, mean, rstd, 0, channels, run)
    while again:
        columns, sums = repeated(centre, run, width), np.zeros((pieces, 2, width))
        for p in prange(pieces):
            m0, m1 = p * rows, min((p + 1) * rows, total_rows)
            gradients_piece(
                flat_dy, flat, width, m0, m1, columns, params, exact, activation, chained, flat_dx, sums[p]
            )  # fmt: skip
        total = add_pieces(sums)
        again = finish_gradients(0, channels, run, total[0], total[1], centre, mean, rstd, dweight, dbias)
        chained = True
    count = np.float64(x.shape[0]) * np.float64(run)
    dz = flat_dy if activation == NONE else flat_dx
    fit = all_fit_backward(weight, mean, rstd, dweight, dbias, 0, channels, count)
    slopes, exact_slopes = np.empty((5, width if fit else 0), x.dtype), np.empty((5, 0 if fit else width))
    backward_params(slopes, weight, mean, rstd, dweight, dbias, 0, channels, run, count)
    backward_params(exact_slopes, weight, mean, rstd, dweight, dbias, 0, channels, run, count)
    for i in prange(pieces):
        m0, m1 = (pieces - 1 - i) * rows, min((pieces - i) * rows, total_rows)
        write_gradients_piece(dz, flat, width, m0, m1, slopes, exact_slopes, training, flat_dx)
