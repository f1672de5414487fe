"""What the trainer needs of an optimiser."""

from __future__ import annotations

from typing import Any

from normcore.nn import Module
from normcore.optim import Optimizer

from ._errors import kind


def check_optimizer(optimizer: Any, model: Module, owner: str = "Trainer") -> Optimizer:
    """`optimizer`, if it is one and of this model alone: a layer that was replaced since would not be trained."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"{owner}: optimizer must be an optimizer object, got {kind(optimizer)}; "
            "pass for instance normcore.optim.Adam(model.parameters(), lr=1e-3)."
        )
    own = {id(parameter) for parameter in model.parameters()}
    if not own.issuperset(id(parameter) for parameter in optimizer.params):
        raise ValueError(
            f"{owner}: optimizer has parameters that are not in model; make it from this model's parameters()."
        )
    return optimizer
