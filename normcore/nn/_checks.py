"""Checks of arguments that layers, losses and optimisers share: one sentence each, before anything is written."""

from __future__ import annotations

import math
import operator
import sys
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from normcore._arraylike import UnfitError, plain
from normcore._shown import shown

Array = NDArray[Any]

_PARAMETER_DTYPES = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))
_LARGEST = 2**53
_LARGEST_SAVED_COUNT = 2**62  # far from where adding one more leaves int64


def as_size(value: Any, name: str, owner: str = "") -> int:
    """`value` as a positive int."""
    message = f"{owner}{': ' if owner else ''}{name} must be a positive int, got {shown(value)}."
    try:
        # bool is an int to Python, but Linear(True, 3) is always a slip.
        size = -1 if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except Exception:  # an __index__ of somebody else's may raise anything
        raise TypeError(message) from None
    if size < 1:
        raise ValueError(message)
    return size


def as_count(value: Any, name: str, owner: str = "") -> int:
    """`value` as a positive int that something is counted to: a float still tells it from the next."""
    count = as_size(value, name, owner)
    if count > _LARGEST:
        raise ValueError(f"{owner}{': ' if owner else ''}{name} must be at most 2**53, got {shown(value)}.")
    return count


def listed(value: Any) -> list[Any] | None:
    """`value` as a list; None where it is not to be iterated over, such as an array of rank 0."""
    try:
        return list(value)
    except Exception:  # an __iter__ of somebody else's may raise anything
        return None


