"""Half the Poisson deviance of counts, for outputs that are logarithms of their expectations."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from normcore.nn import Loss, MSELoss
from normcore.nn._checks import Array


class PoissonLoss(Loss):
    """`t * log(t / m) - t + m` with `m = exp(output)`, for each element; its gradient is `m - t`."""

    def check_target(self, target: ArrayLike, shape: tuple[int, ...]) -> Array:
        """Return the target as an array of this shape."""
        return MSELoss().check_target(target, shape)

    def evaluate(self, output: Array, target: Array) -> Array:
        """Return the loss of each element."""
        mean = np.exp(output)
        self._saved = mean, target
        with np.errstate(divide="ignore", invalid="ignore"):
            constant = np.where(target > 0, target * np.log(target), 0)
        # log(t / m) is log(t) - output, without the rounding of exp.
        losses: Array = constant - target * output - target + mean
        return losses

    def gradient(self, scale: float) -> Array:
        """Return `scale * (exp(output) - target)`."""
        mean, target = self._saved
        dy: Array = mean - target
        dy *= scale
        return dy
