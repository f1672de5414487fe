"""The activations that a norm can apply as it writes its result: names, codes, definitions.

The definitions are PyTorch's, with its defaults; z is the norm's result, ``xhat * weight + bias``::

    relu         max(z, 0)                                          its derivative at 0 is 0
    leaky_relu   z where z > 0, else 0.01 z                         at 0 it is 0.01
    sigmoid      1 / (1 + exp(-z))
    tanh         tanh(z)
    gelu         z Phi(z), Phi(z) = (1 + erf(z / sqrt(2))) / 2      exact
    gelu_tanh    z (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))) / 2  approximate="tanh"
    silu         z sigmoid(z)

A kernel gets the code, the index into ``ACTIVATIONS``. Backward recomputes z and multiplies: ``dz = dy * act'(z)``.
"""

from __future__ import annotations

from typing import Any

from normcore._shown import shown

ACTIVATIONS = (None, "relu", "leaky_relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu")
LEAKY_SLOPE = 0.01

_NAMES = ", ".join(f'"{name}"' for name in ACTIVATIONS if name)


def activation_code(activation: Any) -> int:
    """The code of an activation given by name, or 0 for None."""
    if activation is None:
        return 0
    if not isinstance(activation, str):
        raise TypeError(f"activation must be None or one of {_NAMES}, got {shown(activation)}")
    try:
        return ACTIVATIONS.index(activation)
    except ValueError:
        raise ValueError(f"activation must be None or one of {_NAMES}, got {shown(activation)}") from None
