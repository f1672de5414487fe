"""The loops of the default backend, compiled ahead of time.

Design
------
The walk is ``x`` as C-contiguous ``(outer, channels, inner)`` = (N, C, S). Two inner loops serve it: *runs* where a
channel has contiguous values (S > 1), *rows* where neighbours in memory are neighbouring channels (S == 1).

*Statistics.* Two passes over a channel in float64, measured from the channel's first value: the sum of ``x - shift``,
then the squares of ``(x - shift) - mean(x - shift)``. The differences of nearby values are exact, so an offset costs no
digits and a constant channel has variance exactly 0. Not E[x^2] - E[x]^2 (garbage from mean/std = 1e4 in float32), not
Welford (a division per element).

*The same bits for any number of threads.* A channel is cut into pieces whose size depends on the shape alone. A piece
is summed in LANES partial sums in a fixed order (which is also what lets the compiler use vectors without being told
to reassociate), and the sums of pieces are added in order. Threads only decide who does a piece.

*Waves.* Channels are taken a few at a time, WAVE_BYTES of x together: the three passes over a wave (sum, squares,
write) read memory once and the cache twice. A wave of one large channel still has pieces for every thread.

*Bytes.* Runs: x read once, y written once, as a copy does, as long as a wave stays in cache. Rows: x is read three
times, so an array beyond the cache costs up to twice a copy.
"""

import numpy as np

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport isfinite, sqrt
from libc.string cimport memset

