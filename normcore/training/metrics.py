"""Metrics: functions `metric(y, target) -> float`, a mean over rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Union

import numpy as np

from normcore.nn._checks import Array

Metric = Callable[[Array, Array], float]
Metrics = Union[Mapping[str, Metric], Iterable[Union[str, Metric]], str, None]


def accuracy(y: Array, target: Array) -> float:
    """Return the share of rows whose largest output is at the target.

    Parameters
    ----------
    y : ndarray of shape (N, C)
        Logits or probabilities.
    target : ndarray
        Classes of shape (N,), or class probabilities of shape (N, C), of which the largest counts.
    """
    expected = target if target.ndim == 1 else target.argmax(axis=1)
    return float(np.count_nonzero(y.argmax(axis=1) == expected)) / len(y)


_KNOWN: dict[str, Metric] = {"accuracy": accuracy}


def resolve(metrics: Metrics) -> dict[str, Metric]:
    """Return the metrics by name.

    Raises
    ------
    ValueError
        If a name is unknown or taken.
    TypeError
        If something is neither a name nor callable.
    """
    if metrics is None:
        return {}
    if isinstance(metrics, str):
        metrics = [metrics]
    pairs: list[tuple[str, Any]]
    if isinstance(metrics, Mapping):
        pairs = list(metrics.items())
    else:
        pairs = [
            (metric if isinstance(metric, str) else getattr(metric, "__name__", repr(metric)), metric)
            for metric in metrics
        ]
    found: dict[str, Metric] = {}
    for name, metric in pairs:
        if isinstance(metric, str):
            if metric not in _KNOWN:
                raise ValueError(
                    f"metrics: {metric!r} is unknown; use one of {', '.join(map(repr, _KNOWN))} or a function (y, target) -> float."
                )
            metric = _KNOWN[metric]
        if not callable(metric):
            raise TypeError(
                f"metrics: {name!r} must be a name or a function (y, target) -> float, got {type(metric).__name__}."
            )
        if name == "loss" or name in found:
            raise ValueError(f"metrics: the name {name!r} is taken; pass a dict with names of your own.")
        found[name] = metric
    return found
