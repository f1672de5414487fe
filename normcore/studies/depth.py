"""After how many hidden layers is batch norm worth having, with sigmoids and with ReLUs?

The networks of `_deep`, with batch norm after the first 0, 1, 2, 3 and 4 hidden layers.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ._arms_result import arms_result
from ._data import Classes
from ._deep import SHOWN, DeepConfig, deep_plan, network_note, training_note
from ._picture import Picture
from ._result import Result
from ._runs import TrainingRuns
from ._training import ArmPlan, train_study
from ._verdict import capitalised, points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ACTIVATIONS = ("sigmoid", "relu")
_KEY = "val_accuracy"


@dataclass(frozen=True)
class Config(DeepConfig):
    """All that decides the study's numbers; see `DeepConfig`."""


def run(config: Config = Config(), progress: bool = False) -> Result:
    """Train every network, with sigmoids and with ReLUs and ever more batch norms, with every seed.

    Arguments, result and errors are those of `norms.run`.
    """
    trained = train_study(config, partial(_plans, config), progress)
    counts = range(len(config.hidden) + 1)
    series = {SHOWN[activation]: [_name(activation, count) for count in counts] for activation in _ACTIVATIONS}
    return arms_result(
        "depth",
        config,
        trained,
        title="Depth: batch norm after none, some and all hidden layers",
        question="After how many hidden layers is batch norm worth having?",
        notes=(
            network_note(config, trained, "sigmoid or ReLU", f"after the first {', '.join(map(str, counts))} layers"),
            training_note(config, trained),
        ),
        conclusions=[text for arms in series.values() for text in _verdicts(trained.runs, arms)],
        curves={
            f"curves-{activation.lower()}": (
                f"{capitalised(activation)}: batch norm after ever more hidden layers",
                arms,
            )
            for activation, arms in series.items()
        },
        pictures=(
            Picture(
                "layers",
                "Validation accuracy after the last epoch over the number of hidden layers with batch norm. "
                "Points are means over the seeds, bars reach from the lowest to the highest seed.",
                partial(_layers, trained.runs, series, trained.data.name),
            ),
        ),
    )


def _name(activation: str, count: int) -> str:
    return f"{SHOWN[activation]}, {count} norm{'' if count == 1 else 's'}"


def _plans(config: Config, data: Classes) -> list[ArmPlan]:
    return [
        deep_plan(config, data, _name(activation, count), activation, count)
        for activation in _ACTIVATIONS
        for count in range(len(config.hidden) + 1)
    ]


def _verdicts(runs: TrainingRuns, arms: list[str]) -> list[str]:
    """What each further batch norm adds to the one before it."""
    arms = [arm for arm in arms if arm in runs.arms]
    return [
        f"{capitalised(arm)}: {runs.at(arm, _KEY).mean:.2%}, {points(runs.compare(arm, base, _KEY), base)}."
        for base, arm in itertools.pairwise(arms)
    ]


def _layers(runs: TrainingRuns, series: dict[str, list[str]], data: str) -> Figure:
    from ._drawing import in_percent, legend_below, new_figure, ranges, tidy, whole_numbers

    figure, panels = new_figure(f"Batch norm after ever more hidden layers, {data}", width=7)
    axes = panels[0, 0]
    for index, (activation, arms) in enumerate(series.items()):
        there = [(count, arm) for count, arm in enumerate(arms) if arm in runs.arms]
        ranges(axes, runs, [count for count, _ in there], [arm for _, arm in there], _KEY, index + 1, activation)
    tidy(axes, "after the last epoch", "hidden layers with batch norm", "validation accuracy (%)")
    whole_numbers(axes)
    in_percent(axes)
    legend_below(figure, axes)
    return figure
