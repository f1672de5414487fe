"""`MLPClassifier` beside scikit-learn's: whole fits, without a norm and with batch norm, and a row predicted.

All have the same starting weights and go through the same rows in the same order, a fixed number of epochs.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import normcore as nc
from benches.epochs import EPOCH, QUICK_EPOCH, SCIKIT
from benches.results import OURS, Result
from benches.timing import interleaved
from normcore.data import load_digits

NORMED = "batch norm"  # ours too


class Fit(NamedTuple):
    """A network, its rows and how often it goes through them."""

    name: str
    hidden: tuple[int, ...]
    batch_size: int
    epochs: int
    data: Callable[[], tuple[Any, Any]]


def _digits() -> tuple[Any, Any]:
    digits = load_digits()
    return digits.X.astype(float), digits.y  # in float64, as sklearn.datasets has them


def _few_digits() -> tuple[Any, Any]:
    X, y = _digits()
    return X[:100], y[:100]


FITS = (
    Fit("digits, 64-100-10 batch 200, 20 epochs", (100,), 200, 20, _digits),
    Fit(f"MNIST, {EPOCH.network}, 2 epochs", EPOCH.hidden, EPOCH.batch_size, 2, EPOCH.data),
)
QUICK_FITS = (
    Fit("digits, 64-100-10 batch 200, 1 epoch", (100,), 200, 1, _few_digits),
    Fit(f"MNIST, {QUICK_EPOCH.network}, 1 epoch", QUICK_EPOCH.hidden, QUICK_EPOCH.batch_size, 1, QUICK_EPOCH.data),
)


def fitting(fit: Fit, threads: int, seconds: float, rounds: int) -> Result:
    """Time whole fits."""
    X, y = fit.data()
    return _compare(f"perceptron fit, {fit.name}", fit, lambda model: lambda: model.fit(X, y), threads, seconds, rounds)


def predicting(fit: Fit, threads: int, seconds: float, rounds: int) -> Result:
    """Time `predict_proba` of one row, where checks of the input cost more than the network."""
    X, y = fit.data()

    def way(model: Any) -> Callable[[], Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged, nor has it to
            model.set_params(max_iter=1).fit(X[:1000], y[:1000])
        row = X[:1].copy()
        return lambda: model.predict_proba(row)

    network = fit.name.split(",")[1].split(" batch")[0].strip()
    return _compare(f"perceptron predict_proba, one row, {network}", fit, way, threads, seconds, rounds)


def _compare(
    name: str, fit: Fit, way: Callable[[Any], Callable[[], Any]], threads: int, seconds: float, rounds: int
) -> Result:
    if importlib.util.find_spec("sklearn") is None:
        return Result(name, missing=dict.fromkeys((OURS, SCIKIT), "absent: scikit-learn is not installed"))
    from sklearn.neural_network import MLPClassifier as Theirs

    from normcore.estimators import MLPClassifier as Ours

    arguments = {
        "hidden_layer_sizes": fit.hidden, "batch_size": fit.batch_size, "max_iter": fit.epochs, "random_state": 0,
        "n_iter_no_change": math.inf,
    }  # fmt: skip
    models = {OURS: Ours(norm=None, **arguments), NORMED: Ours(**arguments), SCIKIT: Theirs(**arguments)}
    with nc.threads(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        times = interleaved({name: {"call": way(model)} for name, model in models.items()}, seconds, rounds)
    return Result(name, None, times.medians())
