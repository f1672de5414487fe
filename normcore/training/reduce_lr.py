"""ReduceLROnPlateau: a smaller learning rate when the training no longer gets better."""

# ruff: noqa: ARG002 - the signatures are those of Callback

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from normcore._shown import shown
from normcore.nn._checks import as_int, as_number

from ._monitor import Monitor
from .callback import Callback

if TYPE_CHECKING:
    from .trainer import Trainer


class ReduceLROnPlateau(Callback):
    """Multiplies the learning rate by `factor` when a value has not become better for some epochs, as in Keras.

    That of each group of the optimiser. Not together with a `scheduler`, which sets rates of its own. The history has
    the rate of every epoch under "lr".

    Parameters
    ----------
    monitor : str
        A name in the logs: "val_loss", "val_accuracy", "loss", ...
    factor : float
        Between 0 and 1.
    patience : int
        How many epochs in a row without a better value make the rate smaller; 0 and 1 both mean the first.
    mode : {"auto", "min", "max"}
        Whether small or large is better. "auto" tells it from the name.
    min_delta : float
        A value is better if it is by more than this.
    cooldown : int
        Epochs after a reduction in which none is counted.
    min_lr : float
        The rate never becomes smaller than this.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as above, and when training begins, if the logs will not have `monitor` or the trainer has
        a `scheduler`.
    """

    changes_lr: ClassVar[bool] = True

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        owner = "ReduceLROnPlateau"
        self._monitor = Monitor(owner, monitor, mode, min_delta)
        self.factor = as_number(factor, "factor", owner, "(0, 1)")
        self.patience, self.cooldown = as_int(patience, "patience", owner), as_int(cooldown, "cooldown", owner)
        if min(self.patience, self.cooldown) < 0:
            raise ValueError(
                f"{owner}: patience and cooldown must be 0 or more, got {shown(patience)} and {shown(cooldown)}."
            )
        self.min_lr = as_number(min_lr, "min_lr", owner, "[0, inf)")
        self._wait = self._cooling = 0

    def on_train_begin(self, trainer: Trainer) -> None:
        """Forget the last training."""
        if trainer.scheduler is not None:
            raise ValueError(
                "ReduceLROnPlateau: the trainer has a scheduler, which would set the rate again; use one of them."
            )
        self._monitor.begin(trainer)
        self._wait = self._cooling = 0

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:
        """Compare."""
        if self._cooling:
            self._cooling -= 1
            self._wait = 0
        if self._monitor.improved(logs):
            self._wait = 0
        elif not self._cooling:
            self._wait += 1
            if self._wait >= self.patience:
                self._wait, self._cooling = 0, self.cooldown
                for group in trainer.optimizer.param_groups:
                    group["lr"] = max(group["lr"] * self.factor, min(self.min_lr, group["lr"]))

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the counts; the rate itself is the optimiser's."""
        return {**self._monitor.state_dict(), "wait": self._wait, "cooling": self._cooling}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self._monitor.load_state_dict(state_dict)
        self._wait = as_int(state_dict["wait"], "wait", "ReduceLROnPlateau")
        self._cooling = as_int(state_dict["cooling"], "cooling", "ReduceLROnPlateau")
