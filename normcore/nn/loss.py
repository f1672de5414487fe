"""Losses: a number for the output of a network, and the gradient of that number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, as_input, as_int, as_number, as_sample_weight, as_target, as_weights

try:
    from . import _softmax
except ImportError:  # nothing is compiled here: NumPy's way below is for everything
    _softmax = None  # type: ignore[assignment] # as above

_REDUCTIONS = ("mean", "sum", "none")
# Probabilities may miss 0 and 1 by this much: sums and mixtures of them are rounded, in float16 by about 1e-3.
_PROBABILITY_SLACK = 1e-3


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
        What the last "mean" was divided by: the number of losses, or their weights added up. Means of batches, each
        weighted with this, average to the mean of all rows.

    Raises
    ------
    ValueError
        If `reduction` is anything else.
    """

    _saved: Any = None
    _factors: Array | None = None  # the sample weights
    _counts: Array | None = None  # how much each row counts in the mean, if not as one: evaluate may set it
    total_weight: float = 0.0

    def __init__(self, reduction: str = "mean") -> None:
        if not isinstance(reduction, str) or reduction not in _REDUCTIONS:
            known = ", ".join(repr(name) for name in _REDUCTIONS)
            raise ValueError(f"{type(self).__name__}: reduction must be one of {known}, got {reduction!r}.")
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
        factors = None if sample_weight is None else as_sample_weight(sample_weight, output.shape, name)
        if output.size == 0 and self.reduction == "mean":
            raise ValueError(
                f"{name}: output has shape {output.shape}, and nothing has no mean; pass at least one row."
            )
        self._counts = None
        losses = self.evaluate(output, target)
        counts = self._counts
        self._factors = factors
        if counts is None and factors is None:
            self.total_weight = float(losses.size)
        else:
            rows = counts if factors is None else factors if counts is None else factors * counts
            assert rows is not None
            self.total_weight = float(np.add.reduce(rows)) * (losses.size / max(len(rows), 1))
        if factors is not None:
            losses = losses * _beside(factors, losses)
        if self.reduction == "none":
            return losses.astype(output.dtype, copy=False)
        total = float(np.add.reduce(losses, axis=None, dtype=np.float64))
        if self.reduction == "sum":
            return total
        if self.total_weight == 0.0:
            return math.nan if factors is None else 0.0
        return total / self.total_weight

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
            scale = 1.0 / self.total_weight if self.total_weight else 0.0
        if self._factors is None:
            return self.gradient(scale)
        # Weight and scale together: each alone may be beyond float16 where their product is not.
        dy = self.gradient(1.0)
        return (dy * _beside(self._factors * scale, dy)).astype(dy.dtype, copy=False)

    def check_target(self, target: ArrayLike, shape: tuple[int, ...]) -> Array:
        """Return `target` as an array that fits an output of this shape, or raise a clear error."""
        raise NotImplementedError(f"{type(self).__name__} has no check_target(target, shape)")

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
            if name not in ("_saved", "_factors", "_counts", "_within")
        }

    def extra_repr(self) -> str:
        """The arguments shown between the brackets of `repr`."""
        return f"reduction={self.reduction!r}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def _beside(rows: Array, values: Array) -> Array:
    """A factor for each row, shaped to be multiplied with `values`, in their dtype or wider."""
    factors: Array = rows.reshape(-1, *[1] * (values.ndim - 1))
    return factors if values.itemsize == 8 else factors.astype(np.float32)


