"""MLP: the usual network of fully connected layers, in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from normcore._shown import shown

from . import init
from ._checks import as_bool, as_number, as_size, listed
from .activation import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Tanh
from .batchnorm import BatchNorm1d
from .container import Sequential
from .dropout import Dropout
from .groupnorm import GroupNorm
from .identity import Identity
from .layernorm import LayerNorm, RMSNorm
from .linear import Linear
from .module import Module

_ACTIVATIONS: dict[str, Callable[[], Module]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "gelu": GELU,
    "gelu_tanh": lambda: GELU("tanh"),
    "silu": SiLU,
    "identity": Identity,
}
_NORMS = ("batch", "layer", "rms", "group")


class MLP(Sequential):
    """Fully connected network: `Linear, norm, activation` for each hidden layer, then a `Linear`.

    Parameters
    ----------
    sizes : sequence of int
        Features in, hidden layers, features out: `[784, 128, 64, 10]` has two hidden layers.
    activation : {"relu", "leaky_relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu", "identity"}
        After every hidden layer.
    norm : {"batch", "layer", "rms", "group", None}, or a sequence of these with one entry for each hidden layer
        Between a hidden `Linear` and its activation.
    seed : None, int or numpy.random.Generator
        For the starting values, and for the masks of dropout.
    dtype : dtype
        Of parameters and input.
    eps, momentum
        Of the norm layers; momentum of batch norm alone.
    dropout : float
        The probability of the `Dropout` after each activation; 0 puts none there.
    bias : bool
        Whether the hidden `Linear` layers have a bias; the last one always has. Batch norm takes a bias before it away
        again, so that with `norm="batch"` False is the same network with fewer parameters.
    num_groups : int, optional
        Of group norm. When not given, as many as divide the layer, up to 8, with at least 4 features each.

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
        dropout: float = 0.0,
        bias: bool = True,
        num_groups: int | None = None,
    ) -> None:
        found = None if isinstance(sizes, str) else listed(sizes)
        if found is None:
            raise TypeError(f"MLP: sizes must be a sequence of ints, such as [784, 64, 10], got {shown(sizes)}.")
        sizes = [as_size(size, "each of sizes", "MLP") for size in found]
        if len(sizes) < 2:
            raise ValueError(
                "MLP: sizes must hold at least the numbers of features in and out, such as [784, 64, 10], "
                f"got {shown(sizes)}."
            )
        hidden = len(sizes) - 2
        norms = [norm] * hidden if norm is None or isinstance(norm, str) else _as_list(norm)
        if len(norms) != hidden:
            raise ValueError(
                f"MLP: norm has {len(norms)} entries, but there are {hidden} hidden layers; give one for each."
            )
        for name in norms:
            if name is not None and not (isinstance(name, str) and name in _NORMS):
                raise ValueError(f"MLP: norm must be one of {', '.join(map(repr, _NORMS))} or None, got {shown(name)}.")
        if not isinstance(activation, str) or activation not in _ACTIVATIONS:
            raise ValueError(
                f"MLP: activation must be one of {', '.join(map(repr, _ACTIVATIONS))}, got {shown(activation)}."
            )
        dropout = as_number(dropout, "dropout", "MLP", "[0, 1]")

        bias = as_bool(bias, "bias", "MLP")

        rng = init.as_generator(seed, "seed")
        # All starting values first: dropout does not change them.
        linears = [
            Linear(features_in, features_out, bias or i == hidden, dtype=dtype, rng=rng)
            for i, (features_in, features_out) in enumerate(pairwise(sizes))
        ]
        layers: list[Module] = []
        for linear, name in zip(linears, norms, strict=False):
            layers.append(linear)
            if name is not None:
                layers.append(_norm_layer(name, linear.out_features, eps, momentum, num_groups, dtype))
            layers.append(_ACTIVATIONS[activation]())
            if dropout:
                layers.append(Dropout(dropout, rng=int(rng.integers(2**63))))
        super().__init__(*layers, linears[-1])


def _norm_layer(
    name: str, features: int, eps: float, momentum: float | None, num_groups: int | None, dtype: DTypeLike
) -> Module:
    if name == "batch":
        return BatchNorm1d(features, eps=eps, momentum=momentum, dtype=dtype)
    if name == "layer":
        return LayerNorm(features, eps=eps, dtype=dtype)
    if name == "rms":
        return RMSNorm(features, eps=eps, dtype=dtype)
    if num_groups is None:
        num_groups = max([1, *(g for g in range(2, 9) if features % g == 0 and features // g >= 4)])
    return GroupNorm(num_groups, features, eps=eps, dtype=dtype)


def _as_list(norm: Any) -> list[str | None]:
    found = listed(norm)
    if found is None:
        raise TypeError(f"MLP: norm must be a name, None or a sequence of these, got {shown(norm)}.")
    return found
