"""The data of a study: a part to train on and a part to validate with, which are the same for every seed."""

from __future__ import annotations

from dataclasses import dataclass

from normcore.data import Part, load_digits, split

DATA = ("digits", "mnist", "fashion-mnist", "cifar10")


class DataError(Exception):
    """The data of a study cannot be had; the message is a sentence for the user."""


@dataclass(frozen=True)
class Classes:
    """Images with a class each, cut in two.

    Attributes
    ----------
    name : str
        What it is called in notes.
    train, validation : Part
        Of float32 rows from 0 to 1, and int64 classes.
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

    def sizes(self, hidden: tuple[int, ...]) -> list[int]:
        """Return the layer sizes of a network with these hidden layers."""
        return [self.features, *hidden, self.classes]


def load_classes(name: str, data_dir: str | None = None, progress: bool = False) -> Classes:
    """Load a data set of `DATA`; the validation part is its test part.

    Raises
    ------
    DataError
        If it is not there and cannot be fetched, or is damaged.
    """
    del data_dir, progress
    if name != "digits":
        raise DataError(f"{name} cannot be loaded yet")
    digits = load_digits()
    train, validation = split(digits.X, digits.y, 0.25, seed=0)
    return Classes(name, train, validation, len(digits.class_names))
