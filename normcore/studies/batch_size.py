"""At which batch size does batch norm stop helping?

Batch norm estimates mean and variance of every feature from the rows of a batch: from 4 rows the estimates are noise,
which is passed on to all rows and is another one than in evaluation. On the other hand, a small batch gives many steps
in an epoch, so that a network without norm gets further. The networks of `_deep`, with batches of 4, 64, 256 and 1024;
the learning rate is the same for all sizes, as in the tutorial.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ._arms_result import arms_result
from ._config import one_of, several, whole
from ._data import Classes
from ._deep import SHOWN, DeepConfig, deep_plan, network_note, pair
from ._estimate import Difference
from ._picture import Picture
from ._result import Result
from ._run_tables import PERCENT, spread_note
from ._runs import TrainingRuns
from ._table import Column, Table
from ._training import ArmPlan, Trained, train_study
from ._verdict import capitalised

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KEY = "val_accuracy"


@dataclass(frozen=True)
class Config(DeepConfig):
    """All that decides the study's numbers; `DeepConfig` has the rest, and `batch_size` of it is not used.

    Attributes
    ----------
    sizes : tuple of int
        Rows in a step.
    activations : tuple of {"sigmoid", "relu"}
        After every hidden layer.
    """

    sizes: tuple[int, ...] = (4, 64, 256, 1024)
    activations: tuple[str, ...] = ("sigmoid", "relu")

    QUICK: ClassVar[Mapping[str, Any]] = {"repeats": 1, "epochs": 3}

    def __post_init__(self) -> None:
        super().__post_init__()
        several(self.sizes, "sizes")
        for size in self.sizes:
            whole(size, "every entry of sizes", 2, ", as batch norm needs two rows")
        several(self.activations, "activations")
        for activation in self.activations:
            one_of(activation, ("sigmoid", "relu"), "every entry of activations")


class Pair(NamedTuple):
    """What batch norm did at one batch size.

    Attributes
    ----------
    size : int
        Rows in a step.
    normed, base : str
        Names of the arms.
    gap : Difference
        Of their validation accuracies after the last epoch.
    """

    size: int
    normed: str
    base: str
    gap: Difference


def run(config: Config = Config(), progress: bool = False) -> Result:
    """Train with every batch size, with and without batch norm, with every seed.

    Arguments, result and errors are those of `norms.run`.
    """
    trained = train_study(config, partial(_plans, config), progress)
    runs = trained.runs
    pairs = {activation: _pairs(config, runs, activation) for activation in config.activations}
    activations = " or ".join(SHOWN[activation] for activation in config.activations)
    return arms_result(
        "batch-size",
        config,
        trained,
        title=f"Batch size: {', '.join(map(str, config.sizes))}, with and without batch norm",
        question="At which batch size does batch norm stop helping?",
        notes=(
            network_note(config, trained, activations, "after the first hidden layer alone"),
            f"SGD with learning rate {config.lr:g}, momentum {config.momentum:g} and Nesterov's step at every batch "
            f"size, {config.epochs} epochs: of {_steps(config, trained)} steps.",
        ),
        tables=[_gains(runs, pairs)],
        conclusions=[stops(SHOWN[activation], found) for activation, found in pairs.items() if found],
        curves={
            f"curves-{activation}-{word.replace(' ', '-')}": (
                f"{capitalised(SHOWN[activation])}, {word}, every batch size",
                [_names(activation, size)[which] for size in config.sizes],
            )
            for activation in config.activations
            for which, word in ((1, "no norm"), (0, "batch norm"))
        },
        pictures=(
            Picture(
                "sizes",
                "Validation accuracy after the last epoch over the batch size (logarithmic). Points are means over the "
                "seeds, bars reach from the lowest to the highest seed; dashed without batch norm.",
                partial(_draw, runs, pairs, trained.data.name),
            ),
        ),
    )


def stops(activation: str, pairs: list[Pair]) -> str:
    """At which sizes batch norm helped, at which it did harm, and where it stops helping; "helps" is beyond chance."""
    pairs = sorted(pairs)
    if pairs[0].gap.seeds < 2:
        sizes = ", ".join(f"{pair.gap.mean * 100:+.2f} points at {pair.size}" for pair in pairs)
        return f"With {activation} batch norm changed the accuracy by {sizes} (one seed, so it may be chance)."
    helped = [pair.size for pair in pairs if pair.gap.low > 0]
    harmed = [pair.size for pair in pairs if pair.gap.high < 0]
    unclear = [pair.size for pair in pairs if not pair.gap.clear]
    said = [
        f"{word} at {', '.join(map(str, sizes))}"
        for word, sizes in (("helped", helped), ("did harm", harmed), ("made no clear difference", unclear))
        if sizes
    ]
    all_sizes = [pair.size for pair in pairs]
    if not helped:
        end = "none of these sizes shows it to help"
    elif helped == all_sizes:
        end = "at none of these sizes has it stopped helping"
    elif helped == all_sizes[-len(helped) :]:
        end = f"it stops helping between {helped[0]} and {all_sizes[-len(helped) - 1]} rows, as batches get smaller"
    elif helped == all_sizes[: len(helped)]:
        end = f"it stops helping between {helped[-1]} and {all_sizes[len(helped)]} rows, as batches get larger"
    else:
        end = "there is no one size at which it stops helping"
    return f"With {activation} batch norm {'; it '.join(said)} (95 % intervals over {pairs[0].gap.seeds} seeds): {end}."


def _names(activation: str, size: int) -> tuple[str, str]:
    return pair(f"{SHOWN[activation]}, {size}")


def _plans(config: Config, data: Classes) -> list[ArmPlan]:
    return [
        deep_plan(config, data, name, activation, normed, batch_size=size)
        for activation in config.activations
        for size in sorted(config.sizes, reverse=True)  # the quick ones first
        for normed, name in enumerate(reversed(_names(activation, size)))
    ]


def _pairs(config: Config, runs: TrainingRuns, activation: str) -> list[Pair]:
    names = [(size, *_names(activation, size)) for size in config.sizes]
    return [Pair(size, a, b, runs.compare(a, b, _KEY)) for size, a, b in names if a in runs.arms and b in runs.arms]


def _steps(config: Config, trained: Trained) -> str:
    return ", ".join(f"{trained.data.steps(size)} ({size})" for size in config.sizes)


def _gains(runs: TrainingRuns, pairs: Mapping[str, list[Pair]]) -> Table:
    columns = [
        Column("activation"),
        Column("batch size"),
        Column("no norm", spec=PERCENT),
        Column("batch norm", spec=PERCENT),
        Column("gain", "points", "+.2f"),
        Column("95 % interval, from", "points", "+.2f"),
        Column("to", "points", "+.2f"),
    ]
    rows = [
        [
            SHOWN[activation], size, runs.at(base, _KEY), runs.at(normed, _KEY), gap.mean * 100,
            *((gap.low * 100, gap.high * 100) if gap.seeds > 1 and not gap.tied else (None, None)),
        ]
        for activation, found in pairs.items()
        for size, normed, base, gap in found
    ]  # fmt: skip
    return Table("gains", f"Validation accuracy after the last epoch ({spread_note(runs)})", columns, rows)


def _draw(runs: TrainingRuns, pairs: Mapping[str, list[Pair]], data: str) -> Figure:
    from matplotlib.ticker import NullLocator

    from ._drawing import in_percent, legend_below, new_figure, ranges, tidy

    figure, panels = new_figure(f"Batch norm at several batch sizes, {data}", width=7)
    axes = panels[0, 0]
    sizes = sorted({one.size for found in pairs.values() for one in found})
    for index, (activation, found) in enumerate(pairs.items()):
        x = [one.size for one in found]
        ranges(axes, runs, x, [one.normed for one in found], _KEY, 2 * index + 1, f"{SHOWN[activation]}, batch norm")
        ranges(axes, runs, x, [one.base for one in found], _KEY, 2 * index + 2, f"{SHOWN[activation]}, no norm", "--")
    tidy(axes, "after the last epoch", "batch size (rows)", "validation accuracy (%)")
    axes.set_xscale("log")
    axes.set_xticks(sizes, labels=[str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    in_percent(axes)
    legend_below(figure, axes, 2)
    return figure
