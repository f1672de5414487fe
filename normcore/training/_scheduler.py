"""What the trainer needs of a learning-rate schedule."""

from __future__ import annotations

from typing import Any, Protocol

from normcore.optim import Optimizer, Schedule

from ._errors import kind


class Scheduler(Protocol):
    """`step()` is called after each step of the optimiser, or after each epoch where an attribute `per_epoch` is true.

    Checkpoints need `state_dict()` and `load_state_dict(d)`.
    """

    def step(self) -> Any:
        """Set the optimiser's next learning rate."""


def check_scheduler(scheduler: Any, optimizer: Optimizer) -> Scheduler | None:
    """`scheduler`, if it is one and of this optimizer, or None."""
    if scheduler is not None and (isinstance(scheduler, type) or not callable(getattr(scheduler, "step", None))):
        raise TypeError(f"Trainer: scheduler must be an object with step(), got {kind(scheduler)}.")
    if isinstance(scheduler, Schedule) and scheduler.optimizer is not optimizer:
        raise ValueError(
            "Trainer: scheduler is of another optimizer, whose learning rate it would set; make it from the one that "
            "the trainer gets as optimizer."
        )
    return scheduler


def check_length(scheduler: Scheduler | None, epochs: int, batches: int) -> None:
    """So many epochs must not be more than the schedule has: better said now than after the last of its steps."""
    if isinstance(scheduler, Schedule):
        steps, left = epochs * (1 if scheduler.per_epoch else batches), scheduler.steps_left()
        if steps > left:
            raise ValueError(
                f"fit: scheduler is {type(scheduler).__name__}, which has {left:g} steps left, but this training takes "
                f"{steps}; make the cycle as long as the training, or train for fewer epochs."
            )


def stepped(scheduler: Scheduler | None, per_epoch: bool) -> Scheduler | None:
    """The scheduler, if this is when it steps."""
    return scheduler if bool(getattr(scheduler, "per_epoch", False)) == per_epoch else None
