"""The calls of running statistics, of splitting data, and of the estimators."""

from __future__ import annotations

import numpy as np
from hostile.calls import Call, classes, loading, positive, random

import normcore as nc
from normcore import estimators


def streaming_calls(make_statistics):
    def run(x, sample_weight=None):
        running = make_statistics()
        running.update(random(3, 4, seed=8))
        before = running.state_dict()
        try:
            running.update(x, sample_weight)
        except (TypeError, ValueError):
            assert all(np.array_equal(value, before[name]) for name, value in running.state_dict().items())
            raise
        return {name: np.asarray(value) for name, value in running.state_dict().items()}

    def seen():
        running = make_statistics()
        running.update(random(3, 4, seed=8))
        return running

    return [
        Call(run, lambda: {"x": random(5, 4)}, ("x",)),
        Call(run, lambda: {"x": random(5, 4), "sample_weight": positive(5)}, ("x", "sample_weight")),
        loading(make_statistics, seen().state_dict()),
    ]


STREAMING = {
    "RunningMoments": streaming_calls(nc.RunningMoments),
    "RunningCovariance": streaming_calls(nc.RunningCovariance),
}


def run_split(X, y):
    return nc.data.split(X, y, 0.4, stratify=False)


def estimator_calls(make_estimator, y=None):
    """Learning from rows, and what is made of them."""

    def run(X, **more):
        estimator = make_estimator().fit(X, **more)
        return (estimator.transform if hasattr(estimator, "transform") else estimator.predict)(random(4, 3, seed=4))

    def apply(X):
        estimator = make_estimator()
        estimator.fit(random(12, 3), *([] if y is None else [y()]))
        return (estimator.transform if hasattr(estimator, "transform") else estimator.predict)(X)

    def make():
        return {"X": random(12, 3)} if y is None else {"X": random(12, 3), "y": y()}

    return [
        Call(run, make, tuple(make()), scikit=True),
        Call(apply, lambda: {"X": random(5, 3)}, ("X",), scikit=True),
    ]


def small(kind):
    return lambda: kind(hidden_layer_sizes=(4,), max_iter=3, batch_size=4, random_state=0)


ESTIMATORS = {
    "StandardScaler": estimator_calls(estimators.StandardScaler),
    "MinMaxScaler": estimator_calls(estimators.MinMaxScaler),
    "MeanScaler": estimator_calls(estimators.MeanScaler),
    "UnitLengthScaler": estimator_calls(estimators.UnitLengthScaler),
    "Whitener": estimator_calls(estimators.Whitener),
    "MLPClassifier": estimator_calls(small(estimators.MLPClassifier), lambda: classes(12)),
    "MLPRegressor": estimator_calls(small(estimators.MLPRegressor), lambda: random(12, seed=3)),
}

OTHERS = {
    "split": [
        Call(run_split, lambda: {"X": random(9, 4), "y": classes(9)}, ("X", "y"), anything=("X", "y")),
    ],
}
