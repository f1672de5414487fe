"""How far does the distribution of each layer's inputs move during training, with and without batch norm?

The network and the training are those of the experiment in the batch norm paper (Ioffe & Szegedy 2015, section 4.1 and
figure 1): 784-100-100-100-10 on MNIST, sigmoids, batch norm before each, small Gaussian starting weights, plain
gradient descent in batches of 60; 50 epochs of MNIST are its 50,000 steps. The paper does not say how small the weights
or what the learning rate is. As it does, this study shows the 15, 50 and 85 % quantiles of what one typical sigmoid of
the last hidden layer gets; and for all units of all layers how far quantiles, mean and spread move.

The paper explains the benefit of batch norm by less such movement. Santurkar et al. 2018 found that it learns as well
with more of it. So what comes out of the Linear layers, before the norm, is watched too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from normcore.nn import Linear, Module, Sequential
from normcore.optim import SGD, Optimizer

from ._arms_result import arms_result
from ._config import TrainingConfig, positive, whole
from ._data import Classes
from ._distributions import Moves, Watch, Watched
from ._estimate import Estimate, difference
from ._picture import Picture
from ._result import Result
from ._run_tables import spread_note
from ._runs import Run, TrainingRuns
from ._table import Column, Table
from ._training import ArmPlan, network, train_study
from ._verdict import versus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ARMS: dict[str, str | None] = {"no norm": None, "batch norm": "batch"}
# Where is looked: the arm, and what of it
_PLACES: dict[str, tuple[str, Callable[[Watched], list[Moves]]]] = {
    "no norm": ("no norm", lambda watched: watched.inputs),
    "batch norm": ("batch norm", lambda watched: watched.inputs),
    "batch norm, before the norm": ("batch norm", lambda watched: watched.linear),
}


@dataclass(frozen=True)
class Config(TrainingConfig):
    """All that decides the study's numbers; `TrainingConfig` has the rest.

    Attributes
    ----------
    weight_std : float
        Starting weights are from N(0, weight_std), biases 0.
    looks : int
        How often is looked at the layers, evenly over the training.
    rows : int
        How many rows of the validation data are looked at, always the same.
    """

    hidden: tuple[int, ...] = (100, 100, 100)
    epochs: int = 60
    batch_size: int = 60
    lr: float = 0.5
    weight_std: float = 0.1
    looks: int = 100
    rows: int = 400

    QUICK: ClassVar[Mapping[str, Any]] = {"repeats": 1, "epochs": 40}

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self.weight_std, "weight_std")
        whole(self.looks, "looks", 2)
        whole(self.rows, "rows", 2, ", as batch norm needs two rows")


def run(config: Config = Config(), progress: bool = False) -> Result:
    """Train with and without batch norm, with every seed, and look at the layers on the way.

    Parameters
    ----------
    config : Config
        What to do.
    progress : bool, default False
        Whether to show a bar on stderr.

    Returns
    -------
    Result
        Print its ``table()``.

    Raises
    ------
    DataError, DataNotFoundError
        If the data set cannot be had.
    """
    trained = train_study(config, partial(_plans, config), progress)
    runs, name = trained.runs, trained.data.name
    layers = len(config.hidden)
    return arms_result(
        "shift",
        config,
        trained,
        title="Shift: how the inputs of layers move during training",
        question="How far does the distribution of each layer's inputs move, with and without batch norm?",
        notes=(
            f"Network {trained.shape(config.hidden)} with sigmoids, batch norm before each; starting weights from "
            f"N(0, {config.weight_std:g}), biases 0.",
            f"Plain SGD with learning rate {config.lr:g}, batches of {config.batch_size}, {config.epochs} epochs of "
            f"{trained.data.steps(config.batch_size)} steps.",
            f"Every {_every(config, trained.data)} steps the network gets the same {_rows(config, trained.data)} rows "
            "of validation data, and batch norm uses their statistics, as it does in training. So behind the norm mean "
            "and spread are beta and |gamma| by construction; what can move besides is the shape.",
            "Spread is the standard deviation over the rows. A way is the sum of all moves from look to look; that of "
            "the quantiles is the mean of the 15, 50 and 85 % quantiles, in units of the spread before each move. All "
            "figures are means over the units of a layer.",
        ),
        conclusions=[
            *(sentence for layer in {0, layers - 1} for sentence in _verdicts(runs, layer)),
            *([versus(runs, "batch norm", "no norm")] if len(runs.arms) == 2 else []),
        ],
        curves={"curves": ("Sigmoids, with and without batch norm", list(_ARMS))},
        tables=(_movement(runs, layers), _looks(runs, layers)),
        pictures=(
            Picture(
                "quantiles",
                "What one typical sigmoid of the last hidden layer gets over the training (first seed): the 15, 50 and "
                "85 % quantiles over the rows. Typical is the unit whose quantiles went the median way.",
                partial(_quantiles, runs, [layers - 1], f"Input of a typical sigmoid of layer {layers}, {name}", True),
            ),
            Picture(
                "layers",
                "The same for every hidden layer, and for batch norm also what comes out of Linear, before the norm. "
                "The scale of the vertical axis is that of each panel.",
                partial(_quantiles, runs, range(layers), f"Inputs of typical sigmoids, {name}", False),
            ),
            Picture(
                "moves",
                "How far the three quantiles moved from one look to the next, in units of the spread that the unit had "
                "before (logarithmic; mean over quantiles and units, first seed).",
                partial(_moves, runs, layers, name),
            ),
        ),
    )


def _plans(config: Config, data: Classes) -> list[ArmPlan]:
    def optimizer(model: Module) -> Optimizer:
        return SGD(model.parameters(), lr=config.lr)

    X = data.validation.X[: _rows(config, data)]
    return [
        ArmPlan(
            name,
            partial(_network, config, data, norm),
            optimizer,
            config.batch_size,
            partial(Watch, X, _every(config, data)),
        )
        for name, norm in _ARMS.items()
    ]


def _every(config: Config, data: Classes) -> int:
    return max(1, config.epochs * data.steps(config.batch_size) // config.looks)


def _rows(config: Config, data: Classes) -> int:
    return min(config.rows, len(data.validation.y))


def _network(config: Config, data: Classes, norm: str | None, seed: int) -> Sequential:
    model = network(data, config.hidden, "sigmoid", norm, seed)
    rng = np.random.default_rng(seed)
    for layer in model:
        if isinstance(layer, Linear) and layer.bias is not None:
            layer.weight.data[...] = rng.normal(0, config.weight_std, layer.weight.shape)
            layer.bias.data[...] = 0
    return model


# --- what was seen ----------------------------------------------------------------------------------------------------


def _places(runs: TrainingRuns) -> list[str]:
    """The places in networks of which there is a training."""
    return [place for place, (arm, _) in _PLACES.items() if arm in runs.arms]


def _at(run: Run, place: str, layer: int) -> Moves:
    return _PLACES[place][1](run.recorded)[layer]


def _over(runs: TrainingRuns, place: str, layer: int, value: Callable[[Moves], float]) -> list[float]:
    """A number for each seed."""
    return [value(_at(run, place, layer)) for run in runs.of(_PLACES[place][0])]


def _movement(runs: TrainingRuns, layers: int) -> Table:
    measures: dict[str, Callable[[Moves], float]] = {
        "spread at first": lambda moves: moves.spread(0),
        "spread at last": lambda moves: moves.spread(-1),
        "way of the mean": Moves.way_of_mean,
        "way of the quantiles": Moves.way,
        "way of log spread": Moves.way_of_spread,
    }
    rows = [
        [place, layer + 1, *(Estimate.over(_over(runs, place, layer, value)) for value in measures.values())]
        for place in _places(runs)
        for layer in range(layers)
    ]
    columns = [
        Column("inputs of sigmoids"),
        Column("layer"),
        *(Column(name, "spreads" if measure is Moves.way else "", ".3g") for name, measure in measures.items()),
    ]
    return Table("movement", f"How far the inputs of the sigmoids moved ({spread_note(runs)})", columns, rows)


def _looks(runs: TrainingRuns, layers: int) -> Table:
    """Every look: means over the units, and the quantiles of the typical one."""
    rows: list[list[Any]] = []
    for place in _places(runs):
        for run in runs.of(_PLACES[place][0]):
            for layer in range(layers):
                moves = _at(run, place, layer)
                unit = moves.typical()
                rows += [
                    [
                        place, run.seed, layer + 1, step, float(np.abs(moves.mean[look]).mean()), moves.spread(look),
                        unit, *map(float, moves.quantiles[look, unit]),
                    ]
                    for look, step in enumerate(run.recorded.steps)
                ]  # fmt: skip
    names = ("inputs of sigmoids", "seed", "layer", "step", "magnitude of the mean", "spread", "typical unit")
    columns = [Column(name) for name in (*names, "15 % quantile", "50 % quantile", "85 % quantile")]
    return Table("looks", "Every look of every seed", columns, rows, "file")


def _verdicts(runs: TrainingRuns, layer: int) -> list[str]:
    """Whether what a layer's sigmoids get moves less with batch norm, behind the norm and before it."""
    if len(runs.arms) < 2:
        return []
    said = []
    base = _over(runs, "no norm", layer, Moves.way)
    for place in ("batch norm", "batch norm, before the norm"):
        own = _over(runs, place, layer, Moves.way)
        seeds = min(len(own), len(base))
        gap = difference(own[:seeds], base[:seeds])
        a, b = Estimate.over(own).mean, Estimate.over(base).mean
        what = "what its sigmoids get" if place == "batch norm" else "what comes out of Linear, before the norm,"
        word = "less" if a < b else "more"
        chance = "" if gap.clear else (", one seed, so it may be chance" if seeds < 2 else ", which may be chance")
        said.append(
            f"Layer {layer + 1}: with batch norm {what} moved {word} than without: the quantiles went {a:.3g} spreads "
            f"against {b:.3g}{chance}."
        )
    return said


