"""Pictures of a training, with matplotlib. Nobody's settings are used or changed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from .history import History

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#555555"  # of Okabe and Ito: told apart with every colour vision


def tidy(axes: Any, title: str, x: str = "", y: str = "") -> None:
    """A title at the left, a light grid, no frame."""
    axes.set_title(title, loc="left", fontsize=12)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def draw_history(history: History) -> Figure:
    """A panel for each name, validation beside training."""
    if not len(history):
        raise ValueError("History.plot: there is no epoch yet; call fit first.")
    names = list(dict.fromkeys(name.removeprefix("val_") for name in history.history))
    columns = min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4.5 * columns, 3.4 * rows), dpi=120, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        numbers = [number + 1 for number in history.epoch]
        marker = "o" if len(numbers) == 1 else ""
        for prefix, style, colour, label in (("", "-", BLUE, "training"), ("val_", "--", VERMILION, "validation")):
            values = history.history.get(prefix + name)
            if values is not None:
                axes.plot(numbers, values, style, color=colour, linewidth=2, marker=marker, label=label)
        tidy(axes, name, "epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if f"val_{name}" in history.history:
            axes.legend(frameon=False)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    return figure
