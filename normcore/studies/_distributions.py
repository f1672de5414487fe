"""How the distribution of what every unit gets moves during a training."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normcore.nn import BatchNorm1d, Linear, Module
from normcore.nn._norm import Activation
from normcore.training import Trainer

from ._training import Recorder

Array = NDArray[Any]
QUANTILES = (0.15, 0.5, 0.85)
_LEAST = 1e-12  # below any spread: a unit that says the same for all rows has none


@dataclass(frozen=True)
class Moves:
    """One place in a network: a number for every look and unit.

    Attributes
    ----------
    mean, std : ndarray of shape (looks, units)
        Over the rows that are looked at.
    quantiles : ndarray of shape (looks, units, 3)
        At `QUANTILES`.
    """

    mean: Array
    std: Array
    quantiles: Array

    def steps(self) -> Array:
        """Return how far each unit moved from one look to the next, in units of the spread it had before.

        The mean over the three quantiles of how far they moved, shape (looks - 1, units).
        """
        moved: Array = np.abs(np.diff(self.quantiles, axis=0)).mean(axis=-1)
        return moved / np.maximum(self.std[:-1], _LEAST)

    def way(self) -> float:
        """Return the way that the quantiles went in these units, all looks together, mean over the units."""
        return float(self.steps().sum(axis=0).mean())

    def way_of_mean(self) -> float:
        """Return the way that the mean went, in the units of the values."""
        return float(np.abs(np.diff(self.mean, axis=0)).sum(axis=0).mean())

    def way_of_spread(self) -> float:
        """Return the way that the logarithm of the spread went."""
        return float(np.abs(np.diff(np.log(np.maximum(self.std, _LEAST)), axis=0)).sum(axis=0).mean())

    def spread(self, look: int) -> float:
        """Return the mean over the units of the spread at a look."""
        return float(self.std[look].mean())

    def typical(self) -> int:
        """Return the unit whose quantiles went the median way."""
        ways = self.steps().sum(axis=0)
        return int(np.argsort(ways, kind="stable")[(len(ways) - 1) // 2])


@dataclass(frozen=True)
class Watched:
    """What a `Watch` has seen.

    Attributes
    ----------
    steps : list of int
        After how many steps each look was taken.
    linear, inputs : list of Moves
        For each hidden layer what comes out of Linear, and what the activation gets; the same without a norm between.
    """

    steps: list[int]
    linear: list[Moves]
    inputs: list[Moves]


class Watch(Recorder):
    """Looks at the same rows before the training and every so many steps.

    Batch norm takes the statistics of these rows, as it takes those of a batch in training; they do not go into the
    running ones. The network is left as it was.

    Parameters
    ----------
    X : ndarray of shape (rows, features)
        What is looked at.
    every : int
        Steps between looks.
    """

    def __init__(self, X: Array, every: int) -> None:
        self._X, self._every, self._step = X, every, 0
        self._steps: list[int] = []
        self._found: dict[str, list[list[Array]]] = {"linear": [], "inputs": []}

    def on_train_begin(self, trainer: Trainer) -> None:
        """The network as it is made."""
        self._look(trainer.model)

    def on_batch_end(self, trainer: Trainer, batch: int, logs: Mapping[str, float]) -> None:  # noqa: ARG002 - the signature of what it overrides
        """Look, if it is time to."""
        self._step += 1
        if not self._step % self._every:
            self._look(trainer.model)

    def on_train_end(self, trainer: Trainer) -> None:  # noqa: ARG002 - likewise
        """Arrange what was seen by places."""
        self.recorded = Watched(
            self._steps, *([*map(_moves, zip(*looks, strict=True))] for looks in self._found.values())
        )

    def _look(self, model: Module) -> None:
        linear: list[Array] = []
        inputs: list[Array] = []
        with ExitStack() as stack:
            for module in model.modules():
                if isinstance(module, Linear):
                    stack.callback(module.register_forward_hook(lambda _, __, y: linear.append(_summary(y))).remove)
                elif isinstance(module, Activation):
                    stack.callback(module.register_forward_hook(lambda _, x, __: inputs.append(_summary(x[0]))).remove)
                elif isinstance(module, BatchNorm1d):
                    stack.callback(setattr, module, "update_stats", module.update_stats)
                    module.update_stats = False
            model(self._X)
        self._steps.append(self._step)
        self._found["linear"].append(linear[:-1])  # the last one's are the classes' scores
        self._found["inputs"].append(inputs)


def _summary(values: Array) -> Array:
    """Mean, standard deviation and quantiles over the rows, shape (5, units)."""
    wide = values.astype(np.float64)
    return np.stack([wide.mean(axis=0), wide.std(axis=0), *np.quantile(wide, QUANTILES, axis=0)])


def _moves(looks: tuple[Array, ...]) -> Moves:
    found = np.stack(looks)
    return Moves(found[:, 0], found[:, 1], np.moveaxis(found[:, 2:], 1, 2))
