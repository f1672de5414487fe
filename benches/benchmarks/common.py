"""Data for the benchmarks, the same every time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def normal(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> Array:
    """Standard normal values of an array's shape."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(dtype)


def vectors(channels: int, count: int, dtype: str = "float32") -> list[Array]:
    """`count` arrays of one positive value per channel."""
    rng = np.random.default_rng(1)
    return [rng.uniform(0.5, 1.5, channels).astype(dtype) for _ in range(count)]
