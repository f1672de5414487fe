"""MinMaxScaler: every feature into the same range."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import _num_samples

from normcore.estimators._learning import Learning
from normcore.estimators._scaler import ColumnScaler, Line, apply_line, is_constant_range
from normcore.estimators._transform import Array, Float64
from normcore.moments import RunningMoments


class MinMaxScaler(Learning, ColumnScaler):
    r"""Map each feature to a range, [0, 1] unless told otherwise.

    .. math:: y = low + (x - min) \cdot scale, \quad scale = (high - low) / (max - min)

    scikit-learn's MinMaxScaler, with its parameters and attributes: `transform` is ``X * scale_ + min_``, of these two
    as they are. The minimum is subtracted before anything is rounded, so an offset costs no digits.

    Parameters
    ----------
    feature_range : tuple (low, high), default=(0, 1)
        Where the values seen in `fit` go.
    copy : bool, default=True
        False writes the result of `transform` into its input where that is a float array.
    clip : bool, default=False
        Whether `transform` moves values from outside the range to its ends.

    Attributes
    ----------
    data_min_, data_max_, data_range_ : ndarray of shape (n_features,)
        Smallest and largest value of each feature and their difference, float64. A difference beyond float64 is
        infinite here, and scaled all the same.
    scale_ : ndarray of shape (n_features,)
        What is multiplied by; ``high - low`` for a constant feature, which goes to `low`.
    min_ : ndarray of shape (n_features,)
        ``low - data_min_ * scale_``, where 0 goes.
    constant_features_ : ndarray of bool, shape (n_features,)
        Whose range is within ten units in the last place (of float64) of the values: they are not scaled.
    n_samples_seen_ : int
        Number of rows.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` had names that are all strings.

    See Also
    --------
    MeanScaler : The same width, around the mean.
    StandardScaler : Unit variance.

    Notes
    -----
    NaN is left out in `fit` and stays in `transform`; float16, float32 and float64 stay what they are. scikit-learn
    takes any range below 2.2e-15 for that of a constant; here that depends on the size of the values. The ends may be
    off by a unit in the last place, so that a value lies outside the range; `clip` moves it in.

    Examples
    --------
    >>> from normcore.estimators import MinMaxScaler
    >>> scaler = MinMaxScaler().fit([[-1, 2], [0, 10], [1, 18]])
    >>> scaler.transform([[0.5, 2], [2, 10]])
    array([[0.75, 0.  ],
           [1.5 , 0.5 ]])
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012 - scikit-learn's way
        "feature_range": [tuple],
        "copy": ["boolean"],
        "clip": ["boolean"],
    }

    def __init__(self, feature_range: tuple[float, float] = (0, 1), *, copy: bool = True, clip: bool = False) -> None:
        self.feature_range = feature_range
        self.copy = copy
        self.clip = clip

    def _learn(self, X: Any, sample_weight: Any, fresh: bool) -> Any:
        self._validate_params()
        if len(self.feature_range) != 2 or not self.feature_range[0] < self.feature_range[1]:
            raise ValueError(
                f"Minimum of desired feature range must be smaller than maximum. Got {self.feature_range}."
            )
        before = 0 if fresh else self.n_samples_seen_
        super()._learn(X, sample_weight, fresh)
        self.n_samples_seen_ = before + _num_samples(X)  # all rows, as scikit-learn counts here
        return self

    def _set_attributes(self, moments: RunningMoments) -> None:
        low, high = map(float, self.feature_range)
        data_min, data_max = moments.min, moments.max
        self.constant_features_ = is_constant_range(data_min, data_max)
        with np.errstate(over="ignore"):
            self.data_min_, self.data_max_, self.data_range_ = data_min, data_max, data_max - data_min
        wide = np.isinf(self.data_range_)
        halves = (high - low) / 2 / np.where(wide, data_max / 2 - data_min / 2, 1.0)
        self.scale_ = np.where(wide, halves, (high - low) / np.where(self.constant_features_, 1.0, self.data_range_))
        self.min_ = low - data_min * self.scale_
        self._low = np.full(len(data_min), low)
        self._fitted, self._fitted_line = self._given(), self._line_of_attributes()

    def _given(self) -> tuple[bytes, bytes]:
        return np.asarray(self.scale_).tobytes(), np.asarray(self.min_).tobytes()

    def _line_of_attributes(self) -> tuple[Float64, Float64, Float64]:
        """What comes to X * scale_ + min_, less its rounding."""
        wide = np.isinf(self.data_range_)  # nor is X - data_min_ within float64
        centre = np.where(wide, 0.0, self.data_min_)
        offset = centre * self.scale_
        ours = self.min_ == self._low - offset  # nobody has put something else there: then low is what is meant
        return centre, self.scale_, np.where(ours & ~wide, self._low, self.min_ + offset)

    def _line(self) -> Line:
        # Comparing bytes is quicker than these few operations, of which a single row would notice each.
        return self._fitted_line if self._given() == self._fitted else self._line_of_attributes()

    def _apply(self, X: Array, out: Array | None) -> Array:
        y = super()._apply(X, out)
        if self.clip:
            np.clip(y, *self.feature_range, out=y)
        return y

    def _invert(self, X: Array, out: Array | None) -> Array:
        centre, slope, shift = self._line_of_attributes()
        if not np.isinf(self.data_range_).any():
            return apply_line((shift, np.reciprocal(slope), centre), X, out)
        x = apply_line((shift, 0.5 / slope, centre / 2), X, out)  # the whole reciprocal is beyond float64
        x *= 2
        return x
