"""How much each row counts: sample weights and class weights."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from normcore._shown import shown
from normcore.nn._checks import Array, as_sample_weight

from ._errors import kind

ClassWeight: TypeAlias = Mapping[Any, float] | str | None


def check_sample_weight(value: Any, rows: int, owner: str) -> Array:
    """`value` as float64 weights, one for each row, not all zero."""
    weights = as_sample_weight(value, (rows,), owner, f"X has {rows} rows")
    if not weights.any():
        raise ValueError(f"{owner}: sample_weight is 0 everywhere, so no row counts; give some rows a weight.")
    check_total(weights, f"{owner}: sample_weight adds up")
    return weights


def check_total(weights: Array, what: str) -> None:
    """Raise if the weights add up to so much that a loss of some elements a row could not be divided by it."""
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.add.reduce(weights) < 1e300:
            raise ValueError(f"{what} to 1e300 or more; divide all weights by the same number.")


def _is_weight(value: Any) -> bool:
    if isinstance(value, (bool, np.bool_, np.timedelta64)) or not isinstance(value, Real):
        return False
    try:
        return 0 <= float(value) < np.inf
    except OverflowError:  # an int beyond float64
        return False


def by_class(class_weight: Any, y: Array) -> Array:
    """The weights of the rows with targets `y`, as float64: `class_weight` says how much each class counts.

    "balanced" is scikit-learn's: `rows / (classes * rows of the class)`, so that every class counts the same and the
    mean weight is 1. Classes that a dict leaves out count as 1.
    """
    if y.ndim != 1 and y.shape != (len(y), 1):
        raise ValueError(
            f"class_weight needs y to hold one class for each row, but y has shape {y.shape}; pass sample_weight, or a "
            "loss with weights of its own."
        )
    labels = y.reshape(len(y))
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        raise ValueError(
            "class_weight needs y to hold classes, but it has numbers that are not whole; pass sample_weight."
        )
    classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(
                f"class_weight must be 'balanced' or a dict from class to weight, got {shown(class_weight)}."
            )
        factors = len(y) / (len(classes) * counts)
    elif isinstance(class_weight, Mapping):
        for label, weight in class_weight.items():
            if not _is_weight(weight):
                raise ValueError(
                    "class_weight must have finite weights that are not negative, got "
                    f"{shown(weight)} for class {shown(label)}."
                )
        known = classes.tolist()
        strangers = [label for label in class_weight if label not in known]
        if strangers:
            raise ValueError(
                f"class_weight has the class {shown(strangers[0])}, which is not in y; its classes are numbered as "
                "in y."
            )
        factors = np.array([float(class_weight.get(label, 1.0)) for label in known])
        if not factors.any():
            raise ValueError("class_weight is 0 for every class in y, so no row counts; give some class a weight.")
    else:
        raise TypeError(f"class_weight must be 'balanced' or a dict from class to weight, got {kind(class_weight)}.")
    return factors[inverse]
