"""Metrics that are no mean over rows: sums over all batches first, then the value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from normcore.moments import RunningMoments
from normcore.nn._checks import Array


class PooledMetric:
    """Base of metrics whose value over all rows is no mean of the values over batches.

    One of your own has `start()`, which returns an object to add to; `add(state, output, target)`; and
    `value(state)`. Called like a function it gives the value of a single batch.
    """

    __name__ = "pooled"

    def start(self) -> Any:
        """Return what `add` adds to."""
        raise NotImplementedError(f"{type(self).__name__} has no start()")

    def add(self, state: Any, output: Array, target: Array) -> None:
        """Take in a batch."""
        raise NotImplementedError(f"{type(self).__name__} has no add(state, output, target)")

    def value(self, state: Any) -> float:
        """Return the value over all batches."""
        raise NotImplementedError(f"{type(self).__name__} has no value(state)")

    def __call__(self, output: Array, target: Array) -> float:
        state = self.start()
        self.add(state, output, target)
        return self.value(state)


class RMSE(PooledMetric):
    """Root of the mean squared error over all elements."""

    __name__ = "rmse"

    def start(self) -> list[float]:
        """Return the sum of squares and the number of elements."""
        return [0.0, 0.0]

    def add(self, state: list[float], output: Array, target: Array) -> None:
        """Take in a batch."""
        state[0] += float(_squares(output, target).sum())
        state[1] += output.size

    def value(self, state: list[float]) -> float:
        """Return the root of the mean."""
        return math.sqrt(state[0] / state[1])


class R2(PooledMetric):
    """Coefficient of determination, `1 - sum((target - output)**2) / sum((target - mean)**2)`, scikit-learn's.

    With several columns, the mean over the columns. A constant target gives 1 for a perfect output and 0 otherwise.
    """

    __name__ = "r2"

    def start(self) -> dict[str, Any]:
        """Return the moments of the target and the sums of squared errors."""
        return {"moments": RunningMoments(), "errors": 0.0}

    def add(self, state: dict[str, Any], output: Array, target: Array) -> None:
        """Take in a batch."""
        columns = target.reshape(len(target), -1)
        state["errors"] = state["errors"] + _squares(output, target).reshape(columns.shape).sum(axis=0)
        state["moments"].update(columns.astype(np.float64))

    def value(self, state: dict[str, Any]) -> float:
        """Return the mean over the columns."""
        errors, moments = state["errors"], state["moments"]
        spread = moments.var * moments.count
        constant = spread == 0
        ratio = errors / np.where(constant, 1.0, spread)
        return float(np.mean(np.where(constant, np.where(errors == 0, 1.0, 0.0), 1.0 - ratio)))


class F1(PooledMetric):
    """F1, the harmonic mean of precision and recall, `2 tp / (2 tp + fp + fn)`.

    For logits of shape (N, C) with classes of shape (N,), or (N, C, d1, ...) with (N, d1, ...): the mean over the
    classes that occur in the target or among the outputs' largest (scikit-learn's "macro"). For logits of the target's
    shape: F1 of the class 1, an output above 0 standing for it; or, with `largest`, the target's largest is its class.
    Without any such row it is 0.
    """

    __name__ = "f1"

    def __init__(self, largest: bool = False) -> None:
        self.largest = largest

    def start(self) -> dict[str, Any]:
        """Return the counts of true positives, and of rows in either place."""
        return {"hits": np.zeros(1), "either": np.zeros(1)}

    def add(self, state: dict[str, Any], output: Array, target: Array) -> None:
        """Take in a batch."""
        if self.largest and target.ndim == output.ndim:
            target = target.argmax(axis=1)
        if target.shape == output.shape:
            said, is_so = output > 0, target > 0.5
            hits, either = np.array([(said & is_so).sum()]), np.array([said.sum() + is_so.sum()])
        else:
            classes, found, target = output.shape[1], output.argmax(axis=1).ravel(), target.ravel()
            hits = np.bincount(target[found == target], minlength=classes)
            either = np.bincount(found, minlength=classes) + np.bincount(target, minlength=classes)
        state["hits"] = state["hits"] + hits
        state["either"] = state["either"] + either

    def value(self, state: dict[str, Any]) -> float:
        """Return the mean over the classes that occur."""
        there = state["either"] > 0
        return float(np.mean(2 * state["hits"][there] / state["either"][there])) if there.any() else 0.0


def _squares(output: Array, target: Array) -> Array:
    if output.shape != target.shape:
        raise ValueError(f"output has shape {output.shape}, but target has shape {target.shape}; reshape the target.")
    return np.square(np.subtract(output, target, dtype=np.float64))
