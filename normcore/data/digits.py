"""The handwritten digits that come with the package."""

from __future__ import annotations

from importlib import resources
from typing import BinaryIO, cast

import numpy as np

from normcore._npz import NpzError, read_npz

from .dataset import Dataset
from .errors import DataError

MAX_BYTES = 1 << 20  # it has 117 kB
MAX_INK = 16  # inked pixels in a 4 x 4 block


def load_digits() -> Dataset:
    """Load 1,797 images of handwritten digits, 8 x 8 pixels each.

    The test part of UCI's Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998, CC BY 4.0): the images of
    scikit-learn's ``load_digits`` in the same order, scaled from 0..16 to 0..1.

    Returns
    -------
    Dataset
        ``X`` (1797, 64) float32, ``y`` (1797,) int64. Every call returns arrays of its own, free to be changed.

    Raises
    ------
    DataError
        If the package's own file is damaged.

    Examples
    --------
    >>> from normcore.data import load_digits
    >>> digits = load_digits()
    >>> digits.X.shape, digits.y[:5]
    ((1797, 64), array([0, 1, 2, 3, 4]))
    """
    folder = resources.files(__package__)
    with (folder / "digits.npz").open("rb") as file:
        try:
            found = read_npz(cast(BinaryIO, file), MAX_BYTES)
            images, labels = found["images"], found["labels"]
        except (NpzError, KeyError):
            raise DataError("digits.npz, which comes with normcore-cpu, is damaged; install it again") from None
    return Dataset(
        name="digits",
        X=images.astype(np.float32) / np.float32(MAX_INK),
        y=labels.astype(np.int64),
        feature_names=tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8)),
        class_names=tuple(str(digit) for digit in range(10)),
        image_shape=(8, 8),
        describe=(folder / "digits.txt").read_text(encoding="utf-8"),
    )
