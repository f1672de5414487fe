"""Losses by name, and what the trainer needs of a loss object."""

from __future__ import annotations

import inspect
from typing import Any, Protocol, cast

from normcore._shown import shown
from normcore.nn import BCEWithLogitsLoss, CrossEntropyLoss, Loss, MSELoss
from normcore.nn._checks import Array

from ._errors import kind


class Criterion(Protocol):
    """What the trainer needs of a loss object."""

    def __call__(self, output: Array, target: Any) -> Any:
        """Return the loss, a number. To be used with sample weights, take `sample_weight` too."""

    def backward(self) -> Array:
        """Return its gradient with respect to the output."""


_LOSSES = {"cross_entropy": CrossEntropyLoss, "mse": MSELoss, "bce_with_logits": BCEWithLogitsLoss}


def resolve_loss(loss: Any) -> Criterion:
    """The loss object that `loss` stands for."""
    known = ", ".join(map(repr, _LOSSES))
    if isinstance(loss, str):
        if loss not in _LOSSES:
            raise ValueError(f"Trainer: loss must be one of {known} or a loss object, got {shown(loss)}.")
        return cast(Criterion, _LOSSES[loss]())
    if isinstance(loss, type) or not callable(loss) or not callable(getattr(loss, "backward", None)):
        raise TypeError(f"Trainer: loss must be one of {known} or a loss object with backward(), got {kind(loss)}.")
    if getattr(loss, "reduction", "mean") == "none":
        raise ValueError("Trainer: loss has reduction='none', but training needs one number; use 'mean' or 'sum'.")
    return cast(Criterion, loss)


def takes_weights(loss: Criterion) -> bool:
    """Whether the loss object can be called with `sample_weight`."""
    if isinstance(loss, Loss):
        return True
    try:
        parameters = inspect.signature(loss).parameters
    except (TypeError, ValueError):
        return False
    return "sample_weight" in parameters
