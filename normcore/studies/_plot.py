"""The picture of the study digits: training curves of its two arms."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator, PercentFormatter, StrMethodFormatter

if TYPE_CHECKING:
    from ._two_arms import StudyResult

_COLOURS = ("#D55E00", "#0072B2")  # vermilion and blue of Okabe and Ito: told apart with every kind of colour vision
_GREY = "#555555"
_CURVES = (("", "-", "training"), ("val_", "--", "validation"))


def curves(result: StudyResult) -> Figure:
    """Draw loss (log scale) and accuracy over the epochs, training solid and validation dashed.

    The figure belongs to nobody else: pyplot and its settings are neither used nor changed. Save it with
    ``figure.savefig(path)``.
    """
    figure = Figure(figsize=(10, 5), dpi=150, layout="constrained")
    figure.suptitle(result.title, fontsize=15, x=0.01, ha="left")
    figure.supxlabel("\n".join(textwrap.wrap(result.conclusion, 130)), fontsize=10, x=0.01, ha="left", color=_GREY)
    loss, accuracy = figure.subplots(1, 2)
    _panel(loss, result, "loss", "Loss")
    loss.set_yscale("log")
    loss.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    loss.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
    _panel(accuracy, result, "accuracy", "Accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    accuracy.set_ylim(top=1.005)
    accuracy.legend(loc="lower right", fontsize=11, frameon=False, handlelength=2.6)
    _mark_goal(loss, result)
    return figure


def _panel(axes: Any, result: StudyResult, key: str, title: str) -> None:
    for arm, colour in zip(result.arms, _COLOURS, strict=True):
        for prefix, style, part in _CURVES:
            values = arm.history[prefix + key]
            epochs = range(1, len(values) + 1)
            marker = "o" if len(values) == 1 else ""
            label = f"{arm.name}, {part}"
            axes.plot(epochs, values, style, color=colour, linewidth=2, marker=marker, markersize=5, label=label)
    axes.set_title(title, fontsize=13, loc="left")
    axes.set_xlabel("epoch", fontsize=12)
    axes.tick_params(labelsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.grid(True, color="#DDDDDD", linewidth=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _mark_goal(axes: Any, result: StudyResult) -> None:
    """A dotted line at the baseline's lowest loss, and the epoch at which each arm gets there."""
    goal = result.goal
    if goal is None or goal <= 0:
        return
    axes.axhline(goal, color=_GREY, linewidth=1, linestyle=":")
    for arm, colour in zip(result.arms, _COLOURS, strict=True):
        epochs = arm.epochs_to(goal)
        if epochs is None:
            continue
        point = (epochs, arm.history["loss"][epochs - 1])
        axes.plot(*point, "o", color=colour, markersize=8)
        late = epochs > len(arm.history["loss"]) / 2
        axes.annotate(
            f"epoch {epochs}",
            point,
            xytext=(8 if not late else -8, -7),
            textcoords="offset points",
            ha="right" if late else "left",
            va="top",
            color=colour,
            fontsize=12,
            fontweight="bold",
        )
