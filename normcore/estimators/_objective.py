"""What is minimised: the losses of scikit-learn's MLP, over rows that may have weights, and their gradients."""

from __future__ import annotations

import numpy as np

from normcore.nn import BCEWithLogitsLoss, CrossEntropyLoss, Loss, MSELoss
from normcore.nn._checks import Array

from ._poisson import PoissonLoss


class Objective:
    """A loss of the network's outputs, averaged over rows as scikit-learn does.

    Parameters
    ----------
    loss : Loss
        Of single outputs: its `evaluate` and `gradient`.
    scale, slope : float
        What the sum of its values, and its gradient, are multiplied by.
    steepness : float
        How many times the value that function is whose gradient `gradient` returns.

    Attributes
    ----------
    mass : float
        The number of rows of the last value, or their weights added up.
    """

    def __init__(self, loss: Loss, scale: float = 1.0, slope: float = 1.0, steepness: float = 1.0) -> None:
        self.loss = loss
        self.scale = scale
        self.slope = slope
        self.steepness = steepness
        self.mass = 0.0

    def value(self, output: Array, target: Array, weights: Array | None) -> float:
        """The mean over rows of the loss."""
        losses = self.loss.evaluate(output, target)
        if weights is None:
            self.mass = float(len(output))
        else:
            self.mass = float(np.add.reduce(weights))
            losses = losses * (weights if losses.ndim == 1 else weights[:, None])
        total = float(np.add.reduce(losses, axis=None, dtype=np.float64))
        return self.scale * total / self.mass if self.mass else float("nan")

    def gradient(self, weights: Array | None) -> Array:
        """The gradient of the last value with respect to the outputs."""
        dy = self.loss.gradient(self.slope / self.mass)
        if weights is not None:
            dy *= weights[:, None].astype(dy.dtype, copy=False)
        return dy


def of_classifier(out_activation: str) -> Objective:
    """Cross-entropy of one class for each row, or of labels that are each there or not, added up."""
    return Objective(CrossEntropyLoss() if out_activation == "softmax" else BCEWithLogitsLoss())


def of_regressor(loss: str, outputs: int) -> Objective:
    """Half the squared error, or the Poisson deviance.

    scikit-learn reports the squared error as the mean over outputs and goes down the gradient of their sum; so do we.
    """
    if loss == "poisson":
        return Objective(PoissonLoss())
    return Objective(MSELoss(), scale=0.5 / outputs, slope=0.5, steepness=outputs)
