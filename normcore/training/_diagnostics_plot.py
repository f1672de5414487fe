"""The picture that `Diagnostics.plot` draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from ._plots import tidy

_CURVES = 8  # histograms of one panel: more are a blur
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")  # of Okabe and Ito
_STYLES = ("-", "--", ":", "-.")


def draw_diagnostics(records: Sequence[dict[str, Any]]) -> Figure:
    """Above, a row of histograms for each activation layer; below, gradients, dead units and drift over the steps."""
    if not records:
        raise ValueError("Diagnostics.plot: nothing was recorded yet; pass the callback to fit first.")
    layers = list(records[-1]["activations"])
    figure = Figure(figsize=(12, 2.3 * len(layers) + 3.8), dpi=110, layout="constrained")
    below: Any = figure
    if layers:
        parts: Any = figure.subfigures(2, 1, height_ratios=[2.3 * len(layers), 3.8])
        above, below = parts
        _draw_activations(above, records, layers)
    gradients, dead, drift = below.subplots(1, 3)
    _lines(gradients, records, "gradients", lambda value: value)
    tidy(gradients, "gradient norms of weights", "step")
    if any(value > 0 for line in gradients.lines for value in np.asarray(line.get_ydata(), float)):
        gradients.set_yscale("log")
    _lines(dead, records, "activations", _share_dead)
    tidy(dead, "share of dead units", "step")
    dead.set_ylim(-0.02, 1.02)
    _lines(drift, records, "drift", lambda value: math.hypot(value["mean"], value["var"]))
    tidy(drift, "drift, batch against running statistics", "step")
    drift.set_ylim(bottom=0)
    return figure


def _draw_activations(figure: Any, records: Sequence[dict[str, Any]], layers: list[str]) -> None:
    places = sorted({round(i) for i in np.linspace(0, len(records) - 1, _CURVES)})
    steps = Normalize(records[0]["step"], max(records[-1]["step"], records[0]["step"] + 1))
    # From early, light, to late, dark; without the lightest, which cannot be seen on white.
    colours = ListedColormap(colormaps["viridis_r"](np.linspace(0.1, 1.0, 256)))
    panels = figure.subplots(len(layers), 2, squeeze=False)
    for row, layer in zip(panels, layers, strict=True):
        for axes, key, title in zip(row, ("pre", "post"), ("before", "after"), strict=True):
            tops = []
            for place in places:
                histogram = records[place]["activations"].get(layer, {}).get(key)
                if histogram and histogram["counts"]:
                    counts, edges = np.asarray(histogram["counts"], float), np.asarray(histogram["edges"])
                    density = counts / counts.sum() / np.diff(edges)
                    tops.append(_top(density))
                    axes.stairs(density, edges, color=colours(steps(records[place]["step"])), linewidth=1.6)
            axes.set_ylim(0, max(tops, default=1.0))
            kind = records[-1]["activations"][layer]["kind"]
            tidy(axes, f"{layer} {kind}, {title}", y="density")
    shown = ScalarMappable(steps, colours)
    figure.colorbar(shown, ax=panels.ravel().tolist(), label="step", aspect=40, pad=0.01)


def _top(density: Any) -> float:
    """Where the panel ends: a bar far above all others, that of a ReLU at 0, is cut off."""
    second, first = np.sort(np.append(density, 0.0))[-2:]
    return float(1.05 * first if first <= 4 * second or second == 0 else 1.3 * second)


def _share_dead(value: dict[str, Any]) -> float:
    return math.nan if value["dead"] is None else len(value["dead"]) / max(value["units"], 1)


def _lines(axes: Any, records: Sequence[dict[str, Any]], key: str, value: Callable[[Any], float]) -> None:
    """A line for each name; of gradients those of weights, biases being many and small."""
    names = [name for name in records[-1][key] if key != "gradients" or name.rpartition(".")[2] == "weight"]
    names = names[: len(_LINES) * len(_STYLES)]  # as many as can be told apart
    numbers = [record["step"] for record in records]
    for i, name in enumerate(names):
        values = [value(record[key][name]) if name in record[key] else math.nan for record in records]
        style = _STYLES[i // len(_LINES) % len(_STYLES)]
        marker = "o" if len(records) == 1 else ""
        axes.plot(numbers, values, style, color=_LINES[i % len(_LINES)], linewidth=1.6, marker=marker, label=name)
    if names:
        many = len(names) > 6  # such a legend lies over lines
        axes.legend(frameon=many, framealpha=0.8, edgecolor="none", fontsize=8, ncols=2 if many else 1)
    else:
        axes.text(0.5, 0.5, "no such layers", transform=axes.transAxes, ha="center", color="#555555")
