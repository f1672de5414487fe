"""How pictures of studies look: colours, lines, panels. Uses matplotlib without pyplot, and changes no settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from normcore.training._plots import GREY as GREY
from normcore.training._plots import tidy as tidy

from ._runs import TrainingRuns, rises

# Okabe and Ito's colours without the yellow, which is too light for a line on white; black comes first, for the
# baseline. They are told apart with every kind of colour vision, and the markers do it again.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

PARTS = {"": "training", "val_": "validation"}
TITLES = {"loss": "loss (cross-entropy, nats)", "accuracy": "accuracy (%)"}


def new_figure(
    title: str, rows: int = 1, columns: int = 1, width: float = 5.2, height: float = 3.7
) -> tuple[Figure, Any]:
    """Return a figure that belongs to nobody else, and its panels as an array of shape (rows, columns)."""
    figure = Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=14, x=0.01, ha="left")
    return figure, figure.subplots(rows, columns, squeeze=False)


def whole_numbers(axes: Any) -> None:
    """Ticks of the x axis at whole numbers."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


def in_percent(axes: Any) -> None:
    """A y axis of shares in percent."""
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def logarithmic(axes: Any) -> None:
    """A logarithmic y axis with plain numbers; as it is if nothing on it is positive."""
    drawn = np.concatenate([np.asarray(line.get_ydata(), float).ravel() for line in axes.lines] or [np.empty(0)])
    if not (np.isfinite(drawn) & (drawn > 0)).any():
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def legend_below(figure: Figure, axes: Any, columns: int = 5) -> None:
    """One legend for all panels, below them."""
    handles, labels = axes.get_legend_handles_labels()
    widest = 0.65 + 0.088 * max(map(len, labels), default=0)  # of a column, in inches, by the look of font size 11
    columns = max(1, min(columns, len(labels), int(figure.get_figwidth() / widest)))
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, frameon=False, fontsize=11)


def band(axes: Any, runs: TrainingRuns, arm: str, key: str, index: int, label: str = "", style: str = "-") -> None:
    """The mean over the seeds, and between the lowest and the highest of them a shade."""
    values = np.array([run.history[key] for run in runs.of(arm)], float)
    epochs = np.arange(1, values.shape[1] + 1)
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    spacing = max(1, math.ceil(len(epochs) / 10))
    axes.plot(
        epochs, values.mean(0), style, color=colour, linewidth=1.8, marker=marker, markersize=5, markevery=spacing,
        label=label or arm,
    )  # fmt: skip
    if len(values) > 1:
        axes.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.18, linewidth=0)


def ranges(
    axes: Any,
    runs: TrainingRuns,
    x: Sequence[float],
    arms: Sequence[str],
    key: str,
    index: int,
    label: str,
    style: str = "-",
) -> None:
    """The last epoch of several arms: means over the seeds, and bars from the lowest to the highest."""
    values = [[run.history[key][-1] for run in runs.of(arm)] for arm in arms]
    means = [float(np.mean(numbers)) for numbers in values]
    down = [mean - min(numbers) for mean, numbers in zip(means, values, strict=True)]
    up = [max(numbers) - mean for mean, numbers in zip(means, values, strict=True)]
    bars = [down, up] if runs.seeds > 1 else None
    looks = {"color": COLOURS[index], "marker": MARKERS[index], "markersize": 7, "linewidth": 1.8, "capsize": 4}
    axes.errorbar(x, means, bars, linestyle=style, label=label, **looks)


def curves(runs: TrainingRuns, title: str, arms: Sequence[str] = (), logs: bool = True) -> Figure:
    """Loss above accuracy, training beside validation, over the epochs."""
    figure, panels = new_figure(title, 2, 2)
    for row, measure in zip(panels, ("loss", "accuracy"), strict=True):
        for axes, (prefix, part) in zip(row, PARTS.items(), strict=True):
            for index, arm in enumerate(arms or runs.arms):
                band(axes, runs, arm, prefix + measure, index)
            tidy(axes, f"{part} {measure}", "epoch", TITLES[measure])
            whole_numbers(axes)
            if rises(measure):
                in_percent(axes)
            elif logs:
                logarithmic(axes)
        _same_limits(row)
    legend_below(figure, panels[0, 0])
    return figure


def _same_limits(row: Any) -> None:
    """The two panels side by side can be compared by eye."""
    low = min(axes.get_ylim()[0] for axes in row)
    high = max(axes.get_ylim()[1] for axes in row)
    for axes in row:
        axes.set_ylim(low, high)
