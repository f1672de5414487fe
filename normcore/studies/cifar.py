"""Does batch norm lower the loss of a small network on CIFAR-10, where a PyTorch tutorial says that it does?

The network is the tutorial's: 3072-64-32-10, ReLU, batch norm between each hidden Linear and its ReLU, Adam with
learning rate 1e-4, batches of 10, five epochs. It prints the mean loss of each 500 batches, and reports about 1.57 in
the fifth epoch, and about 1.65 for the same network without batch norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from normcore.nn import Module
from normcore.optim import Adam, Optimizer
from normcore.training import Trainer

from ._arms_result import arms_result
from ._config import TrainingConfig, whole
from ._data import Classes
from ._estimate import Difference, Estimate
from ._picture import Picture
from ._result import Result
from ._run_tables import spread_note
from ._runs import TrainingRuns
from ._table import Column, Table
from ._training import ArmPlan, Recorder, network, train_study
from ._verdict import versus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ARMS = {"no norm": None, "batch norm": "batch"}
_TUTORIAL = "The tutorial reports about 1.57 with batch norm and about 1.65 without in the fifth epoch."


@dataclass(frozen=True)
class Config(TrainingConfig):
    """All that decides the study's numbers; `TrainingConfig` has the rest.

    Attributes
    ----------
    every : int
        Of how many batches the mean loss is shown; at the end of an epoch of those that are left.
    """

    data: str = "cifar10"
    hidden: tuple[int, ...] = (64, 32)
    batch_size: int = 10
    lr: float = 1e-4
    every: int = 500

    QUICK: ClassVar[Mapping[str, Any]] = {"data": "digits", "repeats": 1}

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self.every, "every")


class Windows(Recorder):
    """Records the mean loss of each `every` batches, and of those left at the end of an epoch.

    Attributes
    ----------
    recorded : list of (int, int, float)
        Epoch and batch, counted from 1, at which a window ended, and its mean.
    """

    def __init__(self, every: int) -> None:
        self.recorded: list[tuple[int, int, float]] = []
        self._every = every
        self._losses: list[float] = []
        self._batch = 0

    def on_batch_end(self, trainer: Trainer, batch: int, logs: Mapping[str, float]) -> None:
        """Take in the loss of a batch."""
        self._losses.append(logs["loss"])
        self._batch = batch + 1
        if self._batch % self._every == 0:
            self._close(len(trainer.history))

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:  # noqa: ARG002 - the signature of what it overrides
        """Close the window of the batches that are left."""
        if self._losses:
            self._close(epoch)

    def _close(self, epoch: int) -> None:
        self.recorded.append((epoch + 1, self._batch, sum(self._losses) / len(self._losses)))
        self._losses.clear()


def run(config: Config = Config(), progress: bool = False) -> Result:
    """Train the tutorial's network with and without batch norm, with every seed.

    Arguments, result and errors are those of `norms.run`.
    """
    trained = train_study(config, partial(_plans, config), progress)
    runs, real = trained.runs, config.data == "cifar10"
    table = _windows(runs)
    both = len(runs.arms) == len(_ARMS)
    stand_in = f"{trained.data.name} stands in for CIFAR-10 here, so the losses are not those of the tutorial."
    return arms_result(
        "cifar",
        config,
        trained,
        title="CIFAR-10's small network, with and without batch norm",
        question="Does batch norm lower the loss of a small network on CIFAR-10, as a tutorial says?",
        notes=(
            f"Network {trained.shape(config.hidden)} with batch norm before each ReLU, Adam with learning rate "
            f"{config.lr:g}, batches of {config.batch_size}, {config.epochs} epochs of "
            f"{trained.data.steps(config.batch_size)} steps.",
            _TUTORIAL if real else stand_in,
        ),
        tables=[table],
        texts={f"Mean loss of each {config.every} batches, {spread_note(runs)}": _log(runs, table)},
        conclusions=(
            [_losses(runs, real and config.epochs == 5), versus(runs, "batch norm", "no norm")] if both else []
        ),
        curves={"curves": ("With and without batch norm", runs.arms)},
        pictures=(
            Picture(
                "windows",
                f"Mean training loss of each {config.every} batches, over the epochs. Lines are means over the seeds, "
                "shades reach from the lowest to the highest seed.",
                partial(_draw, runs, config.every, trained.data),
            ),
        ),
    )


def _plans(config: Config, data: Classes) -> list[ArmPlan]:
    def optimizer(model: Module) -> Optimizer:
        return Adam(model.parameters(), lr=config.lr)

    return [
        ArmPlan(
            name,
            partial(network, data, config.hidden, "relu", norm),
            optimizer,
            config.batch_size,
            partial(Windows, config.every),
        )
        for name, norm in _ARMS.items()
    ]


def _windows(runs: TrainingRuns) -> Table:
    """Mean losses over the seeds; a training that diverged has fewer."""
    columns = [Column("epoch"), Column("batch"), *(Column(arm, spec=".3f") for arm in runs.arms)]
    seen = {arm: [{(e, b): loss for e, b, loss in run.recorded} for run in runs.of(arm)] for arm in runs.arms}
    ends = sorted({end for records in seen.values() for record in records for end in record})
    rows = [[*end, *(Estimate.over(record.get(end) for record in seen[arm]) for arm in runs.arms)] for end in ends]
    return Table("windows", "Mean training loss of the batches up to this one", columns, rows, "file")


def _log(runs: TrainingRuns, table: Table) -> str:
    """The table in the form of the tutorial's log."""
    cells = table.cells()
    widths = [max([len(arm), *(len(row[2 + index]) for row in cells)]) for index, arm in enumerate(runs.arms)]
    lines: list[str] = []
    epoch = ""
    for row in cells:
        if row[0] != epoch:
            epoch = row[0]
            names = "  ".join(f"{arm:>{width}}" for arm, width in zip(runs.arms, widths, strict=True))
            lines.append(f"{f'Starting epoch {epoch}':<28}  {names}")
        losses = "  ".join(f"{cell:>{width}}" for cell, width in zip(row[2:], widths, strict=True))
        lines.append(f"Loss after mini-batch {row[1]:>5}:  {losses}")
    return "\n".join(lines)


