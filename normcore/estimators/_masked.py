"""Masked arrays, whose mask scikit-learn's checks drop without a word."""

from __future__ import annotations

from typing import Any

import numpy as np


def refuse_masks(**arrays: Any) -> None:
    """Raise a TypeError that names the first of these that is a masked array."""
    for name, value in arrays.items():
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(
                f"{name} is a masked array, whose mask would be ignored; fill in or drop the masked values first."
            )
