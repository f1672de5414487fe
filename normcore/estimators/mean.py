"""MeanScaler: mean normalisation."""

from __future__ import annotations

import numpy as np

from normcore.estimators._learning import WeightedLearning
from normcore.estimators._scaler import ColumnScaler, Line, is_constant_range
from normcore.moments import RunningMoments


class MeanScaler(WeightedLearning, ColumnScaler):
    r"""Mean normalisation: each feature has the mean 0 and a range of 1.

    .. math:: y = (x - mean) / (max - min)

    Parameters
    ----------
    copy : bool, default=True
        False writes the result of `transform` into its input where that is a float array.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Mean of each feature, float64.
    data_min_, data_max_, data_range_ : ndarray of shape (n_features,)
        Smallest and largest value of each feature and their difference, float64.
    scale_ : ndarray of shape (n_features,)
        What is divided by: `data_range_`, 1 for a constant feature.
    constant_features_ : ndarray of bool, shape (n_features,)
        Whose range is within ten units in the last place (of float64) of the values: they are not scaled.
    n_samples_seen_ : int, float or ndarray of shape (n_features,)
        Number of rows, or the sum of their weights; one for each feature where some are NaN.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` had names that are all strings.

    See Also
    --------
    MinMaxScaler : The same width, from a given end on.
    StandardScaler : Unit variance instead of unit range.

    Notes
    -----
    NaN is left out in `fit` and stays in `transform`; float16, float32 and float64 stay what they are. A weight counts
    for the mean; the range is that of all rows whose weight is not 0.

    Examples
    --------
    >>> from normcore.estimators import MeanScaler
    >>> MeanScaler().fit_transform([[1.0], [2.0], [3.0], [6.0]])
    array([[-0.4],
           [-0.2],
           [ 0. ],
           [ 0.6]])
    """

    def __init__(self, *, copy: bool = True) -> None:
        self.copy = copy

    def _set_attributes(self, moments: RunningMoments) -> None:
        data_min, data_max = moments.min, moments.max
        self.constant_features_ = is_constant_range(data_min, data_max)
        self.mean_ = moments.mean
        self.data_min_, self.data_max_, self.data_range_ = data_min, data_max, data_max - data_min
        self.scale_ = np.where(self.constant_features_, 1.0, self.data_range_)

    def _line(self) -> Line:
        return self.mean_, np.reciprocal(self.scale_), None

    def _inverse_line(self) -> Line:
        return None, self.scale_, self.mean_
