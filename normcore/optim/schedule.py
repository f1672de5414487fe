"""Learning-rate schedules with PyTorch's names and values."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from normcore._shown import shown
from normcore.nn._checks import as_bool, as_count, as_int, as_number, listed

from .optimizer import Optimizer


class Schedule:
    """Base of the schedules: sets the learning rate of each group of an optimiser as a function of the step.

    Making one sets the learning rates for step 0. A schedule of your own has `factor(step)`, by which the starting
    learning rate is multiplied, or `rate(step, base_lr)`, the learning rate itself.

    Parameters
    ----------
    optimizer : Optimizer
        Whose groups' "lr" are set. Their "initial_lr" is the learning rate when the first schedule was made.
    last_epoch : int
        -1 to begin. Otherwise the last step (counted from 0) of a training that is gone on with: the schedule is then
        at the step after it, and the optimiser must have the "initial_lr" of the first schedule, which its state dict
        keeps. `load_state_dict` does the same without counting.
    per_epoch : bool
        Whether `Trainer.fit` calls `step()` after every epoch, or after every step of the optimiser.

    Attributes
    ----------
    last_epoch : int
        The step that the learning rates are those of: how many times `step()` was called.
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

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1, *, per_epoch: bool = True) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{type(self).__name__}: optimizer must be an optimizer object, got {type(optimizer).__name__}."
            )
        self.optimizer = optimizer
        self.per_epoch = as_bool(per_epoch, "per_epoch", type(self).__name__)
        last_epoch = as_last_epoch(last_epoch, optimizer, ("initial_lr",), type(self).__name__)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch + 1
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
        try:
            self._apply()
        except BaseException:
            self.last_epoch -= 1
            raise

    def steps_left(self) -> float:
        """Return how many more times `step()` can be called: inf, but for a schedule that ends, such as a cycle."""
        return math.inf

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
            raise ValueError(
                f"{owner}: base_lrs must be numbers and last_epoch a count; pass what state_dict() returned."
            )
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
    last_epoch : int
        As PyTorch's: -1 to begin, or the last step of a training that is gone on with.
    per_epoch : bool
        Whether `Trainer.fit` steps it after every epoch, or after every step of the optimiser.

    Examples
    --------
    >>> import normcore as nc
    >>> optimizer = nc.optim.SGD(nc.nn.Linear(2, 1).parameters(), lr=1.0)
    >>> schedule = StepLR(optimizer, step_size=2, gamma=0.5)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates.append(optimizer.lr)
    ...     schedule.step()
    >>> rates
    [1.0, 1.0, 0.5, 0.5]
    """

    state_names = ("step_size", "gamma")

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1, *, per_epoch: bool = True
    ) -> None:
        self.step_size = as_count(step_size, "step_size", "StepLR")
        self.gamma = as_number(gamma, "gamma", "StepLR", "[0, inf)")
        super().__init__(optimizer, last_epoch, per_epoch=per_epoch)

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
    last_epoch : int
        As PyTorch's: -1 to begin, or the last step of a training that is gone on with.
    per_epoch : bool
        Whether `Trainer.fit` steps it after every epoch, or after every step of the optimiser.
    """

    state_names = ("milestones", "gamma")

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
        *,
        per_epoch: bool = True,
    ) -> None:
        self.milestones = as_milestones(milestones, "MultiStepLR")
        self.gamma = as_number(gamma, "gamma", "MultiStepLR", "[0, inf)")
        super().__init__(optimizer, last_epoch, per_epoch=per_epoch)

    def factor(self, step: int) -> float:
        """Return gamma to the number of milestones up to `step`."""
        return float(self.gamma ** bisect_right(self.milestones, step))

    def state_dict(self) -> dict[str, Any]:
        """Return what makes this schedule go on elsewhere, under PyTorch's names."""
        counts = {milestone: self.milestones.count(milestone) for milestone in self.milestones}
        return {**super().state_dict(), "milestones": counts}

    def _restore(self, state_dict: Mapping[str, Any]) -> None:
        super()._restore(state_dict)
        # PyTorch keeps a Counter, whose keys are strings once it has been JSON.
        counts = {int(milestone): count for milestone, count in state_dict["milestones"].items()}
        self.milestones = as_milestones([m for m, count in counts.items() for _ in range(count)], "MultiStepLR")


