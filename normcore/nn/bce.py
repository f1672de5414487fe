"""Binary cross-entropy of logits: independent yes-or-no questions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, as_target, as_weights
from .loss import Loss


class BCEWithLogitsLoss(Loss):
    """Binary cross-entropy of logits, `-(t * log(p) + (1 - t) * log(1 - p))` with `p = sigmoid(output)`, per element.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        "mean" divides by the number of elements; "none" gives an array of the output's shape.
    weight : array, optional
        Factor of each element's loss; broadcast to the output. "mean" still divides by the number of elements.
    pos_weight : array, optional
        Factor of the first term, `t * log(p)`; broadcast to the output. More than 1 makes a missed 1 cost more.

    Notes
    -----
    Output and target have the same shape, whatever it is. The target holds values from 0 to 1 (or booleans) and is
    converted to the output's dtype. Computed as `(1 - t) * x + q * log(1 + exp(-x))` with
    `q = 1 + (pos_weight - 1) * t`, where `log(1 + exp(-x)) = max(-x, 0) + log1p(exp(-|x|))` does not overflow. The
    gradient is `(1 - t) - q * sigmoid(-x)`. float16 is computed in float32.

    Raises
    ------
    ValueError
        If the shapes differ, or the target has values outside 0 to 1.
    TypeError
        If the output is not floating point, or the target is not real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> criterion = BCEWithLogitsLoss()
    >>> criterion(np.zeros((2, 1)), [[0.0], [1.0]])  # log(2)
    0.693147...
    >>> criterion.backward()
    array([[ 0.25],
           [-0.25]])
    """

    def __init__(
        self, reduction: str = "mean", *, weight: ArrayLike | None = None, pos_weight: ArrayLike | None = None
    ) -> None:
        super().__init__(reduction)
        self.weight = None if weight is None else as_weights(weight, "weight", "BCEWithLogitsLoss")
        self.pos_weight = None if pos_weight is None else as_weights(pos_weight, "pos_weight", "BCEWithLogitsLoss")

    def check_target(self, target: ArrayLike, shape: tuple[int, ...]) -> Array:
        """Return the target as an array of this shape."""
        target = as_target(target, "BCEWithLogitsLoss")
        if target.dtype.kind not in "fiub":
            raise TypeError(
                f"BCEWithLogitsLoss: target must be real numbers or booleans, got {target.dtype}; "
                "convert it with astype(float)."
            )
        if target.shape != shape:
            what = (
                f"reshape it, target.reshape{shape}" if target.size == math.prod(shape) else "pass one value for each"
            )
            raise ValueError(
                f"BCEWithLogitsLoss: target has shape {target.shape}, but output has shape {shape}; {what}."
            )
        # Written so that NaN is refused too.
        if target.dtype.kind != "b" and not np.all((target >= 0) & (target <= 1)):
            raise ValueError(
                "BCEWithLogitsLoss: target must hold values from 0 to 1, but has others or NaN; "
                "pass 0 and 1, or probabilities."
            )
        for name, factor in (("weight", self.weight), ("pos_weight", self.pos_weight)):
            # Broadcasting may not grow the output either.
            if factor is not None and (
                factor.ndim > len(shape)
                or any(n not in (1, size) for n, size in zip(factor.shape[::-1], shape[::-1], strict=False))
            ):
                raise ValueError(
                    f"BCEWithLogitsLoss: {name} has shape {factor.shape}, which does not broadcast to the output's "
                    f"{shape}; pass one factor for each column."
                )
        return target

    def evaluate(self, output: Array, target: Array) -> Array:
        """Return the binary cross-entropy of each element."""
        work = np.dtype(np.float32) if output.itemsize < 4 else output.dtype
        x, t = output.astype(work, copy=False), target.astype(work, copy=False)
        small = np.exp(-np.abs(x))
        softplus = np.log1p(small)
        softplus += np.maximum(-x, 0)
        missed = 1 - t
        positive = None if self.pos_weight is None else 1 + (self.pos_weight.astype(work) - 1) * t
        losses: Array = softplus if positive is None else softplus * positive
        losses += missed * x
        if self.weight is not None:
            losses *= self.weight.astype(work)
        self._saved = x, small, missed, positive, output.dtype
        return losses

    def gradient(self, scale: float) -> Array:
        """Return `scale * ((1 - t) - q * sigmoid(-x))`."""
        x, small, missed, positive, dtype = self._saved
        dy = np.where(x < 0, 1, small) / (1 + small)  # sigmoid(-x)
        if positive is not None:
            dy *= positive
        np.subtract(missed, dy, out=dy)
        if self.weight is not None:
            dy *= self.weight.astype(dy.dtype)
        dy *= scale
        return dy.astype(dtype, copy=False)  # type: ignore[no-any-return] # NumPy's stubs say Any

    def extra_repr(self) -> str:
        """The constructor's arguments, where they are not the defaults."""
        given = {"weight": self.weight, "pos_weight": self.pos_weight}
        shown = [f"{name}={value.tolist()}" for name, value in given.items() if value is not None]
        return ", ".join([super().extra_repr(), *shown])
