"""Statistics for inference: running averages with several momenta from one training, and what each is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normcore.data import Part
from normcore.nn import BatchNorm1d, CrossEntropyLoss, Module
from normcore.training import Trainer, recalibrate
from normcore.training._data import batch_bounds
from normcore.training._mode import mode

from ._training import Recorder

Array = NDArray[Any]
EXACT = "exact"
ORDERS = ("shuffled", "sorted by class")


class Worth(NamedTuple):
    """What a network is worth with some statistics.

    Attributes
    ----------
    val_loss, val_accuracy : float
        On the validation data.
    mean, var : float
        Distance from the exact statistics: the root mean square, over the channels of all layers, of
        (mean - exact mean) / sqrt(exact var + eps), and of log((var + eps) / (exact var + eps)).
    """

    val_loss: float
    val_accuracy: float
    mean: float
    var: float


@dataclass(frozen=True)
class Statistics:
    """What a `Averages` has found in one training.

    Attributes
    ----------
    epochs : dict of str to list of Worth
        After each epoch, by momentum, and under `EXACT`.
    batches : dict of tuple to tuple of float, or str
        After the last epoch, by test batch size and order: loss and accuracy with the statistics of each test batch; or
        why they cannot be had.
    """

    epochs: dict[str, list[Worth]] = field(default_factory=dict)
    batches: dict[tuple[int, str], tuple[float, float] | str] = field(default_factory=dict)


def momentum_name(momentum: float | None) -> str:
    """Return what a momentum is called in tables; None stands for the mean of all batches so far."""
    return "mean of all batches" if momentum is None else f"momentum {momentum:g}"


class Averages(Recorder):
    """Keeps the running statistics that several momenta would give, and evaluates with them after every epoch.

    Statistics for inference do not take part in training, so one training serves all momenta. The network's batch norms
    have momentum 1: after each step their running statistics are those of the batch.

    Parameters
    ----------
    train, validation : Part
        The data.
    momenta : sequence of float or None
        Weights of the new batch.
    sizes : sequence of int
        Rows in a batch at test time.
    epochs : int
        After how many epochs test batches are tried.
    """

    def __init__(
        self, train: Part, validation: Part, momenta: Sequence[float | None], sizes: Sequence[int], epochs: int
    ) -> None:
        self._train, self._validation = train, validation
        self._momenta, self._sizes, self._epochs = momenta, sizes, epochs
        self._seen = 0
        self._layers: list[BatchNorm1d] = []
        self._means: list[Array] = []  # (momenta, channels) of each layer
        self._vars: list[Array] = []
        self.recorded = Statistics({name: [] for name in [*map(momentum_name, momenta), EXACT]})

    def on_train_begin(self, trainer: Trainer) -> None:
        """Begin with 0 and 1, as the layers do."""
        self._layers = [layer for layer in trainer.model.modules() if isinstance(layer, BatchNorm1d)]
        shapes = [(len(self._momenta), layer.num_features) for layer in self._layers]
        self._means, self._vars = [np.zeros(shape) for shape in shapes], [np.ones(shape) for shape in shapes]

    def on_batch_end(self, trainer: Trainer, batch: int, logs: Mapping[str, float]) -> None:  # noqa: ARG002 - the signature of what it overrides
        """Move all averages towards the batch."""
        self._seen += 1
        new = np.array([[1 / self._seen if momentum is None else momentum] for momentum in self._momenta])
        for layer, mean, var in zip(self._layers, self._means, self._vars, strict=True):
            mean += new * (layer.running_mean - mean)
            var += new * (layer.running_var - var)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:  # noqa: ARG002 - likewise
        """Evaluate with all of them, and with the exact statistics."""
        recalibrate(trainer.model, self._train.X)
        exact = [(_copy(layer.running_mean), _copy(layer.running_var)) for layer in self._layers]
        self._add(trainer, EXACT, exact, exact)
        for place, momentum in enumerate(self._momenta):
            found = [(mean[place], var[place]) for mean, var in zip(self._means, self._vars, strict=True)]
            self._add(trainer, momentum_name(momentum), found, exact)
        if epoch + 1 == self._epochs:
            for size in self._sizes:
                for order in ORDERS:
                    self.recorded.batches[size, order] = with_batch_statistics(
                        trainer.model, self._validation, size, order
                    )

    def _add(
        self, trainer: Trainer, name: str, found: list[tuple[Array, Array]], exact: list[tuple[Array, Array]]
    ) -> None:
        for layer, (mean, var) in zip(self._layers, found, strict=True):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean[...], layer.running_var[...] = mean, var
        scores = trainer.evaluate(*self._validation)
        eps = [layer.eps for layer in self._layers]
        means = [
            (a[0] - b[0]) / np.sqrt(b[1] + e)
            for a, b, e in zip(found, exact, eps, strict=True)
        ]  # fmt: skip
        variances = [np.log((a[1] + e) / (b[1] + e)) for a, b, e in zip(found, exact, eps, strict=True)]
        self.recorded.epochs[name].append(Worth(scores["loss"], scores["accuracy"], _rms(means), _rms(variances)))


def with_batch_statistics(model: Module, part: Part, size: int, order: str) -> tuple[float, float] | str:
    """Return loss and accuracy when every test batch is normalised with its own statistics, or why it cannot be.

    The last batch joins the one before it if it has a single row. "shuffled" is one fixed order.
    """
    X, y = part
    rows = np.argsort(y, kind="stable") if order == ORDERS[1] else np.random.default_rng(0).permutation(len(y))
    bounds = [(row, row + 1) for row in range(len(y))] if size == 1 else batch_bounds(len(y), size)
    criterion, loss, right = CrossEntropyLoss(), 0.0, 0
    with ExitStack() as stack:
        stack.enter_context(mode(model, training=True))
        for layer in model.modules():
            if isinstance(layer, BatchNorm1d):
                stack.callback(setattr, layer, "update_stats", layer.update_stats)
                layer.update_stats = False
        for start, stop in bounds:
            at = rows[start:stop]
            try:
                scores = model(X[at])
            except ValueError as error:
                return str(error)
            loss += float(criterion(scores, y[at])) * len(at)
            right += int((scores.argmax(axis=1) == y[at]).sum())
    return loss / len(y), right / len(y)


def _copy(values: Array | None) -> Array:
    assert values is not None
    return values.astype(np.float64)


def _rms(values: list[Array]) -> float:
    return float(np.sqrt(np.mean(np.square(np.concatenate(values)))))
