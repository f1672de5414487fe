"""RunningCovariance: mean and full covariance of data that arrives in parts, exact and mergeable."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from normcore._streaming import Streaming, down, merge_means
from normcore.functional import batch_stats

Array: TypeAlias = NDArray[Any]
Float64: TypeAlias = NDArray[np.float64]

_BLOCK = 1 << 18  # values centred in one go: long enough for a matrix product, and the memory is bounded


class RunningCovariance(Streaming):
    r"""Count, mean and covariance matrix of the features, over any number of updates.

    As in `RunningMoments`, with products of distances in place of squares: every part is centred on its own mean in
    float64, and with counts :math:`n_a, n_b` and sums of products :math:`P_a, P_b`,

    .. math::
        \delta = mean_b - mean_a, \quad mean = mean_a + \delta \frac{n_b}{n_a + n_b}, \quad
        P = P_a + P_b + \delta \delta^T \frac{n_a n_b}{n_a + n_b}

    so no large products cancel, and neither the sizes of the parts nor the order or grouping in which they are merged
    make a difference beyond rounding, which at an offset is that of `RunningMoments`. The memory is that of
    the matrix and of a block of rows.

    Parameters
    ----------
    axis : int, default -1
        The axis of the features: 1 for (N, C, H, W), whose rows are then the N * H * W pixels. Data of shape (N,) is a
        single feature.

    Attributes
    ----------
    count : float
        How many rows went in, or their weights added up. 0 before the first update.
    mean, var, std : ndarray of float64, shape (C,)
        ``var`` is the population variance, divided by count. NaN where count is 0.
    cov, corr : ndarray of float64, shape (C, C)
        The population covariance, divided by count; and the correlation, which is NaN beside a constant feature.

    Notes
    -----
    A row with a NaN is left out as a whole: only that gives a matrix that is a covariance. Infinity is a value, and
    follows IEEE. The products are taken by the BLAS of NumPy, in its order of summation.

    Chan, Golub and LeVeque 1979; in several dimensions Bennett et al. 2009.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> covariance = nc.RunningCovariance()
    >>> covariance.update(np.array([[1.0, 2.0], [3.0, 6.0]]))
    >>> covariance.update(np.array([[5.0, 10.0]]))
    >>> covariance.cov
    array([[ 2.66666667,  5.33333333],
           [ 5.33333333, 10.66666667]])
    >>> covariance.covariance(ddof=1)
    array([[ 4.,  8.],
           [ 8., 16.]])
    """

    _sums: _Products | None

    def _empty(self, features: int) -> _Products:
        return _Products(features)

    def _block_size(self) -> int:
        return _BLOCK

    def covariance(self, ddof: float = 0) -> Float64:
        """Return the covariance matrix, divided by count - ddof.

        Parameters
        ----------
        ddof : float, default 0
            1 for the unbiased estimate. Where count is no larger, the result is NaN.

        Returns
        -------
        ndarray of float64, shape (C, C)
        """
        if self._sums is None:
            return np.array(np.nan)
        divisor = self.count - ddof
        scaled: Float64 = self._sums.products / (divisor if divisor > 0 else np.nan)
        return scaled

    @property
    def count(self) -> float:
        """Number of rows, or the sum of their weights."""
        return 0.0 if self._sums is None else float(self._sums.count)

    @property
    def mean(self) -> Float64:
        """Mean of each feature."""
        if self._sums is None:
            return np.array(np.nan)
        return np.where(self._sums.count > 0, self._sums.mean, np.nan)

    @property
    def cov(self) -> Float64:
        """Population covariance of the features."""
        return self.covariance()

    @property
    def var(self) -> Float64:
        """Population variance of each feature."""
        cov = self.cov
        return cov if cov.ndim == 0 else np.diagonal(cov).copy()

    @property
    def std(self) -> Float64:
        """Root of the population variance of each feature."""
        return np.sqrt(self.var)

    @property
    def corr(self) -> Float64:
        """Correlation of the features; NaN beside a constant one."""
        if self._sums is None:
            return np.array(np.nan)
        std = np.where(self.std > 0, self.std, np.nan)
        corr: Float64 = np.clip(self.cov / std / std[:, None], -1.0, 1.0)  # as numpy.corrcoef: rounding goes beyond
        np.fill_diagonal(corr, np.where(np.isnan(std), np.nan, 1.0))
        lower = np.tril_indices(len(corr), -1)
        corr[lower] = corr.T[lower]  # divided in the other order they differ by a rounding
        return corr

    def __repr__(self) -> str:
        if self._sums is None:
            return f"RunningCovariance(axis={self.axis}), empty"
        return f"RunningCovariance(axis={self.axis}), {self._features} features, count {self.count:g}"


class _Products:
    """The sums behind it: count, mean of each feature, sums of products of distances from the means."""

    __slots__ = ("count", "mean", "products")

    def __init__(self, features: int) -> None:
        self.count: Float64 = np.zeros(())
        self.mean = np.zeros(features)
        self.products = np.zeros((features, features))

    @property
    def features(self) -> int:
        return len(self.mean)

    def to_dict(self) -> dict[str, Float64]:
        return {name: getattr(self, name).copy() for name in self.__slots__}

    def contradiction(self) -> str | None:
        squares = np.diagonal(self.products)
        # Written so that NaN, which infinite values leave behind, is none.
        if (squares < 0).any():
            return f"['products'] must not be negative on the diagonal, but has {squares.min():g}"
        return None

    def merged(self, other: _Products) -> _Products:
        new = _Products(0)
        new.count = np.asarray(self.count + other.count)
        new.mean, delta = merge_means(self.count, self.mean, other.count, other.mean)
        if not self.count or not other.count:
            new.products = (other if other.count else self).products.copy()
            return new
        with np.errstate(invalid="ignore", over="ignore"):  # infinite means
            apart = np.multiply.outer(delta, delta) * (self.count * (other.count / new.count))
            new.products = self.products + other.products + apart
        return new

    def absorb_whole(self, x: Array, axis: int | None) -> bool:  # noqa: ARG002 - of the protocol
        """Decline: products need centred float64, a block of rows at a time."""
        return False

    def absorb(self, x: Float64, weights: Float64 | None) -> None:
        """Take in x of shape (M, C), which is written over."""
        keep = ~np.isnan(x).any(axis=1)
        if weights is not None:
            keep &= weights > 0
        if not keep.all():
            x, weights = x[keep], None if weights is None else weights[keep]
        if not x.size:
            return
        new = _Products(x.shape[1])
        with np.errstate(invalid="ignore", over="ignore"):  # infinite values
            if weights is None:
                new.count = np.asarray(float(len(x)))
                new.mean = batch_stats(x, axis=1)[0]
                x -= new.mean
            else:
                new.count = np.asarray(weights.sum())
                share = (weights / new.count)[:, None]
                low = down(np.minimum, x, np.inf)
                constant = low == down(np.maximum, x, -np.inf)  # shares that do not quite add up to 1 change nothing
                new.mean = np.where(constant, low, down(np.add, share * x, 0.0))
                x -= new.mean
                # The mean is off by its rounding: what is left of the distances says by how much.
                rest = down(np.add, share * x, 0.0)
                new.mean = new.mean + np.where(np.isfinite(rest), rest, 0.0)
                x *= np.sqrt(weights)[:, None]
            new.products = x.T @ x
            if weights is not None:
                off = np.multiply.outer(rest, rest) * new.count
                np.subtract(new.products, off, out=new.products, where=~np.isinf(new.products))  # inf - inf
                np.fill_diagonal(new.products, np.maximum(np.diagonal(new.products), 0.0))
        merged = self.merged(new)
        self.count, self.mean, self.products = merged.count, merged.mean, merged.products
