"""Learning-rate schedules with PyTorch's names and values."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from normcore.nn._checks import as_number, as_size, shown

from .optimizer import Optimizer


class Schedule:
    """Base of the schedules: sets the learning rate of each group of an optimiser as a function of the step.

    Making one sets the learning rates for step 0. A schedule of your own has `factor(step)`, by which the starting
    learning rate is multiplied, or `rate(step, base_lr)`, the learning rate itself.

    Parameters
    ----------
    optimizer : Optimizer
        Whose groups' "lr" are set. Their "initial_lr" is the learning rate when the first schedule was made.
    per_epoch : bool
        Whether `Trainer.fit` calls `step()` after every epoch, or after every step of the optimiser.

    Attributes
    ----------
    last_epoch : int
        How many times `step()` was called.
    base_lrs : list of float
        The starting learning rate of each group.

    Notes
    -----
    Learning rates are computed from `base_lrs` and `last_epoch` alone: PyTorch's closed forms, which its recursive
    ones equal up to rounding. State dicts go both ways.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of the kind or in the interval that its description says. The optimiser is left as it was.
    """

    # What the state dict holds besides the counters, under PyTorch's names.
    state_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, optimizer: Optimizer, *, per_epoch: bool = True) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{type(self).__name__}: optimizer must be an optimizer object, got {type(optimizer).__name__}."
            )
        self.optimizer = optimizer
        self.per_epoch = bool(per_epoch)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = 0
        self._apply()

    def factor(self, step: int) -> float:
        """Return what the starting learning rate is multiplied by after `step` steps."""
        raise NotImplementedError(f"{type(self).__name__} has no factor(step)")

    def rate(self, step: int, base_lr: float) -> float:
        """Return the learning rate after `step` steps of a group that started from `base_lr`."""
        return base_lr * self.factor(step)

    def step(self) -> None:
        """Go one step further, after the optimiser's step or the epoch."""
        self.last_epoch += 1
        self._apply()

    def get_last_lr(self) -> list[float]:
        """Return the learning rate of each group, as this schedule has set it last."""
        return list(self._last_lr)

    def _apply(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.base_lrs):
            raise ValueError(
                f"{type(self).__name__}: the optimizer has {len(groups)} groups, but had {len(self.base_lrs)} when "
                "this was made; add groups before making a schedule."
            )
        self._last_lr = [float(self.rate(self.last_epoch, base)) for base in self.base_lrs]
        for group, lr in zip(groups, self._last_lr, strict=True):
            group["lr"] = lr

    def state_dict(self) -> dict[str, Any]:
        """Return what makes this schedule go on elsewhere, under PyTorch's names."""
        state = {name: getattr(self, name) for name in self.state_names}
        # PyTorch counts its own first call.
        counters = {"base_lrs": list(self.base_lrs), "last_epoch": self.last_epoch, "_step_count": self.last_epoch + 1}
        return {**state, **counters, "_last_lr": self.get_last_lr()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the schedule that gave `state_dict` was, one of PyTorch's too, and set the learning rates.

        Raises
        ------
        ValueError
            If it is not that of such a schedule, or of another number of groups. Nothing has been changed then.
        TypeError
            If `state_dict` is not a mapping.
        """
        owner = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{owner}: state_dict must be a mapping, got {type(state_dict).__name__}.")
        missing = [name for name in ("base_lrs", "last_epoch", *self.state_names) if name not in state_dict]
        if missing:
            raise ValueError(f"{owner}: state_dict has no {missing[0]}; pass one of {type(self).__name__}.")
        try:
            base_lrs = [float(lr) for lr in state_dict["base_lrs"]]
            last_epoch = int(state_dict["last_epoch"])
        except (TypeError, ValueError, OverflowError):
            base_lrs, last_epoch = [], -1
        if last_epoch < 0 or not all(map(math.isfinite, base_lrs)):
            raise ValueError(f"{owner}: base_lrs must be numbers and last_epoch a count; pass what state_dict() returned.")
        if len(base_lrs) != len(self.base_lrs):
            raise ValueError(
                f"{owner}: state_dict is for {len(base_lrs)} groups, but the optimizer has {len(self.base_lrs)}."
            )
        before = vars(self).copy()
        try:
            self.base_lrs, self.last_epoch = base_lrs, last_epoch
            self._restore(state_dict)
            self._apply()
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            vars(self).update(before)
            raise ValueError(f"{owner}: {error}") from None

    def _restore(self, state_dict: Mapping[str, Any]) -> None:
        for name in self.state_names:
            setattr(self, name, state_dict[name])

    def __repr__(self) -> str:
        options = "".join(f"{name}={getattr(self, name)!r}, " for name in self.state_names if name[0] != "_")
        return f"{type(self).__name__}({options}per_epoch={self.per_epoch})"


class StepLR(Schedule):
    """Multiply the learning rate by `gamma` every `step_size` steps, as `torch.optim.lr_scheduler.StepLR`.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rates are set.
    step_size : int
        Number of epochs (or steps) between two drops.
    gamma : float
        Factor of a drop; at least 0.
    per_epoch : bool
        Whether `Trainer.fit` steps it after every epoch, or after every step of the optimiser.

    Examples
    --------
    >>> import normcore as nc
    >>> optimizer = nc.optim.SGD(nc.nn.Linear(2, 1).parameters(), lr=1.0)
    >>> schedule = StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for _ in range(4):
    ...     print(optimizer.lr, end=" ")
    ...     schedule.step()
    1.0 1.0 0.5 0.5
    """

    state_names = ("step_size", "gamma")

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, *, per_epoch: bool = True) -> None:
        self.step_size = as_size(step_size, "step_size", "StepLR")
        self.gamma = as_number(gamma, "gamma", "StepLR", "[0, inf)")
        super().__init__(optimizer, per_epoch=per_epoch)

    def factor(self, step: int) -> float:
        """Return `gamma ** (step // step_size)`."""
        return float(self.gamma ** (step // self.step_size))


class MultiStepLR(Schedule):
    """Multiply the learning rate by `gamma` at each milestone, as `torch.optim.lr_scheduler.MultiStepLR`.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rates are set.
    milestones : iterable of int
        Epochs (or steps) at which the learning rate drops; one that is given twice counts twice.
    gamma : float
        Factor of a drop; at least 0.
    per_epoch : bool
        Whether `Trainer.fit` steps it after every epoch, or after every step of the optimiser.
    """

    state_names = ("milestones", "gamma")

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, *, per_epoch: bool = True
    ) -> None:
        self.milestones = _as_milestones(milestones, "MultiStepLR")
        self.gamma = as_number(gamma, "gamma", "MultiStepLR", "[0, inf)")
        super().__init__(optimizer, per_epoch=per_epoch)

    def factor(self, step: int) -> float:
        """Return gamma to the number of milestones up to `step`."""
        return float(self.gamma ** bisect_right(self.milestones, step))

    def state_dict(self) -> dict[str, Any]:
        """Return what makes this schedule go on elsewhere, under PyTorch's names."""
        counts = {milestone: self.milestones.count(milestone) for milestone in self.milestones}
        return {**super().state_dict(), "milestones": counts}

    def _restore(self, state_dict: Mapping[str, Any]) -> None:
        # PyTorch keeps a Counter.
        super()._restore(state_dict)
        counts = dict(self.milestones)
        self.milestones = _as_milestones([m for m, n in counts.items() for _ in range(n)], "MultiStepLR")


class ExponentialLR(Schedule):
    """Multiply the learning rate by `gamma` at every step, as `torch.optim.lr_scheduler.ExponentialLR`.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rates are set.
    gamma : float
        Factor of each epoch (or step); at least 0.
    per_epoch : bool
        Whether `Trainer.fit` steps it after every epoch, or after every step of the optimiser.
    """

    state_names = ("gamma",)

    def __init__(self, optimizer: Optimizer, gamma: float, *, per_epoch: bool = True) -> None:
        self.gamma = as_number(gamma, "gamma", "ExponentialLR", "[0, inf)")
        super().__init__(optimizer, per_epoch=per_epoch)

    def factor(self, step: int) -> float:
        """Return `gamma ** step`."""
        return float(self.gamma**step)


class LinearLR(Schedule):
    """Change a factor of the learning rate linearly, then hold it: warm-up. As `torch.optim.lr_scheduler.LinearLR`.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rates are set.
    start_factor, end_factor : float
        Factor of the learning rate at first, in (0, 1], and after `total_iters` steps, in [0, 1].
    total_iters : int
        Number of epochs (or steps) until `end_factor` is reached.
    per_epoch : bool
        Whether `Trainer.fit` steps it after every epoch, or after every step of the optimiser.
    """

    state_names = ("start_factor", "end_factor", "total_iters")

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        *,
        per_epoch: bool = True,
    ) -> None:
        self.start_factor = as_number(start_factor, "start_factor", "LinearLR", "(0, 1]")
        self.end_factor = as_number(end_factor, "end_factor", "LinearLR", "[0, 1]")
        self.total_iters = as_size(total_iters, "total_iters", "LinearLR")
        super().__init__(optimizer, per_epoch=per_epoch)

    def factor(self, step: int) -> float:
        """Return the point between the factors."""
        share = min(step, self.total_iters) / self.total_iters
        return self.start_factor + (self.end_factor - self.start_factor) * share


