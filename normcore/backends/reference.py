"""The definition in code: NumPy in float64, written to be read.

Runs where nothing is compiled and for every dtype; shows a reader what the fast backends do. Arrays come as
``(outer, channels, inner)``; everything per channel is float64.

    mean  = E[x]                      var  = E[(x - mean)^2]            population variance
    rstd  = 1 / sqrt(var + eps)       xhat = (x - mean) * rstd
    y     = xhat * weight + bias      Ioffe & Szegedy 2015, algorithm 1
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normcore.backends import Kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64 = NDArray[np.float64]
    Float = NDArray[Any]

OVER_BATCH = (0, 2)  # the axes a channel's statistics run over


def declines(walk: str, dtype: np.dtype[Any]) -> str | None:
    return None


def per_channel(v: Float64) -> Float64:
    return v[:, np.newaxis]


def centre(x: Float, mean: Float64) -> Float64:
    xshift: Float64 = np.subtract(x, per_channel(mean), dtype=np.float64)
    return xshift


def channels_stats(x: Float, mean: Float64, var: Float64, num_threads: int = 1) -> None:
    # Measured from the channel's first value, so that a constant channel has mean exactly that value and var exactly 0.
    first = x[0, :, 0].astype(np.float64)
    shift = np.where(np.isfinite(first), first, 0.0)
    xshift = centre(x, shift)
    mean_xshift = xshift.mean(axis=OVER_BATCH)
    mean[:] = shift + mean_xshift
    var[:] = np.square(xshift - per_channel(mean_xshift)).mean(axis=OVER_BATCH)


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
    num_threads: int = 1,
) -> None:
    if training:
        channels_stats(x, mean, var)
    rstd[:] = 1.0 / np.sqrt(var + eps)
    y[...] = centre(x, mean) * per_channel(rstd * weight) + per_channel(bias)


def channels_backward(
    dy: Float,
    x: Float,
    weight: Float64,
    mean: Float64,
    rstd: Float64,
    dx: Float,
    dweight: Float64,
    dbias: Float64,
    training: bool,
    num_threads: int = 1,
) -> None:
    dy64 = dy.astype(np.float64)
    xhat = centre(x, mean) * per_channel(rstd)
    dbias[:] = dy64.sum(axis=OVER_BATCH)
    dweight[:] = (dy64 * xhat).sum(axis=OVER_BATCH)
    dxhat = dy64 * per_channel(weight)
    if training:
        # mean and rstd depend on x too: take out of dxhat what moves them
        count = x.shape[0] * x.shape[2]
        mean_dxhat = per_channel(dbias * weight / count)
        mean_dxhat_xhat = per_channel(dweight * weight / count)
        dxhat = dxhat - mean_dxhat - xhat * mean_dxhat_xhat
    dx[...] = dxhat * per_channel(rstd)


def kernels(dtype: np.dtype[Any]) -> Kernels:
    return Kernels(channels_stats, channels_forward, channels_backward)
