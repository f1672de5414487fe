"""Losses: a number for the output of a network, and the gradient of that number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, as_input

_REDUCTIONS = ("mean", "sum", "none")


class Loss:
    """Base of the losses: call it on an output and a target, then `backward()` for the gradient of the output.

    A loss of your own has `evaluate(y, target)`, which returns the loss of every row or element and keeps in `self._saved`
    what its gradient needs, and `gradient(scale)`, which returns the gradient of the sum times `scale`.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        What to return: the mean or the sum (a float, accumulated in float64) or the losses themselves (an array).
    """

    _saved: Any = None
    _count = 0

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in _REDUCTIONS:
            known = ", ".join(repr(name) for name in _REDUCTIONS)
            raise ValueError(f"{type(self).__name__}: reduction must be one of {known}, got {reduction!r}.")
        self.reduction = reduction

    def __call__(self, y: Array, target: ArrayLike) -> float | Array:
        """Return the loss of output `y` for `target`: a float, or an array when the reduction is "none"."""
        y = as_input(y, type(self).__name__, "y")
        target = self.check_target(target, y.shape)
        if y.size == 0 and self.reduction == "mean":
            raise ValueError(
                f"{type(self).__name__}: y has shape {y.shape}, and nothing has no mean; pass at least one row."
            )
        losses = self.evaluate(y, target)
        self._count = losses.size
        if self.reduction == "none":
            return losses
        total = float(np.add.reduce(losses, axis=None, dtype=np.float64))
        return total / losses.size if self.reduction == "mean" else total

    def backward(self) -> Array:
        """Return the gradient of the last loss with respect to y, of y's shape and dtype; for "none", that of the sum.

        Raises
        ------
        RuntimeError
            If there was no loss yet.
        """
        if self._saved is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward was called before the loss: call criterion(y, target) first."
            )
        return self.gradient(1.0 / self._count if self.reduction == "mean" else 1.0)

    def check_target(self, target: ArrayLike, shape: tuple[int, ...]) -> Array:
        """Return `target` as an array that fits an output of this shape, or raise a clear error."""
        raise NotImplementedError

    def evaluate(self, y: Array, target: Array) -> Array:
        """Return the unreduced losses of checked arguments and keep what `gradient` needs."""
        raise NotImplementedError

    def gradient(self, scale: float) -> Array:
        """Return `scale` times the gradient of the sum of the last losses."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_saved"}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(reduction={self.reduction!r})"


