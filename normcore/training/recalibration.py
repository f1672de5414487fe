"""recalibrate: population statistics for batch norm, in place of moving averages."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from normcore.functional import batch_stats
from normcore.moments import Triple, merge_moments
from normcore.nn import Module
from normcore.nn._checks import Array, as_size
from normcore.nn.batchnorm import _BatchNorm

from ._data import as_batch, batch_bounds, check_finite, check_inputs
from ._errors import kind
from ._fitting import output_of
from ._mode import mode


class _ReachedError(Exception):
    """The layer has its input; what comes after it is of no interest."""


def recalibrate(model: Module, X: ArrayLike, batch_size: int = 1024) -> list[str]:
    """Set the running statistics of every batch norm layer to those of its inputs over all rows of X.

    What the batch norm paper (Ioffe & Szegedy 2015, algorithm 2) prescribes for inference, instead of the moving
    average that training leaves behind. The statistics of batches are merged in float64 by the formula of Chan et al.,
    as in `RunningMoments`, not averaged: the mean of the batches' variances is not the variance.

    Layer by layer, from the input on: every layer sees what it will see in inference, with the layers before it in
    evaluation mode and already recalibrated. So the result is exact at every depth, does not depend on `batch_size`
    (beyond rounding) or on the order of the rows, and doing it twice changes nothing. It takes one forward pass up to
    each layer.

    Parameters
    ----------
    model : Module
        Its batch norm layers with running statistics are set, except frozen ones. Parameters and modes stay.
    X : array of shape (N, ...)
        The training rows. Floating point and finite.
    batch_size : int
        Rows at a time.

    Returns
    -------
    list of str
        The names of the layers that were set, in the order in which they are reached. `running_mean` is the mean and
        `running_var` the unbiased variance over all values of a channel; `num_batches_tracked` counts the batches.

    Raises
    ------
    TypeError, ValueError
        If X does not fit the model, or has one value per channel alone. Statistics are then what they were.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> model = nc.MLP([2, 3, 2], seed=0)
    >>> nc.recalibrate(model, np.eye(2, dtype=np.float32))
    ['1']
    """
    if not isinstance(model, Module):
        raise TypeError(f"recalibrate: model must be a normcore.nn.Module, got {kind(model)}.")
    batch_size = as_size(batch_size, "batch_size", "recalibrate")
    X = check_inputs(X)
    parameter = next(model.parameters(), None)
    dtype = X.dtype if parameter is None else parameter.dtype
    if not len(X):
        raise ValueError("X has no rows; pass at least one.")
    check_finite(X, "X", dtype)
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None and not getattr(module, "frozen", False)
    }
    before = [(buffer, buffer.copy()) for buffer in model.buffers()]
    bounds = batch_bounds(len(X), batch_size)
    try:
        with mode(model, training=False):
            order = _order(model, layers, as_batch(X[:2], dtype))
            for name in order:
                _set(model, name, layers[name], X, bounds, dtype)
    except BaseException:
        for buffer, was in before:
            buffer[...] = was
        raise
    return order


def _order(model: Module, layers: dict[str, _BatchNorm], x: Array) -> list[str]:
    """The names of the layers in the order in which a forward pass reaches them."""
    order: list[str] = []
    for name, layer in layers.items():

        def forward(x: Array, name: str = name, layer: _BatchNorm = layer) -> Array:
            if name not in order:
                order.append(name)
            return type(layer).forward(layer, x)

        vars(layer)["forward"] = forward
    try:
        output_of(model, x)
    finally:
        for layer in layers.values():
            vars(layer).pop("forward", None)
    return order


def _set(
    model: Module, name: str, layer: _BatchNorm, X: Array, bounds: list[tuple[int, int]], dtype: np.dtype[np.generic]
) -> None:
    channels = layer.num_features
    total: Triple = np.zeros(channels), np.zeros(channels), np.zeros(channels)

    def forward(x: Array) -> Array:
        nonlocal total
        mean, var = batch_stats(x, axis=1)
        count = np.full(channels, float(x.size // channels))
        total = merge_moments(total, (count, mean, var * count))
        raise _ReachedError

    vars(layer)["forward"] = forward
    try:
        for start, stop in bounds:
            try:
                model(as_batch(X[start:stop], dtype))
            except _ReachedError:
                continue
    finally:
        del vars(layer)["forward"]
    count, mean, squares = total
    if count[0] < 2:
        raise ValueError(
            f"recalibrate: X gives the layer {name} one value per channel, and one value has no variance; "
            "pass more rows."
        )
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean[...] = mean
    layer.running_var[...] = squares / (count - 1)
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked[...] = len(bounds)
