"""MLP: the usual network of fully connected layers, in one call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import init
from ._checks import as_size
from .activation import ReLU, Sigmoid, Tanh
from .batchnorm import BatchNorm1d
from .container import Sequential
from .linear import Linear
from .module import Module

_ACTIVATIONS: dict[str, type[Module]] = {"relu": ReLU, "sigmoid": Sigmoid, "tanh": Tanh}
_NORMS: dict[str, type[BatchNorm1d]] = {"batch": BatchNorm1d}


class MLP(Sequential):
    """Fully connected network: `Linear, norm, activation` for each hidden layer, then a `Linear`.

    Parameters
    ----------
    sizes : sequence of int
        Features in, hidden layers, features out: `[784, 128, 64, 10]` has two hidden layers.
    activation : {"relu", "sigmoid", "tanh"}
        After every hidden layer.
    norm : {"batch", None}, or a sequence of these with one entry for each hidden layer
        Between a hidden `Linear` and its activation. The `Linear` keeps its bias.
    seed : None, int or numpy.random.Generator
        For the starting values.
    dtype : dtype
        Of parameters and input.
    eps, momentum
        Of the norm layers.

    Notes
    -----
    x has shape (N, sizes[0]) and y (N, sizes[-1]): no activation after the last layer, so for a classifier y holds
    logits. The state dict has the keys of the same `torch.nn.Sequential`: "0.weight", "1.running_mean", ...

    Raises
    ------
    ValueError
        If there are fewer than two sizes, one is not positive, or a name is unknown.
    TypeError
        If an argument is of the wrong kind.

    Examples
    --------
    >>> MLP([4, 8, 3])
    MLP(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): BatchNorm1d(8, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
      (2): ReLU()
      (3): Linear(in_features=8, out_features=3, bias=True)
    )
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "relu",
        norm: str | Sequence[str | None] | None = "batch",
        seed: init.RandomState = None,
        dtype: DTypeLike = np.float32,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
    ) -> None:
        if isinstance(sizes, str) or not isinstance(sizes, Iterable):
            raise TypeError(f"MLP: sizes must be a sequence of ints, such as [784, 64, 10], got {sizes!r}.")
        sizes = [as_size(size, "each of sizes", "MLP") for size in sizes]
        if len(sizes) < 2:
            raise ValueError(
                "MLP: sizes must hold at least the numbers of features in and out, such as [784, 64, 10], "
                f"got {sizes!r}."
            )
        hidden = len(sizes) - 2
        norms = [norm] * hidden if norm is None or isinstance(norm, str) else list(_as_iterable(norm))
        if len(norms) != hidden:
            raise ValueError(
                f"MLP: norm has {len(norms)} entries, but there are {hidden} hidden layers; give one for each."
            )
        for name in norms:
            if name is not None and not (isinstance(name, str) and name in _NORMS):
                raise ValueError(f"MLP: norm must be 'batch' or None, got {name!r}.")
        if not isinstance(activation, str) or activation not in _ACTIVATIONS:
            raise ValueError(
                f"MLP: activation must be one of {', '.join(map(repr, _ACTIVATIONS))}, got {activation!r}."
            )

        rng = init.as_generator(seed, "seed")
        layers: list[Module] = []
        for features_in, features_out, name in zip(sizes[:-2], sizes[1:-1], norms, strict=True):
            layers.append(Linear(features_in, features_out, dtype=dtype, rng=rng))
            if name is not None:
                layers.append(_NORMS[name](features_out, eps=eps, momentum=momentum, dtype=dtype))
            layers.append(_ACTIVATIONS[activation]())
        layers.append(Linear(sizes[-2], sizes[-1], dtype=dtype, rng=rng))
        super().__init__(*layers)


def _as_iterable(norm: Any) -> Iterable[str | None]:
    if not isinstance(norm, Iterable):
        raise TypeError(f"MLP: norm must be a name, None or a sequence of these, got {norm!r}.")
    return norm