def _losses(runs: TrainingRuns, tutorial: bool) -> str:
    ours, theirs = runs.at("batch norm", "loss"), runs.at("no norm", "loss")
    text = (
        f"In the last epoch the training loss was {ours.mean:.3f} with batch norm and {theirs.mean:.3f} without"
        f"{_chance(runs.compare('batch norm', 'no norm', 'loss'))}."
    )
    return f"{text} {_TUTORIAL}" if tutorial else text


def _chance(gap: Difference) -> str:
    if gap.seeds < 2:
        return " (one seed, so it may be chance)"
    if gap.tied:
        return f" (the same difference with each of {gap.seeds} seeds, so there is no interval, and it may be chance)"
    between = f"95 % interval of the difference {gap.low:+.3f} to {gap.high:+.3f} over {gap.seeds} seeds"
    return f" ({between}{'' if gap.clear else ', so it may be chance'})"


def _draw(runs: TrainingRuns, every: int, data: Classes) -> Figure:
    import numpy as np

    from ._drawing import COLOURS, MARKERS, legend_below, new_figure, tidy, whole_numbers

    figure, panels = new_figure(f"Training loss as it falls, {data.name}", width=8)
    axes = panels[0, 0]
    for index, arm in enumerate(runs.arms):
        shortest = min(len(run.recorded) for run in runs.of(arm))
        losses = np.array([[loss for _, _, loss in run.recorded[:shortest]] for run in runs.of(arm)])
        batches = max((batch for run in runs.of(arm) for _, batch, _ in run.recorded), default=1)
        x = [epoch - 1 + batch / batches for epoch, batch, _ in runs.of(arm)[0].recorded[:shortest]]
        marker = MARKERS[index] if shortest <= 100 else ""
        axes.plot(x, losses.mean(0), color=COLOURS[index], marker=marker, markersize=4, linewidth=1.8, label=arm)
        if len(losses) > 1:
            axes.fill_between(x, losses.min(0), losses.max(0), color=COLOURS[index], alpha=0.18, linewidth=0)
    tidy(axes, f"mean of each {every} batches", "epochs", "loss (cross-entropy, nats)")
    whole_numbers(axes)
    legend_below(figure, axes)
    return figure
