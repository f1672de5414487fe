"""EarlyStopping: end the training when it no longer gets better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from normcore._shown import shown
from normcore.nn._checks import Array, as_bool, as_int

from ._monitor import Monitor
from .callback import Callback

if TYPE_CHECKING:
    from .trainer import Trainer


class EarlyStopping(Callback):
    """Ends the training when a value has not become better for some epochs, as in Keras.

    Parameters
    ----------
    monitor : str
        A name in the logs: "val_loss", "val_accuracy", "loss", ...
    min_delta : float
        A value is better if it is by more than this.
    patience : int
        How many epochs in a row without a better value end the training; 0 and 1 both mean the first.
    mode : {"auto", "min", "max"}
        Whether small or large is better. "auto" tells it from the name.
    restore_best_weights : bool
        Whether the model gets back, when training ends, the parameters and buffers (running statistics) of the best
        epoch; also when it ends by itself, by an error or by Ctrl-C.

    Attributes
    ----------
    best : float
        The best value; NaN before there is one.
    best_epoch : int or None
        Its epoch, counted from 0.
    stopped_epoch : int or None
        The epoch after which this callback ended the training.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as above, and when training begins, if the logs will not have `monitor`.

    Examples
    --------
    >>> stop = EarlyStopping(patience=5, restore_best_weights=True)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        restore_best_weights: bool = False,
    ) -> None:
        self._monitor = Monitor("EarlyStopping", monitor, mode, min_delta)
        self.patience = as_int(patience, "patience", "EarlyStopping")
        if self.patience < 0:
            raise ValueError(f"EarlyStopping: patience must be 0 or more, got {shown(patience)}.")
        self.restore_best_weights = as_bool(restore_best_weights, "restore_best_weights", "EarlyStopping")
        self._shapes: dict[str, tuple[int, ...]] = {}  # of the model that is trained
        self._reset()

    def _reset(self) -> None:
        self._wait = 0
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._weights: dict[str, Array] | None = None

    @property
    def best(self) -> float:
        """The best value; NaN before there is one."""
        return self._monitor.best

    def on_train_begin(self, trainer: Trainer) -> None:
        """Forget the last training."""
        self._monitor.begin(trainer)
        self._shapes = _shapes(trainer.model.state_dict()) if self.restore_best_weights else {}
        self._reset()

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:
        """Compare."""
        if self._monitor.improved(logs):
            self._wait = 0
            self.best_epoch = epoch
            if self.restore_best_weights:
                self._weights = trainer.model.state_dict()
            return
        self._wait += 1
        if self._wait >= self.patience:
            self.stopped_epoch = epoch
            trainer.stop_training = True

    def on_train_end(self, trainer: Trainer) -> None:
        """Restore the best, if asked to."""
        if self._weights is not None:
            trainer.model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value with its epoch and weights, and the count of epochs since."""
        return {
            **self._monitor.state_dict(),
            "wait": self._wait,
            "best_epoch": self.best_epoch,
            "stopped_epoch": self.stopped_epoch,
            "weights": self._weights,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        wait = as_int(state_dict["wait"], "wait", "EarlyStopping")
        best_epoch, stopped_epoch = (
            None if state_dict[name] is None else as_int(state_dict[name], name, "EarlyStopping")
            for name in ("best_epoch", "stopped_epoch")
        )
        weights = state_dict["weights"] if self.restore_best_weights else None
        # What goes into the model when training ends must fit it when training begins.
        if weights is not None and self._shapes not in ({}, _shapes(weights)):
            raise ValueError("the weights are of another model")
        self._monitor.load_state_dict(state_dict)
        self._wait, self.best_epoch, self.stopped_epoch, self._weights = wait, best_epoch, stopped_epoch, weights


def _shapes(weights: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in weights.items()}
