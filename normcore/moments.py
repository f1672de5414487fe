"""RunningMoments: count, mean, variance and range of data that arrives in parts, exact and mergeable."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normcore.functional import batch_stats

Array: TypeAlias = NDArray[Any]
Float64: TypeAlias = NDArray[np.float64]

_BLOCK = 1 << 20  # values looked at in one go where they have to be converted or masked: bounds the memory


class RunningMoments:
    r"""Count, mean, variance, minimum and maximum of every feature, over any number of updates.

    What comes in is centred on its own mean in float64 and merged by the formula of Chan, Golub and LeVeque (1979):
    with counts :math:`n_a, n_b` and sums of squared distances :math:`M_a, M_b` from the means,

    .. math::
        \delta = mean_b - mean_a, \quad mean = mean_a + \delta \frac{n_b}{n_a + n_b}, \quad
        M = M_a + M_b + \delta^2 \frac{n_a n_b}{n_a + n_b}

    so nothing cancels, at whatever offset, and the sizes of the parts make no difference beyond rounding.

    Parameters
    ----------
    axis : int, default -1
        The axis of the features: 1 for (N, C, H, W). Data of shape (N,) is a single feature.

    Attributes
    ----------
    count : ndarray of float64, shape (C,)
        How many values went in, or their weights added up. 0 before the first update.
    mean, var, std, min, max : ndarray of float64, shape (C,)
        ``var`` is the population variance, divided by count. NaN where count is 0.

    Notes
    -----
    NaN is a value that is missing: left out, feature by feature. Infinity is a value, and follows IEEE: the mean is
    infinite or NaN and the variance NaN.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> moments = nc.RunningMoments()
    >>> moments.update(np.array([[1.0, 10.0], [3.0, np.nan]]))
    >>> moments.update(np.array([[5.0, 30.0]]))
    >>> moments.count, moments.mean, moments.var
    (array([3., 2.]), array([ 3., 20.]), array([  2.66666667, 100.        ]))
    """

    def __init__(self, axis: int = -1) -> None:
        try:
            self.axis = operator.index(axis)
        except TypeError:
            raise TypeError(f"RunningMoments: axis must be an int, got {axis!r}.") from None
        self._moments: _Moments | None = None

    def update(self, x: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Take in some values.

        Parameters
        ----------
        x : array
            Floating point, or integers, which count as float64. Any shape that has `axis`; after the first update with
            as many features as then. Nothing is changed by an x without values.
        sample_weight : array of shape (N,), optional
            One weight for each row: for each entry of the first axis that is not `axis`. Finite and not negative. A row
            of weight 0 is as if it were not there.

        Raises
        ------
        TypeError
            If `x` or `sample_weight` is not real numbers.
        ValueError
            If a shape does not fit or a weight is negative, NaN or infinite. Nothing has been changed then.
        """
        x = _as_values(x)
        axis = self._feature_axis(x)
        features = 1 if axis is None else x.shape[axis]
        self._check_features(features, f"x has shape {x.shape} and so")
        rows = x if axis is None else np.moveaxis(x, axis, -1)  # (..., C), or (N,)
        weights = None if sample_weight is None else _as_weights(sample_weight, rows)
        new = _Moments(features)
        fast = weights is None and x.size > 0 and x.dtype.kind not in "iu"
        if not (fast and new.absorb_whole(x, axis)):
            for block, block_weights in _blocks(rows, features, weights):
                new.absorb(block, block_weights)
        # Only now, so that an exception, a memory error too, has changed nothing.
        self._take(new)

    def merge(self, other: RunningMoments) -> None:
        """Take in everything that `other` has seen; `other` stays as it is.

        Parameters
        ----------
        other : RunningMoments
            Of as many features.

        Raises
        ------
        TypeError
            If it is anything else.
        ValueError
            If it has another number of features.
        """
        if not isinstance(other, RunningMoments):
            raise TypeError(f"RunningMoments.merge: other must be a RunningMoments, got {type(other).__name__}.")
        if other._moments is not None:
            self._check_features(len(other._moments.count), "other")
            self._take(other._moments)

    def _take(self, new: _Moments) -> None:
        self._moments = new.copy() if self._moments is None else self._moments.merged(new)

    def _feature_axis(self, x: Array) -> int | None:
        if x.ndim == 1 and self.axis in (-1, 0):
            return None
        if x.ndim == 0 or not -x.ndim <= self.axis < x.ndim:
            raise ValueError(
                f"RunningMoments.update: x has shape {x.shape}, which has no axis {self.axis} of features; reshape x."
            )
        return self.axis % x.ndim

    def _check_features(self, features: int, what: str) -> None:
        if self._moments is not None and len(self._moments.count) != features:
            raise ValueError(
                f"RunningMoments: {what} has {features} features, but there were {len(self._moments.count)} before; "
                "pass the same features, or begin a new RunningMoments."
            )

    def _value(self, name: str) -> Float64:
        if self._moments is None:
            return np.array(0.0 if name == "count" else np.nan)
        value: Float64 = getattr(self._moments, name)
        return value.copy() if name == "count" else np.where(self._moments.count > 0, value, np.nan)

    @property
    def count(self) -> Float64:
        """Number of values of each feature, or the sum of their weights."""
        return self._value("count")

    @property
    def mean(self) -> Float64:
        """Mean of each feature."""
        return self._value("mean")

    @property
    def var(self) -> Float64:
        """Population variance of each feature."""
        count = self.count
        squares = self._value("squares")
        return np.divide(squares, count, out=np.full_like(squares, np.nan), where=count > 0)

    @property
    def std(self) -> Float64:
        """Root of the population variance of each feature."""
        return np.sqrt(self.var)

    @property
    def min(self) -> Float64:
        """Smallest value of each feature."""
        return self._value("min")

    @property
    def max(self) -> Float64:
        """Largest value of each feature."""
        return self._value("max")

    def __repr__(self) -> str:
        if self._moments is None:
            return f"RunningMoments(axis={self.axis}), empty"
        count = self._moments.count
        return f"RunningMoments(axis={self.axis}), {len(count)} features, count up to {count.max(initial=0.0):g}"


