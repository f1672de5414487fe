"""The definition in code: NumPy in float64, written to be read.

Runs where nothing is compiled and for every dtype; shows a reader what the fast backends do. For every norm

    mean  = E[x]                      var  = E[(x - mean)^2]            population variance
    rstd  = 1 / sqrt(var + eps)       xhat = (x - mean) * rstd
    z     = xhat * weight + bias      y    = activation(z)              Ioffe & Szegedy 2015, algorithm 1

and RMS norm leaves the mean out: mean = 0, var = E[x^2]. The norms differ in what E runs over, so the two walks are two
views of the array and two ``Axes``: what a statistic runs over, and what a parameter's gradient is summed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from normcore.backends import Kernels
from normcore.backends.reference_activations import activate, derivative

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64 = NDArray[np.float64]
    Float = NDArray[Any]


class Axes(NamedTuple):
    """Of a view of x: what is averaged for one statistic, what is summed for one parameter."""

    statistic: tuple[int, ...]
    parameter: tuple[int, ...]


CHANNELS = Axes((0, 2), (0, 2))  # of (N, C, S)
ROWS = Axes((2, 3), (0, 3))  # of (N, G, K, L): G rows share no parameter, then they come again

FAR = 4.0  # deviations between a shift and the mean: with more, sums are taken again

# Overflow and NaN are IEEE's, as in the compiled backends, whatever np.seterr says.
quietly = np.errstate(all="ignore")


def declines(walk: str, dtype: np.dtype[Any], activation: int) -> str | None:
    return None


# --- the formulas -----------------------------------------------------------------------------------------------------


def centre(x: Float, mean: Float64) -> Float64:
    xshift: Float64 = np.subtract(x, mean, dtype=np.float64)
    return xshift


def mean_and_var(x: Float, axes: Axes, centred: bool = True) -> tuple[Float64, Float64]:
    over = axes.statistic
    if not centred:
        return np.zeros(()), np.square(x.astype(np.float64)).mean(axis=over, keepdims=True)
    # Measured from the group's first value, so that a constant group has mean exactly that value and var exactly 0.
    first = x[tuple(slice(0, 1) if axis in over else slice(None) for axis in range(x.ndim))].astype(np.float64)
    shift = np.where(np.isfinite(first), first, 0.0)
    mean, var = moments(x, shift, over)
    far = np.square(mean - shift) > FAR**2 * var
    if far.any():  # the first value was an outlier
        mean, var = moments(x, np.where(far, mean, shift), over)
    return mean, var


def moments(x: Float, shift: Float64, over: tuple[int, ...]) -> tuple[Float64, Float64]:
    xshift = centre(x, shift)
    mean_xshift = xshift.mean(axis=over, keepdims=True)
    return shift + mean_xshift, np.square(xshift - mean_xshift).mean(axis=over, keepdims=True)


def normalise(
    x: Float, weight: Float64, bias: Float64, mean: Float64, rstd: Float64, y: Float, activation: int
) -> None:
    z = centre(x, mean) * (rstd * weight) + bias
    store(activate(z, activation), y)


def gradients(
    dy: Float, x: Float, weight: Float64, bias: Float64, mean: Float64, rstd: Float64, dx: Float,
    axes: Axes, through_statistics: bool, centred: bool, activation: int,
) -> tuple[Float64, Float64]:  # fmt: skip
    xhat = centre(x, mean) * rstd
    dz = dy.astype(np.float64)
    if activation:
        dz = dz * derivative(xhat * weight + bias, activation)
    dbias = dz.sum(axis=axes.parameter)
    dweight = (dz * xhat).sum(axis=axes.parameter)
    dxhat = dz * weight
    if through_statistics:
        # mean and rstd depend on x too: take out of dxhat what moves them
        mean_dxhat_xhat = (dxhat * xhat).mean(axis=axes.statistic, keepdims=True)
        mean_dxhat = dxhat.mean(axis=axes.statistic, keepdims=True) if centred else 0.0
        dxhat = dxhat - mean_dxhat - xhat * mean_dxhat_xhat
    store(dxhat * rstd, dx)
    return dweight, dbias


def store(values: Float64, into: Float) -> None:
    """Write float64 values, rounded once to nearest even."""
    if into.dtype.name == "bfloat16":  # whose cast goes through float32: make that step round to odd
        single = values.astype(np.float32)
        inexact, too_far = single != values, np.abs(single) > np.abs(values)
        bits = single.view(np.int32)
        bits -= too_far  # towards zero
        bits |= inexact
        into[...] = single
        return
    into[...] = values


# --- the channels walk: x is (N, C, S) --------------------------------------------------------------------------------


def per_channel(v: Float64) -> Float64:
    return v[:, np.newaxis]


@quietly
def channels_stats(x: Float, mean: Float64, var: Float64, num_threads: int = 1) -> None:
    mean[:], var[:] = (v.ravel() for v in mean_and_var(x, CHANNELS))


@quietly
def channels_forward(
    x: Float,
    weight: Float64,
    bias: Float64,
    mean: Float64,
    var: Float64,
    rstd: Float64,
    y: Float,
    eps: float,
    training: bool,
    activation: int,
    num_threads: int = 1,
) -> None:
    if training:
        channels_stats(x, mean, var)
    rstd[:] = 1.0 / np.sqrt(var + eps)
    normalise(x, per_channel(weight), per_channel(bias), per_channel(mean), per_channel(rstd), y, activation)


@quietly
def channels_backward(
    dy: Float,
    x: Float,
    weight: Float64,
    bias: Float64,
    mean: Float64,
    rstd: Float64,
    dx: Float,
    dweight: Float64,
    dbias: Float64,
    training: bool,
    activation: int,
    num_threads: int = 1,
) -> None:
    dweight[:], dbias[:] = gradients(
        dy, x, per_channel(weight), per_channel(bias), per_channel(mean), per_channel(rstd), dx,
        CHANNELS, training, True, activation,
    )  # fmt: skip


# --- the rows walk: x is (rows, segments, length) ---------------------------------------------------------------------


class RowViews(NamedTuple):
    """How arrays of the rows walk are seen so that their parameters broadcast.

    Segment k of row r has parameter ``(r * K + k) % P``: after G = P / K rows the parameters start again.
    """

    values: tuple[int, int, int, int]  # (N, G, K, L)
    rows: tuple[int, int, int, int]  # (N, G, 1, 1)
    parameters: tuple[int, int, int]  # (G, K, 1)

    @classmethod
    def of(cls, x: Float, weight: Float64) -> RowViews:
        rows, segments, length = x.shape
        groups = len(weight) // segments
        return cls((rows // groups, groups, segments, length), (rows // groups, groups, 1, 1), (groups, segments, 1))


@quietly
def rows_forward(
    x: Float,
    weight: Float64,
    bias: Float64,
    mean: Float64,
    var: Float64,
    rstd: Float64,
    y: Float,
    eps: float,
    centred: bool,
    activation: int,
    num_threads: int = 1,
) -> None:
    views = RowViews.of(x, weight)
    x, y = x.reshape(views.values), y.reshape(views.values)
    row_mean, row_var = mean_and_var(x, ROWS, centred)
    mean[:], var[:] = row_mean.ravel(), row_var.ravel()
    rstd[:] = 1.0 / np.sqrt(var + eps)
    normalise(
        x, weight.reshape(views.parameters), bias.reshape(views.parameters),
        mean.reshape(views.rows), rstd.reshape(views.rows), y, activation,
    )  # fmt: skip


@quietly
def rows_backward(
    dy: Float,
    x: Float,
    weight: Float64,
    bias: Float64,
    mean: Float64,
    rstd: Float64,
    dx: Float,
    dweight: Float64,
    dbias: Float64,
    centred: bool,
    activation: int,
    num_threads: int = 1,
) -> None:
    views = RowViews.of(x, weight)
    for_weight, for_bias = gradients(
        dy.reshape(views.values), x.reshape(views.values),
        weight.reshape(views.parameters), bias.reshape(views.parameters),
        mean.reshape(views.rows), rstd.reshape(views.rows), dx.reshape(views.values), ROWS, True, centred, activation,
    )  # fmt: skip
    dweight[:], dbias[:] = for_weight.ravel(), for_bias.ravel()


def kernels(dtype: np.dtype[Any]) -> Kernels:
    return Kernels(channels_stats, channels_forward, channels_backward, rows_forward, rows_backward)
