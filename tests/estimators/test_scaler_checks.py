"""scikit-learn's own checks for transformers, on every scaler and whitener and on each of their ways."""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from normcore.estimators import MeanScaler, MinMaxScaler, StandardScaler, UnitLengthScaler, Whitener

ESTIMATORS = [
    StandardScaler(),
    StandardScaler(with_mean=False, with_std=False, copy=False),
    MinMaxScaler(),
    MinMaxScaler((-2, 1), clip=True),
    MeanScaler(),
    UnitLengthScaler(),
    UnitLengthScaler("l1", axis=0),
    UnitLengthScaler("max", axis=0),
    *(Whitener(method) for method in ("pca", "zca", "cholesky", "pca-cor", "zca-cor")),
]


# They fit on infinite values and the like on purpose, and one reports what it skips by a warning.
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@parametrize_with_checks(ESTIMATORS)
def test_estimator_checks(estimator, check):
    check(estimator)
