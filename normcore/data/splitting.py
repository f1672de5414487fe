"""Cutting a data set into a part to train on and a part to validate with."""

from __future__ import annotations

import operator
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normcore._arraylike import UnfitError, plain
from normcore._shown import shown


class Part(NamedTuple):
    """Inputs and targets of one part of a data set."""

    X: NDArray[Any]
    y: NDArray[Any]


def split(
    X: ArrayLike,
    y: ArrayLike,
    validation_fraction: float = 0.2,
    seed: int | None = 0,
    *,
    stratify: bool = True,
) -> tuple[Part, Part]:
    """Cut a data set into a training and a validation part, at random.

    Parameters
    ----------
    X : array_like of shape (samples, ...)
        The inputs.
    y : array_like of shape (samples, ...)
        The targets.
    validation_fraction : float, default 0.2
        Share of the samples in the validation part, more than 0 and less than 1. Neither part comes out empty.
    seed : int or None, default 0
        The same seed gives the same parts. None: other parts every time.
    stratify : bool, default True
        Keep the share of every value of `y` the same in both parts, to within one sample. For classes; say False when
        `y` holds numbers to be predicted.

    Returns
    -------
    train, validation : Part
        Named tuples ``(X, y)``, rows in the order they had. The second one fits ``Trainer.fit(validation_data=...)``.

    Raises
    ------
    ValueError
        If the lengths differ, there are fewer than two samples, `validation_fraction` is not between 0 and 1, or the
        seed is negative.
    TypeError
        If `validation_fraction` is no number, `seed` no int, or X or y no array.

    Examples
    --------
    >>> from normcore.data import load_digits, split
    >>> digits = load_digits()
    >>> train, validation = split(digits.X, digits.y, validation_fraction=0.25, seed=0)
    >>> train.X.shape, validation.y.shape
    ((1348, 64), (449,))
    """
    X, y = _as_array("X", X), _as_array("y", y)
    if X.ndim == 0 or y.ndim == 0 or len(X) != len(y):
        raise ValueError(
            f"X and y must have one row for each sample, got shapes {X.shape} and {y.shape}; make their lengths equal"
        )
    samples = len(X)
    if samples < 2:
        raise ValueError(f"X must have at least two samples to be cut in two, got {samples}; add samples")
    # NumPy's durations are integers to Python.
    if isinstance(validation_fraction, (bool, np.timedelta64)) or not isinstance(validation_fraction, Real):
        raise TypeError(
            f"validation_fraction must be a number, got {shown(validation_fraction)}; 0.2 keeps a fifth for validation"
        )
    if not 0.0 < validation_fraction < 1.0:
        raise ValueError(
            f"validation_fraction must be more than 0 and less than 1, got {shown(validation_fraction)}; "
            "0.2 keeps a fifth for validation"
        )
    if stratify is not True and stratify is not False and not isinstance(stratify, np.bool_):
        raise TypeError(f"stratify must be True or False, got {shown(stratify)}")
    if stratify and y.ndim != 1:
        raise ValueError(f"y must hold one class for each sample, got shape {y.shape}; say stratify=False")
    validation = held_out(y, validation_fraction, np.random.default_rng(_checked_seed(seed)), stratify)
    return Part(X[~validation], y[~validation]), Part(X[validation], y[validation])


def _as_array(name: str, value: Any) -> NDArray[Any]:
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be ignored; fill or drop the masked values first")
    try:
        return plain(value)
    except UnfitError as error:
        raise TypeError(f"{name} must be an array, got {error}") from None


def held_out(y: NDArray[Any], fraction: float, rng: np.random.Generator, stratify: bool) -> NDArray[np.bool_]:
    """Return a mask of the samples for validation: `fraction` of them, at least one, and never all."""
    samples = len(y)
    count = min(max(round(samples * fraction), 1), samples - 1)
    groups = _by_class(y) if stratify else [np.arange(samples)]
    mask = np.zeros(samples, bool)
    for members, share in zip(groups, _shares([len(g) for g in groups], count), strict=True):
        mask[rng.choice(members, share, replace=False)] = True
    return mask


def _checked_seed(seed: Any) -> Any:
    if seed is None or isinstance(seed, np.random.Generator):
        return seed
    try:
        number = operator.index(seed)
    except Exception:  # an __index__ of somebody else's may raise anything
        raise TypeError(
            f"seed must be None or an int, got {shown(seed)}; pass 0 for the same parts every time"
        ) from None
    if number < 0:
        raise ValueError(f"seed must be 0 or more, got {shown(seed)}; pass 0 for the same parts every time")
    return number


def _by_class(y: NDArray[Any]) -> list[NDArray[np.intp]]:
    classes, inverse = np.unique(y, return_inverse=True)
    return [np.flatnonzero(inverse == k) for k in range(len(classes))]


def _shares(sizes: list[int], total: int) -> list[int]:
    """`total` cut in proportion to `sizes`, in whole numbers: the largest remainders are rounded up."""
    exact = np.array(sizes) * (total / sum(sizes))
    shares = np.floor(exact).astype(np.intp)
    missing = total - int(shares.sum())
    shares[np.argsort(shares - exact, kind="stable")[:missing]] += 1
    return [int(s) for s in shares]
