"""Checks of arguments that the layers, losses and optimisers share: one sentence each, raised before anything is written."""

from __future__ import annotations

import operator
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

_PARAMETER_DTYPES = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))


def as_size(value: Any, name: str, owner: str) -> int:
    """`value` as a positive int."""
    try:
        # bool is an int to Python, but Linear(True, 3) is always a slip.
        size = -1 if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        raise TypeError(f"{owner}: {name} must be a positive int, got {value!r}.") from None
    if size < 1:
        raise ValueError(f"{owner}: {name} must be a positive int, got {value!r}.")
    return size


def as_number(value: Any, name: str, owner: str, interval: str) -> float:
    """`value` as a finite float inside `interval`, written as in mathematics: "[0, 1)", "(0, inf)"."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{owner}: {name} must be a number, got {value!r}.")
    number = float(value)
    low, high = map(float, interval[1:-1].split(","))
    above = number > low or (interval[0] == "[" and number == low)
    below = number < high or (interval[-1] == "]" and number == high)
    if not (above and below):
        raise ValueError(f"{owner}: {name} must be in {interval}, got {value!r}.")
    return number


def as_float_dtype(dtype: DTypeLike, owner: str) -> np.dtype[Any]:
    """`dtype` as one of the float types that parameters may have."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found not in _PARAMETER_DTYPES:
        raise TypeError(f"{owner}: dtype must be float32, float64 or float16, got {dtype!r}.")
    return found


def as_input(x: Any, owner: str, name: str = "x") -> Array:
    """`x`, called `name` in messages, as a plain floating-point array; nothing is copied."""
    if type(x) is not np.ndarray:
        if not isinstance(x, np.ndarray):
            raise TypeError(
                f"{owner}: {name} must be a NumPy array, got {type(x).__name__}; convert it with np.asarray."
            )
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError(
                f"{owner}: {name} is a masked array, whose mask would be ignored; pass {name}.filled(value)."
            )
        x = np.asarray(x)
    if x.dtype.kind != "f":
        raise TypeError(
            f"{owner}: {name} must be floating point, got {x.dtype}; convert it with {name}.astype(np.float32)."
        )
    return x  # type: ignore[no-any-return]


def check_gradient(dy: Any, shape: tuple[int, ...], owner: str) -> None:
    """`dy` must be a floating-point array of the shape that the last forward returned."""
    if not isinstance(dy, np.ndarray) or dy.dtype.kind != "f":
        kind = dy.dtype if isinstance(dy, np.ndarray) else type(dy).__name__
        raise TypeError(f"{owner}.backward: dy must be a floating-point NumPy array, got {kind}.")
    if dy.shape != shape:
        raise ValueError(
            f"{owner}.backward: dy has shape {dy.shape}, but the last forward returned {shape}; "
            "pass the gradient with respect to that output."
        )
