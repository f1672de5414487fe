"""Starting values of parameters, from a random generator that the caller owns."""

from __future__ import annotations

import math
import operator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from normcore._shown import shown

from ._checks import Array

RandomState: TypeAlias = int | np.random.Generator | None


def as_generator(rng: Any, name: str = "rng") -> np.random.Generator:
    """Return the generator that `rng` stands for.

    Parameters
    ----------
    rng : None, int or numpy.random.Generator
        None draws a fresh seed from the operating system, an int is a seed, a generator is used as it is (and moves
        on).
        NumPy's global generator is never touched.
    name : str
        The argument's name in the error message.

    Raises
    ------
    TypeError
        If it is anything else.
    ValueError
        If the seed is negative.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None:
        return np.random.default_rng()
    try:
        if isinstance(rng, (bool, np.bool_)):
            raise TypeError
        seed = operator.index(rng)
    except Exception:  # an __index__ of somebody else's may raise anything
        raise TypeError(f"{name} must be None, an int or a numpy.random.Generator, got {type(rng).__name__}.") from None
    if seed < 0:
        raise ValueError(f"{name} must not be negative, got {shown(seed)}.")
    return np.random.default_rng(seed)


def uniform(shape: tuple[int, ...], bound: float, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Array:
    """Return an array of values uniform between -bound and bound.

    They are drawn in float64 and rounded, so one seed starts networks of every dtype at the same place.
    """
    return rng.uniform(-bound, bound, shape).astype(dtype)


def linear_bound(in_features: int) -> float:
    """Return 1/sqrt(in_features), the bound that PyTorch's Linear has for weight and bias.

    For the weight it is what `kaiming_uniform_(a=sqrt(5))` comes to: sqrt(6 / ((1 + 5) * in_features)).
    """
    return 1.0 / math.sqrt(in_features)
