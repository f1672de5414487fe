"""ModelCheckpoint: write a checkpoint after epochs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from normcore.nn._checks import as_bool, as_size

from ._archive import check_format
from ._files import as_path
from ._monitor import Monitor
from .callback import Callback

if TYPE_CHECKING:
    from .trainer import Trainer


class ModelCheckpoint(Callback):
    """Calls `trainer.save_checkpoint` after every epoch, or after some.

    Runs after all other callbacks of the epoch, so that what they remember is in the file as it is when the next epoch
    begins.

    Parameters
    ----------
    path : path
        Where to write. Fields are filled in as by `str.format`: "run-{epoch:03d}-{val_loss:.3f}.npz", with epochs
        counted from 1. Without fields the file is replaced every time. Folders that are missing are made.
    monitor : str
        With `save_best_only`: a name in the logs.
    save_best_only : bool
        Write only when `monitor` is better than ever before.
    mode : {"auto", "min", "max"}
        Whether small or large is better. "auto" tells it from the name.
    every : int
        Write after every so many epochs.

    Attributes
    ----------
    last_path : str or None
        The file written last.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as above, and when training begins, if the logs will not have what `path` or `monitor`
        names.
    """

    runs_last: ClassVar[bool] = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        save_best_only: bool = False,
        mode: str = "auto",
        every: int = 1,
    ) -> None:
        self.path = as_path(path, "ModelCheckpoint")
        self.every = as_size(every, "every", "ModelCheckpoint")
        save_best_only = as_bool(save_best_only, "save_best_only", "ModelCheckpoint")
        self._monitor = Monitor("ModelCheckpoint", monitor, mode) if save_best_only else None
        self.last_path: str | None = None

    def on_train_begin(self, trainer: Trainer) -> None:
        """Check the names, and forget the last training."""
        check_format(self.path, "ModelCheckpoint")
        if self._monitor is not None:
            self._monitor.begin(trainer)
        self._filled(0, dict.fromkeys(trainer.log_names, 0.0))
        self.last_path = None

    def _filled(self, epoch: int, logs: Mapping[str, float]) -> str:
        try:
            return self.path.format(**{**logs, "epoch": epoch + 1})
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            known = ", ".join(["epoch", *logs])
            raise ValueError(
                f"ModelCheckpoint: path is {self.path!r}, whose fields cannot be filled in ({error!r}); "
                f"there are {known}."
            ) from None

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:
        """Write, if it is time to."""
        if self._monitor is not None and not self._monitor.improved(logs):
            return
        if (epoch + 1) % self.every == 0:
            path = self._filled(epoch, logs)
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(path)
            self.last_path = path

    def state_dict(self) -> dict[str, Any]:
        """Return the best value."""
        return {} if self._monitor is None else self._monitor.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        if self._monitor is not None and "best" in state_dict:
            self._monitor.load_state_dict(state_dict)
