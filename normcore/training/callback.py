"""Callback: code of the user's that runs at fixed points of `Trainer.fit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .trainer import Trainer


class Callback:
    """Base class of callbacks; override what you need, every method here does nothing.

    All get the trainer, so `trainer.model`, `trainer.optimizer` and `trainer.history` are at hand. `epoch` and `batch`
    count from 0. Setting `trainer.stop_training = True` ends training after the current epoch. Callbacks run in the
    order in which they were passed, `on_train_end` in the reverse.

    >>> class Halve(Callback):
    ...     def on_epoch_end(self, trainer, epoch, logs):
    ...         trainer.optimizer.lr /= 2
    """

    def on_train_begin(self, trainer: Trainer) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Before the first batch of an epoch."""

    def on_batch_end(self, trainer: Trainer, batch: int, logs: Mapping[str, float]) -> None:
        """After the step of a batch. `logs` holds the loss and the metrics of this batch alone."""

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:
        """After an epoch and its validation; `logs` is what `trainer.history` has just received."""

    def on_train_end(self, trainer: Trainer) -> None:
        """At the end, also when an exception or Ctrl-C ends the training; runs if `on_train_begin` was called."""