def as_int(value: Any, name: str, owner: str) -> int:
    """`value` as an int of any sign."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except Exception:  # as above
        raise TypeError(f"{owner}: {name} must be an int, got {shown(value)}.") from None


def as_bool(value: Any, name: str, owner: str = "") -> bool:
    """`value` as True or False; 0, 1 and strings are refused, because "no" is true to Python."""
    if value is True or value is False or isinstance(value, np.bool_):
        return bool(value)
    raise TypeError(f"{owner}{': ' if owner else ''}{name} must be True or False, got {shown(value)}.")


def as_choice(value: Any, name: str, owner: str, choices: tuple[str, ...]) -> str:
    """`value` if it is one of the names in `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{owner}: {name} must be one of {', '.join(map(repr, choices))}, got {shown(value)}.")
    return value


def check_fits_memory(owner: str, **sizes: int) -> None:
    """An array of these sizes must be one that NumPy can describe; whether there is the memory is seen later."""
    if math.prod(sizes.values()) * 8 > sys.maxsize:
        given = ", ".join(f"{name}={shown(size)}" for name, size in sizes.items())
        raise ValueError(f"{owner}: {given} makes an array that no memory can hold; choose a smaller layer.")


def as_number(value: Any, name: str, owner: str, interval: str) -> float:
    """`value` as a finite float inside `interval`, written as in mathematics: "[0, 1)", "(0, inf)"."""
    # NumPy's durations are integers to Python.
    if isinstance(value, (bool, np.bool_, np.timedelta64)) or not isinstance(value, Real):
        raise TypeError(f"{owner}: {name} must be a number, got {shown(value)}.")
    try:
        number = float(value)
    except OverflowError:  # an int beyond float64
        number = math.nan
    low, high = map(float, interval[1:-1].split(","))
    above = number > low or (interval[0] == "[" and number == low)
    below = number < high or (interval[-1] == "]" and number == high)
    if not (above and below):
        raise ValueError(f"{owner}: {name} must be in {interval}, got {shown(value)}.")
    return number


def as_float_dtype(dtype: DTypeLike, owner: str) -> np.dtype[Any]:
    """`dtype` as one of the float types that parameters may have."""
    try:
        # None means float64 to NumPy and float32 to PyTorch: refused rather than guessed.
        found = np.dtype(object if dtype is None else dtype)
    except Exception:  # what has an attribute dtype may raise anything
        found = np.dtype(object)
    if found not in _PARAMETER_DTYPES:
        raise TypeError(f"{owner}: dtype must be float32, float64 or float16, got {shown(dtype)}.")
    return found


def as_input(x: Any, owner: str, name: str = "x") -> Array:
    """`x`, called `name` in messages, as a plain array of one of the float types; nothing is copied."""
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
    # The byte order of another machine makes another dtype, and is refused here too.
    if x.dtype not in _PARAMETER_DTYPES:
        raise TypeError(
            f"{owner}: {name} must be float32, float64 or float16, got {x.dtype}; "
            f"convert it with {name}.astype(np.float32)."
        )
    return x  # type: ignore[no-any-return] # NumPy's stubs say Any


def as_array(value: Any, name: str, owner: str, fill: str = "value") -> Array:
    """`value` as a plain array of whatever kind; a mask would be ignored, so a masked array is refused."""
    if isinstance(value, np.ma.MaskedArray):
        its = f"{name}." if name.isidentifier() else "its "
        raise TypeError(f"{owner}: {name} is a masked array, whose mask would be ignored; pass {its}filled({fill}).")
    try:
        return plain(value)
    except UnfitError as error:
        raise TypeError(f"{owner}: {name} must be an array, got {error}.") from None


def as_target(target: Any, owner: str) -> Array:
    """`target` as an array of whatever kind."""
    return as_array(target, "target", owner)


def as_weights(value: Any, name: str, owner: str, ranks: tuple[int, ...] | None = None) -> Array:
    """`value` as float64 factors of a loss: finite and not negative, of one of these ranks."""
    weight = as_array(value, name, owner)
    if weight.dtype.kind not in "fiu":
        raise TypeError(f"{owner}: {name} must be an array of real numbers, got {shown(value)}.")
    if ranks is not None and weight.ndim not in ranks:
        raise ValueError(f"{owner}: {name} must have one entry for each class, got shape {weight.shape}.")
    # Written so that NaN is refused too.
    if not np.all((weight >= 0) & (weight < np.inf)):
        raise ValueError(f"{owner}: {name} must be finite and not negative, but has other values or NaN.")
    return weight.astype(np.float64)


def as_sample_weight(value: Any, shape: tuple[int, ...], owner: str, beside: str = "") -> Array:
    """`value` as a float64 weight for each row of an output of this shape, or of what `beside` says."""
    weight = as_array(value, "sample_weight", owner, fill="0")
    if weight.dtype.kind not in "fiub":
        raise TypeError(
            f"{owner}: sample_weight must be real numbers, got {weight.dtype}; convert it with astype(float)."
        )
    if weight.shape != shape[:1] or not shape:
        if not shape:
            todo = "leave it out, there are no rows to weight"
        elif weight.ndim > 1 and weight.size == shape[0]:
            todo = f"pass one weight for each row, sample_weight.reshape({shape[0]})"
        else:
            todo = f"pass one weight for each row, an array of shape {shape[:1]}"
        raise ValueError(
            f"{owner}: sample_weight has shape {weight.shape}, but {beside or f'output has shape {shape}'}; {todo}."
        )
    # Written so that NaN is refused too.
    if not np.all((weight >= 0) & (weight < np.inf)):
        raise ValueError(f"{owner}: sample_weight must be finite and not negative, but has other values or NaN.")
    return weight.astype(np.float64, copy=False)


def as_gradient(dy: Any, shape: tuple[int, ...], dtype: np.dtype[Any], owner: str) -> Array:
    """`dy` as a plain array of this shape and dtype, those of what the last forward returned."""
    if type(dy) is not np.ndarray:
        if not isinstance(dy, np.ndarray) or isinstance(dy, np.ma.MaskedArray):
            raise TypeError(f"{owner}.backward: dy must be a NumPy array, got {type(dy).__name__}.")
        dy = np.asarray(dy)
    if dy.dtype != dtype:
        raise TypeError(
            f"{owner}.backward: dy is {dy.dtype}, but the last forward returned {dtype}; pass dy.astype(np.{dtype})."
        )
    if dy.shape != shape:
        raise ValueError(
            f"{owner}.backward: dy has shape {dy.shape}, but the last forward returned {shape}; "
            "pass the gradient with respect to that output."
        )
    return dy  # type: ignore[no-any-return] # NumPy's stubs say Any


def check_state(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any], *_: bool) -> Array:
    """`value`, from a state dict, as an array that has this shape and can have this dtype; its numbers are not read.

    Otherwise an error that goes on after its name.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError("is a masked array, whose mask would be ignored; pass its filled(value)")
    try:
        array = plain(value)
    except UnfitError as error:
        raise TypeError(f"must be an array, got {error}") from None
    if array.shape != shape:
        raise ValueError(f"has shape {array.shape}, expected {shape}")
    if array.dtype == object or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise TypeError(f"has dtype {array.dtype}, expected {dtype}")
    return array


def as_state(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any], never_negative: bool = False) -> Array:
    """`value`, from a state dict, as a new array of this shape and dtype, or an error that goes on after its name."""
    array = check_state(value, shape, dtype)
    with np.errstate(over="ignore"):
        converted: Array = array.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(converted, array):
        raise ValueError(f"has values beyond {dtype}, such as {array.max() if array.max() > 0 else array.min()}")
    # NaN and infinity that are there already are a state like any other, if a sad one.
    if dtype.kind == "f" and not np.array_equal(np.isfinite(converted), np.isfinite(array)):
        raise ValueError(f"has values beyond {dtype}, such as {np.abs(array).max():g}")
    if never_negative and (converted < 0).any():
        raise ValueError(f"has negative values, such as {converted.min():g}")
    if never_negative and dtype.kind in "iu" and (converted > _LARGEST_SAVED_COUNT).any():
        raise ValueError(f"has counts beyond 2**62, such as {converted.max()}")
    return converted


def wrong_channels(owner: str, num_features: int, layouts: str, shape: tuple[int, ...]) -> ValueError:
    """What a layer of `num_features` channels says of an x that it does not take."""
    return ValueError(
        f"{owner}({num_features}): x has shape {shape}, but must be {layouts} with C={num_features}; "
        "reshape x or change num_features."
    )