class CrossEntropyLoss(Loss):
    """Cross-entropy of logits, `-log(softmax(output)[target])` for each row.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        "mean" divides by the number of rows N; "none" gives an array of shape (N,).
    weight : array of shape (C,), optional
        How much each class counts. With classes as target, "mean" divides by the weights of the rows' classes added up,
        with probabilities still by N, as in PyTorch.
    ignore_index : int
        The class of rows that do not count: their loss and gradient are 0 and "mean" leaves them out (NaN if nothing is
        left, as in PyTorch).
    label_smoothing : float
        From 0 to 1: how much of a row's target is spread evenly over all classes.

    Notes
    -----
    The output holds logits, shape (N, C). The target is either integer classes of shape (N,) with values from 0 to
    C - 1, or floating-point class probabilities `t` of shape (N, C) with values from 0 to 1, for which the loss of a
    row is `-sum(t * log(softmax(output)))` (the rows of `t` need not add up to 1, as in PyTorch). With `weight`, t is
    multiplied by it. The gradient is `softmax(output) * sum(t) - t`, divided as the loss. The largest logit is
    subtracted first, so nothing overflows. float16 is computed in float32.

    Raises
    ------
    ValueError
        If shapes, lengths or classes are not these.
    TypeError
        If the output is not floating point, or the target is neither integer nor floating point.

    Examples
    --------
    >>> import numpy as np
    >>> criterion = CrossEntropyLoss()
    >>> criterion(np.zeros((2, 4), np.float32), [0, 3])  # log(4): no idea, four classes
    1.386294...
    >>> criterion.backward()[0]
    array([-0.375,  0.125,  0.125,  0.125], dtype=float32)
    """

    _within: Array | None = None  # the last target that was found to hold nothing but classes

    def __init__(
        self,
        reduction: str = "mean",
        *,
        weight: ArrayLike | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        self.weight = None if weight is None else as_weights(weight, "weight", "CrossEntropyLoss", ranks=(1,))
        self.ignore_index = as_int(ignore_index, "ignore_index", "CrossEntropyLoss")
        self.label_smoothing = as_number(label_smoothing, "label_smoothing", "CrossEntropyLoss", "[0, 1]")

    def check_target(self, target: ArrayLike, shape: tuple[int, ...]) -> Array:
        """Return the classes as intp of shape (N,), or the probabilities, shape (N, C)."""
        if len(shape) != 2 or shape[1] == 0:
            raise ValueError(f"CrossEntropyLoss: output must be logits of shape (N, C), got shape {shape}.")
        target = as_target(target, "CrossEntropyLoss")
        rows, classes = shape
        if self.weight is not None and len(self.weight) != classes:
            raise ValueError(
                f"CrossEntropyLoss: weight has {len(self.weight)} entries, but output has {classes} columns; "
                "pass one weight for each class."
            )
        if target.dtype.kind == "f":
            if target.shape != shape:
                integers = "; integer classes of shape (N,) need an integer dtype, target.astype(int)"
                raise ValueError(
                    f"CrossEntropyLoss: target has class probabilities of shape {target.shape}, but output has shape "
                    f"{shape}{integers if target.ndim == 1 else ''}."
                )
            if self.ignore_index >= 0:
                raise ValueError(
                    f"CrossEntropyLoss: ignore_index={self.ignore_index} is for integer classes, but target has "
                    "probabilities; leave ignore_index out and pass sample_weight."
                )
            # Written so that NaN is refused too.
            if not np.all((target >= -_PROBABILITY_SLACK) & (target <= 1 + _PROBABILITY_SLACK)):
                raise ValueError(
                    "CrossEntropyLoss: target must hold class probabilities from 0 to 1, but has others or NaN; "
                    "normalise its rows, or pass integer classes."
                )
            return target
        if target.dtype.kind not in "iu":
            raise TypeError(
                "CrossEntropyLoss: target must be integer classes or floating-point probabilities, got "
                f"{target.dtype}; number the classes with np.unique(target, return_inverse=True)[1]."
            )
        if target.shape != (rows,):
            hint = "pass target.argmax(1) for one-hot rows" if target.shape == shape else "pass one class for each row"
            raise ValueError(f"CrossEntropyLoss: target has shape {target.shape}, but output has {rows} rows; {hint}.")
        found = target.astype(np.intp, copy=False)
        self._within = None
        # Seen as unsigned, a negative class is huge: one pass finds both ends.
        if rows and np.maximum.reduce(found.view(np.uintp)) >= classes:
            wrong = found[(found != self.ignore_index) & (found.view(np.uintp) >= classes)]
            if len(wrong):
                wrong = target[target != self.ignore_index]
                raise ValueError(
                    f"CrossEntropyLoss: target has classes from {wrong.min()} to {wrong.max()}, but output has "
                    f"{classes} columns, for classes 0 to {classes - 1}; number the classes from 0 or widen the last "
                    "layer."
                )
        else:
            self._within = found
        return found

    def evaluate(self, output: Array, target: Array) -> Array:
        """Return the cross-entropy of each row."""
        if _softmax is not None and self.weight is None and not self.label_smoothing and self.ignore_index < 0:
            done = _softmax.losses(output, target)
            if done is not None:
                losses, exp, total = done
                self._saved = exp, total, target, None, None, output.dtype
                return losses
        logits = output if output.itemsize >= 4 else output.astype(np.float32)
        z = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
        exp = np.exp(z)
        total = np.add.reduce(exp, axis=1)
        counts, ignored = None, None
        if target.ndim == 1:
            # An ignore_index that is no class shows as a target beyond the classes, which check_target looks for.
            if self.ignore_index >= 0 or target is not self._within:
                ignored = target == self.ignore_index
                target = np.where(ignored, 0, target)
            if self.weight is not None or ignored is not None:
                counts = np.ones(len(z)) if self.weight is None else self.weight[target]
                if ignored is not None:
                    counts[ignored] = 0.0
            self._counts, self._within = counts, None
        if target.ndim == 2 or self.label_smoothing:
            target = self._smooth(target, z)
        if target.ndim == 1:
            losses = np.log(total) - z[np.arange(len(z)), target]
            if counts is not None:
                counts = counts.astype(z.dtype, copy=False)
                losses *= counts
        else:
            losses = np.log(total) * np.add.reduce(target, axis=1) - np.einsum("nc,nc->n", z, target)
        if ignored is not None:
            losses[ignored] = 0.0  # whatever the logits are: 0 * NaN would be NaN
        self._saved = exp, total, target, counts, ignored, output.dtype
        return losses  # type: ignore[no-any-return] # NumPy's stubs say Any

    def _smooth(self, target: Array, z: Array) -> Array:
        """The target as probabilities, smoothed and multiplied by the weights of the classes."""
        if target.ndim == 1:
            dense = np.zeros_like(z)
            dense[np.arange(len(z)), target] = 1.0
        else:
            dense = target.astype(z.dtype, copy=False)
        if self.label_smoothing:
            dense = dense * (1.0 - self.label_smoothing) + self.label_smoothing / z.shape[1]
        return dense if self.weight is None else dense * self.weight.astype(z.dtype)

    def gradient(self, scale: float) -> Array:
        """Return `scale * (softmax(output) * sum(t) - t)`."""
        exp, total, target, counts, ignored, dtype = self._saved
        if _softmax is not None and counts is None and ignored is None and dtype == exp.dtype:
            dy = _softmax.gradient(exp, total, target, scale)
            if dy is not None:
                return dy
        if target.ndim == 1:
            factor = scale if counts is None else scale * counts
            dy = exp * (factor / total)[:, None]
            dy[np.arange(len(dy)), target] -= factor
        else:
            dy = exp * (scale * np.add.reduce(target, axis=1) / total)[:, None]
            dy -= scale * target
        if ignored is not None:
            dy[ignored] = 0.0
        return dy.astype(dtype, copy=False)  # type: ignore[no-any-return] # NumPy's stubs say Any

    def extra_repr(self) -> str:
        """The constructor's arguments, where they are not the defaults."""
        parts = [super().extra_repr()]
        if self.weight is not None:
            parts.append(f"weight={self.weight.tolist()}")
        if self.ignore_index != -100:
            parts.append(f"ignore_index={self.ignore_index}")
        if self.label_smoothing:
            parts.append(f"label_smoothing={self.label_smoothing}")
        return ", ".join(parts)


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
