"""Checking the arrays of a fit, and cutting them into batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from normcore._arraylike import UnfitError, plain
from normcore.nn._checks import Array

from ._errors import kind

# Rows are looked at in blocks of about this many values, so that a memory-mapped X is not read into memory at once.
_BLOCK = 1 << 20


def as_batch(rows: Array, dtype: np.dtype[Any]) -> Array:
    """`rows` in the dtype of the model."""
    return rows if rows.dtype == dtype else rows.astype(dtype)


def as_array(value: Any, name: str) -> Array:
    """`value` as a plain array; a mask would be ignored, so a masked array is refused."""
    if isinstance(value, np.ma.MaskedArray):
        bare = name.split()[-1]  # "validation_data's X" is an X in code
        raise TypeError(f"{name} is a masked array, whose mask would be ignored; pass {bare}.filled(value).")
    try:
        array = plain(value)
    except UnfitError as error:
        if error.ragged:
            raise ValueError(f"{name} must be an array, got a {kind(value)} with rows of unequal length.") from None
        raise TypeError(f"{name} must be an array, got {error}.") from None
    if array.dtype == object and array.ndim == 0:
        raise TypeError(f"{name} must be an array, got {kind(value)}.")
    return array


def check_inputs(X: ArrayLike, name: str = "X") -> Array:
    """`X` as a floating-point array with rows."""
    bare = name.split()[-1]  # "validation_data's X" is an X in code
    X = as_array(X, name)
    if X.dtype.kind != "f":
        raise TypeError(f"{name} must be floating point, got {X.dtype}; convert it with {bare}.astype(np.float32).")
    if X.ndim < 2:
        raise ValueError(
            f"{name} must have shape (rows, features, ...), got {X.shape}; for a single row pass {bare}[None]."
        )
    return X


def check_pair(X: ArrayLike, y: ArrayLike, names: tuple[str, str] = ("X", "y")) -> tuple[Array, Array]:
    """`X` and `y` as arrays with the same number of rows, at least one."""
    X = check_inputs(X, names[0])
    y = as_array(y, names[1])
    if y.ndim == 0 or len(X) != len(y):
        rows = f"{len(y)} rows" if y.ndim else "no rows"
        raise ValueError(f"{names[0]} has {len(X)} rows but {names[1]} has {rows}; pass one target for each row.")
    if not len(X):
        raise ValueError(f"{names[0]} has no rows; pass at least one.")
    return X, y


def check_finite(array: Array, name: str, dtype: np.dtype[Any] | None = None) -> None:
    """No NaN and no infinity, also once converted to `dtype`: one batch would spread it to the whole model."""
    if array.dtype.kind != "f":
        return
    rows = max(1, _BLOCK // max(1, array[:1].size))
    for start in range(0, len(array), rows):
        block = array[start : start + rows]
        if not np.isfinite(block).all():
            raise ValueError(f"{name} has NaN or infinite values; remove those rows or fill them in.")
        if dtype is not None and dtype.itemsize < block.itemsize:
            with np.errstate(over="ignore"):
                fits = np.isfinite(block.astype(dtype)).all()
            if not fits:
                raise ValueError(
                    f"{name} has values beyond {dtype}, such as {np.abs(block).max():.3g}, and the model is {dtype}; "
                    f"scale {name}, or make the model with dtype=np.{array.dtype}."
                )


def batch_bounds(rows: int, batch_size: int) -> list[tuple[int, int]]:
    """Start and end of every batch.

    A last batch of a single row is joined to the one before: batch norm cannot normalise one row, and leaving it out
    would lose it.
    """
    bounds = [(start, min(start + batch_size, rows)) for start in range(0, rows, batch_size)]
    if 1 < batch_size < rows and rows % batch_size == 1:
        bounds[-2:] = [(bounds[-2][0], rows)]
    return bounds
