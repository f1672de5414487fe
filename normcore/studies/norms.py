"""Which normalisation lets a small network learn sooner: batch, layer, group or RMS norm, or none?

The network is that of a Keras tutorial that compares batch norm with layer norm on MNIST: 784-128-64-10, ReLU, Adam,
five epochs, batches of 32. Group and RMS norm are added. All five have the same starting weights for the same seed, see
the same batches in the same order, and have the same learning rate, as in the tutorial; so a norm that would like
another one is not given it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from normcore.nn import Module
from normcore.optim import Adam, Optimizer

from ._arms_result import arms_result
from ._config import TrainingConfig
from ._data import Classes
from ._result import Result
from ._training import ArmPlan, network, train_study
from ._verdict import versus

_NORMS = {"no norm": None, "batch norm": "batch", "layer norm": "layer", "group norm": "group", "RMS norm": "rms"}


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
    DataError, DataNotFoundError
        If the data set cannot be had.

    Examples
    --------
    >>> from normcore.studies import norms
    >>> result = norms.run(norms.Config(epochs=1, repeats=1))
    >>> [row[0] for row in result.tables[0].rows]
    ['no norm', 'batch norm', 'layer norm', 'group norm', 'RMS norm']
    """
    trained = train_study(config, partial(_plans, config), progress)
    return arms_result(
        "norms",
        config,
        trained,
        title="Norms: none, batch, layer, group and RMS norm",
        question="Which normalisation lets a small network learn sooner, and what does it cost?",
        notes=(
            f"Network {trained.shape(config.hidden)} with ReLU and the norm before each ReLU, "
            f"Adam with learning rate {config.lr:g}, batches of {config.batch_size}, {config.epochs} epochs.",
        ),
        conclusions=[versus(trained.runs, arm, "no norm") for arm in trained.runs.arms if arm != "no norm"],
        curves={"curves": ("Five ways to normalise", list(_NORMS))},
        print_epochs=True,
    )


def _plans(config: Config, data: Classes) -> list[ArmPlan]:
    def optimizer(model: Module) -> Optimizer:
        return Adam(model.parameters(), lr=config.lr)

    return [
        ArmPlan(name, partial(network, data, config.hidden, "relu", norm), optimizer, config.batch_size)
        for name, norm in _NORMS.items()
    ]
