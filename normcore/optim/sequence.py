"""Schedules one after another."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .optimizer import Optimizer
from .schedule import Schedule, as_milestones


class SequentialLR(Schedule):
    """One schedule after another, such as a warm-up before a cosine. As `torch.optim.lr_scheduler.SequentialLR`.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rates are set: the one that the schedules belong to.
    schedulers : sequence of Schedule
        All of them per epoch, or all of them per step: so is the sequence then.
    milestones : sequence of int
        At which epoch (or step) the second, third, ... schedule begins, from its own beginning.
    last_epoch : int
        -1 to begin, or the last step of a training that is gone on with, counted through all schedules; they are made
        without one.

    Examples
    --------
    >>> import normcore as nc
    >>> from normcore.optim import CosineAnnealingLR, LinearLR
    >>> optimizer = nc.optim.SGD(nc.nn.Linear(2, 1).parameters(), lr=1.0)
    >>> warm_up = LinearLR(optimizer, start_factor=0.25, total_iters=3)
    >>> schedule = SequentialLR(optimizer, [warm_up, CosineAnnealingLR(optimizer, T_max=2)], milestones=[3])
    >>> rates = []
    >>> for _ in range(6):
    ...     rates.append(optimizer.lr)
    ...     schedule.step()
    >>> rates
    [0.25, 0.5, 0.75, 1.0, 0.5, 0.0]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[Schedule], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        if not isinstance(schedulers, Iterable):
            raise TypeError(
                f"SequentialLR: schedulers must be a list of schedules, got {type(schedulers).__name__}; put it into a "
                "list."
            )
        schedulers = list(schedulers)
        for scheduler in schedulers:
            if not isinstance(scheduler, Schedule) or isinstance(scheduler, SequentialLR):
                raise TypeError(f"SequentialLR: schedulers must hold single schedules, got {type(scheduler).__name__}.")
            if scheduler.optimizer is not optimizer:
                raise ValueError(
                    f"SequentialLR: {type(scheduler).__name__} belongs to another optimizer; make all for the same one."
                )
        if len({scheduler.per_epoch for scheduler in schedulers}) != 1:
            got = ", ".join(f"{type(scheduler).__name__}(per_epoch={scheduler.per_epoch})" for scheduler in schedulers)
            raise ValueError(
                "SequentialLR: schedulers must all have the same per_epoch, and be at least one, got "
                f"{got or 'none'}; pass the same per_epoch to each of them."
            )
        self._milestones = as_milestones(milestones, "SequentialLR")
        if len(self._milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: milestones must be one fewer than schedulers, got {len(self._milestones)} for "
                f"{len(schedulers)}."
            )
        self._schedulers = schedulers
        super().__init__(optimizer, last_epoch, per_epoch=schedulers[0].per_epoch)

    def steps_left(self) -> float:
        """Return how many more times `step()` can be called: until a schedule ends before the next one begins."""
        begins = [0, *self._milestones, math.inf]
        for part, begin, end in zip(self._schedulers, begins, begins[1:], strict=False):
            last = begin + part.steps_left() + part.last_epoch
            if end > self.last_epoch and last < end - 1:
                return last - self.last_epoch
        return math.inf

    def _apply(self) -> None:
        which = bisect_right(self._milestones, self.last_epoch)
        part = self._schedulers[which]
        part.last_epoch = self.last_epoch - (self._milestones[which - 1] if which else 0)
        part._apply()
        self._last_lr = part.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Return what makes this schedule go on elsewhere, under PyTorch's names."""
        parts = [scheduler.state_dict() for scheduler in self._schedulers]
        return {**super().state_dict(), "_milestones": list(self._milestones), "_schedulers": parts}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the schedule that gave `state_dict` was, one of PyTorch's too, and set the learning rates.

        Raises
        ------
        ValueError
            If it is not that of such a schedule, or of another number of groups. Nothing has been changed then.
        TypeError
            If `state_dict` is not a mapping.
        """
        if isinstance(state_dict, Mapping) and "base_lrs" not in state_dict:  # PyTorch's has none
            state_dict = {**state_dict, "base_lrs": self.base_lrs}
        parts = [(part, vars(part).copy()) for part in self._schedulers]
        try:
            super().load_state_dict(state_dict)
        except (TypeError, ValueError):
            for part, before in parts:
                vars(part).update(before)
            raise

    def _restore(self, state_dict: Mapping[str, Any]) -> None:
        milestones = as_milestones(state_dict["_milestones"], "SequentialLR")
        parts = list(state_dict["_schedulers"])
        if len(parts) != len(self._schedulers) or len(milestones) != len(self._milestones):
            raise ValueError(f"state_dict is for {len(parts)} schedulers, but there are {len(self._schedulers)}.")
        self._milestones = milestones
        for scheduler, part in zip(self._schedulers, parts, strict=True):
            # One that has not begun has -1 in PyTorch.
            scheduler.load_state_dict({**part, "last_epoch": max(0, part["last_epoch"])})
