"""Watching one value of the logs: is this epoch better than the best before?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from normcore._shown import shown
from normcore.nn._checks import as_number

if TYPE_CHECKING:
    from .trainer import Trainer

_SMALLER = ("loss", "mse", "rmse", "mae")
_LARGER = ("accuracy", "f1", "r2")


class Monitor:
    """The best value so far, by more than `min_delta`; a NaN is never better."""

    def __init__(self, owner: str, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"{owner}: monitor must be a name in the logs, such as 'val_loss', got {shown(monitor)}.")
        if not isinstance(mode, str) or mode not in ("auto", "min", "max"):
            raise ValueError(f"{owner}: mode must be 'auto', 'min' or 'max', got {shown(mode)}.")
        self.owner = owner
        self.name = monitor
        self.min_delta = as_number(min_delta, "min_delta", owner, "[0, inf)")
        self.sign = _sign(owner, monitor, mode)
        self.best = math.nan

    def begin(self, trainer: Trainer) -> None:
        """Forget the best; refuse a name that no epoch will have."""
        if self.name not in trainer.log_names:
            validates = any(name.startswith("val_") for name in trainer.log_names)
            hint = "; pass validation_data or validation_split to fit"
            if validates or not self.name.startswith("val_"):
                hint = "; name one of these, or add it to the trainer's metrics"
            raise ValueError(
                f"{self.owner}: monitor is {self.name!r}, but the logs will have {', '.join(trainer.log_names)}{hint}."
            )
        self.best = math.nan

    def improved(self, logs: Mapping[str, float]) -> bool:
        """Take in an epoch."""
        value = logs[self.name]
        better = not math.isnan(value) and (math.isnan(self.best) or self.sign * (value - self.best) > self.min_delta)
        if better:
            self.best = value
        return better

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best = float(state["best"])


def _sign(owner: str, name: str, mode: str) -> int:
    if mode != "auto":
        return 1 if mode == "max" else -1
    base = name.removeprefix("val_")
    if base in _SMALLER or base.endswith(("_loss", "_error")):
        return -1
    if base in _LARGER or base.endswith("_accuracy"):
        return 1
    raise ValueError(
        f"{owner}: whether {shown(name)} should be small or large cannot be told from its name; pass mode='min' or "
        "'max' beside monitor."
    )