class _Moments:
    """The sums behind it: for each feature count, mean, sum of squared distances from the mean, minimum, maximum."""

    __slots__ = ("count", "max", "mean", "min", "squares")

    def __init__(self, features: int) -> None:
        self.count = np.zeros(features)
        self.mean = np.zeros(features)
        self.squares = np.zeros(features)
        self.min = np.full(features, np.inf)
        self.max = np.full(features, -np.inf)

    def copy(self) -> _Moments:
        new = _Moments(0)
        for name in self.__slots__:
            setattr(new, name, getattr(self, name).copy())
        return new

    def merged(self, other: _Moments) -> _Moments:
        new = _Moments(0)
        new.count, new.mean, new.squares = merge_moments(
            (self.count, self.mean, self.squares), (other.count, other.mean, other.squares)
        )
        new.min, new.max = np.minimum(self.min, other.min), np.maximum(self.max, other.max)
        return new

    def absorb_whole(self, x: Array, axis: int | None) -> bool:
        """Take in x, without weights, by the compiled two passes; False if it has NaN or infinity or an odd rank."""
        if axis is None:
            x, axis = x[:, None], 1
        if not 2 <= x.ndim <= 5:
            return False
        mean, var = batch_stats(x, axis=axis)
        if not (np.isfinite(mean).all() and np.isfinite(var).all()):
            return False
        others = tuple(i for i in range(x.ndim) if i != axis)
        self.count += x.size // x.shape[axis]
        self.mean, self.squares = mean, var * self.count
        self.min, self.max = (bound(x, axis=others).astype(np.float64) for bound in (np.min, np.max))
        return True

    def absorb(self, x: Float64, weights: Float64 | None) -> None:
        """Take in x of shape (M, C)."""
        there = ~np.isnan(x)
        if weights is not None:
            there &= (weights > 0)[:, None]
        w = there.astype(np.float64) if weights is None else np.where(there, weights[:, None], 0.0)
        new = _Moments(x.shape[1])
        new.count = w.sum(axis=0)
        divisor = np.where(new.count > 0, new.count, 1.0)
        share = w / divisor
        # Infinite values make inf - inf on the way to the NaN that they should end in.
        with np.errstate(invalid="ignore", over="ignore"):
            values = np.where(there, x, 0.0)
            new.mean = np.einsum("mc,mc->c", share, values)
            distance = np.where(there, x - new.mean, 0.0)
            # The mean is off by its rounding: what is left of the distances says by how much.
            rest = np.einsum("mc,mc->c", share, distance)
            new.squares = np.maximum(np.einsum("mc,mc,mc->c", w, distance, distance) - new.count * rest * rest, 0.0)
            new.mean = new.mean + np.where(np.isfinite(rest), rest, 0.0)
        new.min = np.where(there, x, np.inf).min(axis=0, initial=np.inf)
        new.max = np.where(there, x, -np.inf).max(axis=0, initial=-np.inf)
        merged = self.merged(new)
        for name in self.__slots__:
            setattr(self, name, getattr(merged, name))


