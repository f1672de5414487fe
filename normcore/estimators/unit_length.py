"""UnitLengthScaler: rows, or columns, of length 1."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Options, StrOptions
from sklearn.utils.metaestimators import available_if

from normcore.estimators._learning import WeightedLearning, unchanged_by_errors
from normcore.estimators._scaler import ColumnScaler, Line
from normcore.estimators._transform import Array, Float64
from normcore.functional import rms_norm_forward
from normcore.moments import RunningMoments

_BLOCK = 1 << 16  # values whose sizes are looked at in one go
_NOTHING = 1e-300  # an eps that RMS norm takes and that is lost beside the squares of _PLAIN rows
_PLAIN = (1e-140, 1e140)  # lengths where neither the squares nor that eps can be felt


def _by_columns(estimator: UnitLengthScaler) -> bool:
    return estimator.axis == 0


class UnitLengthScaler(WeightedLearning, ColumnScaler):
    r"""Divide each row by its length, or each feature by the length of its column.

    .. math:: y = x / \|x\|

    With ``axis=1`` this is scikit-learn's Normalizer: every row is scaled by itself, nothing is learned but the number
    of features, and what is lost cannot be put back. With ``axis=0`` the lengths of the columns are learned.

    Parameters
    ----------
    norm : {"l2", "l1", "max"}, default="l2"
        Which length: the root of the sum of squares, the sum of magnitudes, or the largest magnitude.
    axis : {1, 0}, default=1
        1 for rows, 0 for columns, as in `sklearn.preprocessing.normalize`.
    copy : bool, default=True
        False writes the result of `transform` into its input where that is a float array.

    Attributes
    ----------
    norm_ : ndarray of shape (n_features,) or None
        Length of each column, float64; of all rows so far. None with ``axis=1``.
    scale_ : ndarray of shape (n_features,) or None
        What is divided by: `norm_`, 1 for a column of zeros. None with ``axis=1``.
    constant_features_ : ndarray of bool, shape (n_features,)
        Which columns have no length, and are not scaled. With ``axis=1`` there are none.
    n_samples_seen_ : int, float or ndarray of shape (n_features,)
        Number of rows, or the sum of their weights; one for each feature where some are NaN.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` had names that are all strings.

    See Also
    --------
    StandardScaler : Columns of unit variance around 0.

    Notes
    -----
    NaN counts for nothing in a length and stays where it is; a row or column of zeros stays as it is. Lengths of rows
    and columns neither overflow nor vanish. A weight counts as often as the row occurs, with ``axis=0``; with
    ``axis=1`` it changes nothing. float16, float32 and float64 stay what they are.

    Examples
    --------
    >>> from normcore.estimators import UnitLengthScaler
    >>> UnitLengthScaler().fit_transform([[3.0, 4.0], [0.0, 0.0]])
    array([[0.6, 0.8],
           [0. , 0. ]])
    >>> UnitLengthScaler(axis=0).fit([[3.0, 5.0], [4.0, 12.0]]).norm_
    array([ 5., 13.])
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012 - scikit-learn's way
        "norm": [StrOptions({"l1", "l2", "max"})],
        "axis": [Options(int, {0, 1})],
        "copy": ["boolean"],
    }

    def __init__(self, norm: str = "l2", *, axis: int = 1, copy: bool = True) -> None:
        self.norm = norm
        self.axis = axis
        self.copy = copy

    _length: Float64  # of each column so far, with "l2"

    @property
    def _extremes(self) -> bool:  # type: ignore[override] # a plain attribute elsewhere
        return self.axis == 0

    def _learn(self, X: Any, sample_weight: Any, fresh: bool) -> Any:
        with unchanged_by_errors(self):
            if fresh and hasattr(self, "_length"):
                del self._length
            return super()._learn(X, sample_weight, fresh)

    def _update(self, moments: RunningMoments, X: Array, sample_weight: Float64 | None) -> None:
        if self.axis == 0 and self.norm == "l1":
            step = max(1, _BLOCK // X.shape[1])
            for start in range(0, len(X), step):
                rows = slice(start, start + step)
                moments.update(np.abs(X[rows]), None if sample_weight is None else sample_weight[rows])
        else:
            moments.update(X, sample_weight)
        if self.axis == 0 and self.norm == "l2":
            largest = _largest(moments)
            length = np.sqrt(moments.count) * np.hypot(moments.mean, moments.std)
            odd = np.flatnonzero((moments.count > 0) & ~((largest > _PLAIN[0]) & (largest < _PLAIN[1])))
            for column in odd:  # whose squares overflow or vanish
                length[column] = _column_length(X[:, column], sample_weight)
            length = np.where(moments.count > 0, length, 0.0)
            self._length = np.hypot(self._length, length) if hasattr(self, "_length") else length

    def _set_attributes(self, moments: RunningMoments) -> None:
        if self.axis == 1:
            self.norm_ = self.scale_ = None
            self.constant_features_ = np.zeros(len(moments.count), bool)
            return
        if self.norm == "max":
            length = _largest(moments)
        elif self.norm == "l1":
            length = moments.mean * moments.count
        else:
            length = np.where(moments.count > 0, self._length, np.nan)
        self.norm_ = length
        self.constant_features_ = length == 0  # exact: a sum of magnitudes is 0 only if all of them are
        self.scale_ = np.where(self.constant_features_, 1.0, length)

    def _line(self) -> Line:
        assert self.scale_ is not None
        return None, np.reciprocal(self.scale_), None

    def _inverse_line(self) -> Line:
        return None, self.scale_, None

    @available_if(_by_columns)
    def inverse_transform(self, X: Any, copy: bool | None = None) -> Any:
        """Undo `transform`; only with ``axis=0``, as the lengths of rows are not kept.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            What `transform` returned, or looks like it.
        copy : bool, default=None
            False writes the result into `X` where it is a float array. None: as the estimator was made.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            Of the dtype of `X`.
        """
        return super().inverse_transform(X, copy)

    def _apply(self, X: Array, out: Array | None) -> Array:
        if self.scale_ is not None:
            return super()._apply(X, out)
        if self.norm == "l2":
            # RMS norm is x / sqrt(mean(x**2)): off by the root of the number of features.
            root = np.full(X.shape[1], 1.0 / math.sqrt(X.shape[1]), np.float32 if X.itemsize == 2 else np.float64)
            y, ctx = rms_norm_forward(X, X.shape[1], root, eps=_NOTHING)
            length = ctx.rstd  # its reciprocal, for which the bounds are the same
        else:
            if self.norm not in ("l1", "max"):  # set since, and to nothing that there is
                self._validate_params()
            y, length = _quotients(X, self.norm)
        odd = ~((length > _PLAIN[0]) & (length < _PLAIN[1]))
        if odd.any():  # zeros, NaN, or what is beyond float64 when it is squared or added up
            y[odd] = _divided(X[odd], self.norm)
        if out is None:
            return y
        out[...] = y
        return out


def _largest(moments: RunningMoments) -> Float64:
    return np.maximum(np.abs(moments.min), np.abs(moments.max))


def _column_length(column: Array, weights: Float64 | None) -> float:
    """Root of the sum of squares of what is not NaN, whatever its size."""
    there = ~np.isnan(column) if weights is None else ~np.isnan(column) & (weights > 0)
    size = np.abs(column[there].astype(np.float64))
    largest = size.max()
    if not 0 < largest < np.inf:
        return float(largest)
    size /= largest  # so that no square overflows
    size *= size
    return float(largest * np.sqrt(size.sum() if weights is None else size @ weights[there]))


def _quotients(X: Array, norm: str) -> tuple[Array, Float64]:
    """Rows divided by their lengths, a block at a time, and the lengths."""
    y, length = np.empty_like(X), np.empty(len(X))
    step = max(1, _BLOCK // X.shape[1])
    with np.errstate(all="ignore"):  # what comes of it is looked at
        for start in range(0, len(X), step):
            here = slice(start, start + step)
            size = np.abs(X[here])
            length[here] = size.max(axis=1) if norm == "max" else size.sum(axis=1, dtype=np.float64)
            np.divide(X[here], length[here, None], out=y[here], casting="same_kind")
    return y, length


def _divided(X: Array, norm: str) -> Float64:
    """Rows divided by their lengths, whatever is in them."""
    rows = X.astype(np.float64)
    size = np.where(np.isnan(rows), 0.0, np.abs(rows))
    largest = size.max(axis=1, keepdims=True)
    largest[largest == 0] = 1.0
    size /= largest  # so that no square overflows
    length: Any = 1.0
    if norm != "max":
        length = np.sqrt((size * size).sum(axis=1, keepdims=True)) if norm == "l2" else size.sum(axis=1, keepdims=True)
        length[length == 0] = 1.0
    quotients: Float64 = rows / largest / length
    return quotients
