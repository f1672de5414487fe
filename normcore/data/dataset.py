"""What every loader returns: arrays, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Dataset:
    """Arrays and where they come from.

    Attributes
    ----------
    name : str
        Short name of the set.
    X : ndarray of float32, shape (samples, features)
        The inputs, from 0 to 1.
    y : ndarray of int64, shape (samples,)
        The class of each row, counted from 0.
    feature_names, class_names : tuple of str
        One name for each column of `X`, and for each value in `y`.
    image_shape : tuple of int
        What a row of `X` is reshaped to for looking at it.
    describe : str
        Source, licence and contents.
    """

    name: str
    X: NDArray[np.float32]
    y: NDArray[np.int64]
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    describe: str

    def __repr__(self) -> str:
        return f"<Dataset {self.name}: X {self.X.shape} {self.X.dtype}, {len(self.class_names)} classes>"


class Split(NamedTuple):
    """A data set in the two parts in which it is published."""

    train: Dataset
    test: Dataset
