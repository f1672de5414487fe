"""RunningMoments: count, mean, variance and range of data that arrives in parts, exact and mergeable."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from normcore._shown import shown
from normcore._streaming import Streaming, down, merge_means
from normcore.functional import batch_stats

Array: TypeAlias = NDArray[Any]
Float64: TypeAlias = NDArray[np.float64]

# How far outside of the extremes rounding may bring a mean: many times as far as it does.
_ROUNDING = 1e-6  # of the larger one
_TINY = 1e-300  # where numbers lose their digits
_BLOCK = 1 << 16  # values converted or masked in one go: they stay in cache on their way, and the memory is bounded


class RunningMoments(Streaming):
    r"""Count, mean, variance, minimum and maximum of every feature, over any number of updates.

    What comes in is centred on its own mean in float64 and merged by the formula of Chan, Golub and LeVeque (1979):
    with counts :math:`n_a, n_b` and sums of squared distances :math:`M_a, M_b` from the means,

    .. math::
        \delta = mean_b - mean_a, \quad mean = mean_a + \delta \frac{n_b}{n_a + n_b}, \quad
        M = M_a + M_b + \delta^2 \frac{n_a n_b}{n_a + n_b}

    so no large squares cancel, and neither the sizes of the parts nor the order or grouping in which they are merged
    make a difference beyond rounding. Means are float64: a merge puts the variance off by up to
    :math:`\epsilon |mean| |\delta| + (\epsilon \, mean)^2`, 2e-10 of it at an offset of a million deviations.
    Contiguous floating point data are read where they are, once for the mean and variance and once for the extremes;
    everything else comes in blocks that fit in cache.

    Parameters
    ----------
    axis : int, default -1
        The axis of the features: 1 for (N, C, H, W). Data of shape (N,) is a single feature.
    extremes : bool, default True
        Whether to collect minimum and maximum, which are half of the time. Without, `min` and `max` are NaN.

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

    More than fits in memory, batch by batch, and what another process has seen:

    >>> other = nc.RunningMoments()
    >>> other.update(np.full((1, 2), float(i)) for i in range(1000))
    >>> moments.merge(other)
    >>> moments.count, moments.max
    (array([1003., 1002.]), array([999., 999.]))
    """

    _sums: _Moments | None

    def __init__(self, axis: int = -1, *, extremes: bool = True) -> None:
        super().__init__(axis)
        if not isinstance(extremes, bool | np.bool_):
            raise TypeError(f"RunningMoments: extremes must be True or False, got {shown(extremes)}.")
        self.extremes = bool(extremes)

    def _empty(self, features: int) -> _Moments:
        return _Moments(features, self.extremes)

    def _block_size(self) -> int:
        return _BLOCK

    def _options(self) -> dict[str, int]:
        return {"axis": self.axis, "extremes": self.extremes}

    def _check_options(self, other: RunningMoments) -> None:
        if self.extremes and not other.extremes:
            raise ValueError(
                "RunningMoments.merge: other was made with extremes=False and has no minimum and maximum; collect them "
                "there, or merge into a RunningMoments without."
            )

    def _value(self, name: str) -> Float64:
        if self._sums is None:
            return np.array(0.0 if name == "count" else np.nan)
        value: Float64 = getattr(self._sums, name)
        return value.copy() if name == "count" else np.where(self._sums.count > 0, value, np.nan)

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
        """Smallest value of each feature; NaN without `extremes`."""
        return self._value("min")

    @property
    def max(self) -> Float64:
        """Largest value of each feature; NaN without `extremes`."""
        return self._value("max")

    def __repr__(self) -> str:
        if self._sums is None:
            return f"RunningMoments(axis={self.axis}), empty"
        count = self._sums.count
        return f"RunningMoments(axis={self.axis}), {len(count)} features, count up to {count.max(initial=0.0):g}"


class _Moments:
    """The sums behind it: for each feature count, mean, sum of squared distances from the mean, minimum, maximum."""

    __slots__ = ("count", "extremes", "max", "mean", "min", "squares")

    def __init__(self, features: int, extremes: bool) -> None:
        self.extremes = extremes
        self.count = np.zeros(features)
        self.mean = np.zeros(features)
        self.squares = np.zeros(features)
        self.min = np.full(features, np.inf if extremes else np.nan)
        self.max = np.full(features, -np.inf if extremes else np.nan)

    @property
    def features(self) -> int:
        return len(self.count)

    def to_dict(self) -> dict[str, Float64]:
        names = ("count", "mean", "squares", "min", "max") if self.extremes else ("count", "mean", "squares")
        return {name: getattr(self, name).copy() for name in names}

    def contradiction(self) -> str | None:
        # Written so that NaN, which infinite values leave behind, is none.
        if (self.squares < 0).any():
            return f"['squares'] must not be negative, but has {self.squares.min():g}"
        if not self.extremes:
            return None
        seen = self.count > 0
        if (seen & (self.min > self.max)).any():
            return "['min'] must not be above 'max', but is for a feature"
        if (~seen & ((self.min < np.inf) | (self.max > -np.inf))).any():
            return "['min'] and 'max' must be inf and -inf where 'count' is 0, but are not for a feature"
        with np.errstate(invalid="ignore", over="ignore"):  # infinite extremes
            slack = _ROUNDING * np.maximum(np.abs(self.min), np.abs(self.max)) + _TINY
            if (seen & ((self.mean < self.min - slack) | (self.mean > self.max + slack))).any():
                return "['mean'] must lie between 'min' and 'max', but does not for a feature"
        return None

    def merged(self, other: _Moments) -> _Moments:
        new = _Moments(0, self.extremes)
        new.count, new.mean, new.squares = merge_moments(
            (self.count, self.mean, self.squares), (other.count, other.mean, other.squares)
        )
        new.min, new.max = np.minimum(self.min, other.min), np.maximum(self.max, other.max)
        return new

    def absorb_whole(self, x: Array, axis: int | None) -> bool:
        """Take in x, without weights, by the compiled loops; False if it has NaN or infinity or an odd rank."""
        if axis is None:
            x, axis = x[:, None], 1
        if not 2 <= x.ndim <= 5:
            return False
        mean, var = batch_stats(x, axis=axis)
        if not np.isfinite(mean).all():
            return False
        self.count += x.size // x.shape[axis]
        self.mean, self.squares = mean, var * self.count
        if self.extremes:
            self.min, self.max = _extremes(x, axis)
        return True

    def absorb(self, x: Float64, weights: Float64 | None) -> None:
        """Take in x of shape (M, C), which is written over."""
        new = _Moments(x.shape[1], self.extremes)
        if weights is not None and not weights.all():
            x, weights = x[weights > 0], weights[weights > 0]
        if weights is not None or not new.absorb_whole(x, 1):
            new.absorb_with_holes(x, weights)
        merged = self.merged(new)
        for name in self.__slots__:
            setattr(self, name, getattr(merged, name))

    def absorb_with_holes(self, x: Float64, weights: Float64 | None) -> None:
        """Take in x, which may have NaN and infinity, into empty sums, with positive weights; x is written over."""
        if not len(x):
            return
        missing = np.isnan(x)
        holes = missing.any()
        # Infinite values make inf - inf on the way to the NaN that they should end in.
        with np.errstate(invalid="ignore", over="ignore"):
            low, high = down(np.fmin, x, np.inf), down(np.fmax, x, -np.inf)
            if self.extremes:
                self.min, self.max = low, high
            if weights is None:
                share = (~missing).astype(np.float64)
            else:
                share = np.repeat(weights, x.shape[1]).reshape(x.shape)
                np.copyto(share, 0.0, where=missing)
            self.count = down(np.add, share, 0.0)
            share /= np.where(self.count > 0, self.count, 1.0)
            if holes:
                np.copyto(x, 0.0, where=missing)
            self.mean = down(np.add, share * x, 0.0)
            x -= self.mean
            if holes:
                np.copyto(x, 0.0, where=missing)
            # The mean is off by its rounding: what is left of the distances says by how much.
            share *= x
            rest = down(np.add, share, 0.0)
            share *= x
            spread = down(np.add, share, 0.0)  # beyond every float, the rest's square may be so too: inf - inf
            spread = np.where(np.isinf(spread), spread, np.maximum(spread - rest * rest, 0.0))
            self.squares = self.count * spread
            self.mean = self.mean + np.where(np.isfinite(rest), rest, 0.0)
            constant = low == high  # shares that do not quite add up to 1 make no variance
            self.mean = np.where(constant, low, self.mean)
            self.squares = np.where(constant & np.isfinite(low), 0.0, self.squares)


def _extremes(x: Array, axis: int) -> tuple[Float64, Float64]:
    """Minimum and maximum of every feature of x, which has values and no NaN."""
    rows = np.moveaxis(x, axis, -1)
    if not rows.flags.c_contiguous:
        others = tuple(i for i in range(x.ndim) if i != axis)
        return np.min(x, axis=others).astype(np.float64), np.max(x, axis=others).astype(np.float64)
    rows = rows.reshape(-1, x.shape[axis])
    step = max(1, _BLOCK // rows.shape[1])
    # In blocks, so that the maximum is looked for in what the minimum has brought to the cache.
    both = [
        (down(np.minimum, block, np.inf), down(np.maximum, block, -np.inf))
        for block in (rows[start : start + step] for start in range(0, len(rows), step))
    ]
    low, high = zip(*both, strict=True)
    return np.min(low, axis=0), np.max(high, axis=0)


Triple: TypeAlias = tuple[Float64, Float64, Float64]


def merge_moments(a: Triple, b: Triple) -> Triple:
    """Merge two triples (count, mean, sum of squared distances from the mean), one entry for each feature, in float64.

    A side with count 0 leaves the other as it is.
    """
    (count_a, mean_a, squares_a), (count_b, mean_b, squares_b) = a, b
    count = count_a + count_b
    mean, delta = merge_means(count_a, mean_a, count_b, mean_b)
    with np.errstate(invalid="ignore", over="ignore"):  # infinite means
        share = count_b / np.where(count > 0, count, 1.0)
        squares = squares_a + squares_b + delta * delta * (count_a * share)
    squares = np.where(count_a == 0, squares_b, np.where(count_b == 0, squares_a, squares))
    return count, mean, squares
