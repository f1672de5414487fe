"""What losses share: a number for the output of a network, and the gradient of that number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from normcore._shown import shown

from ._checks import Array, as_input, as_sample_weight

_REDUCTIONS = ("mean", "sum", "none")


class Loss:
    """Base of the losses: call it on an output and a target, then `backward()` for the gradient of the output.

    A loss of your own has three methods: `check_target(target, shape)`; `evaluate(output, target)`, which returns the
    loss of every row or element and keeps in `self._saved` what its gradient needs; and `gradient(scale)`, which
    returns the gradient of the sum times `scale`. Sample weights and the reduction are the base's affair.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        What to return: the mean or the sum (a float, accumulated in float64) or the losses themselves (an array).

    Attributes
    ----------
    total_weight : float
        What the last "mean" was divided by: the number of losses, or their weights added up (infinite where these are
        beyond float64; the mean is right then too). Means of batches, each weighted with this, average to the mean of
        all rows.

    Raises
    ------
    ValueError
        If `reduction` is anything else.
    """

    _saved: Any = None
    _factors: Array | None = None  # the sample weights, for a mean in a unit in which the largest is about 1
    _divisor: float = 0.0  # of the mean, in that unit
    _counts: Array | None  # how much each row counts in the mean, if not as one: evaluate may set it
    total_weight: float = 0.0

    def __init__(self, reduction: str = "mean") -> None:
        if not isinstance(reduction, str) or reduction not in _REDUCTIONS:
            known = ", ".join(repr(name) for name in _REDUCTIONS)
            raise ValueError(f"{type(self).__name__}: reduction must be one of {known}, got {shown(reduction)}.")
        self.reduction = reduction

    def __call__(self, output: Array, target: ArrayLike, sample_weight: ArrayLike | None = None) -> float | Array:
        """Return the loss of `output` for `target`: a float, or an array when the reduction is "none".

        Parameters
        ----------
        output : ndarray
            Floating point, with a row for each sample.
        target : array
            What `check_target` takes.
        sample_weight : array of shape (N,), optional
            How much each row counts: finite and not negative. With losses `l` and weights `w`, "mean" is
            `sum(w * l) / sum(w)`, "sum" is `sum(w * l)` and "none" is `w * l`. A mean in which no row counts is 0.

        Returns
        -------
        float or ndarray
        """
        name = type(self).__name__
        output = as_input(output, name, "output")
        target = self.check_target(target, output.shape)
        factors = None if sample_weight is None else self.check_weights(sample_weight, output.shape)
        if output.size == 0 and self.reduction == "mean":
            raise ValueError(
                f"{name}: output has shape {output.shape}, and nothing has no mean; pass at least one row."
            )
        self._counts = None
        losses = self.evaluate(output, target)
        counts = self._counts
        rows, unit = factors, 0
        if factors is not None:
            # A mean does not depend on the unit of the weights. A power of 2 changes no digit.
            unit = int(np.frexp(np.maximum.reduce(factors, initial=0.0))[1])
            rows = np.ldexp(factors, -unit)
        self._factors = factors = rows if self.reduction == "mean" else factors
        if counts is not None:
            rows = counts if rows is None else counts * _beside(rows, counts)
        if rows is None:
            self._divisor = float(losses.size)
        else:
            self._divisor = float(np.add.reduce(rows, axis=None)) * (losses.size / max(rows.size, 1))
        self.total_weight = _scaled(self._divisor, unit)
        if factors is not None:
            # In float64, for a weight may be beyond float32 where weight * loss is not; it is rounded once, below.
            losses = losses.astype(np.float64, copy=False) * _column(factors, losses)
        if self.reduction == "none":
            return losses.astype(output.dtype, copy=False)
        total = float(np.add.reduce(losses, axis=None, dtype=np.float64))
        if self.reduction == "sum":
            return total
        if self._divisor == 0.0:
            return math.nan if factors is None else 0.0
        return total / self._divisor

    def backward(self) -> Array:
        """Return the gradient of the last loss, of the output's shape and dtype; for "none", that of the sum.

        Raises
        ------
        RuntimeError
            If there was no loss yet.
        """
        if self._saved is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward was called before the loss: call criterion(output, target) first."
            )
        scale = 1.0
        if self.reduction == "mean":
            scale = 1.0 / self._divisor if self._divisor else 0.0
        if self._factors is None:
            return self.gradient(scale)
        # Weight and scale together: each alone may be beyond float16 where their product is not.
        dy = self.gradient(1.0)
        return (dy * _beside(self._factors * scale, dy)).astype(dy.dtype, copy=False)

    def check_target(self, target: ArrayLike, shape: tuple[int, ...]) -> Array:
        """Return `target` as an array that fits an output of this shape, or raise a clear error."""
        raise NotImplementedError(f"{type(self).__name__} has no check_target(target, shape)")

    def check_weights(self, sample_weight: ArrayLike, shape: tuple[int, ...]) -> Array:
        """Return `sample_weight` as an array that fits an output of this shape, or raise a clear error."""
        return as_sample_weight(sample_weight, shape, type(self).__name__)

    def evaluate(self, output: Array, target: Array) -> Array:
        """Return the unreduced losses of checked arguments and keep what `gradient` needs."""
        raise NotImplementedError(f"{type(self).__name__} has no evaluate(output, target)")

    def gradient(self, scale: float) -> Array:
        """Return `scale` times the gradient of the sum of the last losses."""
        raise NotImplementedError(f"{type(self).__name__} has no gradient(scale)")

    def __getstate__(self) -> dict[str, Any]:
        # A pickle or deepcopy keeps the loss, not the last batch that went through it.
        return {
            name: value
            for name, value in vars(self).items()
            if name not in ("_saved", "_factors", "_divisor", "_counts", "_within", "_shape")
        }

    def extra_repr(self) -> str:
        """The arguments shown between the brackets of `repr`."""
        return f"reduction={self.reduction!r}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def _column(rows: Array, values: Array) -> Array:
    """A factor for each row, shaped to be multiplied with `values`."""
    return rows.reshape(-1, *[1] * (values.ndim - 1))


def _beside(rows: Array, values: Array) -> Array:
    """The same in the dtype of `values` or wider: float64 where a factor is outside float32's comfort."""
    factors = _column(rows, values)
    if values.itemsize == 8 or not np.all((rows == 0.0) | ((rows > 1e-30) & (rows < 1e30))):
        return factors
    return factors.astype(np.float32)


def _scaled(value: float, exponent: int) -> float:
    """`value * 2**exponent`; infinite where that is beyond float64."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf
