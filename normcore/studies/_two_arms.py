"""StudyResult: two networks, each at its best learning rate, as text, as JSON and as one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from normcore.training.history import format_value

from ._picture import Picture
from ._result import to_json
from ._table import Column, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOSSES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
_COLUMNS = (
    ("loss", "training loss"),
    ("val_loss", "validation loss"),
    ("accuracy", "training accuracy"),
    ("val_accuracy", "validation accuracy"),
)


@dataclass(frozen=True)
class Arm:
    """One of the networks that a study compares.

    Attributes
    ----------
    name : str
        What sets it apart, such as "batch norm".
    lr : float
        The learning rate it was trained with.
    history : dict of str to list of float
        "loss", "accuracy", "val_loss", "val_accuracy": one value for each epoch, as from `Trainer.fit`.
    seconds : list of float
        Wall-clock time of each epoch, training and validation.
    tried : dict of float to float
        The last epoch's training loss at every learning rate that was tried.
    kernels : tuple of str
        What `normcore.explain` says of the calls of its norm layers; empty for a network without any.
    """

    name: str
    lr: float
    history: Mapping[str, Sequence[float]]
    seconds: Sequence[float]
    tried: Mapping[float, float]
    kernels: tuple[str, ...] = ()

    def epochs_to(self, loss: float) -> int | None:
        """Return the number of epochs after which the training loss was first at most `loss`; None for never."""
        return next((epoch for epoch, value in enumerate(self.history["loss"], 1) if value <= loss), None)

    def seconds_to(self, loss: float) -> float | None:
        """Return the time after which the training loss was first at most `loss`; None for never."""
        epochs = self.epochs_to(loss)
        return None if epochs is None else sum(self.seconds[:epochs])


@dataclass(frozen=True)
class StudyResult:
    """What a study measured.

    Attributes
    ----------
    study, title : str
        Its name in the table of studies, and the heading of table and picture.
    notes : tuple of str
        How the comparison was made, a sentence each.
    config : dict
        All that decides the numbers.
    arms : pair of Arm
        The baseline and what is compared with it.
    seconds : float
        Wall-clock time of the whole study.
    environment : dict of str to str
        What `normcore.show_config` said.
    """

    study: str
    title: str
    notes: tuple[str, ...]
    config: Mapping[str, Any]
    arms: tuple[Arm, Arm]
    seconds: float
    environment: Mapping[str, str]

    @property
    def goal(self) -> float | None:
        """The lowest training loss of the baseline; None if none was finite."""
        return min(filter(math.isfinite, self.arms[0].history["loss"]), default=None)

    @property
    def conclusion(self) -> str:
        """One sentence, from the numbers: how long each arm took to the lowest training loss of the baseline."""
        base, other = self.arms
        goal = self.goal
        if goal is None:
            return (
                f"The network with {base.name} never had a finite training loss, so there is nothing to compare with."
            )
        name = other.name[:1].upper() + other.name[1:]
        target = f"training loss {format_value(goal)}, the lowest with {base.name}"
        theirs, ours = base.epochs_to(goal), other.epochs_to(goal)
        assert theirs is not None
        if ours is None:
            return (
                f"{name} did not reach {target}, which took {_took(base, goal)} there: "
                f"its own lowest is {_lowest(other)}."
            )
        time, base_time = other.seconds_to(goal), base.seconds_to(goal)
        assert time is not None
        assert base_time is not None
        return (
            f"{name} reached {target}, {_when(ours, theirs)} in epochs ({ours} against {theirs}) and "
            f"{_when(time, base_time)} in time ({time:.2f} s against {base_time:.2f} s), and ended at "
            f"{format_value(other.history['loss'][-1])}."
        )

    def table(self) -> str:
        """Return everything as text: the epochs, times to given losses, learning rates, kernels, conclusion."""
        parts = [self.title, *self.notes, "", *self._epochs(), "", *self._summary(), "", self.conclusion]
        return "\n".join(parts)

    def to_json(self) -> str:
        """Return everything as JSON; numbers that are not finite become null."""
        return to_json({**asdict(self), "goal": self.goal, "conclusion": self.conclusion})

    # What it has of an `Outcome`, for the report.

    @property
    def question(self) -> str:
        """What the study asks."""
        return f"Does {self.arms[1].name} let a small network learn sooner?"

    @property
    def conclusions(self) -> tuple[str, ...]:
        """The conclusion."""
        return (self.conclusion,)

    @property
    def tables(self) -> tuple[Table, ...]:
        """Every epoch of both arms."""
        columns = [Column("network"), Column("learning rate"), Column("epoch")]
        columns += [Column(title) for _, title in _COLUMNS]
        rows = [
            [arm.name, arm.lr, epoch + 1, *(arm.history[key][epoch] for key, _ in _COLUMNS), seconds]
            for arm in self.arms
            for epoch, seconds in enumerate(arm.seconds)
        ]
        return (Table("epochs", "Every epoch", [*columns, Column("time", "s")], rows, "file"),)

    @property
    def texts(self) -> Mapping[str, str]:
        """The tables as they are printed."""
        return {"Epochs, times and learning rates": "\n".join([*self._epochs(), "", *self._summary()])}

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Loss and accuracy over the epochs."""
        caption = "Loss and accuracy over the epochs, training solid and validation dashed. " + self.conclusion
        return (Picture("curves", caption, partial(_curves, self)),)

    @property
    def interrupted(self) -> str:
        """Nothing: this study has a result or none."""
        return ""

    def _loss_format(self) -> Callable[[float], str]:
        """Losses with as many decimals as give the smallest one of the epochs three digits."""
        losses = [loss for arm in self.arms for key in ("loss", "val_loss") for loss in arm.history[key]]
        smallest = min((loss for loss in losses if math.isfinite(loss) and loss > 0), default=1.0)
        decimals = min(max(4, 2 - math.floor(math.log10(smallest))), 8)
        return lambda loss: f"{loss:.{decimals}f}" if abs(loss) < 1e5 else format_value(loss)

    def _epochs(self) -> list[str]:
        names = [arm.name for arm in self.arms]
        width = max(8, *map(len, names))
        group = width * len(names) + 2 * (len(names) - 1)
        loss = self._loss_format()
        titles = [*(title for _, title in _COLUMNS), "seconds"]
        head = " " * 5 + "".join(f"   {title:^{group}}" for title in titles)
        lines = [head.rstrip(), "epoch" + ("   " + "  ".join(f"{name:>{width}}" for name in names)) * len(titles)]
        for epoch in range(len(self.arms[0].history["loss"])):
            cells = [
                [shown(arm.history[key][epoch]) for arm in self.arms]
                for (key, _), shown in zip(_COLUMNS, (loss, loss, format_value, format_value), strict=True)
            ]
            cells.append([f"{arm.seconds[epoch]:.3f}" for arm in self.arms])
            pairs = ["  ".join(f"{cell:>{width}}" for cell in pair) for pair in cells]
            lines.append("   ".join([f"{epoch + 1:>5}", *pairs]))
        return lines

    def _summary(self) -> list[str]:
        arms, loss_format = self.arms, self._loss_format()
        rows = [["", *(arm.name for arm in arms)]]
        for loss in _LOSSES:
            if any(arm.epochs_to(loss) for arm in arms):
                rows.append([f"epochs (time) to training loss {loss:g}", *(_reached(arm, loss) for arm in arms)])
        rows.append(["seconds for all epochs", *(f"{sum(arm.seconds):.2f} s" for arm in arms)])
        for lr in arms[0].tried:
            cells = [f"{loss_format(arm.tried[lr])}{' *' if lr == arm.lr else '  '}" for arm in arms]
            rows.append([f"last training loss at learning rate {lr:g}", *cells])
        rows.append(["norm layers ran on", *(", ".join(arm.kernels) or "none" for arm in arms)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        ]
        return [*(line.rstrip() for line in lines), "* the learning rate of the epochs above"]


def _when(own: float, other: float) -> str:
    return "sooner" if own < other else "as soon" if own == other else "later"


def _plural(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"


def _took(arm: Arm, loss: float) -> str:
    return f"{_plural(arm.epochs_to(loss) or 0)} ({arm.seconds_to(loss):.2f} s)"


def _reached(arm: Arm, loss: float) -> str:
    epochs = arm.epochs_to(loss)
    return "never" if epochs is None else f"{epochs} ({arm.seconds_to(loss):.2f} s)"


def _lowest(arm: Arm) -> str:
    return format_value(min(filter(math.isfinite, arm.history["loss"]), default=math.nan))


def _curves(result: StudyResult) -> Figure:
    from ._plot import curves

    return curves(result)
