"""What the scalers share: learning from running moments, and y = (x - centre) * slope + shift, feature by feature."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import FLOAT_DTYPES, validate_data

from normcore.estimators._learning import checked_weights, unchanged_by_errors
from normcore.estimators._masked import refuse_masks
from normcore.estimators._transform import (
    Array,
    Bools,
    CheckedTransformer,
    Float64,
    QuickTransformer,
)
from normcore.functional import batch_norm
from normcore.moments import RunningMoments

_EPS = float(np.finfo(np.float64).eps)
_NOTHING = 1e-300  # an eps that batch norm takes and 1 does not notice


# (centre, slope, shift) of y = (x - centre) * slope + shift; None stands for 0, 1 and 0
Line: TypeAlias = tuple[Float64 | None, Float64 | None, Float64 | None]


def apply_line(line: Line, X: Array, out: Array | None) -> Array:
    """Write y. It is batch norm with given statistics: centred before anything is rounded, on all threads."""
    centre, slope, shift = line
    zeros, ones = _constants(X.shape[1])
    centre = zeros if centre is None else centre
    try:
        return batch_norm(X, centre, ones, ones if slope is None else slope, shift, eps=_NOTHING, out=out)
    except ValueError:  # not looked for before: a single row would notice
        for value in (centre, slope, shift):
            if value is not None and np.shape(value) != zeros.shape:
                raise ValueError(
                    f"X has {len(zeros)} features, but an attribute of the scaler that `transform` uses (such as "
                    f"scale_) has been given the shape {np.shape(value)}; it must have one number for each feature."
                ) from None
        raise


@lru_cache(16)
def _constants(features: int) -> tuple[Float64, Float64]:
    return np.zeros(features), np.ones(features)


def _seen(count: Float64, weighted: bool) -> Any:
    """One number where all features have the same count, as scikit-learn has it."""
    counts = count if weighted else count.astype(np.int64)
    return counts[0] if (count == count[0]).all() else counts


def is_constant(var: Float64, mean: Float64, rows: Float64) -> Bools:
    """Where a variance is no more than rounding may leave of a constant: N eps var + (N eps mean)**2.

    N is a number of values, not the sum of their weights: the unit of weights does not matter.
    """
    # Chan, Golub & LeVeque 1983, scikit-learn's bound. A fixed threshold takes data of a small scale for constants,
    # and `== 0` does not see a constant of which every value was rounded differently.
    with np.errstate(over="ignore", invalid="ignore"):
        # A variance that is itself beyond float64 is none of a constant, though the bound be infinite too.
        return np.asarray((var <= rows * _EPS * var + (rows * _EPS * mean) ** 2) & (var < np.inf))


def is_constant_range(low: Float64, high: Float64) -> Bools:
    """The same for a range, whose ends are exact: within ten units in the last place of the larger of them."""
    with np.errstate(over="ignore", invalid="ignore"):
        spread = high - low
        largest = np.maximum(np.abs(low), np.abs(high))
        # A range whose reciprocal is infinite cannot be divided by.
        return np.asarray(spread <= np.maximum(10 * _EPS * largest, 1 / np.finfo(np.float64).max))


class ColumnScaler(QuickTransformer, CheckedTransformer):
    """Learns moments of each feature; a subclass turns them into attributes, and those into a line."""

    _moments: RunningMoments
    _rows: Float64  # how many values of each feature were seen, whatever their weights
    _weighted: bool
    n_features_in_: int

    _parameter_constraints: dict[str, list[Any]] = {"copy": ["boolean"]}  # noqa: RUF012 - scikit-learn's way
    _extremes = True  # whether minimum and maximum are wanted

    def _set_attributes(self, moments: RunningMoments) -> None:
        """Set the attributes of the subclass."""
        raise NotImplementedError

    def _line(self) -> Line:
        """What `transform` does, from the attributes as they are now."""
        raise NotImplementedError

    def _inverse_line(self) -> Line:
        raise NotImplementedError

    def _apply(self, X: Array, out: Array | None) -> Array:
        return apply_line(self._line(), X, out)

    def _invert(self, X: Array, out: Array | None) -> Array:
        return apply_line(self._inverse_line(), X, out)

    def _learn(self, X: Any, sample_weight: Any, fresh: bool) -> Any:
        with unchanged_by_errors(self):
            self._validate_params()
            # Infinity shows in the mean: no pass of its own for it.
            refuse_masks(X=X, sample_weight=sample_weight)
            X = validate_data(self, X, reset=fresh, dtype=FLOAT_DTYPES, ensure_all_finite=False)
            if sample_weight is not None:
                sample_weight = checked_weights(sample_weight, X, fresh)
            moments = RunningMoments(extremes=self._extremes)
            self._update(moments, X, sample_weight)
            if not np.isfinite(moments.mean[moments.count > 0]).all():
                assert_all_finite(X, allow_nan=True, estimator_name=type(self).__name__, input_name="X")
            self._weighted = sample_weight is not None or (not fresh and self._weighted)
            rows = (
                moments.count if sample_weight is None else np.full(X.shape[1], float(np.count_nonzero(sample_weight)))
            )
            if not fresh:
                moments.merge(self._moments)
                rows = rows + self._rows
            self._moments, self._rows = moments, rows
            self.n_samples_seen_ = _seen(moments.count, self._weighted)
            self._set_attributes(moments)
        return self

    def _update(self, moments: RunningMoments, X: Array, sample_weight: Float64 | None) -> None:
        moments.update(X, sample_weight)
