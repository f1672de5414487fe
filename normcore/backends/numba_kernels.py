"""The loops of the optional backend, compiled by Numba for exactly this CPU when first called.

Design
------
The same walk, pieces, lanes and waves as in ``cython_kernels.pyx``, whose Design comment gives the reasons; so both
add in the same order. What differs:

* A piece accumulates in its own row of ``lanes``, an array: LLVM keeps it in vector registers, and nothing is
  allocated in a loop. No fastmath: the order of summation is written down, not left to the compiler.
* Each driver is compiled twice from one function, serial and parallel. A parallel region costs microseconds and must
  not be entered in a forked child or, with Numba's ``workqueue`` layer, by two Python threads at once.
* The cache on disk is used where it can be written; elsewhere compiling again is better than failing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from normcore.backends import Kernels

Function = TypeVar("Function", bound=Callable[..., Any])

LANES = 16
PIECE = 16384
MAX_PIECES = 64
WAVE_BYTES = 1_048_576

prange = numba.prange
_one_parallel_call = threading.Lock()


def compiled(**options: Any) -> Callable[[Function], Function]:
    """``numba.njit`` with the options that every kernel here shares."""

    def decorate(function: Function) -> Function:
        try:
            return cast(Function, numba.njit(function, nogil=True, cache=True, **options))
        except RuntimeError:  # no folder that a cache could be written to
            return cast(Function, numba.njit(function, nogil=True, **options))

    return decorate


def serial_and_parallel(function: Function) -> Callable[..., None]:
    """Compile a driver both ways; the result takes the number of threads as its last argument."""
    serial = compiled()(function)
    parallel = compiled(parallel=True)(function)

    def run(*args: Any) -> None:
        *operands, num_threads = args
        num_threads = min(num_threads, numba.get_num_threads())
        if num_threads == 1 or not _one_parallel_call.acquire(blocking=False):
            serial(*operands)
            return
        before = numba.get_num_threads()
        try:
            numba.set_num_threads(num_threads)
            parallel(*operands)
        finally:
            numba.set_num_threads(before)
            _one_parallel_call.release()

    return run


# --- pieces -----------------------------------------------------------------------------------------------------------


@compiled()
def cut_channel(outer: int, inner: int) -> tuple[int, int, int, int]:
    """How the values of a channel are cut: rows and width of a piece, pieces across a row, pieces of a channel."""
    piece = max(PIECE, (outer * inner + MAX_PIECES - 1) // MAX_PIECES)
    width = min(inner, piece)
    rows = max(1, piece // inner)
    across = (inner + width - 1) // width
    return rows, width, across, across * ((outer + rows - 1) // rows)


@compiled()
def channels_in_wave(channels: int, channel_bytes: int) -> int:
    return min(channels, max(1, WAVE_BYTES // max(1, channel_bytes)))


@compiled()
def bounds(p: int, rows: int, width: int, across: int, outer: int, inner: int) -> tuple[int, int, int, int]:
    """The outer and inner range of piece `p`."""
    first = p // across * rows
    start = p % across * width
    return first, min(first + rows, outer), start, min(start + width, inner)


@compiled()
def add_lanes(lanes):
    total = 0.0
    for lane in range(LANES):
        total += lanes[lane]
    return total


# --- runs: contiguous values of one channel ---------------------------------------------------------------------------


@compiled()
def sum_run(x, shift, lanes):
    whole = x.size - x.size % LANES
    for i in range(0, whole, LANES):
        for lane in range(LANES):
            lanes[lane] += x[i + lane] - shift
    for i in range(whole, x.size):
        lanes[i - whole] += x[i] - shift


@compiled()
def sum_squares_run(x, shift, mean_xshift, lanes):
    whole = x.size - x.size % LANES
    for i in range(0, whole, LANES):
        for lane in range(LANES):
            centred = (x[i + lane] - shift) - mean_xshift
            lanes[lane] += centred * centred
    for i in range(whole, x.size):
        centred = (x[i] - shift) - mean_xshift
        lanes[i - whole] += centred * centred


@compiled()
def normalize_run(x, mean, scale, bias, y):
    for i in range(x.size):
        y[i] = (x[i] - mean) * scale + bias


@compiled()
def sum_gradients_run(dy, x, mean, lanes_dy, lanes_dy_xshift):
    whole = x.size - x.size % LANES
    for i in range(0, whole, LANES):
        for lane in range(LANES):
            lanes_dy[lane] += dy[i + lane]
            lanes_dy_xshift[lane] += dy[i + lane] * (x[i + lane] - mean)
    for i in range(whole, x.size):
        lanes_dy[i - whole] += dy[i]
        lanes_dy_xshift[i - whole] += dy[i] * (x[i] - mean)


@compiled()
def input_gradient_run(dy, x, mean, scale, mean_dy, slope, dx):
    for i in range(x.size):
        dx[i] = (dy[i] - mean_dy - (x[i] - mean) * slope) * scale


# --- rows: contiguous values of all channels, one each ----------------------------------------------------------------


@compiled()
def sum_rows(x, shift, partial):
    for m in range(x.shape[0]):
        for c in range(x.shape[1]):
            partial[c] += x[m, c] - shift[c]


@compiled()
def sum_squares_rows(x, shift, mean_xshift, partial):
    for m in range(x.shape[0]):
        for c in range(x.shape[1]):
            centred = (x[m, c] - shift[c]) - mean_xshift[c]
            partial[c] += centred * centred


@compiled()
def normalize_rows(x, mean, scale, bias, y):
    for m in range(x.shape[0]):
        for c in range(x.shape[1]):
            y[m, c] = (x[m, c] - mean[c]) * scale[c] + bias[c]


@compiled()
def sum_gradients_rows(dy, x, mean, partial_dy, partial_dy_xshift):
    for m in range(x.shape[0]):
        for c in range(x.shape[1]):
            partial_dy[c] += dy[m, c]
            partial_dy_xshift[c] += dy[m, c] * (x[m, c] - mean[c])


@compiled()
def input_gradient_rows(dy, x, mean, scale, mean_dy, slope, dx):
    for m in range(x.shape[0]):
        for c in range(x.shape[1]):
            dx[m, c] = (dy[m, c] - mean_dy[c] - (x[m, c] - mean[c]) * slope[c]) * scale[c]


# --- drivers: shifts, pieces in parallel, sums in order ---------------------------------------------------------------


@compiled()
def finite_or_zero(value):
    return np.float64(value) if np.isfinite(value) else 0.0


@serial_and_parallel
def stats_runs(x, first, last, mean, var):
    outer, inner = x.shape[0], x.shape[2]
    rows, width, across, pieces = cut_channel(outer, inner)
    tasks = (last - first) * pieces
    count = float(outer) * float(inner)
    shift = np.empty(last - first)
    mean_xshift = np.zeros(last - first)
    lanes = np.zeros((tasks, LANES))
    for k in range(last - first):
        shift[k] = finite_or_zero(x[0, first + k, 0])
        var[first + k] = 0.0
    for t in prange(tasks):
        k, p = t // pieces, t % pieces
        n0, n1, start, stop = bounds(p, rows, width, across, outer, inner)
        for n in range(n0, n1):
            sum_run(x[n, first + k, start:stop], shift[k], lanes[t])
    for t in range(tasks):
        mean_xshift[t // pieces] += add_lanes(lanes[t])
    for k in range(last - first):
        mean_xshift[k] /= count
        mean[first + k] = shift[k] + mean_xshift[k]
    lanes[:] = 0.0
    for t in prange(tasks):
        k, p = t // pieces, t % pieces
        n0, n1, start, stop = bounds(p, rows, width, across, outer, inner)
        for n in range(n0, n1):
            sum_squares_run(x[n, first + k, start:stop], shift[k], mean_xshift[k], lanes[t])
    for t in range(tasks):
        var[first + t // pieces] += add_lanes(lanes[t])
    for k in range(last - first):
        var[first + k] /= count


@serial_and_parallel
def stats_rows(x, mean, var):
    outer, channels = x.shape
    rows, _, _, pieces = cut_channel(outer, 1)
    shift = np.empty(channels)
    mean_xshift = np.zeros(channels)
    partial = np.zeros((pieces, channels))
    for c in range(channels):
        shift[c] = finite_or_zero(x[0, c])
        var[c] = 0.0
    for p in prange(pieces):
        sum_rows(x[p * rows : (p + 1) * rows], shift, partial[p])
    for p in range(pieces):
        for c in range(channels):
            mean_xshift[c] += partial[p, c]
    for c in range(channels):
        mean_xshift[c] /= outer
        mean[c] = shift[c] + mean_xshift[c]
    partial[:] = 0.0
    for p in prange(pieces):
        sum_squares_rows(x[p * rows : (p + 1) * rows], shift, mean_xshift, partial[p])
    for p in range(pieces):
        for c in range(channels):
            var[c] += partial[p, c]
    for c in range(channels):
        var[c] /= outer


@serial_and_parallel
def normalize(x, first, last, mean, scale, bias, y):
    outer, inner = x.shape[0], x.shape[2]
    rows, width, across, pieces = cut_channel(outer, inner)
    if inner == 1:
        for p in prange(pieces):
            normalize_rows(x[p * rows : (p + 1) * rows, :, 0], mean, scale, bias, y[p * rows : (p + 1) * rows, :, 0])
        return
    for t in prange((last - first) * pieces):
        c, p = first + t // pieces, t % pieces
        n0, n1, start, stop = bounds(p, rows, width, across, outer, inner)
        for n in range(n0, n1):
            normalize_run(x[n, c, start:stop], mean[c], scale[c], bias[c], y[n, c, start:stop])


@serial_and_parallel
def sum_gradients(dy, x, first, last, mean, dweight, dbias):
    outer, channels, inner = x.shape
    rows, width, across, pieces = cut_channel(outer, inner)
    for c in range(first, last):
        dweight[c] = 0.0
        dbias[c] = 0.0
    if inner == 1:
        partial_dy = np.zeros((pieces, channels))
        partial_dy_xshift = np.zeros((pieces, channels))
        for p in prange(pieces):
            piece = slice(p * rows, (p + 1) * rows)
            sum_gradients_rows(dy[piece, :, 0], x[piece, :, 0], mean, partial_dy[p], partial_dy_xshift[p])
        for p in range(pieces):
            for c in range(channels):
                dbias[c] += partial_dy[p, c]
                dweight[c] += partial_dy_xshift[p, c]
        return
    tasks = (last - first) * pieces
    lanes_dy = np.zeros((tasks, LANES))
    lanes_dy_xshift = np.zeros((tasks, LANES))
    for t in prange(tasks):
        c, p = first + t // pieces, t % pieces
        n0, n1, start, stop = bounds(p, rows, width, across, outer, inner)
        for n in range(n0, n1):
            sum_gradients_run(dy[n, c, start:stop], x[n, c, start:stop], mean[c], lanes_dy[t], lanes_dy_xshift[t])
    for t in range(tasks):
        dbias[first + t // pieces] += add_lanes(lanes_dy[t])
        dweight[first + t // pieces] += add_lanes(lanes_dy_xshift[t])


@serial_and_parallel
def input_gradient(dy, x, first, last, mean, scale, mean_dy, slope, dx):
    outer, inner = x.shape[0], x.shape[2]
    rows, width, across, pieces = cut_channel(outer, inner)
    if inner == 1:
        for p in prange(pieces):
            piece = slice(p * rows, (p + 1) * rows)
            input_gradient_rows(dy[piece, :, 0], x[piece, :, 0], mean, scale, mean_dy, slope, dx[piece, :, 0])
        return
    for t in prange((last - first) * pieces):
        c, p = first + t // pieces, t % pieces
        n0, n1, start, stop = bounds(p, rows, width, across, outer, inner)
        for n in range(n0, n1):
            input_gradient_run(
                dy[n, c, start:stop], x[n, c, start:stop], mean[c], scale[c], mean_dy[c], slope[c],
                dx[n, c, start:stop],
            )  # fmt: skip


# --- the interface of a backend: waves of channels --------------------------------------------------------------------


def waves(x, arrays=1):
    """Ranges of channels whose values stay in cache between passes; rows are walked whole."""
    outer, channels, inner = x.shape
    wave = channels if inner == 1 else channels_in_wave(channels, arrays * outer * inner * x.itemsize)
    return ((first, min(first + wave, channels)) for first in range(0, channels, wave))


def wave_stats(x, first, last, mean, var, num_threads):
    if x.shape[2] == 1:
        stats_rows(x[:, :, 0], mean, var, num_threads)
    else:
        stats_runs(x, first, last, mean, var, num_threads)


def channels_stats(x, mean, var, num_threads):
    for first, last in waves(x):
        wave_stats(x, first, last, mean, var, num_threads)


def channels_forward(x, weight, bias, mean, var, rstd, y, eps, training, num_threads):
    scale = np.empty_like(rstd)
    for first, last in waves(x):
        if training:
            wave_stats(x, first, last, mean, var, num_threads)
        wave = slice(first, last)
        rstd[wave] = 1.0 / np.sqrt(var[wave] + eps)
        scale[wave] = rstd[wave] * weight[wave]
        normalize(x, first, last, mean, scale, bias, y, num_threads)


def channels_backward(dy, x, weight, mean, rstd, dx, dweight, dbias, training, num_threads):
    count = float(x.shape[0] * x.shape[2])
    scale = rstd * weight
    mean_dy = np.zeros_like(scale)
    slope = np.zeros_like(scale)
    for first, last in waves(x, arrays=2):
        sum_gradients(dy, x, first, last, mean, dweight, dbias, num_threads)
        wave = slice(first, last)
        dweight[wave] *= rstd[wave]
        if training:
            mean_dy[wave] = dbias[wave] / count
            slope[wave] = rstd[wave] * dweight[wave] / count
        input_gradient(dy, x, first, last, mean, scale, mean_dy, slope, dx, num_threads)


def declines(walk, dtype, activation):
    """Why this backend cannot carry such a call, or None."""
    if walk != "channels":
        return f"has no {walk} walk yet"
    if activation:
        return "has no activations yet"
    if dtype.name not in ("float32", "float64"):
        return f"is compiled for float32 and float64, not {dtype.name}"
    return None


def kernels(dtype):
    """The loops for one dtype: Numba compiles a version for each one it meets."""

    def forward_of_all(x, weight, bias, mean, var, rstd, y, eps, training, activation, num_threads):
        channels_forward(x, weight, bias, mean, var, rstd, y, eps, training, num_threads)

    def backward_of_all(dy, x, weight, bias, mean, rstd, dx, dweight, dbias, training, activation, num_threads):
        channels_backward(dy, x, weight, mean, rstd, dx, dweight, dbias, training, num_threads)

    return Kernels(channels_stats, forward_of_all, backward_of_all, None, None)
