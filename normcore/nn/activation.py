"""Elementwise activations. Each keeps its output, from which the derivative is cheapest."""

from __future__ import annotations

import numpy as np

from ._checks import Array, as_input, check_gradient
from .module import Module


class ReLU(Module):
    """Rectifier, `y = max(x, 0)`, for floating-point x of any shape; `dx = 0` where y is 0, else dy.

    A NaN in x stays one, and an infinite dy behind a zero is cut off like any other.
    """

    def forward(self, x: Array) -> Array:
        """Return `max(x, 0)`."""
        x = as_input(x, "ReLU")
        self._saved = y = np.maximum(x, 0, out=np.empty_like(x))
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        y = self._recall()
        check_gradient(dy, y, "ReLU")
        dx: Array = np.where(y == 0, y, dy)
        return dx


class Sigmoid(Module):
    """Logistic function, `y = 1 / (1 + exp(-x))`, for floating-point x of any shape; `dx = dy * y * (1 - y)`."""

    def forward(self, x: Array) -> Array:
        """Return `1 / (1 + exp(-x))`."""
        x = as_input(x, "Sigmoid")
        # In float16 exp(-x) would overflow where the result still is a number: computed wider, rounded once.
        y = np.empty_like(x, dtype=np.float32 if x.itemsize < 4 else None)
        # exp overflows to inf for very negative x and 1/inf is the 0 wanted: no reason to warn anybody.
        with np.errstate(over="ignore", under="ignore"):
            np.negative(x, out=y)
            np.exp(y, out=y)
            y += 1
            np.reciprocal(y, out=y)
            self._saved = y = y.astype(x.dtype, copy=False)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        y = self._recall()
        check_gradient(dy, y, "Sigmoid")
        dx: Array = np.subtract(1, y, out=np.empty_like(y))
        dx *= y
        dx *= dy
        return dx


class Tanh(Module):
    """Hyperbolic tangent, `y = tanh(x)`, for floating-point x of any shape; `dx = dy * (1 - y**2)`."""

    def forward(self, x: Array) -> Array:
        """Return `tanh(x)`."""
        x = as_input(x, "Tanh")
        self._saved = y = np.tanh(x, out=np.empty_like(x))
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        y = self._recall()
        check_gradient(dy, y, "Tanh")
        dx: Array = np.multiply(y, y, out=np.empty_like(y))
        np.subtract(1, dx, out=dx)
        dx *= dy
        return dx
