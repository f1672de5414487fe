"""Whole epochs of `Trainer.fit`: beside scikit-learn's MLPClassifier, which has no batch norm, and beside a bare loop.

The rows are of MNIST's shape and made here: what is in them changes no time.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import normcore as nc
from benches.results import OURS, Result
from benches.timing import interleaved

SCIKIT, BARE = "scikit-learn", "bare loop"
FEATURES, CLASSES = 784, 10
_PIXELS_OF_INK = 0.19  # of MNIST's


class Training(NamedTuple):
    """A network of two hidden layers on rows like MNIST's, with Adam."""

    rows: int
    batch_size: int
    hidden: tuple[int, int] = (128, 64)

    @property
    def network(self) -> str:
        """As the steps of training are called."""
        return f"{FEATURES}-{self.hidden[0]}-{self.hidden[1]}-{CLASSES} batch {self.batch_size}"

    def data(self) -> tuple[Any, Any]:
        """Images in 0..1 and their classes."""
        rng = np.random.default_rng(0)
        X = rng.random((self.rows, FEATURES), np.float32)
        X *= rng.random((self.rows, FEATURES), np.float32) < _PIXELS_OF_INK
        return X, rng.integers(0, CLASSES, self.rows)

    def model(self) -> nc.MLP:
        """With batch norm."""
        return nc.MLP([FEATURES, *self.hidden, CLASSES], norm="batch", seed=0)


EPOCH, QUICK_EPOCH = Training(60_000, 128), Training(300, 128)
LOOP, QUICK_LOOP = Training(6_400, 32), Training(64, 32)


def against_scikit(training: Training, threads: int, seconds: float, rounds: int) -> Result:
    """Time an epoch, ours with batch norm and accuracy, scikit-learn's without either."""
    X, y = training.data()
    trainer = nc.Trainer(model := training.model(), nc.optim.Adam(model.parameters()))
    ways: dict[str, dict[str, Callable[[], Any]]] = {
        OURS: {"fit": lambda: trainer.fit(X, y, epochs=1, batch_size=training.batch_size, seed=0)}
    }
    missing = {}
    if importlib.util.find_spec("sklearn") is None:
        missing[SCIKIT] = "absent: scikit-learn is not installed"
    else:
        ways[SCIKIT] = {"fit": _scikit(training, X, y)}
    with nc.threads(threads):
        times = interleaved(ways, seconds, rounds)
    return Result(f"epoch of MNIST, {training.network}", None, times.medians(), missing=missing)


def _scikit(training: Training, X: Any, y: Any) -> Callable[[], Any]:
    from sklearn.neural_network import MLPClassifier

    def fit() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged after one epoch
            return MLPClassifier(training.hidden, batch_size=training.batch_size, max_iter=1, random_state=0).fit(X, y)

    return fit


def against_bare_loop(training: Training, threads: int, seconds: float, rounds: int) -> Result:
    """Time `fit` and the loop that it replaces: the same batches in the same order, without accuracy or history."""
    X, y = training.data()
    size = training.batch_size
    trainer = nc.Trainer(model := training.model(), nc.optim.Adam(model.parameters()))
    bare = training.model().train()
    optimizer, criterion = nc.optim.Adam(bare.parameters()), nc.nn.CrossEntropyLoss()

    def loop() -> None:
        order = np.random.default_rng(0).permutation(len(X))
        for start in range(0, len(X), size):
            rows = order[start : start + size]
            criterion(bare(X[rows]), y[rows])
            bare.backward_parameters(criterion.backward())
            optimizer.step()

    ways: dict[str, dict[str, Callable[[], Any]]] = {
        OURS: {"fit": lambda: trainer.fit(X, y, epochs=1, batch_size=size, seed=0)},
        BARE: {"loop": loop},
    }
    with nc.threads(threads):
        times = interleaved(ways, seconds, rounds)
    return Result(f"fit, {training.network}", None, times.medians())
