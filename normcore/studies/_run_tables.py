"""Tables of trainings: how they ended, every epoch, how soon they reached a goal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from ._runs import TrainingRuns
from ._table import Column, Table

PERCENT = ".2%"
Measures: TypeAlias = Sequence[tuple[str, Column]]  # keys of a history, and how their columns look
MEASURES: Measures = (
    ("loss", Column("training loss", spec=".4f")),
    ("val_loss", Column("validation loss", spec=".4f")),
    ("accuracy", Column("training accuracy", spec=PERCENT)),
    ("val_accuracy", Column("validation accuracy", spec=PERCENT)),
)


def spread_note(runs: TrainingRuns) -> str:
    """What the figures behind ± are, for the title of a table."""
    seeds = runs.seeds
    return "one seed" if seeds == 1 else f"mean ± standard deviation of {seeds} seeds"


def last_epoch(runs: TrainingRuns, head: str = "network", measures: Measures = MEASURES) -> Table:
    """How every arm ended, and what an epoch took."""
    columns = [Column(head), *(column for _, column in measures), Column("an epoch", "s", ".3f")]
    rows = [[arm, *(runs.at(arm, key) for key, _ in measures), runs.epoch_seconds(arm)] for arm in runs.arms]
    return Table("last-epoch", f"After the last epoch ({spread_note(runs)})", columns, rows)


def every_epoch(
    runs: TrainingRuns,
    where: Literal["print", "report"] = "report",
    head: str = "network",
    measures: Measures = MEASURES,
) -> Table:
    """Losses and accuracies of every epoch."""
    columns = [Column(head), Column("epoch"), *(column for _, column in measures)]
    rows = [
        [arm, epoch + 1, *(runs.at(arm, key, epoch) for key, _ in measures)]
        for arm in runs.arms
        for epoch in range(runs.epochs(arm))
    ]
    return Table("epochs", f"Every epoch ({spread_note(runs)})", columns, rows, where)


def goals(runs: TrainingRuns, accuracies: Sequence[float], head: str = "network") -> list[Table]:
    """After how many epochs, and seconds, each arm reached given validation accuracies.

    Left out are accuracies that none reached, and those that all reached at once, but for the highest of them.
    """
    found = {goal: [runs.epochs_to(arm, "val_accuracy", goal) for arm in runs.arms] for goal in sorted(accuracies)}
    reached = [goal for goal, those in found.items() if any(one.count for one in those)]
    if not reached:
        return []
    at_once = [goal for goal in reached if all(one.mean == 1 and one.count == one.of for one in found[goal])]
    reached = [goal for goal in reached if goal not in at_once[:-1]]
    epochs = [[arm, *(runs.epochs_to(arm, "val_accuracy", goal) for goal in reached)] for arm in runs.arms]
    seconds = [[arm, *(runs.seconds_to(arm, "val_accuracy", goal) for goal in reached)] for arm in runs.arms]
    note = spread_note(runs)

    def columns(unit: str, spec: str) -> list[Column]:
        return [Column(head), *(Column(f"{goal:.0%}", unit, spec) for goal in reached)]

    return [
        Table("epochs-to", f"Epochs until a validation accuracy was reached ({note})", columns("", ".3g"), epochs),
        Table("seconds-to", f"Seconds until a validation accuracy was reached ({note})", columns("s", ".2f"), seconds),
    ]


def every_run(runs: TrainingRuns, measures: Measures = MEASURES) -> Table:
    """Every epoch of every seed, for a CSV file."""
    columns = [Column("network"), Column("seed"), Column("epoch"), *(column for _, column in measures)]
    rows: list[list[Any]] = [
        [run.arm, run.seed, epoch + 1, *(run.history[key][epoch] for key, _ in measures), seconds]
        for run in runs.runs
        for epoch, seconds in enumerate(run.seconds)
    ]
    return Table("runs", "Every epoch of every seed", [*columns, Column("time", "s")], rows, "file")
