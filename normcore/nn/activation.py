"""Elementwise activations. Each keeps its output, from which the derivative is cheapest."""

from __future__ import annotations

import numpy as np

from ._checks import Array, as_input, check_gradient
from .module import Module


class ReLU(Module):
    """Rectifier, `y = max(x, 0)`, for floating-point x of any shape; `dx = dy` where y > 0, else 0."""

    def forward(self, x: Array) -> Array:
        """Return `max(x, 0)`."""
        self._saved = y = np.maximum(as_input(x, "ReLU"), 0)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        y = self._recall()
        check_gradient(dy, y.shape, "ReLU")
        return dy * (y > 0)


class Sigmoid(Module):
    """Logistic function, `y = 1 / (1 + exp(-x))`, for floating-point x of any shape; `dx = dy * y * (1 - y)`."""

    def forward(self, x: Array) -> Array:
        """Return `1 / (1 + exp(-x))`."""
        x = as_input(x, "Sigmoid")
        y = np.negative(x)
        # exp overflows to inf for very negative x and 1/inf is the 0 wanted: no reason to warn anybody.
        with np.errstate(over="ignore", under="ignore"):
            np.exp(y, out=y)
            y += 1
            np.reciprocal(y, out=y)
        self._saved = y
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        y = self._recall()
        check_gradient(dy, y.shape, "Sigmoid")
        dx = 1 - y
        dx *= y
        dx *= dy
        return dx  # type: ignore[no-any-return]


class Tanh(Module):
    """Hyperbolic tangent, `y = tanh(x)`, for floating-point x of any shape; `dx = dy * (1 - y**2)`."""

    def forward(self, x: Array) -> Array:
        """Return `tanh(x)`."""
        self._saved = y = np.tanh(as_input(x, "Tanh"))
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        y = self._recall()
        check_gradient(dy, y.shape, "Tanh")
        dx = np.multiply(y, y)
        np.subtract(1, dx, out=dx)
        dx *= dy
        return dx
