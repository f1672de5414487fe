"""The progress display of a study: one bar over all its trainings."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from normcore.training import Callback, Trainer
from normcore.training.history import format_value


class StudyProgress(Callback):
    """A callback shared by several `Trainer.fit`: one tqdm bar on stderr, or without tqdm a line for each training.

    Parameters
    ----------
    epochs : int
        Of all trainings together.
    shown : bool
        False shows nothing.

    Attributes
    ----------
    training : str
        What is being trained; set it before each `fit`.
    """

    def __init__(self, epochs: int, shown: bool) -> None:
        self.training = ""
        self._shown = shown
        self._bar: Any = None
        if shown:
            try:
                from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore] # stubs may be installed
            except ImportError:
                return
            self._bar = tqdm(total=epochs, unit="epoch", file=sys.stderr)

    def __enter__(self) -> StudyProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def skip(self, epochs: int) -> None:
        """Move the bar past epochs that are not going to come."""
        if self._bar is not None and epochs > 0:
            self._bar.update(epochs)

    def on_train_begin(self, trainer: Trainer) -> None:  # noqa: ARG002 - Callback's signature
        """Say what is being trained."""
        if self._bar is not None:
            self._bar.set_description(self.training, refresh=False)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:  # noqa: ARG002 - the signature of what it overrides
        """Move the bar."""
        if self._bar is not None:
            self._bar.set_postfix({"loss": format_value(logs["loss"])}, refresh=False)
            self._bar.update(1)

    def on_train_end(self, trainer: Trainer) -> None:
        """Without tqdm, show how it ended."""
        losses = trainer.history.history.get("loss")
        if self._shown and self._bar is None and losses:
            print(f"{self.training}: loss {format_value(losses[-1])}", file=sys.stderr, flush=True)
