"""Activations, elementwise. Behind a norm in a `Sequential` the norm's kernel does their work (`_norm.py`).

ReLU, Sigmoid and Tanh keep their output, from which their derivative is cheapest. GELU and SiLU alone are the norm
kernel too, as an inference with mean 0 and variance 1.
"""

from __future__ import annotations

import numpy as np

from normcore.functional import batch_norm_backward, batch_norm_forward

from ._checks import Array, as_bool, as_choice, as_gradient, as_input, as_number
from ._norm import Activation

_BRANCHES = 2048  # values: from here on passes cost more than calls


class _InPlace(Activation):
    """What the activations share that have PyTorch's `inplace`."""

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = as_bool(inplace, "inplace", type(self).__name__)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return "inplace=True" if self.inplace else ""


class ReLU(_InPlace):
    """Rectifier, `y = max(x, 0)`, for floating-point x of any shape; `dx = 0` where y is 0, else dy.

    A NaN in x stays one, and an infinite dy behind a zero is cut off like any other.

    Parameters
    ----------
    inplace : bool
        Taken for the sake of PyTorch's models and without effect: x may be what another layer keeps for its backward.
    """

    _fused_name = "relu"

    def forward(self, x: Array) -> Array:
        """Return `max(x, 0)`."""
        x = as_input(x, "ReLU")
        self._saved = y = np.maximum(x, 0, out=np.empty_like(x))
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        y = self._recall()
        dy = as_gradient(dy, y.shape, y.dtype, "ReLU")
        dx: Array
        if y.size < _BRANCHES:
            dx = np.where(y == 0, y, dy)
            return dx
        # np.where branches on each value, which signs at random make ten times as slow as masking its bits.
        bits = np.dtype(f"i{y.itemsize}")
        mask = np.not_equal(y, 0).astype(bits)
        np.negative(mask, out=mask)
        np.bitwise_and(mask, dy.view(bits), out=mask)
        dx = mask.view(y.dtype)
        return dx


class LeakyReLU(_InPlace):
    """Leaky rectifier, `y = x` where x > 0, else `negative_slope * x`, for floating-point x of any shape.

    Parameters
    ----------
    negative_slope : float
        Not negative.
    inplace : bool
        Taken for the sake of PyTorch's models and without effect.
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.negative_slope = as_number(negative_slope, "negative_slope", "LeakyReLU", "[0, inf)")

    @property
    def fused_name(self) -> str | None:
        """Its name in the norm functions, which know the default slope alone."""
        return "leaky_relu" if self.negative_slope == 0.01 else None

    def forward(self, x: Array) -> Array:
        """Return x, its negative values multiplied by the slope."""
        x = as_input(x, "LeakyReLU")
        slope: Array = np.greater(x, 0, out=np.empty_like(x))
        if self.negative_slope <= 1.0:
            np.maximum(slope, self.negative_slope, out=slope)
        else:
            slope[slope == 0] = self.negative_slope
        self._saved = slope
        return np.multiply(x, slope, out=np.empty_like(x))

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        slope = self._recall()
        dy = as_gradient(dy, slope.shape, slope.dtype, "LeakyReLU")
        dx: Array = np.multiply(dy, slope, out=np.empty_like(slope))
        return dx

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class Sigmoid(Activation):
    """Logistic function, `y = 1 / (1 + exp(-x))`, for floating-point x of any shape; `dx = dy * y * (1 - y)`."""

    _fused_name = "sigmoid"

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
        dy = as_gradient(dy, y.shape, y.dtype, "Sigmoid")
        dx: Array = np.subtract(1, y, out=np.empty_like(y))
        dx *= y
        dx *= dy
        return dx


class Tanh(Activation):
    """Hyperbolic tangent, `y = tanh(x)`, for floating-point x of any shape; `dx = dy * (1 - y**2)`."""

    _fused_name = "tanh"

    def forward(self, x: Array) -> Array:
        """Return `tanh(x)`."""
        x = as_input(x, "Tanh")
        self._saved = y = np.tanh(x, out=np.empty_like(x))
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        y = self._recall()
        dy = as_gradient(dy, y.shape, y.dtype, "Tanh")
        dx: Array = np.multiply(y, y, out=np.empty_like(y))
        np.subtract(1, dx, out=dx)
        dx *= dy
        return dx


# A norm's inference with these changes nothing: (x - 0) / sqrt(1 + eps) is x, because eps is far below an ulp of 1.
_MEAN, _VAR, _EPS = np.zeros(1), np.ones(1), 1e-300


class _KernelActivation(Activation):
    """What the activations share whose derivative needs x: the norm kernel alone, on x as one channel."""

    def forward(self, x: Array) -> Array:
        """Return the activation of x."""
        x = as_input(x, type(self).__name__)
        y, ctx = batch_norm_forward(
            x.reshape(1, 1, -1), running_mean=_MEAN, running_var=_VAR, training=False, eps=_EPS,
            activation=self.fused_name,
        )  # fmt: skip
        self._saved = x.shape, x.dtype, ctx
        return y.reshape(x.shape)

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        shape, dtype, ctx = self._recall()
        dy = as_gradient(dy, shape, dtype, type(self).__name__)
        dx: Array = batch_norm_backward(dy.reshape(1, 1, -1), ctx)[0].reshape(shape)
        return dx


class GELU(_KernelActivation):
    """Gaussian error linear unit, `y = x * Phi(x)` with the normal distribution Phi, for floating-point x of any shape.

    Parameters
    ----------
    approximate : {"none", "tanh"}
        "tanh": `y = x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2` instead.
    """

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = as_choice(approximate, "approximate", "GELU", ("none", "tanh"))

    @property
    def fused_name(self) -> str:
        """Its name in the norm functions."""
        return "gelu" if self.approximate == "none" else "gelu_tanh"

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"approximate={self.approximate!r}"


class SiLU(_KernelActivation):
    """Sigmoid linear unit or swish, `y = x / (1 + exp(-x))`, for floating-point x of any shape.

    Parameters
    ----------
    inplace : bool
        Taken for the sake of PyTorch's models and without effect.
    """

    _fused_name = "silu"

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = as_bool(inplace, "inplace", type(self).__name__)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return "inplace=True" if self.inplace else ""
