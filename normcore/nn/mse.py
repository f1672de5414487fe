"""Squared error: for numbers as targets."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, as_target
from .loss import Loss


class MSELoss(Loss):
    """Squared error, `(output - target)**2` for each element.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        "mean" divides by the number of elements; "none" gives an array of the output's shape.

    Notes
    -----
    Output and target have the same shape, whatever it is: nothing is broadcast. The target is converted to the output's
    dtype. The gradient is `2 * (output - target)`, divided by the number of elements for "mean". float16 is computed
    in float32.

    Raises
    ------
    ValueError
        If the shapes differ.
    TypeError
        If the output is not floating point, or the target is not real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> criterion = MSELoss()
    >>> criterion(np.array([[1.0], [5.0]]), [[0.0], [2.0]])
    5.0
    >>> criterion.backward()
    array([[1.],
           [3.]])
    """

    def check_target(self, target: ArrayLike, shape: tuple[int, ...]) -> Array:
        """Return the target as an array of this shape."""
        target = as_target(target, "MSELoss")
        if target.dtype.kind not in "fiu":
            raise TypeError(f"MSELoss: target must be real numbers, got {target.dtype}; convert it with astype(float).")
        if target.shape != shape:
            what = (
                f"reshape it, target.reshape{shape}" if target.size == math.prod(shape) else "pass one value for each"
            )
            raise ValueError(f"MSELoss: target has shape {target.shape}, but output has shape {shape}; {what}.")
        return target

    def evaluate(self, output: Array, target: Array) -> Array:
        """Return the squared error of each element."""
        work = np.dtype(np.float32) if output.itemsize < 4 else output.dtype
        difference = np.subtract(output, target.astype(work, copy=False), dtype=work)
        self._saved = difference, output.dtype
        return np.square(difference)

    def gradient(self, scale: float) -> Array:
        """Return `2 * scale * (output - target)`."""
        difference, dtype = self._saved
        return (difference * (2.0 * scale)).astype(dtype, copy=False)  # type: ignore[no-any-return] # NumPy's stubs say Any
