"""The progress display of `Trainer.fit`, a callback like any other."""

# ruff: noqa: ARG002 - the signatures are those of Callback

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .callback import Callback
from .history import format_value

if TYPE_CHECKING:
    from .trainer import Trainer


class Progress(Callback):
    """Shows epochs, loss and metrics on stderr: one tqdm bar for all of them, or without tqdm a line per epoch.

    Parameters
    ----------
    epochs, steps : int
        Number of epochs, and of batches in each.
    done : int
        Epochs that were done before, in a training that is resumed.
    """

    def __init__(self, epochs: int, steps: int, done: int = 0) -> None:
        self.epochs = epochs
        self.steps = steps
        self.done = done
        self._bar: Any = None
        self._started = 0.0

    def on_train_begin(self, trainer: Trainer) -> None:
        """Open the bar, if there is a tqdm."""
        try:
            from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore] # stubs may be installed
        except ImportError:
            return
        self._bar = tqdm(total=self.epochs * self.steps, initial=self.done * self.steps, unit="batch", file=sys.stderr)

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Name the epoch."""
        self._started = time.perf_counter()
        if self._bar is not None:
            self._bar.set_description(f"epoch {epoch + 1}/{self.epochs}", refresh=False)

    def on_batch_end(self, trainer: Trainer, batch: int, logs: Mapping[str, float]) -> None:
        """Move the bar."""
        # tqdm says when it has drawn itself. Formatting the values more often would cost more than a small step.
        if self._bar is not None and self._bar.update(1) and len(trainer.history) == 0:
            self._bar.set_postfix(_formatted(logs), refresh=False)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:
        """Show the values of the epoch."""
        if self._bar is not None:
            self._bar.set_postfix(_formatted(logs), refresh=epoch + 1 == self.epochs)
        else:
            values = "  ".join(f"{name} {value}" for name, value in _formatted(logs).items())
            seconds = time.perf_counter() - self._started
            print(f"epoch {epoch + 1}/{self.epochs}  {values}  {seconds:.1f} s", file=sys.stderr, flush=True)

    def on_train_end(self, trainer: Trainer) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _formatted(logs: Mapping[str, float]) -> dict[str, str]:
    return {name: format_value(value) for name, value in logs.items()}
