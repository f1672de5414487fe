"""Batch norm of rows that have weights: a weight of 2 is the row twice, in the statistics too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from normcore.nn import BatchNorm1d, Module, Sequential
from normcore.nn._checks import Array


class WeightedBatchNorm(Module):
    """A `BatchNorm1d` in training mode, with its parameters and running statistics, whose rows count as they weigh.

    With weights w, W = sum(w)::

        mean = sum(w * x) / W                   var = sum(w * (x - mean)**2) / W
        xhat = (x - mean) / sqrt(var + eps)     y = xhat * weight + bias
        dx   = weight * rstd * (dy - w / W * (sum(dy) + xhat * sum(dy * xhat)))

    which is what batch norm gives when every row is there w times and dy is added up over its copies.

    Parameters
    ----------
    layer : BatchNorm1d
        With weight, bias and running statistics.

    Attributes
    ----------
    rows : ndarray of shape (N,)
        The weights of the rows of the next batch, to be set before forward.
    """

    rows: Array

    def __init__(self, layer: BatchNorm1d) -> None:
        self.layer = layer

    def forward(self, x: Array) -> Array:
        """Return y, and move the running statistics."""
        layer = self.layer
        assert layer.weight is not None
        assert layer.bias is not None
        share = self.rows / self.rows.sum()
        mean = share @ x.astype(np.float64, copy=False)
        centred = x - mean
        var = share @ np.square(centred)
        rstd = 1.0 / np.sqrt(var + layer.eps)
        xhat = centred * rstd
        self._saved = xhat, rstd, share, x.dtype
        if layer.update_stats and layer.num_batches_tracked is not None:
            # As many rows as weights that are counts say; for weights of any other scale, those that count.
            n = max(float(self.rows.sum()), float(np.count_nonzero(self.rows)))
            if n > 1:
                layer._take_in(mean, var * (n / (n - 1.0)))
        y: Array = (xhat * layer.weight.data + layer.bias.data).astype(x.dtype, copy=False)
        return y

    def backward(self, dy: Array) -> Array:
        """Set the gradients of weight and bias and return dx."""
        xhat, rstd, share, dtype = self._recall()
        weight, bias = self.layer.weight, self.layer.bias
        assert weight is not None
        assert bias is not None
        # Weighted as the rows are: dy has their weights in it, since the loss has.
        dbias = np.add.reduce(dy, axis=0, dtype=np.float64)
        dweight = np.einsum("nc,nc->c", dy, xhat)
        weight.new_grad()[...] = dweight
        bias.new_grad()[...] = dbias
        dx: Array = (dy - share[:, None] * (dbias + xhat * dweight)) * (weight.data * rstd)
        return dx.astype(dtype, copy=False)


def weighted_twin(model: Sequential, layers: Sequence[BatchNorm1d]) -> tuple[Sequential, list[WeightedBatchNorm]]:
    """A network of the same layers and parameters in which batch norm looks at weights, and where to set them."""
    twins = {id(layer): WeightedBatchNorm(layer) for layer in layers}
    return Sequential(*(twins.get(id(layer), layer) for layer in model)), list(twins.values())
