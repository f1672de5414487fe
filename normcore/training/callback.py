"""Callback: code of the user's that runs at fixed points of `Trainer.fit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from .trainer import Trainer


class Callback:
    """Base class of callbacks; override what you need, every method here does nothing.

    All get the trainer, so `trainer.model`, `trainer.optimizer` and `trainer.history` are at hand. `epoch` and `batch`
    count from 0. Setting `trainer.stop_training = True` ends training after the current epoch. Callbacks run in the
    order in which they were passed, `on_train_end` in the reverse. What is not overridden is never called, so a
    callback without `on_batch_begin` and `on_batch_end` costs nothing in a batch.

    A callback that remembers something over epochs returns it from `state_dict` and takes it back in
    `load_state_dict`: checkpoints keep it, so that a resumed training decides as if it had never stopped.

    Attributes
    ----------
    runs_last : bool
        True: `on_epoch_end` runs after those of all callbacks that say False, as a checkpoint has to.
    changes_lr : bool
        True: the history gets the learning rate of every epoch under "lr".

    >>> class Halve(Callback):
    ...     changes_lr = True
    ...
    ...     def on_epoch_end(self, trainer, epoch, logs):
    ...         trainer.optimizer.lr /= 2
    """

    runs_last: ClassVar[bool] = False
    changes_lr: ClassVar[bool] = False

    def on_train_begin(self, trainer: Trainer) -> None:
        """Before the first epoch. `trainer.log_names` are the names that every epoch's `logs` will have."""

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Before the first batch of an epoch."""

    def on_batch_begin(self, trainer: Trainer, batch: int) -> None:
        """Before the forward pass of a batch."""

    def on_batch_end(self, trainer: Trainer, batch: int, logs: Mapping[str, float]) -> None:
        """After the step of a batch. `logs` holds the loss and the metrics of this batch alone."""

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:
        """After an epoch and its validation; `logs` is what `trainer.history` has just received."""

    def on_train_end(self, trainer: Trainer) -> None:
        """At the end, also when an exception or Ctrl-C ends the training; runs if `on_train_begin` was called."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs: numbers, strings, arrays, and lists and dicts of these."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned; called after `on_train_begin` of a training that is resumed."""
