"""What a training needs, besides model, optimiser and history, to be gone on with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from normcore.nn._checks import Array

from ._listeners import Listeners, States


def described(X: Array, y: Array) -> dict[str, str]:
    """What is cheap to know of the data, for telling others from them. Their values may differ in the last place."""
    return {"X": f"shape {X.shape} and {X.dtype}", "y": f"shape {y.shape} and {y.dtype}"}


@dataclass
class Run:
    """Random state, and what callbacks remember."""

    generator: np.random.Generator
    split_seed: int | None = None  # of the validation split: drawn once, the same after resuming
    loaded: States = field(default_factory=list)
    data: Mapping[str, str] | None = None  # of X and y what `described` says; None in checkpoints of before
    listeners: Listeners | None = None

    @classmethod
    def begin(cls, generator: np.random.Generator, split: bool, data: Mapping[str, str]) -> Run:
        """A new training."""
        return cls(generator, int(generator.integers(2**63)) if split else None, data=data)

    def go_on(self, split: bool, data: Mapping[str, str]) -> Run:
        """The same training, with the arguments that `fit` has now."""
        for name, is_now in data.items():
            was = is_now if self.data is None else self.data[name]
            if was != is_now:
                raise ValueError(
                    f"resume=True goes on with a training on {name} of {was}, but {name} is of {is_now}; pass the data "
                    "that it began with, or leave resume out to train the model further on these."
                )
        if split and self.split_seed is None:
            raise ValueError(
                "validation_split was given, but the training that is resumed had none; resume it as it began."
            )
        if not split and self.split_seed is not None:
            raise ValueError(
                "validation_split is missing, and the rows that were held out in the training that is resumed would be "
                "trained on; resume it as it began."
            )
        return Run(self.generator, self.split_seed, self.states(), data)

    def states(self) -> States:
        """What the callbacks remember, or remembered when the checkpoint was written."""
        return self.loaded if self.listeners is None else self.listeners.states()

    def order(self, count: int, index: Array | None, shuffle: bool) -> Array | None:
        """The rows of the next epoch in order; None for all rows as they are."""
        if not shuffle:
            return index
        order = self.generator.permutation(count)
        return order if index is None else index[order]
