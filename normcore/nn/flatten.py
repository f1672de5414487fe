"""Flatten: several dimensions into one."""

from __future__ import annotations

import math

from ._checks import Array, as_gradient, as_input, as_int
from .module import Module


class Flatten(Module):
    """Merge the dimensions from `start_dim` to `end_dim` (both included) into one: (N, C, H, W) to (N, C*H*W).

    Parameters
    ----------
    start_dim, end_dim : int
        Dimensions, negative ones counted from the end. The defaults keep the rows and merge the rest.

    Raises
    ------
    ValueError
        If x does not have these dimensions, or they are in the wrong order.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = as_int(start_dim, "start_dim", "Flatten")
        self.end_dim = as_int(end_dim, "end_dim", "Flatten")

    def forward(self, x: Array) -> Array:
        """Return x with the dimensions merged; a view where possible."""
        x = as_input(x, "Flatten")
        rank = x.ndim
        start = self.start_dim + rank if self.start_dim < 0 else self.start_dim
        end = self.end_dim + rank if self.end_dim < 0 else self.end_dim
        if not 0 <= start <= end < rank:
            raise ValueError(
                f"Flatten: x has shape {x.shape}, which has no dimensions {self.start_dim} to {self.end_dim} to merge; "
                "add a dimension to x or change start_dim and end_dim."
            )
        y: Array = x.reshape(*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])
        self._saved = x.shape, y.shape, y.dtype
        return y

    def backward(self, dy: Array) -> Array:
        """Return dy in the shape of x."""
        x_shape, y_shape, dtype = self._recall()
        dy = as_gradient(dy, y_shape, dtype, "Flatten")
        return dy.reshape(x_shape)  # type: ignore[no-any-return] # NumPy's stubs say Any

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
