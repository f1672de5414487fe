"""CSVLogger: the history as a file that grows while the training runs."""

# ruff: noqa: ARG002 - the signatures are those of Callback

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ._files import as_path
from .callback import Callback

if TYPE_CHECKING:
    from .trainer import Trainer


class CSVLogger(Callback):
    """Writes `history.to_csv` to a file after every epoch, whole or not at all.

    A training that is resumed has the epochs from before in its history, so they are in the file too.

    Parameters
    ----------
    path : path
        Where to write; replaced when the first epoch has ended. Folders that are missing are made.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = as_path(path, "CSVLogger")

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:
        """Write all epochs."""
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        trainer.history.to_csv(self.path)
