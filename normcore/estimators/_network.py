"""The network of an estimator: scikit-learn's starting values in an `MLP`, and its outputs for many rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from normcore.nn import MLP, BatchNorm1d, Linear, Sequential
from normcore.nn._checks import Array

from ._rows import Rows

# scikit-learn's names of activations, and those of MLP
ACTIVATIONS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
NORMS = ("batch", "layer", "rms", "group")

MOMENTUM = 0.1  # of batch norm's running statistics, once there are some
_FIRST_BATCHES = 10  # 1 / MOMENTUM: until then they are the plain average of the batches
_ROWS = 1024  # predicted at a time: what the hidden layers make of them stays in cache


def build(
    sizes: Sequence[int],
    activation: str,
    norm: str | None,
    dropout: float,
    dtype: np.dtype[Any],
    random_state: np.random.RandomState,
) -> MLP:
    """A network in evaluation mode with Glorot's starting values, drawn in scikit-learn's order."""
    factor = 2.0 if activation == "logistic" else 6.0
    values = []
    for fan_in, fan_out in pairwise(sizes):
        bound = np.sqrt(factor / (fan_in + fan_out))
        coef = random_state.uniform(-bound, bound, (fan_in, fan_out))
        values.append((coef, random_state.uniform(-bound, bound, fan_out)))
    # The masks of dropout come last, so that without it the stream of random numbers is scikit-learn's.
    seed = int(random_state.randint(2**31 - 1)) if dropout else 0
    # momentum=None: the average of all batches so far.
    model = MLP(sizes, ACTIVATIONS[activation], norm, seed, dtype, momentum=None, dropout=dropout)
    for layer, (coef, intercept) in zip(linears(model), values, strict=True):
        assert layer.bias is not None
        layer.weight.data.T[...] = coef
        layer.bias.data[...] = intercept
    return model.eval()


def linears(model: MLP) -> list[Linear]:
    """The fully connected layers, in order."""
    return [layer for layer in model if isinstance(layer, Linear)]


def batch_norms(model: MLP) -> list[BatchNorm1d]:
    """The batch norm layers, in order."""
    return [layer for layer in model if isinstance(layer, BatchNorm1d)]


def arrays(model: MLP) -> list[Array]:
    """All parameters and buffers, not copies."""
    return [*(parameter.data for parameter in model.parameters()), *model.buffers()]


def is_settling(layers: Sequence[BatchNorm1d]) -> bool:
    """Whether running statistics still are plain averages; when they no longer are, they become moving ones.

    An average that began at mean 0 and variance 1 and forgets a tenth with every batch would make a network that saw
    few batches useless; small data in scikit-learn's batches of 200 are such a case.
    """
    if not layers or layers[0].momentum is not None:
        return False
    count = layers[0].num_batches_tracked
    if count is not None and int(count) < _FIRST_BATCHES:
        return True
    for layer in layers:
        layer.momentum = MOMENTUM
    return False


def outputs(model: MLP, rows: Rows) -> Array:
    """What the network, in evaluation mode, returns for these rows: before softmax, sigmoid or exp."""
    count = len(rows)
    run = _of_sparse_rows(model, rows) if rows.is_sparse else lambda at: model(rows.take(at))
    if count <= _ROWS:
        found: Array = run(slice(0, count))
    else:
        for start in range(0, count, _ROWS):
            part = run(slice(start, start + _ROWS))
            if not start:
                found = np.empty((count, part.shape[1]), part.dtype)
            found[start : start + _ROWS] = part
    forget(model)
    return found


def _of_sparse_rows(model: MLP, rows: Rows) -> Callable[[slice], Array]:
    """The network of sparse rows, whose zeros the first layer does not multiply."""
    first, *rest = model
    assert isinstance(first, Linear)
    assert first.bias is not None
    coef, intercept = first.weight.data.T, first.bias.data
    behind = Sequential(*rest)

    def run(at: slice) -> Array:
        z: Array = rows.take_sparse(at) @ coef
        z += intercept
        return behind(z) if rest else z

    return run


def forget(model: MLP) -> None:
    """Let go of what layers keep for a backward: they would hold the caller's data."""
    for layer in model:
        layer._saved = None