# --- pictures ---------------------------------------------------------------------------------------------------------


def _quantiles(runs: TrainingRuns, layers: Any, title: str, short: bool) -> Figure:
    from ._drawing import COLOURS, legend_below, new_figure, tidy

    places = [place for place in _places(runs) if not short or place in _ARMS]
    width, height = (5.2, 3.7) if short else (4.6, 2.7)
    figure, panels = new_figure(title, len(layers), len(places), width, height)
    for row, layer in zip(panels, layers, strict=True):
        for axes, place in zip(row, places, strict=True):
            run = runs.of(_PLACES[place][0])[0]
            moves = _at(run, place, layer)
            unit, steps = moves.typical(), run.recorded.steps
            low, middle, high = moves.quantiles[:, unit].T
            axes.fill_between(steps, low, high, color=COLOURS[1], alpha=0.15, linewidth=0)
            axes.plot(steps, high, "--", color=COLOURS[1], linewidth=1.6, label="85 % quantile")
            axes.plot(steps, middle, "-", color=COLOURS[0], linewidth=2, label="50 % quantile (median)")
            axes.plot(steps, low, ":", color=COLOURS[2], linewidth=2, label="15 % quantile")
            where = "" if len(layers) == 1 else f", layer {layer + 1}"
            tidy(axes, f"{place}{where} (unit {unit})", "training step", "input (no unit)")
    legend_below(figure, panels[0, 0], 3)
    if short:
        low = min(axes.get_ylim()[0] for axes in panels[0])
        high = max(axes.get_ylim()[1] for axes in panels[0])
        for axes in panels[0]:
            axes.set_ylim(low, high)
    return figure


def _moves(runs: TrainingRuns, layers: int, name: str) -> Figure:
    from ._drawing import COLOURS, legend_below, logarithmic, new_figure, tidy

    figure, panels = new_figure(f"Moves of sigmoids' inputs, {name}", columns=layers, width=4.6)
    styles = ("-", "-", "--")
    for layer, axes in enumerate(panels[0]):
        for index, place in enumerate(_places(runs)):
            run = runs.of(_PLACES[place][0])[0]
            moves = _at(run, place, layer).steps().mean(axis=1)
            axes.plot(run.recorded.steps[1:], moves, styles[index], color=COLOURS[index], linewidth=1.6, label=place)
        tidy(axes, f"layer {layer + 1}", "training step", "move between looks (spreads)")
        logarithmic(axes)
    legend_below(figure, panels[0, 0], 3)
    return figure
