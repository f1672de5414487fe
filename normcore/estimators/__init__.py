"""Estimators for scikit-learn's pipelines, searches and cross-validation; needs the extra ``sklearn``."""

from __future__ import annotations

try:
    import sklearn as _sklearn  # noqa: F401 - asked for here, so that its absence is one sentence
except ImportError as error:
    raise ImportError(
        "normcore.estimators needs scikit-learn, which is not installed; install normcore-cpu[sklearn], from a "
        'checkout with: pip install ".[sklearn]"'
    ) from error

from normcore.estimators.mean import MeanScaler as MeanScaler
from normcore.estimators.minmax import MinMaxScaler as MinMaxScaler
from normcore.estimators.mlp_classifier import MLPClassifier as MLPClassifier
from normcore.estimators.mlp_regressor import MLPRegressor as MLPRegressor
from normcore.estimators.standard import StandardScaler as StandardScaler
from normcore.estimators.unit_length import UnitLengthScaler as UnitLengthScaler
from normcore.estimators.whitener import Whitener as Whitener