from normcore.backends import Kernels

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define NORMCORE_OPENMP 1
    #else
    #define NORMCORE_OPENMP 0
    static int omp_get_max_threads(void) { return 1; }
    #endif
    #ifdef NORMCORE_DEBUG
    #define NORMCORE_BOUNDS 1
    #else
    #define NORMCORE_BOUNDS 0
    #endif
    """
    int NORMCORE_OPENMP
    int NORMCORE_BOUNDS
    int omp_get_max_threads() noexcept nogil

OPENMP = bool(NORMCORE_OPENMP)
BOUNDS_CHECKS = bool(NORMCORE_BOUNDS)

cdef enum:
    LANES = 16  # partial sums: two 512-bit vectors of float64, four 256-bit ones, eight 128-bit ones
    PIECE = 16384  # values: 64 KB of float32, long enough to hide the start of a piece
    MAX_PIECES = 64  # bounds the memory for partial sums; some more where a piece ends with its row
    WAVE_BYTES = 1048576  # of x: a wave of x and y stays within the L2 caches of two cores


cdef struct Cut:
    # How the values of a channel are cut into pieces; from the shape alone.
    Py_ssize_t rows  # outer rows in a piece
    Py_ssize_t width  # inner values of each row in a piece
    Py_ssize_t across  # pieces across a row
    Py_ssize_t pieces  # pieces of a channel


cdef Cut cut_channel(Py_ssize_t outer, Py_ssize_t inner) noexcept nogil:
    cdef Cut cut
    cdef Py_ssize_t piece = max(<Py_ssize_t>PIECE, (outer * inner + MAX_PIECES - 1) // MAX_PIECES)
    cut.width = min(inner, piece)
    cut.rows = max(<Py_ssize_t>1, piece // inner)
    cut.across = (inner + cut.width - 1) // cut.width
    cut.pieces = cut.across * ((outer + cut.rows - 1) // cut.rows)
    return cut


cdef Py_ssize_t channels_in_wave(Py_ssize_t channels, Py_ssize_t channel_bytes) noexcept nogil:
    return min(channels, max(<Py_ssize_t>1, <Py_ssize_t>WAVE_BYTES // max(<Py_ssize_t>1, channel_bytes)))


cpdef int openmp_max_threads() noexcept:
    """What OpenMP would use now: its setting, the affinity, a limit set by threadpoolctl."""
    return omp_get_max_threads()


# --- runs: contiguous values of one channel ---------------------------------------------------------------------------


cdef inline double add_lanes(const double* acc) noexcept nogil:
    cdef double total = 0.0
    cdef int lane
    for lane in range(LANES):
        total += acc[lane]
    return total


cdef inline void sum_run(
    const floating* x, Py_ssize_t size, double shift, double* acc
) noexcept nogil:
    # acc += x - shift
    cdef Py_ssize_t i, lane
    for i in range(size // LANES):
        for lane in range(LANES):
            acc[lane] += x[i * LANES + lane] - shift
    for lane in range(size % LANES):
        acc[lane] += x[size - size % LANES + lane] - shift


cdef inline void sum_squares_run(
    const floating* x, Py_ssize_t size, double shift, double mean_xshift, double* acc
) noexcept nogil:
    # acc += ((x - shift) - mean(x - shift))^2
    cdef Py_ssize_t i, lane
    cdef double centred
    for i in range(size // LANES):
        for lane in range(LANES):
            centred = (x[i * LANES + lane] - shift) - mean_xshift
            acc[lane] += centred * centred
    for lane in range(size % LANES):
        centred = (x[size - size % LANES + lane] - shift) - mean_xshift
        acc[lane] += centred * centred


cdef inline void normalize_run(
    const floating* x, Py_ssize_t size, double mean, double scale, double bias, floating* y
) noexcept nogil:
    # y = (x - mean) * (rstd * weight) + bias
    cdef Py_ssize_t i
    for i in range(size):
        y[i] = <floating>((x[i] - mean) * scale + bias)


cdef inline void sum_gradients_run(
    const floating* dy, const floating* x, Py_ssize_t size, double mean, double* acc_dy, double* acc_dy_xshift
) noexcept nogil:
    # acc_dy += dy, acc_dy_xshift += dy * (x - mean)
    cdef Py_ssize_t i, lane
    for i in range(size // LANES):
        for lane in range(LANES):
            acc_dy[lane] += dy[i * LANES + lane]
            acc_dy_xshift[lane] += dy[i * LANES + lane] * (x[i * LANES + lane] - mean)
    for lane in range(size % LANES):
        acc_dy[lane] += dy[size - size % LANES + lane]
        acc_dy_xshift[lane] += dy[size - size % LANES + lane] * (x[size - size % LANES + lane] - mean)


cdef inline void input_gradient_run(
    const floating* dy, const floating* x, Py_ssize_t size, double mean, double scale, double mean_dy, double slope,
    floating* dx
) noexcept nogil:
    # dx = (dy - mean(dy) - xhat * mean(dy * xhat)) * (rstd * weight), with xhat * mean(dy * xhat) = (x - mean) * slope
    cdef Py_ssize_t i
    for i in range(size):
        dx[i] = <floating>((dy[i] - mean_dy - (x[i] - mean) * slope) * scale)


cdef inline void scale_run(const floating* dy, Py_ssize_t size, double scale, floating* dx) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(size):
        dx[i] = <floating>(dy[i] * scale)


# --- a piece of a channel: some runs of it ----------------------------------------------------------------------------
# Each names both ends of its first run through the memoryview, so that a build with bounds checks sees a wrong one.


cdef double sum_piece(
    const floating[:, :, ::1] x, Cut cut, Py_ssize_t c, Py_ssize_t p, double shift
) noexcept nogil:
    cdef double acc[LANES]
    cdef Py_ssize_t n, first = p // cut.across * cut.rows, start = p % cut.across * cut.width
    cdef Py_ssize_t stop = min(start + cut.width, x.shape[2])
    memset(acc, 0, sizeof(acc))
    for n in range(first, min(first + cut.rows, x.shape[0])):
        sum_run(&x[n, c, start], &x[n, c, stop - 1] - &x[n, c, start] + 1, shift, acc)
    return add_lanes(acc)


cdef double sum_squares_piece(
    const floating[:, :, ::1] x, Cut cut, Py_ssize_t c, Py_ssize_t p, double shift, double mean_xshift
) noexcept nogil:
    cdef double acc[LANES]
    cdef Py_ssize_t n, first = p // cut.across * cut.rows, start = p % cut.across * cut.width
    cdef Py_ssize_t stop = min(start + cut.width, x.shape[2])
    memset(acc, 0, sizeof(acc))
    for n in range(first, min(first + cut.rows, x.shape[0])):
        sum_squares_run(&x[n, c, start], &x[n, c, stop - 1] - &x[n, c, start] + 1, shift, mean_xshift, acc)
    return add_lanes(acc)


cdef void normalize_piece(
    const floating[:, :, ::1] x, Cut cut, Py_ssize_t c, Py_ssize_t p, double mean, double scale, double bias,
    floating[:, :, ::1] y
) noexcept nogil:
    cdef Py_ssize_t n, first = p // cut.across * cut.rows, start = p % cut.across * cut.width
    cdef Py_ssize_t stop = min(start + cut.width, x.shape[2])
    for n in range(first, min(first + cut.rows, x.shape[0])):
        normalize_run(&x[n, c, start], &x[n, c, stop - 1] - &x[n, c, start] + 1, mean, scale, bias, &y[n, c, start])


cdef void sum_gradients_piece(
    const floating[:, :, ::1] dy, const floating[:, :, ::1] x, Cut cut, Py_ssize_t c, Py_ssize_t p, double mean,
    double* sum_dy, double* sum_dy_xshift
) noexcept nogil:
    cdef double acc_dy[LANES]
    cdef double acc_dy_xshift[LANES]
    cdef Py_ssize_t n, first = p // cut.across * cut.rows, start = p % cut.across * cut.width
    cdef Py_ssize_t stop = min(start + cut.width, x.shape[2])
    memset(acc_dy, 0, sizeof(acc_dy))
    memset(acc_dy_xshift, 0, sizeof(acc_dy_xshift))
    for n in range(first, min(first + cut.rows, x.shape[0])):
        sum_gradients_run(
            &dy[n, c, start], &x[n, c, start], &x[n, c, stop - 1] - &x[n, c, start] + 1, mean, acc_dy, acc_dy_xshift
        )
    sum_dy[0] = add_lanes(acc_dy)
    sum_dy_xshift[0] = add_lanes(acc_dy_xshift)


cdef void input_gradient_piece(
    const floating[:, :, ::1] dy, const floating[:, :, ::1] x, Cut cut, Py_ssize_t c, Py_ssize_t p, double mean,
    double scale, double mean_dy, double slope, bint training, floating[:, :, ::1] dx
) noexcept nogil:
    cdef Py_ssize_t n, size, first = p // cut.across * cut.rows, start = p % cut.across * cut.width
    cdef Py_ssize_t stop = min(start + cut.width, x.shape[2])
    for n in range(first, min(first + cut.rows, x.shape[0])):
        size = &x[n, c, stop - 1] - &x[n, c, start] + 1
        if training:
            input_gradient_run(
                &dy[n, c, start], &x[n, c, start], size, mean, scale, mean_dy, slope, &dx[n, c, start]
            )
        else:
            scale_run(&dy[n, c, start], size, scale, &dx[n, c, start])


# --- rows: contiguous values of all channels, one each ----------------------------------------------------------------
# A piece is some whole rows; `partial` is its row of sums, one per channel.


cdef void sum_rows(
    const floating[:, :, ::1] x, Cut cut, Py_ssize_t p, const double* shift, double* partial
) noexcept nogil:
    cdef Py_ssize_t m, c, channels = x.shape[1]
    cdef const floating* row
    for c in range(channels):
        partial[c] = 0.0
    for m in range(p * cut.rows, min((p + 1) * cut.rows, x.shape[0])):
        row = &x[m, 0, 0]
        for c in range(channels):
            partial[c] += row[c] - shift[c]


cdef void sum_squares_rows(
    const floating[:, :, ::1] x, Cut cut, Py_ssize_t p, const double* shift, const double* mean_xshift, double* partial
) noexcept nogil:
    cdef Py_ssize_t m, c, channels = x.shape[1]
    cdef const floating* row
    cdef double centred
    for c in range(channels):
        partial[c] = 0.0
    for m in range(p * cut.rows, min((p + 1) * cut.rows, x.shape[0])):
        row = &x[m, 0, 0]
        for c in range(channels):
            centred = (row[c] - shift[c]) - mean_xshift[c]
            partial[c] += centred * centred


cdef void normalize_rows(
    const floating[:, :, ::1] x, Cut cut, Py_ssize_t p, const double* mean, const double* scale, const double* bias,
    floating[:, :, ::1] y
) noexcept nogil:
    cdef Py_ssize_t m, c, channels = x.shape[1]
    cdef const floating* row
    cdef floating* y_row
    for m in range(p * cut.rows, min((p + 1) * cut.rows, x.shape[0])):
        row = &x[m, 0, 0]
        y_row = &y[m, 0, 0]
        for c in range(channels):
            y_row[c] = <floating>((row[c] - mean[c]) * scale[c] + bias[c])


cdef void sum_gradients_rows(
    const floating[:, :, ::1] dy, const floating[:, :, ::1] x, Cut cut, Py_ssize_t p, const double* mean,
    double* partial_dy, double* partial_dy_xshift
) noexcept nogil:
    cdef Py_ssize_t m, c, channels = x.shape[1]
    cdef const floating* row
    cdef const floating* dy_row
    for c in range(channels):
        partial_dy[c] = 0.0
        partial_dy_xshift[c] = 0.0
    for m in range(p * cut.rows, min((p + 1) * cut.rows, x.shape[0])):
        row = &x[m, 0, 0]
        dy_row = &dy[m, 0, 0]
        for c in range(channels):
            partial_dy[c] += dy_row[c]
            partial_dy_xshift[c] += dy_row[c] * (row[c] - mean[c])


cdef void input_gradient_rows(
    const floating[:, :, ::1] dy, const floating[:, :, ::1] x, Cut cut, Py_ssize_t p, const double* mean,
    const double* scale, const double* mean_dy, const double* slope, bint training, floating[:, :, ::1] dx
) noexcept nogil:
    cdef Py_ssize_t m, c, channels = x.shape[1]
    cdef const floating* row
    cdef const floating* dy_row
    cdef floating* dx_row
    for m in range(p * cut.rows, min((p + 1) * cut.rows, x.shape[0])):
        row = &x[m, 0, 0]
        dy_row = &dy[m, 0, 0]
        dx_row = &dx[m, 0, 0]
        if training:
            for c in range(channels):
                dx_row[c] = <floating>((dy_row[c] - mean_dy[c] - (row[c] - mean[c]) * slope[c]) * scale[c])
        else:
            for c in range(channels):
                dx_row[c] = <floating>(dy_row[c] * scale[c])


# --- statistics of the channels first..last-1 -------------------------------------------------------------------------
# `partial` holds a row for each piece (rows) or for each channel and piece (runs). Sums are added in order of pieces.


cdef void stats_runs(
    const floating[:, :, ::1] x, Cut cut, Py_ssize_t first, Py_ssize_t last, double* shift, double* mean_xshift,
    double* partial, double* mean, double* var, int num_threads
) noexcept nogil:
    cdef Py_ssize_t c, p, t, tasks = (last - first) * cut.pieces
    cdef double count = <double>x.shape[0] * <double>x.shape[2], total
    for c in range(first, last):
        shift[c] = x[0, c, 0] if isfinite(x[0, c, 0]) else 0.0
    for t in prange(tasks, num_threads=num_threads, schedule="static"):
        partial[t] = sum_piece(x, cut, first + t // cut.pieces, t % cut.pieces, shift[first + t // cut.pieces])
    for c in range(first, last):
        total = 0.0
        for p in range(cut.pieces):
            total += partial[(c - first) * cut.pieces + p]
        mean_xshift[c] = total / count
        mean[c] = shift[c] + mean_xshift[c]
    for t in prange(tasks, num_threads=num_threads, schedule="static"):
        partial[t] = sum_squares_piece(
            x, cut, first + t // cut.pieces, t % cut.pieces, shift[first + t // cut.pieces],
            mean_xshift[first + t // cut.pieces]
        )
    for c in range(first, last):
        total = 0.0
        for p in range(cut.pieces):
            total += partial[(c - first) * cut.pieces + p]
        var[c] = total / count


cdef void stats_rows(
    const floating[:, :, ::1] x, Cut cut, double* shift, double* mean_xshift, double* partial, double* mean,
    double* var, int num_threads
) noexcept nogil:
    cdef Py_ssize_t c, p, channels = x.shape[1]
    cdef double count = <double>x.shape[0]
    for c in range(channels):
        shift[c] = x[0, c, 0] if isfinite(x[0, c, 0]) else 0.0
        mean_xshift[c] = 0.0
        var[c] = 0.0
    for p in prange(cut.pieces, num_threads=num_threads, schedule="static"):
        sum_rows(x, cut, p, shift, partial + p * channels)
    for p in range(cut.pieces):
        for c in range(channels):
            mean_xshift[c] += partial[p * channels + c]
    for c in range(channels):
        mean_xshift[c] = mean_xshift[c] / count
        mean[c] = shift[c] + mean_xshift[c]
    for p in prange(cut.pieces, num_threads=num_threads, schedule="static"):
        sum_squares_rows(x, cut, p, shift, mean_xshift, partial + p * channels)
    for p in range(cut.pieces):
        for c in range(channels):
            var[c] += partial[p * channels + c]
    for c in range(channels):
        var[c] = var[c] / count


# --- what the dispatcher calls ----------------------------------------------------------------------------------------


def channels_stats(
    const floating[:, :, ::1] x,  # IN
    double[::1] mean,  # OUT
    double[::1] var,  # OUT
    int num_threads,
):
    cdef Cut cut = cut_channel(x.shape[0], x.shape[2])
    cdef Py_ssize_t first = 0, last, channels = x.shape[1]
    cdef Py_ssize_t wave = channels_in_wave(channels, x.shape[0] * x.shape[2] * sizeof(floating))
    cdef double[:, ::1] scratch = np.empty((2, channels))
    cdef double[::1] partial = np.empty(cut.pieces * (channels if x.shape[2] == 1 else wave))
    with nogil:
        if x.shape[2] == 1:
            stats_rows(x, cut, &scratch[0, 0], &scratch[1, 0], &partial[0], &mean[0], &var[0], num_threads)
        else:
            while first < channels:
                last = min(first + wave, channels)
                stats_runs(
                    x, cut, first, last, &scratch[0, 0], &scratch[1, 0], &partial[0], &mean[0], &var[0], num_threads
                )
                first = last


def channels_forward(
    const floating[:, :, ::1] x,  # IN
    const double[::1] weight,  # IN
    const double[::1] bias,  # IN
    double[::1] mean,  # OUT in training, else IN
    double[::1] var,  # OUT in training, else IN
    double[::1] rstd,  # OUT
    floating[:, :, ::1] y,  # OUT, may be x
    double eps,
    bint training,
    int num_threads,
):
    cdef Cut cut = cut_channel(x.shape[0], x.shape[2])
    cdef Py_ssize_t c, p, t, last, first = 0, channels = x.shape[1]
    cdef bint rows = x.shape[2] == 1
    cdef Py_ssize_t wave = (
        channels if rows else channels_in_wave(channels, x.shape[0] * x.shape[2] * sizeof(floating))
    )
    cdef double[:, ::1] scratch = np.empty((3, channels))
    cdef double[::1] partial = np.empty(cut.pieces * wave)
    cdef double* shift = &scratch[0, 0]
    cdef double* mean_xshift = &scratch[1, 0]
    cdef double* scale = &scratch[2, 0]
    with nogil:
        while first < channels:
            last = min(first + wave, channels)
            if training and rows:
                stats_rows(x, cut, shift, mean_xshift, &partial[0], &mean[0], &var[0], num_threads)
            elif training:
                stats_runs(
                    x, cut, first, last, shift, mean_xshift, &partial[0], &mean[0], &var[0], num_threads
                )
            for c in range(first, last):
                rstd[c] = 1.0 / sqrt(var[c] + eps)
                scale[c] = rstd[c] * weight[c]
            if rows:
                for p in prange(cut.pieces, num_threads=num_threads, schedule="static"):
                    normalize_rows(x, cut, p, &mean[0], scale, &bias[0], y)
            else:
                for t in prange((last - first) * cut.pieces, num_threads=num_threads, schedule="static"):
                    c = first + t // cut.pieces
                    normalize_piece(x, cut, c, t % cut.pieces, mean[c], scale[c], bias[c], y)
            first = last


def channels_backward(
    const floating[:, :, ::1] dy,  # IN
    const floating[:, :, ::1] x,  # IN
    const double[::1] weight,  # IN
    const double[::1] mean,  # IN
    const double[::1] rstd,  # IN
    floating[:, :, ::1] dx,  # OUT, may be dy
    double[::1] dweight,  # OUT
    double[::1] dbias,  # OUT
    bint training,
    int num_threads,
):
    cdef Cut cut = cut_channel(x.shape[0], x.shape[2])
    cdef Py_ssize_t c, p, t, last, first = 0, channels = x.shape[1]
    cdef bint rows = x.shape[2] == 1
    cdef Py_ssize_t wave = (
        channels if rows else channels_in_wave(channels, 2 * x.shape[0] * x.shape[2] * sizeof(floating))
    )
    cdef double[:, ::1] scratch = np.empty((3, channels))
    cdef double[:, ::1] partial = np.empty((2, cut.pieces * wave))
    cdef double* scale = &scratch[0, 0]
    cdef double* mean_dy = &scratch[1, 0]
    cdef double* slope = &scratch[2, 0]
    cdef double count = <double>x.shape[0] * <double>x.shape[2]
    with nogil:
        while first < channels:
            last = min(first + wave, channels)
            if rows:
                for p in prange(cut.pieces, num_threads=num_threads, schedule="static"):
                    sum_gradients_rows(
                        dy, x, cut, p, &mean[0], &partial[0, p * channels], &partial[1, p * channels]
                    )
            else:
                for t in prange((last - first) * cut.pieces, num_threads=num_threads, schedule="static"):
                    c = first + t // cut.pieces
                    sum_gradients_piece(dy, x, cut, c, t % cut.pieces, mean[c], &partial[0, t], &partial[1, t])
            for c in range(first, last):
                dbias[c] = 0.0
                dweight[c] = 0.0
                for p in range(cut.pieces):
                    t = p * channels + c if rows else (c - first) * cut.pieces + p
                    dbias[c] += partial[0, t]
                    dweight[c] += partial[1, t]
                dweight[c] *= rstd[c]
                scale[c] = rstd[c] * weight[c]
                mean_dy[c] = dbias[c] / count
                slope[c] = rstd[c] * dweight[c] / count
            if rows:
                for p in prange(cut.pieces, num_threads=num_threads, schedule="static"):
                    input_gradient_rows(dy, x, cut, p, &mean[0], scale, mean_dy, slope, training, dx)
            else:
                for t in prange((last - first) * cut.pieces, num_threads=num_threads, schedule="static"):
                    c = first + t // cut.pieces
                    input_gradient_piece(
                        dy, x, cut, c, t % cut.pieces, mean[c], scale[c], mean_dy[c], slope[c], training, dx
                    )
            first = last


_SPECIALISED = {"float32": "float", "float64": "double"}


def declines(walk, dtype, activation):
    """Why this backend cannot carry such a call, or None."""
    if walk != "channels":
        return f"has no {walk} walk yet"
    if activation:
        return "has no activations yet"
    if dtype.name not in _SPECIALISED:
        return f"is compiled for {' and '.join(_SPECIALISED)}, not {dtype.name}"
    return None


def kernels(dtype):
    """The loops for one dtype, without the cost of choosing among them at each call."""
    name = _SPECIALISED[dtype.name]
    forward, backward = channels_forward[name], channels_backward[name]

    def forward_of_all(x, weight, bias, mean, var, rstd, y, eps, training, activation, num_threads):
        forward(x, weight, bias, mean, var, rstd, y, eps, training, num_threads)

    def backward_of_all(dy, x, weight, bias, mean, rstd, dx, dweight, dbias, training, activation, num_threads):
        backward(dy, x, weight, mean, rstd, dx, dweight, dbias, training, num_threads)

    return Kernels(channels_stats[name], forward_of_all, backward_of_all, None, None)