class ExponentialLR(Schedule):
    """Multiply the learning rate by `gamma` at every step, as `torch.optim.lr_scheduler.ExponentialLR`.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rates are set.
    gamma : float
        Factor of each epoch (or step); at least 0.
    last_epoch : int
        As PyTorch's: -1 to begin, or the last step of a training that is gone on with.
    per_epoch : bool
        Whether `Trainer.fit` steps it after every epoch, or after every step of the optimiser.
    """

    state_names = ("gamma",)

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1, *, per_epoch: bool = True) -> None:
        self.gamma = as_number(gamma, "gamma", "ExponentialLR", "[0, inf)")
        super().__init__(optimizer, last_epoch, per_epoch=per_epoch)

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
    last_epoch : int
        As PyTorch's: -1 to begin, or the last step of a training that is gone on with.
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
        last_epoch: int = -1,
        *,
        per_epoch: bool = True,
    ) -> None:
        self.start_factor = as_number(start_factor, "start_factor", "LinearLR", "(0, 1]")
        self.end_factor = as_number(end_factor, "end_factor", "LinearLR", "[0, 1]")
        self.total_iters = as_count(total_iters, "total_iters", "LinearLR")
        super().__init__(optimizer, last_epoch, per_epoch=per_epoch)

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
    last_epoch : int
        As PyTorch's: -1 to begin, or the last step of a training that is gone on with.
    per_epoch : bool
        Whether `Trainer.fit` steps it after every epoch, or after every step of the optimiser.

    Notes
    -----
    `lr = eta_min + (base_lr - eta_min) * (1 + cos(pi * step / T_max)) / 2`.
    """

    state_names = ("T_max", "eta_min")

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1, *, per_epoch: bool = True
    ) -> None:
        self.T_max = as_count(T_max, "T_max", "CosineAnnealingLR")
        self.eta_min = as_number(eta_min, "eta_min", "CosineAnnealingLR", "[0, inf)")
        super().__init__(optimizer, last_epoch, per_epoch=per_epoch)

    def rate(self, step: int, base_lr: float) -> float:
        """Return the point on the cosine."""
        return self.eta_min + (base_lr - self.eta_min) * (1 + math.cos(math.pi * step / self.T_max)) / 2


def as_last_epoch(value: Any, optimizer: Optimizer, needed: Iterable[str], owner: str) -> int:
    """`last_epoch` as an int from -1 on; to go on, every group must have what the first schedule left there."""
    last_epoch = as_int(value, "last_epoch", owner)
    if not -1 <= last_epoch <= 2**53:
        raise ValueError(
            f"{owner}: last_epoch must be -1 to begin, or the last step that was done, got {shown(last_epoch)}."
        )
    for i, group in enumerate(optimizer.param_groups if last_epoch >= 0 else ()):
        for name in needed:
            if name not in group:
                raise ValueError(
                    f"{owner}: last_epoch={last_epoch} goes on with a schedule, but group {i} of the optimizer has no "
                    f"{name!r}; load the optimizer's state dict first, or leave last_epoch out."
                )
    return last_epoch


def as_milestones(milestones: Any, owner: str) -> list[int]:
    """`milestones` as a sorted list of positive ints."""
    message = f"{owner}: milestones must be positive ints, got {shown(milestones)}."
    found = None if isinstance(milestones, str) else listed(milestones)
    if found is None:
        raise TypeError(message)
    try:
        return sorted(as_count(milestone, "milestones", owner) for milestone in found)
    except (TypeError, ValueError) as error:
        raise type(error)(message) from None