Triple: TypeAlias = tuple[Float64, Float64, Float64]


def merge_moments(a: Triple, b: Triple) -> Triple:
    """Merge two triples (count, mean, sum of squared distances from the mean), one entry for each feature, in float64.

    A side with count 0 leaves the other as it is.
    """
    (count_a, mean_a, squares_a), (count_b, mean_b, squares_b) = a, b
    count = count_a + count_b
    divisor = np.where(count > 0, count, 1.0)
    with np.errstate(invalid="ignore", over="ignore"):  # infinite means
        delta = mean_b - mean_a
        mean = mean_a + delta * (count_b / divisor)
        squares = squares_a + squares_b + delta * delta * (count_a * (count_b / divisor))
        # inf - inf is no distance, but an infinite mean stays infinite when more of its kind comes in.
        mean = np.where(np.isinf(mean_a) | np.isinf(mean_b), mean_a + mean_b, mean)
    empty_a, empty_b = count_a == 0, count_b == 0
    mean = np.where(empty_a, mean_b, np.where(empty_b, mean_a, mean))
    squares = np.where(empty_a, squares_b, np.where(empty_b, squares_a, squares))
    return count, mean, squares


def _as_values(x: Any) -> Array:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            "RunningMoments.update: x is a masked array, whose mask would be ignored; pass x.filled(np.nan)."
        )
    try:
        array = np.asarray(x)
    except (TypeError, ValueError):
        raise TypeError("RunningMoments.update: x must be an array, got rows of unequal length.") from None
    half = array.dtype.name in ("float16", "float32", "float64", "bfloat16")
    if not (half or array.dtype.kind in "iu"):
        raise TypeError(
            f"RunningMoments.update: x must be floating point (up to float64) or integers, got {array.dtype}; "
            "convert it with x.astype(float)."
        )
    # The byte order of another machine is no reason to refuse what is converted anyway.
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _as_weights(value: Any, rows: Array) -> Float64:
    """One weight for each row, spread over the axes between the first and the features'."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            "RunningMoments.update: sample_weight is a masked array, whose mask would be ignored; pass its filled(0)."
        )
    weights = np.asarray(value)
    if weights.dtype.kind not in "fiub":
        raise TypeError(f"RunningMoments.update: sample_weight must be real numbers, got {weights.dtype}.")
    if weights.shape != rows.shape[:1]:
        raise ValueError(
            f"RunningMoments.update: sample_weight has shape {weights.shape}, but x has {rows.shape[0]} rows; pass one "
            "weight for each."
        )
    # Written so that NaN is refused too.
    if not np.all((weights >= 0) & (weights < np.inf)):
        raise ValueError(
            "RunningMoments.update: sample_weight must be finite and not negative, but has other values or NaN."
        )
    return weights.astype(np.float64)


def _blocks(rows: Array, features: int, weights: Float64 | None) -> Iterator[tuple[Float64, Float64 | None]]:
    """The values as float64 (M, C), a block of rows at a time, and the weights of these M places."""
    if not rows.size:
        return
    each = rows[:1].size
    step = max(1, _BLOCK // each)
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        places = None if weights is None else np.repeat(weights[start : start + step], each // features)
        yield block.astype(np.float64).reshape(-1, features), places
