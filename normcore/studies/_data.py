"""The data of a study: a part to train on and a part to validate with, which are the same for every seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from normcore.data import Part, load

_NAMES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}  # in a sentence


@dataclass(frozen=True)
class Classes:
    """Images with a class each, cut in two.

    Attributes
    ----------
    name : str
        What it is called in notes.
    train, validation : Part
        Of float32 rows from 0 to 1, and int64 classes. The validation part is the test part of the data set.
    classes : int
        How many there are.
    """

    name: str
    train: Part
    validation: Part
    classes: int

    @property
    def features(self) -> int:
        """Length of a row."""
        return int(self.train.X.shape[1])

    @property
    def guess(self) -> float:
        """The accuracy of always naming the most frequent class."""
        return float(np.bincount(self.validation.y).max() / len(self.validation.y))

    def sizes(self, hidden: tuple[int, ...]) -> list[int]:
        """Return the layer sizes of a network with these hidden layers."""
        return [self.features, *hidden, self.classes]

    def steps(self, batch_size: int) -> int:
        """Return the number of steps in an epoch; a last batch of one row joins the one before it."""
        whole, rest = divmod(len(self.train.y), batch_size)
        return max(whole + (rest > 1), 1)


def load_classes(name: str, data_dir: str | None = None, progress: bool = False) -> Classes:
    """Load a data set of `normcore.data.DATASETS`.

    Raises
    ------
    DataError, DataNotFoundError
        If it is damaged, or is not there and cannot be fetched.
    """
    train, test = load(name, data_dir=data_dir, progress=progress)
    return Classes(_NAMES.get(name, name), Part(train.X, train.y), Part(test.X, test.y), len(train.class_names))
