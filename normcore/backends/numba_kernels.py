"""The optional backend: the loops of ``numba_loops``, compiled by Numba for exactly this CPU when first called.

Here a call is cut, from its shape alone, and handed to the driver that suits it.

Design
------
*Plain loops that LLVM vectorises*, with no licence to reassociate or contract: under ``NUMBA_DISABLE_JIT=1`` they give
the same bits. What it took (ns a value of float32 in cache; one core of a Zen 4, AVX-512; a copy in L1 is 0.10):

* Sums in 16 lanes, one value a lane at a time: unrolled, not vectorised, 0.60. Eight scalar sums: 0.57. Four values a
  lane at a time: 0.16. Columns likewise take four rows at a time, 0.18; one row, by computed index: 0.63.
* Float32 summed without a shift: products of two are exact in float64, so that fusing them changes no bit, and the
  subtraction goes. Statistics 0.087 for 0.137, backward 0.128 for 0.170. The mean of backward is taken out of the sums.
* A loop in float64 for the rare row apart from the one in float32: beside it, it cost 45 ns a row.
* Indices into slices (``x[a:b]`` handed on), not ``x[a + i]``: 0.19 against 1.05 for the write pass of columns.
* ``forceinline`` for inner loops: a call hands over seven words an array; a run of 49 costs 13 ns instead of 37.
* The write pass in the dtype of storage with the mean split in two: 0.11 against 0.20 in float64.
* The activations' own exp and erf: 1.4 for sigmoid (libm 2.6), 3.6 for gelu; left to inlining at LLVM's will: 30.

*One parallel region where there are many groups*: a task takes a block of groups through all passes in the cache. Two
regions where few groups must be cut into pieces. Rows are written forwards: short runs written backwards took 0.43
where forwards takes 0.23, since the prefetcher follows ascending addresses only. Blocks of 1 MB did better than of
256 KB (0.37 against 0.41 for 64 x 3136): longer stretches of memory, and L3 is near.

*Statistics* in one pass: of float32 without a shift where four values of a group surround 0 or nearly, and again with
one where the mean turns out beyond four deviations; of float64 from the group's first value. The parameters' gradients
are summed in float64, what only dx needs of a row in float32. dz of an activation is kept in dx between passes.

*Each driver is compiled twice*, serial and parallel, under two names: the cache on disk does not tell options apart.
Compiling takes 2 to 10 s for the first call of an operation and dtype, milliseconds from the cache.

*Left out.* float16: Numba has no such type for arrays on the CPU. A row of layer norm with fewer than 16 rows is not
cut. Numba's schedule is static, so on a busy machine a region waits for the thread that lost its core.

*From your own code*: ``numba_loops.channels.forward_block`` and ``backward_block``, ``numba_loops.matrices`` likewise,
and ``numba_loops.rows.segments_forward_block`` are jitted, serial, and may be called in an ``@njit`` function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normcore.backends import Kernels
from normcore.backends.numba_loops import activation as activations
from normcore.backends.numba_loops import channels, cut, matrices, rows, weighted
from normcore.backends.numba_loops.scalars import LARGE, WEIGHT_LARGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

ACTIVATIONS = {
    None: activations.NONE,
    "relu": activations.RELU,
    "leaky_relu": activations.LEAKY_RELU,
    "sigmoid": activations.SIGMOID,
    "tanh": activations.TANH,
    "gelu": activations.GELU,
    "gelu_tanh": activations.GELU_TANH,
    "silu": activations.SILU,
}
SHORT_SEGMENT = 16  # values; shorter segments get a parameter for each value, as if they were of one
NARROW = 256  # columns; narrower rows are folded into wider ones


# --- the channels walk ------------------------------------------------------------------------------------------------


def _run_channels(name: str, x: Array, args: tuple[Any, ...], extra: tuple[Any, ...], num_threads: int) -> None:
    """Call the driver `name` of the module that suits x, in blocks of channels or in pieces of each."""
    outer, count, inner = x.shape
    if inner >= cut.SHORT_RUN:
        channel_bytes = outer * inner * x.itemsize
        block = cut.channels_in_block(count, channel_bytes)
        if block:
            getattr(channels, f"{name}_blocks")(*args, block, num_threads)
        else:
            piece = cut.pieces_of_channel(outer, inner)
            getattr(channels, f"{name}_pieces")(*args, *extra, *piece, cut.channels_in_wave(channel_bytes), num_threads)
        return
    columns = count * inner
    block = cut.columns_in_block(outer, columns, x.itemsize)
    if block and columns >= NARROW:
        getattr(matrices, f"{name}_blocks")(*args, max(1, block // inner), num_threads)
    else:
        width = columns * max(1, min(outer, cut.ceil_div(NARROW, columns)))
        piece_rows = cut.rows_in_piece(cut.ceil_div(x.size, width), width)
        getattr(matrices, f"{name}_pieces")(*args, width, piece_rows, num_threads)


def channels_stats(x: Array, mean: Array, var: Array, num_threads: int) -> None:
    centred = (True,) if _in_pieces(x) else ()
    _run_channels("stats", x, (x, mean, var), centred, num_threads)


def _in_pieces(x: Array) -> bool:
    outer, count, inner = x.shape
    return inner >= cut.SHORT_RUN and not cut.channels_in_block(count, outer * inner * x.itemsize)


def channels_forward(
    x: Array,
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    rstd: Array,
    y: Array,
    eps: float,
    training: bool,
    activation: int,
    num_threads: int,
) -> None:
    _run_channels(
        "forward", x, (x, weight, bias, mean, var, rstd, y, eps, training, activation), (), num_threads
    )  # fmt: skip


def channels_backward(
    dy: Array,
    x: Array,
    weight: Array,
    bias: Array,
    mean: Array,
    rstd: Array,
    dx: Array,
    dweight: Array,
    dbias: Array,
    training: bool,
    activation: int,
    num_threads: int,
) -> None:
    args = (dy, x, weight, bias, mean, rstd, dx, dweight, dbias, training, activation)
    _run_channels("backward", x, args, (), num_threads)


# --- the rows walk ----------------------------------------------------------------------------------------------------


def _weighted(x: Array, weight: Array, bias: Array) -> tuple[Array, Array, Array, Array, bool]:
    """Weight and bias for each value, those in the dtype of storage, and whether that holds them."""
    segment = x.shape[2]
    if segment > 1:
        weight, bias = np.repeat(weight, segment), np.repeat(bias, segment)
    size = np.abs(weight)
    small = np.min(size, where=size > 0.0, initial=1.0)
    fit = bool(small * WEIGHT_LARGE > 1.0 and size.max() < WEIGHT_LARGE and np.abs(bias).max() < LARGE)
    with np.errstate(over="ignore", under="ignore"):
        return weight, bias, weight.astype(x.dtype, copy=False), bias.astype(x.dtype, copy=False), fit


def rows_forward(
    x: Array,
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    rstd: Array,
    y: Array,
    eps: float,
    centred: bool,
    activation: int,
    num_threads: int,
) -> None:
    count, segments, segment = x.shape
    size = segments * segment
    block = cut.rows_in_block(count, size * x.itemsize)
    if segment < SHORT_SEGMENT:
        flat_x, flat_y = x.reshape(count, size), y.reshape(count, size)
        weighted.forward(
            flat_x, *_weighted(x, weight, bias), mean, var, rstd, flat_y, eps, centred, activation, max(1, block),
            num_threads,
        )  # fmt: skip
    elif block:
        rows.segments_forward(x, weight, bias, mean, var, rstd, y, eps, centred, activation, block, num_threads)
    else:
        piece, width = cut.pieces_of_channel(1, size)
        wave = cut.channels_in_wave(size * x.itemsize)
        for first in range(0, count, wave):  # a wave is still in the cache when its results are written
            part = slice(first, first + wave)
            flat = x[part].reshape(1, -1, size)
            channels.stats_pieces(flat, mean[part], var[part], centred, piece, width, wave, num_threads)
            rstd[part] = 1.0 / np.sqrt(var[part] + eps)
            p = first * segments % weight.size
            turned = (np.roll(weight, -p), np.roll(bias, -p)) if p else (weight, bias)
            rows.segments_forward_pieces(
                x[part], *turned, mean[part], rstd[part], y[part], activation, width, num_threads
            )  # fmt: skip


def rows_backward(
    dy: Array,
    x: Array,
    weight: Array,
    bias: Array,
    mean: Array,
    rstd: Array,
    dx: Array,
    dweight: Array,
    dbias: Array,
    centred: bool,
    activation: int,
    num_threads: int,
) -> None:
    count, segments, segment = x.shape
    size = segments * segment
    block = cut.rows_in_block(count, size * x.itemsize)
    if segment < SHORT_SEGMENT:
        whole = (count, size)
        wide = (dweight, dbias) if segment == 1 else (np.empty(weight.size * segment), np.empty(weight.size * segment))
        weighted.backward(
            dy.reshape(whole), x.reshape(whole), *_weighted(x, weight, bias), mean, rstd, dx.reshape(whole), *wide,
            centred, activation, cut.rows_in_piece(count, size), num_threads,
        )  # fmt: skip
        if segment > 1:
            dweight[:], dbias[:] = (v.reshape(-1, segment).sum(axis=1) for v in wide)
    elif block:
        rows.segments_backward(
            dy, x, weight, bias, mean, rstd, dx, dweight, dbias, centred, activation, block, num_threads
        )  # fmt: skip
    else:
        _, width = cut.pieces_of_channel(1, segment)
        block = max(1, cut.PIECE // width)
        rows.segments_backward_pieces(
            dy, x, weight, bias, mean, rstd, dx, dweight, dbias, centred, activation, width, block, num_threads
        )  # fmt: skip


# --- what a backend is ------------------------------------------------------------------------------------------------


def declines(walk: str, dtype: np.dtype[Any], activation: int = 0) -> str | None:
    """Why this backend cannot carry such a call, or None."""
    if dtype.name in ("float16", "bfloat16"):
        return f"cannot load {dtype.name}: Numba compiles no arithmetic on it for the CPU"
    if dtype.name not in ("float32", "float64"):
        return f"is compiled for float32 and float64, not {dtype.name}"
    return None


def kernels(dtype: np.dtype[Any]) -> Kernels:
    """The loops for one dtype: Numba compiles a version for each one it meets."""
    return Kernels(channels_stats, channels_forward, channels_backward, rows_forward, rows_backward)
