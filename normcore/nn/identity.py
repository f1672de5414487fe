"""Identity: nothing, where a layer is wanted."""

from __future__ import annotations

from typing import Any

from ._checks import Array, as_gradient, as_input
from .module import Module


class Identity(Module):
    """Returns x, and dy in backward: a place holder for another layer.

    Parameters
    ----------
    *args, **kwargs
        Those of the layer whose place it holds; not looked at.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, x: Array) -> Array:
        """Return x."""
        x = as_input(x, "Identity")
        self._saved = x.shape, x.dtype
        return x

    def backward(self, dy: Array) -> Array:
        """Return dy."""
        shape, dtype = self._recall()
        return as_gradient(dy, shape, dtype, "Identity")
