"""Which normalisation lets a small network learn sooner: batch, layer, group or RMS norm, or none?

The network is that of a Keras tutorial that compares batch norm with layer norm on MNIST: 784-128-64-10, ReLU, Adam,
five epochs, batches of 32. Group and RMS norm are added. All five have the same starting weights for the same seed, see
the same batches in the same order, and have the same learning rate, as in the tutorial; so a norm that would like
another one is not given it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from normcore.optim import Adam

from ._config import TrainingConfig, contents
from ._data import Classes
from ._picture import Picture
from ._result import Result
from ._run_tables import every_epoch, every_run, goals, last_epoch
from ._runs import TrainingRuns
from ._training import ArmPlan, network, train_study
from ._verdict import versus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NORMS = {"no norm": None, "batch norm": "batch", "layer norm": "layer", "group norm": "group", "RMS norm": "rms"}
_GOALS = (0.8, 0.9, 0.95, 0.96, 0.97, 0.98)


@dataclass(frozen=True)
class Config(TrainingConfig):
    """All that decides the study's numbers; see `TrainingConfig`."""


def run(config: Config = Config(), progress: bool = False) -> Result:
    """Train the five networks with every seed and return what happened.

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
    DataError
        If the data set cannot be had.

    Examples
    --------
    >>> from normcore.studies import norms
    >>> result = norms.run(norms.Config(epochs=1, repeats=1))
    >>> [row[0] for row in result.tables[0].rows]
    ['no norm', 'batch norm', 'layer norm', 'group norm', 'RMS norm']
    """
    trained = train_study(config, partial(_plans, config), progress)
    runs, data = trained.runs, trained.data
    return Result(
        study="norms",
        title=f"Norms: none, batch, layer, group and RMS norm on {data.name}",
        question="Which normalisation lets a small network learn sooner, and what does it cost?",
        notes=(
            f"Network {trained.shape(config.hidden)} with ReLU and the norm before each ReLU, "
            f"Adam with learning rate {config.lr:g}, batches of {config.batch_size}, {config.epochs} epochs.",
            trained.fairness,
        ),
        config=contents(config),
        tables=(last_epoch(runs), every_epoch(runs, "print"), *goals(runs, _GOALS), every_run(runs)),
        conclusions=[versus(runs, arm, "no norm") for arm in runs.arms if arm != "no norm"],
        pictures=(
            Picture(
                "curves",
                "Loss (logarithmic) and accuracy over the epochs, training on the left and validation on the right. "
                "Lines are means over the seeds, shades reach from the lowest to the highest seed.",
                partial(_curves, runs, data.name),
            ),
        ),
        seconds=trained.seconds,
        environment=trained.environment,
        interrupted=runs.interrupted,
    )


def _plans(config: Config, data: Classes) -> list[ArmPlan]:
    def plan(name: str, norm: str | None) -> ArmPlan:
        model = partial(network, data, config.hidden, "relu", norm)
        return ArmPlan(name, model, lambda model: Adam(model.parameters(), lr=config.lr), config.batch_size)

    return [plan(name, norm) for name, norm in _NORMS.items()]


def _curves(runs: TrainingRuns, data: str) -> Figure:
    from ._drawing import curves

    return curves(runs, f"Five ways to normalise 128-64 hidden units, {data}")
