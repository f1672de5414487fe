"""The one-cycle schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from normcore._shown import shown
from normcore.nn._checks import as_bool, as_count, as_number

from .optimizer import Optimizer
from .schedule import Schedule, as_last_epoch


class OneCycleLR(Schedule):
    """Up to a maximum and down to almost nothing (Smith & Topin, 2018), as `torch.optim.lr_scheduler.OneCycleLR`.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rates, and momentum or beta1, are set.
    max_lr : float or list of float
        The learning rate at the top; one, or one for each group.
    total_steps : int, optional
        Length of the cycle. When not given: `epochs * steps_per_epoch`.
    epochs, steps_per_epoch : int, optional
        Its length in another way.
    pct_start : float
        Share of the cycle that goes up; in [0, 1].
    anneal_strategy : {"cos", "linear"}
        The form of the slopes.
    cycle_momentum : bool
        Whether momentum (for Adam, beta1) goes down from `max_momentum` to `base_momentum` while the learning rate goes
        up, and up again.
    base_momentum, max_momentum : float or list of float
        The momentum at the top of the cycle, and at its ends.
    div_factor : float
        The cycle starts from `max_lr / div_factor`; above 0.
    final_div_factor : float
        It ends at its start divided by this; above 0.
    three_phase : bool
        Whether it goes down to its start as fast as it came up, and then on to its end.
    last_epoch : int
        As PyTorch's: -1 to begin, or the last step of a training that is gone on with. The range of the cycle is then
        what the optimiser's groups hold.
    per_epoch : bool
        Whether `Trainer.fit` steps it after every epoch, or after every step of the optimiser.

    Raises
    ------
    ValueError
        If an argument is not in its interval, and by `step()` beyond the end of the cycle.
    TypeError
        If an argument is of the wrong kind, or the optimiser has no momentum to cycle.
    """

    state_names = ("total_steps", "cycle_momentum", "_anneal_func_type", "_schedule_phases")

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
        *,
        per_epoch: bool = False,
    ) -> None:
        name = "OneCycleLR"
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{name}: optimizer must be an optimizer object, got {type(optimizer).__name__}.")
        if total_steps is not None:
            self.total_steps = as_count(total_steps, "total_steps", name)
        elif epochs is not None and steps_per_epoch is not None:
            self.total_steps = as_count(epochs, "epochs", name) * as_count(steps_per_epoch, "steps_per_epoch", name)
        else:
            raise ValueError(f"{name}: total_steps is missing; pass it, or both epochs and steps_per_epoch.")
        pct_start = as_number(pct_start, "pct_start", name, "[0, 1]")
        if not isinstance(anneal_strategy, str) or anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"{name}: anneal_strategy must be 'cos' or 'linear', got {shown(anneal_strategy)}.")
        self._anneal_func_type = anneal_strategy
        self.cycle_momentum = as_bool(cycle_momentum, "cycle_momentum", name)
        self.use_beta1 = "betas" in optimizer.option_names
        if self.cycle_momentum and not self.use_beta1 and "momentum" not in optimizer.option_names:
            raise TypeError(
                f"{name}: {type(optimizer).__name__} has neither momentum nor betas; pass cycle_momentum=False."
            )
        groups = len(optimizer.param_groups)
        top = _each(max_lr, "max_lr", groups, "[0, inf)")
        div_factor = as_number(div_factor, "div_factor", name, "(0, inf)")
        final = as_number(final_div_factor, "final_div_factor", name, "(0, inf)")
        high = _each(max_momentum, "max_momentum", groups, "[0, 1)")
        low = _each(base_momentum, "base_momentum", groups, "[0, 1)")

        self._schedule_phases = _phases(self.total_steps, pct_start, as_bool(three_phase, "three_phase", name))
        per_epoch = as_bool(per_epoch, "per_epoch", name)
        kept = ("initial_lr", "max_lr", "min_lr", *(("max_momentum", "base_momentum") if self.cycle_momentum else ()))
        last_epoch = as_last_epoch(last_epoch, optimizer, kept, name)
        if last_epoch >= self.total_steps:
            raise ValueError(f"{name}: last_epoch={last_epoch} is beyond total_steps={self.total_steps}.")
        for i, group in enumerate(optimizer.param_groups if last_epoch == -1 else ()):
            start = top[i] / div_factor
            group.update(initial_lr=start, max_lr=top[i], min_lr=start / final)
            if self.cycle_momentum:
                group.update(max_momentum=high[i], base_momentum=low[i])
        super().__init__(optimizer, last_epoch, per_epoch=per_epoch)

    def steps_left(self) -> float:
        """Return how many more times `step()` can be called: as in PyTorch, once more than the cycle has steps."""
        return self.total_steps - self.last_epoch

    def _apply(self) -> None:
        step = self.last_epoch
        if step > self.total_steps:  # as in PyTorch there may be one more step than the cycle has
            raise ValueError(
                f"OneCycleLR: step {step} is beyond total_steps={self.total_steps}; "
                "make the cycle as long as the training."
            )
        start = 0.0
        for phase in self._schedule_phases:
            end = phase["end_step"]
            if step <= end or phase is self._schedule_phases[-1]:
                break
            start = end
        # A phase without length, such as the first for pct_start=0, is at its end.
        share = (step - start) / (end - start) if end != start else 1.0
        self._last_lr = []
        for group in self.optimizer.param_groups:
            group["lr"] = self._between(group[phase["start_lr"]], group[phase["end_lr"]], share)
            self._last_lr.append(group["lr"])
            if self.cycle_momentum:
                momentum = self._between(group[phase["start_momentum"]], group[phase["end_momentum"]], share)
                if self.use_beta1:
                    group["betas"] = (momentum, group["betas"][1])
                else:
                    group["momentum"] = momentum

    def _between(self, start: float, end: float, share: float) -> float:
        if self._anneal_func_type == "cos":
            return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)
        return (end - start) * share + start

    def state_dict(self) -> dict[str, Any]:
        """Return what makes this schedule go on elsewhere, under PyTorch's names.

        As in PyTorch, the range of the cycle is in the optimiser's state dict.
        """
        extra = {"use_beta1": self.use_beta1} if self.cycle_momentum else {}
        phases = [dict(phase) for phase in self._schedule_phases]
        return {**super().state_dict(), **extra, "_schedule_phases": phases}

    def _restore(self, state_dict: Mapping[str, Any]) -> None:
        if state_dict["cycle_momentum"] and state_dict.get("use_beta1", self.use_beta1) != self.use_beta1:
            raise ValueError("state_dict is for an optimizer of another kind.")
        if state_dict["cycle_momentum"] and not self.cycle_momentum:
            raise ValueError("state_dict cycles momentum, but this schedule was made with cycle_momentum=False.")
        if self.last_epoch > state_dict["total_steps"]:
            raise ValueError(f"last_epoch={self.last_epoch} is beyond total_steps={state_dict['total_steps']}.")
        super()._restore(state_dict)
        self._schedule_phases = [dict(phase) for phase in state_dict["_schedule_phases"]]


def _phases(steps: int, pct_start: float, three: bool) -> list[dict[str, Any]]:
    """PyTorch's table: until when each phase lasts, and between which values it goes."""
    up = {
        "start_lr": "initial_lr",
        "end_lr": "max_lr",
        "start_momentum": "max_momentum",
        "end_momentum": "base_momentum",
    }
    down = {"start_lr": "max_lr", "end_lr": "min_lr", "start_momentum": "base_momentum", "end_momentum": "max_momentum"}
    if not three:
        return [{"end_step": pct_start * steps - 1, **up}, {"end_step": steps - 1, **down}]
    out = {
        "start_lr": "initial_lr",
        "end_lr": "min_lr",
        "start_momentum": "max_momentum",
        "end_momentum": "max_momentum",
    }
    return [
        {"end_step": pct_start * steps - 1, **up},
        {"end_step": 2 * pct_start * steps - 2, **down, "end_lr": "initial_lr"},
        {"end_step": steps - 1, **out},
    ]


def _each(value: Any, name: str, groups: int, interval: str) -> list[float]:
    """One number for each group."""
    values = list(value) if isinstance(value, (list, tuple)) else [value] * groups
    if len(values) != groups:
        raise ValueError(f"OneCycleLR: {name} must be one number or {groups}, one for each group, got {shown(value)}.")
    return [as_number(v, name, "OneCycleLR", interval) for v in values]
