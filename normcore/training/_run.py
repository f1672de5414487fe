"""What a training needs, besides model, optimiser and history, to be gone on with."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from normcore.nn._checks import Array

from ._listeners import Listeners, States


@dataclass
class Run:
    """Random state, and what callbacks remember."""

    generator: np.random.Generator
    split_seed: int | None = None  # of the validation split: drawn once, the same after resuming
    loaded: States = field(default_factory=list)
    listeners: Listeners | None = None

    @classmethod
    def begin(cls, generator: np.random.Generator, split: bool) -> Run:
        """A new training."""
        return cls(generator, int(generator.integers(2**63)) if split else None)

    def go_on(self, split: bool) -> Run:
        """The same training, with the arguments that `fit` has now."""
        if split and self.split_seed is None:
            raise ValueError(
                "validation_split was given, but the training that is resumed had none; resume it as it began."
            )
        if not split and self.split_seed is not None:
            raise ValueError(
                "validation_split is missing, and the rows that were held out in the training that is resumed would be "
                "trained on; resume it as it began."
            )
        return Run(self.generator, self.split_seed, self.states())

    def states(self) -> States:
        """What the callbacks remember, or remembered when the checkpoint was written."""
        return self.loaded if self.listeners is None else self.listeners.states()

    def order(self, count: int, index: Array | None, shuffle: bool) -> Array | None:
        """The rows of the next epoch in order; None for all rows as they are."""
        if not shuffle:
            return index
        order = self.generator.permutation(count)
        return order if index is None else index[order]
