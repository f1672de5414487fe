"""What every layer of a regression network makes of the same points, epoch by epoch, and how that is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normcore.data import Part
from normcore.nn import BatchNorm1d, Linear, Module, Sequential, Tanh
from normcore.training import Trainer

from ._window import Window

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[Any]
SIZE = (15.0, 7.6)  # of a picture, in inches
_WIDTH = 0.86  # of a layer's panel, of which each has 1
_BINS = 40
_ROWS = ("no norm", "batch norm")


class Snapshot(NamedTuple):
    """What a network makes of some points, in evaluation mode; each list has an array (points, units) a hidden layer.

    Attributes
    ----------
    linear : list of ndarray
        What comes out of Linear.
    pre : list of ndarray
        What the activation gets: the same, or with batch norm what that makes of it.
    post : list of ndarray
        What comes out of the activation.
    input : ndarray
        What the first Linear gets.
    output : ndarray
        The prediction.
    """

    linear: list[Array]
    pre: list[Array]
    post: list[Array]
    input: Array
    output: Array


def snapshot(trainer: Trainer, X: Array) -> Snapshot:
    """Look at all layers while the network predicts from X."""
    model = trainer.model
    assert isinstance(model, Sequential)
    layers = list(model)
    linear: list[Array] = []
    pre: list[Array] = []
    post: list[Array] = []
    first = [X]

    def of_linear(module: Module, inputs: tuple[Array], output: Array) -> None:  # noqa: ARG001 - a forward hook's signature
        linear.append(output.copy())

    def of_activation(module: Module, inputs: tuple[Array], output: Array) -> None:  # noqa: ARG001 - likewise
        pre.append(inputs[0].copy())
        post.append(output.copy())

    def of_input_norm(module: Module, inputs: tuple[Array], output: Array) -> None:  # noqa: ARG001 - likewise
        first[0] = output.copy()

    with ExitStack() as stack:
        for layer in layers[:-1]:
            if isinstance(layer, (Linear, Tanh)):
                hook: Callable[..., None] = of_linear if isinstance(layer, Linear) else of_activation
                stack.callback(layer.register_forward_hook(hook).remove)
        if isinstance(layers[0], BatchNorm1d):
            stack.callback(layers[0].register_forward_hook(of_input_norm).remove)
        output = trainer.predict(X, len(X))
    return Snapshot(linear, pre, post, first[0], output)


class Story:
    """The snapshots of the first network of each arm, before the training and after each epoch.

    Parameters
    ----------
    points : Part
        What the snapshots are of.
    planned : int
        How many epochs there are to be.
    window : Window, optional
        Shows every snapshot as it comes.

    Attributes
    ----------
    seen : dict of str to list of Snapshot
        By arm.
    """

    def __init__(self, points: Part, planned: int, window: Window | None = None) -> None:
        self.points, self.planned, self._window = points, planned, window
        self.seen: dict[str, list[Snapshot]] = {}
        self._drawn: dict[int, Figure] = {}

    def begin(self, arm: str) -> bool:
        """Whether this is the first training of the arm, the one to be told of."""
        if arm in self.seen:
            return False
        self.seen[arm] = []
        return True

    def add(self, arm: str, trainer: Trainer) -> None:
        """Take a snapshot, and show it if there is a window."""
        found = self.seen[arm]
        found.append(snapshot(trainer, self.points.X))
        if self._window is not None:
            self._window.show(lambda figure: self.draw(len(found) - 1, figure))

    @property
    def epochs(self) -> range:
        """The epochs of which there is a snapshot; 0 is before the training."""
        return range(max(map(len, self.seen.values()), default=0))

    def at(self, arm: str, epoch: int) -> Snapshot | None:
        """Return a snapshot, None where there is none."""
        found = self.seen.get(arm, [])
        return found[epoch] if epoch < len(found) else None

    @property
    def caption(self) -> str:
        """What the picture of an epoch shows."""
        return (
            "how often each value occurs, over all units of a hidden layer and all points to validate with, in "
            "evaluation mode: what the tanh of each layer gets (pre-activations) and what it returns (activations). "
            "Black, above: without norm; blue, below: with batch norm, where the grey outline is what comes out of "
            "Linear, before the norm. Every histogram is scaled to its fullest bin, and what is off the scale is in "
            "the outermost bins. On the left what the first layer gets, and the fit. Network of the first seed."
        )

    def limit(self) -> float:
        """Half the width of the axis of pre-activations, the same in every picture."""
        values = [np.abs(a).ravel() for found in self.seen.values() for one in found for a in one.pre]
        both = np.concatenate(values) if values else np.ones(1)
        both = both[np.isfinite(both)]
        return float(max(1.0, np.percentile(both, 99.5))) if both.size else 1.0

    def figure(self, epoch: int) -> Figure:
        """Return the picture of an epoch; it is drawn once, for a file and for the animation."""
        if epoch not in self._drawn:
            self._drawn[epoch] = self.draw(epoch)
        return self._drawn[epoch]

    def draw(self, epoch: int, figure: Figure | None = None) -> Figure:
        """Draw the layers after an epoch, on a given figure or a new one."""
        from ._drawing import COLOURS, GREY

        if figure is None:
            from matplotlib.figure import Figure as NewFigure

            figure = NewFigure(figsize=SIZE)
        layers = max((len(one.pre) for found in self.seen.values() for one in found), default=1)
        when = f"after epoch {epoch} of {self.planned}" if epoch else "before the training"
        figure.suptitle(f"Pre-activations and activations of each layer, {when}", fontsize=14, x=0.01, ha="left")
        # One axes for all layers of a row, and margins that are known: several times quicker than a panel for each.
        height = {"top": 0.875, "bottom": 0.075, "hspace": 0.62}
        left: Any = figure.add_gridspec(4, 1, left=0.045, right=0.13, **height).subplots()
        right: Any = figure.add_gridspec(4, 1, left=0.18, right=0.995, **height).subplots()
        limit = self.limit()
        for row, arm in enumerate(_ROWS):
            upper, lower, top, bottom = right[2 * row], right[2 * row + 1], left[2 * row], left[2 * row + 1]
            one, colour = self.at(arm, epoch), COLOURS[row]
            first = 10.0 if one is None else float(np.nanmax(np.abs(one.input)))
            if one is not None:
                for layer in range(layers):
                    if arm == "batch norm":
                        _histogram(upper, one.linear[layer], limit, layer, GREY, filled=False)
                    _histogram(upper, one.pre[layer], limit, layer, colour)
                    _histogram(lower, one.post[layer], 1.0, layer, colour)
                _histogram(top, one.input, first, 0, colour)
            _label(upper, limit, layers, "pre-activation, a panel for each layer")
            _label(lower, 1.0, layers, "activation, a panel for each layer")
            _label(top, first, 1, "input")
            self._fit(bottom, one, colour)
            if not row:
                for layer in range(layers):
                    upper.text(layer, 1.12, f"layer {layer + 1}", ha="center", fontsize=11)
            top.text(-0.55, 1.12, arm, color=colour, fontsize=12, fontweight="bold")
        right[2].text(layers - 0.5, 1.12, "grey outline: before the norm", ha="right", color=GREY, fontsize=10)
        return figure

    def _fit(self, axes: Any, one: Snapshot | None, colour: str) -> None:
        x, y = self.points.X.ravel(), self.points.y.ravel()
        axes.plot(x, y, ".", color="#BBBBBB", markersize=2)
        if one is not None:
            axes.plot(x, one.output.ravel(), color=colour, linewidth=2)
        axes.set_ylim(float(y.min()) - 5, float(y.max()) + 5)
        _plain(axes, "x (no unit)", "y (no unit)")


def _histogram(axes: Any, values: Array, limit: float, place: int, colour: str, filled: bool = True) -> None:
    """A histogram over [-limit, limit], which is drawn around `place` with a width of `_WIDTH`."""
    finite = values[np.isfinite(values)].astype(np.float64)
    if finite.size:
        counts, edges = np.histogram(np.clip(finite, -limit, limit), _BINS, (-limit, limit))
        edges = place + edges / limit * _WIDTH / 2
        axes.stairs(counts / counts.max(), edges, fill=filled, color=colour, linewidth=1.3)


def _label(axes: Any, limit: float, panels: int, x: str) -> None:
    """Ticks of every panel, at 0 and at a round number on both sides."""
    step = 10 ** math.floor(math.log10(limit))
    most = step * max(factor for factor in (1, 2, 5) if factor * step <= limit * (1 + 1e-9))
    ticks = [
        (place + value / limit * _WIDTH / 2, f"{value:g}") for place in range(panels) for value in (-most, 0, most)
    ]
    axes.set_xticks([at for at, _ in ticks], labels=[text for _, text in ticks])
    for place in range(1, panels):
        axes.axvline(place - 0.5, color="#CCCCCC", linewidth=0.8)
    axes.set_xlim(-0.5, panels - 0.5)
    axes.set_ylim(0, 1.08)
    axes.set_yticks([0, 1])
    _plain(axes, x, "share of the\nfullest bin")


def _plain(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9, labelpad=0)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
