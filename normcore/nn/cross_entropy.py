"""Cross-entropy: for classes as targets, or their probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, as_int, as_number, as_target, as_weights
from .loss import Loss

try:
    from . import _softmax
except ImportError:  # nothing is compiled here: NumPy's way below is for everything
    _softmax = None  # type: ignore[assignment] # as above

# Probabilities may miss 0 and 1 by this much: sums and mixtures of them are rounded, in float16 by about 1e-3.
_PROBABILITY_SLACK = 1e-3


class CrossEntropyLoss(Loss):
    """Cross-entropy of logits, `-log(softmax(output)[target])` for each row, or each place of each row.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        "mean" divides by the number of rows N, or of places; "none" gives an array of the shape of integer classes.
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
    The output holds logits, shape (N, C); or (N, C, d1, ...) with a class for every place, such as the pixels of an
    image; or (C,) for a single row. The target is either integer classes of shape (N,), (N, d1, ...) or () with values
    from 0 to C - 1, or floating-point class probabilities `t` of the output's shape with values from 0 to 1, for which
    the loss of a row is `-sum(t * log(softmax(output)))` (the rows of `t` need not add up to 1, as in PyTorch). With
    `weight`, t is multiplied by it. The gradient is `softmax(output) * sum(t) - t`, divided as the loss. The largest
    logit is subtracted first, so nothing overflows. float16 is computed in float32.

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
    _shape: tuple[int, ...] | None = None  # of the last output, where it was not (N, C)

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
        """Return the classes as intp, one for each place, or the probabilities, in the output's shape."""
        if len(shape) == 2:
            rows, classes = shape
            places: tuple[int, ...] = (rows,)
        else:
            places, classes = _places(shape), shape[:2][-1] if shape else 0
        if not classes:
            raise ValueError(
                f"CrossEntropyLoss: output must be logits of shape (N, C), (N, C, d1, ...) or (C,), got shape {shape}."
            )
        target = as_target(target, "CrossEntropyLoss")
        if self.weight is not None and len(self.weight) != classes:
            raise ValueError(
                f"CrossEntropyLoss: weight has {len(self.weight)} entries, but output has {classes} columns; "
                "pass one weight for each class."
            )
        if target.dtype.kind == "f":
            if target.shape != shape:
                of = "(N,)" if len(shape) == 2 else places
                integers = f"; integer classes of shape {of} need an integer dtype, target.astype(int)"
                raise ValueError(
                    f"CrossEntropyLoss: target has class probabilities of shape {target.shape}, but output has shape "
                    f"{shape}{integers if target.ndim == len(shape) - 1 else ''}."
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
        if target.shape != places:
            raise _wrong_shape(target.shape, shape)
        found = target.astype(np.intp, copy=False)
        self._within = None
        flat = found if found.ndim == 1 else found.ravel()  # reduce over axis=None takes half a microsecond more
        # Seen as unsigned, a negative class is huge: one pass finds both ends.
        if len(flat) and np.maximum.reduce(flat.view(np.uintp)) >= classes:
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

    def check_weights(self, sample_weight: ArrayLike, shape: tuple[int, ...]) -> Array:
        """Return the weights of the rows as an array of shape (N,)."""
        if len(shape) == 1:
            raise ValueError(
                f"CrossEntropyLoss: sample_weight is for rows, but output has shape {shape}, a single one; "
                "pass output[None] and target[None]."
            )
        return super().check_weights(sample_weight, shape)

    def evaluate(self, output: Array, target: Array) -> Array:
        """Return the cross-entropy of each row, or of each place."""
        self._shape = None
        if _softmax is not None and self.weight is None and not self.label_smoothing and self.ignore_index < 0:
            done = _softmax.losses(output, target)
            if done is not None:
                losses, exp, total = done
                self._saved = exp, total, target, None, None, output.dtype
                return losses
        if output.ndim != 2:
            return self._evaluate_places(output, target)
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

    def _evaluate_places(self, output: Array, target: Array) -> Array:
        """A place of a row is a row to the arithmetic."""
        shape, places = output.shape, _places(output.shape)
        if target.shape == shape:
            rows = _as_rows(target)
        else:
            rows = target.reshape(-1)
            self._within = rows if target is self._within else None
        losses = self.evaluate(_as_rows(output), rows)
        self._shape = shape
        counts: Array | None = self._counts  # which evaluate has set
        self._counts = None if counts is None else counts.reshape(places)
        return losses.reshape(places)

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
        if self._shape is not None:
            shape, self._shape = self._shape, None
            rows = self.gradient(scale)
            self._shape = shape
            return _from_rows(rows, shape)
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


def _places(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of integer classes for logits of this shape: without the axis of the classes."""
    return shape[:1] + shape[2:] if len(shape) > 1 else ()


def _as_rows(values: Array) -> Array:
    """(N, C, d1, ...) or (C,) as rows, with the classes along the last axis."""
    return np.moveaxis(np.atleast_2d(values), 1, -1).reshape(-1, values.shape[:2][-1])


def _from_rows(rows: Array, shape: tuple[int, ...]) -> Array:
    """The values of `_as_rows` in the shape that they had."""
    if len(shape) == 1:
        return rows.reshape(shape)
    return np.ascontiguousarray(np.moveaxis(rows.reshape(*_places(shape), shape[1]), -1, 1))


def _wrong_shape(got: tuple[int, ...], shape: tuple[int, ...]) -> ValueError:
    if len(shape) == 2:
        hint = "pass target.argmax(1) for one-hot rows" if got == shape else "pass one class for each row"
        hint += f", target.reshape({shape[0]})" if got == (shape[0], 1) != shape else ""
        return ValueError(f"CrossEntropyLoss: target has shape {got}, but output has {shape[0]} rows; {hint}.")
    return ValueError(
        f"CrossEntropyLoss: target has shape {got}, but output has shape {shape}; pass integer classes of shape "
        f"{_places(shape)}, or probabilities of the output's shape."
    )