class CosineAnnealingLR(Schedule):
    """Half a cosine from the learning rate to `eta_min`, as `torch.optim.lr_scheduler.CosineAnnealingLR`.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rates are set.
    T_max : int
        Number of epochs (or steps) until `eta_min` is reached. Beyond it the learning rate rises again.
    eta_min : float
        The smallest learning rate; at least 0.
    per_epoch : bool
        Whether `Trainer.fit` steps it after every epoch, or after every step of the optimiser.

    Notes
    -----
    `lr = eta_min + (base_lr - eta_min) * (1 + cos(pi * step / T_max)) / 2`.
    """

    state_names = ("T_max", "eta_min")

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, *, per_epoch: bool = True) -> None:
        self.T_max = as_size(T_max, "T_max", "CosineAnnealingLR")
        self.eta_min = as_number(eta_min, "eta_min", "CosineAnnealingLR", "[0, inf)")
        super().__init__(optimizer, per_epoch=per_epoch)

    def rate(self, step: int, base_lr: float) -> float:
        """Return the point on the cosine."""
        return self.eta_min + (base_lr - self.eta_min) * (1 + math.cos(math.pi * step / self.T_max)) / 2


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

    Examples
    --------
    >>> import normcore as nc
    >>> optimizer = nc.optim.SGD(nc.nn.Linear(2, 1).parameters(), lr=1.0)
    >>> warm_up = LinearLR(optimizer, start_factor=0.25, total_iters=3)
    >>> schedule = SequentialLR(optimizer, [warm_up, CosineAnnealingLR(optimizer, T_max=2)], milestones=[3])
    >>> for _ in range(6):
    ...     print(optimizer.lr, end=" ")
    ...     schedule.step()
    0.25 0.5 0.75 1.0 0.5 0.0
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[Schedule], milestones: Sequence[int]) -> None:
        schedulers = list(schedulers)
        for scheduler in schedulers:
            if not isinstance(scheduler, Schedule) or isinstance(scheduler, SequentialLR):
                raise TypeError(f"SequentialLR: schedulers must hold single schedules, got {type(scheduler).__name__}.")
            if scheduler.optimizer is not optimizer:
                raise ValueError(
                    f"SequentialLR: {type(scheduler).__name__} belongs to another optimizer; make all for the same one."
                )
        if len({scheduler.per_epoch for scheduler in schedulers}) != 1:
            raise ValueError("SequentialLR: schedulers must all have the same per_epoch, and be at least one.")
        self._milestones = _as_milestones(milestones, "SequentialLR")
        if len(self._milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: milestones must be one fewer than schedulers, got {len(self._milestones)} for "
                f"{len(schedulers)}."
            )
        self._schedulers = schedulers
        super().__init__(optimizer, per_epoch=schedulers[0].per_epoch)

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
        milestones = _as_milestones(state_dict["_milestones"], "SequentialLR")
        parts = list(state_dict["_schedulers"])
        if len(parts) != len(self._schedulers) or len(milestones) != len(self._milestones):
            raise ValueError(f"state_dict is for {len(parts)} schedulers, but there are {len(self._schedulers)}.")
        self._milestones = milestones
        for scheduler, part in zip(self._schedulers, parts, strict=True):
            # One that has not begun has -1 in PyTorch.
            scheduler.load_state_dict({**part, "last_epoch": max(0, part["last_epoch"])})


def _as_milestones(milestones: Any, owner: str) -> list[int]:
    message = f"{owner}: milestones must be positive ints, got {shown(milestones)}."
    if isinstance(milestones, str) or not isinstance(milestones, Iterable):
        raise TypeError(message)
    try:
        return sorted(as_size(milestone, "milestones", owner) for milestone in milestones)
    except (TypeError, ValueError) as error:
        raise type(error)(message) from None
