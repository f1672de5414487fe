"""Metrics: functions `metric(output, target) -> float`, a mean over rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from normcore.nn._checks import Array

Metric: TypeAlias = Callable[[Array, Array], float]
Metrics: TypeAlias = Mapping[str, str | Metric] | Iterable[str | Metric] | str | Metric | None


def accuracy(output: Array, target: Array) -> float:
    """Return the share of rows whose largest output is at the target.

    Parameters
    ----------
    output : ndarray of shape (N, C)
        Logits or probabilities.
    target : ndarray
        Classes of shape (N,), or class probabilities of shape (N, C), of which the largest counts.
    """
    expected = target if target.ndim == 1 else target.argmax(axis=1)
    return float(np.count_nonzero(output.argmax(axis=1) == expected)) / len(output)


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
    if isinstance(metrics, str) or callable(metrics):
        metrics = [metrics]
    if not isinstance(metrics, Iterable):
        raise TypeError(
            f"Trainer: metrics must be a name, a function (output, target) -> float, a list or a dict of these, "
            f"got {type(metrics).__name__}."
        )
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
                    f"Trainer: metrics has the unknown name {metric!r}; use {', '.join(map(repr, _KNOWN))} or a "
                    "function (output, target) -> float."
                )
            metric = _KNOWN[metric]
        if not callable(metric):
            raise TypeError(
                f"Trainer: each of metrics must be a name or a function (output, target) -> float, "
                f"got {type(metric).__name__}."
            )
        if name == "loss" or name in found:
            raise ValueError(f"Trainer: metrics has the name {name!r}, which is taken; pass a dict with other names.")
        found[name] = metric
    return found