class CrossEntropyLoss(Loss):
    """Cross-entropy of logits, `-log(softmax(y)[target])` for each row.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        "mean" divides by the number of rows N; "none" gives an array of shape (N,).

    Notes
    -----
    y holds logits, shape (N, C). The target is either integer classes of shape (N,) with values from 0 to C - 1, or
    floating-point class probabilities `t` of shape (N, C) with values from 0 to 1, for which the loss of a row is
    `-sum(t * log(softmax(y)))` (the rows of `t` need not add up to 1, as in PyTorch). The gradient is
    `softmax(y) * sum(t) - t`, divided by N for "mean". The largest logit is subtracted first, so nothing overflows.

    Raises
    ------
    ValueError
        If shapes, lengths or classes are not these.
    TypeError
        If y is not floating point, or the target is neither integer nor floating point.
    """

    def check_target(self, target: ArrayLike, shape: tuple[int, ...]) -> Array:
        """Return the classes as intp of shape (N,), or the probabilities, shape (N, C)."""
        if len(shape) != 2 or shape[1] == 0:
            raise ValueError(f"CrossEntropyLoss: y must be logits of shape (N, C), got shape {shape}.")
        target = np.asarray(target)
        rows, classes = shape
        if target.dtype.kind == "f":
            if target.shape != shape:
                hint = (
                    "; integer classes of shape (N,) need an integer dtype, target.astype(int)"
                    if target.ndim == 1
                    else ""
                )
                raise ValueError(
                    f"CrossEntropyLoss: target has class probabilities of shape {target.shape}, but y has shape {shape}{hint}."
                )
            # Written so that NaN is refused too.
            if not np.all((target >= 0) & (target <= 1)):
                raise ValueError("CrossEntropyLoss: class probabilities in target must be from 0 to 1.")
            return target
        if target.dtype.kind not in "iu":
            raise TypeError(
                f"CrossEntropyLoss: target must be integer classes or floating-point probabilities, got {target.dtype}; "
                "number the classes with np.unique(target, return_inverse=True)[1]."
            )
        if target.shape != (rows,):
            hint = "pass target.argmax(1) for one-hot rows" if target.shape == shape else "pass one class for each row"
            raise ValueError(f"CrossEntropyLoss: target has shape {target.shape}, but y has {rows} rows; {hint}.")
        found = target.astype(np.intp, copy=False)
        # Seen as unsigned, a negative class is huge: one pass finds both ends.
        if rows and np.maximum.reduce(found.view(np.uintp)) >= classes:
            raise ValueError(
                f"CrossEntropyLoss: target has classes from {target.min()} to {target.max()}, but y has {classes} columns, "
                f"for classes 0 to {classes - 1}."
            )
        return found

    def evaluate(self, y: Array, target: Array) -> Array:
        """Return the cross-entropy of each row."""
        logits = y if y.itemsize >= 4 else y.astype(np.float32)
        z = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
        exp = np.exp(z)
        total = np.add.reduce(exp, axis=1)
        self._saved = exp, total, target, y.dtype
        if target.ndim == 1:
            losses = np.log(total) - z[np.arange(len(z)), target]
        else:
            losses = np.log(total) * target.sum(axis=1, dtype=z.dtype) - np.einsum("nc,nc->n", z, target, dtype=z.dtype)
        return losses.astype(y.dtype, copy=False)  # type: ignore[no-any-return]

    def gradient(self, scale: float) -> Array:
        """Return `scale * (softmax(y) * sum(t) - t)`."""
        exp, total, target, dtype = self._saved
        if target.ndim == 1:
            dy = exp * (scale / total)[:, None]
            dy[np.arange(len(dy)), target] -= scale
        else:
            dy = exp * (scale * target.sum(axis=1, dtype=exp.dtype) / total)[:, None]
            dy -= scale * target
        return dy.astype(dtype, copy=False)  # type: ignore[no-any-return]


class MSELoss(Loss):
    """Squared error, `(y - target)**2` for each element.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        "mean" divides by the number of elements; "none" gives an array of y's shape.

    Notes
    -----
    y and target have the same shape, whatever it is: nothing is broadcast. The target is converted to y's dtype. The
    gradient is `2 * (y - target)`, divided by the number of elements for "mean".

    Raises
    ------
    ValueError
        If the shapes differ.
    TypeError
        If y is not floating point, or the target is not real numbers.
    """

    def check_target(self, target: ArrayLike, shape: tuple[int, ...]) -> Array:
        """Return the target as an array of this shape."""
        target = np.asarray(target)
        if target.dtype.kind not in "fiu":
            raise TypeError(f"MSELoss: target must be real numbers, got {target.dtype}.")
        if target.shape != shape:
            hint = "; pass target.reshape(y.shape)" if target.size == np.prod(shape) else ""
            raise ValueError(f"MSELoss: target has shape {target.shape}, but y has shape {shape}{hint}.")
        return target

    def evaluate(self, y: Array, target: Array) -> Array:
        """Return the squared error of each element."""
        self._saved = difference = y - target.astype(y.dtype, copy=False)
        return np.square(difference)  # type: ignore[no-any-return]

    def gradient(self, scale: float) -> Array:
        """Return `2 * scale * (y - target)`."""
        return self._saved * (2.0 * scale)  # type: ignore[no-any-return]
