"""Metrics: functions `metric(output, target) -> float` that are means over rows, by name or the user's own.

What is no mean over rows (R2, F1) is a `PooledMetric`, which sees all batches before it says its value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from normcore._shown import shown
from normcore.nn._checks import Array, as_size, listed

from ._pooled import F1, R2, RMSE, PooledMetric

Metric: TypeAlias = Callable[[Array, Array], float]
Metrics: TypeAlias = Mapping[str, str | Metric] | Iterable[str | Metric] | str | Metric | None

_TOP = re.compile(r"top_([1-9][0-9]{0,8})_accuracy")


def accuracy(output: Array, target: Array) -> float:
    """Return the share of rows, or of their places, whose largest output is at the target.

    Parameters
    ----------
    output : ndarray of shape (N, C) or (N, C, d1, ...)
        Logits or probabilities.
    target : ndarray
        Classes of shape (N,) or (N, d1, ...), or probabilities of the output's shape, of which the largest counts.
    """
    if target.ndim > 1 and output.shape[1:] == (1,):
        raise ValueError(
            "accuracy: output has a single column, which is always the largest; use 'binary_accuracy' for logits "
            "with targets 0 and 1."
        )
    expected = _classes(output, target)
    return float(np.count_nonzero(output.argmax(axis=1) == expected)) / max(expected.size, 1)


def binary_accuracy(output: Array, target: Array) -> float:
    """Return the share of outputs on the right side of 0, for logits and targets 0 or 1 of the same shape.

    Parameters
    ----------
    output : ndarray
        Logits: above 0 stands for the class 1.
    target : ndarray of the output's shape
        0 or 1; probabilities count as 1 above 0.5.
    """
    _check_shapes("binary_accuracy", output, target)
    return float(np.count_nonzero((output > 0) == (target > 0.5))) / max(output.size, 1)


def top_k_accuracy(k: int) -> Metric:
    """Return the metric whose value is the share of rows with fewer than k outputs above that of the target.

    By name: "top_5_accuracy" for k = 5.

    Parameters
    ----------
    k : int
        Positive. An output equal to the target's does not push it out.
    """
    k = as_size(k, "k", "top_k_accuracy")

    def metric(output: Array, target: Array) -> float:
        expected = _classes(output, target)
        own = np.take_along_axis(output, np.expand_dims(expected, 1), axis=1)
        # Asked so that a NaN is a miss.
        above = output.shape[1] - np.count_nonzero(output <= own, axis=1)
        return float(np.count_nonzero(above < k)) / max(expected.size, 1)

    metric.__name__ = f"top_{k}_accuracy"
    return metric


def mse(output: Array, target: Array) -> float:
    """Return the mean squared error over all elements, computed in float64.

    Parameters
    ----------
    output, target : ndarray
        Of the same shape.
    """
    _check_shapes("mse", output, target)
    return float(np.mean(np.square(np.subtract(output, target, dtype=np.float64))))


def mae(output: Array, target: Array) -> float:
    """Return the mean absolute error over all elements, computed in float64.

    Parameters
    ----------
    output, target : ndarray
        Of the same shape.
    """
    _check_shapes("mae", output, target)
    return float(np.mean(np.abs(np.subtract(output, target, dtype=np.float64))))


def _classes(output: Array, target: Array) -> Array:
    """The class of each row or place: of probabilities the largest."""
    return target.argmax(axis=1) if target.ndim == output.ndim else target


def _check_shapes(name: str, output: Array, target: Array) -> None:
    if output.shape != target.shape:
        raise ValueError(
            f"{name}: output has shape {output.shape}, but target has shape {target.shape}; nothing is broadcast."
        )


_KNOWN: dict[str, Metric] = {
    "accuracy": accuracy,
    "binary_accuracy": binary_accuracy,
    "f1": F1(),
    "mse": mse,
    "rmse": RMSE(),
    "mae": mae,
    "r2": R2(),
}


def resolve(metrics: Metrics, binary: bool = False, classes: bool = False) -> dict[str, Metric]:
    """Return the metrics by name.

    Parameters
    ----------
    metrics : name, function, PooledMetric, list or dict of these, or None
    binary : bool
        Whether outputs are logits of their own, so that "accuracy" is `binary_accuracy`.
    classes : bool
        Whether a row has one class, so that "f1" takes probabilities as targets for their largest.

    Raises
    ------
    ValueError
        If a name is unknown or taken.
    TypeError
        If something is neither a name nor callable.
    """
    if metrics is None:
        return {}
    if isinstance(metrics, str) or callable(metrics):
        metrics = [metrics]
    given = listed(metrics)
    if given is None:
        raise TypeError(
            f"Trainer: metrics must be a name, a function (output, target) -> float, a list or a dict of these, "
            f"got {type(metrics).__name__}."
        )
    pairs: list[tuple[str, Any]]
    if isinstance(metrics, Mapping):
        pairs = list(metrics.items())
    else:
        pairs = [
            (metric if isinstance(metric, str) else getattr(metric, "__name__", shown(metric)), metric)
            for metric in given
        ]
    found: dict[str, Metric] = {}
    for name, metric in pairs:
        if isinstance(metric, str):
            metric = _named(metric, binary, classes)
        if not callable(metric) or isinstance(metric, type):
            raise TypeError(
                f"Trainer: each of metrics must be a name or a function (output, target) -> float, "
                f"got {type(metric).__name__}."
            )
        if not isinstance(name, str):
            raise TypeError(f"Trainer: metrics must have strings as names, got {shown(name)}.")
        if name.startswith("val_"):
            raise ValueError(
                f"Trainer: metrics has the name {shown(name)}, but 'val_' stands for validation; choose another name."
            )
        if name in ("loss", "lr", "epoch", "seconds") or name in found:
            raise ValueError(
                f"Trainer: metrics has the name {shown(name)}, which is taken; pass a dict with other names."
            )
        found[name] = metric
    return found


def check_known(metrics: Mapping[str, Metric], output: Array, target: Array) -> None:
    """Let those of `metrics` that come with the package say whether output and target fit them.

    Those of users are not tried: they may count how often they are called, or need more than a few rows.
    """
    for metric in metrics.values():
        if str(getattr(metric, "__module__", "")).startswith("normcore."):
            metric(output, target)


def _named(name: str, binary: bool, classes: bool) -> Metric:
    top = _TOP.fullmatch(name)
    if top:
        return top_k_accuracy(int(top[1]))
    if name not in _KNOWN:
        raise ValueError(
            f"Trainer: metrics has the unknown name {shown(name)}; use {', '.join(map(repr, _KNOWN))}, "
            "'top_5_accuracy' or a function (output, target) -> float."
        )
    if classes and name == "f1":
        return F1(largest=True)
    return binary_accuracy if binary and name == "accuracy" else _KNOWN[name]


__all__ = [
    "Metric",
    "PooledMetric",
    "accuracy",
    "binary_accuracy",
    "check_known",
    "mae",
    "mse",
    "resolve",
    "top_k_accuracy",
]
