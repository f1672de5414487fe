"""Does batch norm help with SGD and with Adam alike, when both have the learning rate 0.01?

The network has sigmoids; see `_deep` for it. 0.01 is ten times Adam's usual rate and a usual one for SGD with momentum.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ._arms_result import arms_result
from ._config import one_of
from ._data import Classes
from ._deep import SHOWN, DeepConfig, adam, deep_plan, network_note, pair, sgd, verdicts
from ._result import Result
from ._training import ArmPlan, train_study

_OPTIMIZERS = {"SGD": sgd, "Adam": adam}


@dataclass(frozen=True)
class Config(DeepConfig):
    """All that decides the study's numbers; `DeepConfig` has the rest.

    Attributes
    ----------
    activation : {"sigmoid", "relu"}
        After every hidden layer.
    """

    activation: str = "sigmoid"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.activation, ("sigmoid", "relu"), "activation")


def run(config: Config = Config(), progress: bool = False) -> Result:
    """Train four networks, by SGD and by Adam with and without batch norm, with every seed.

    Arguments, result and errors are those of `norms.run`.
    """
    trained = train_study(config, partial(_plans, config), progress)
    return arms_result(
        "optimizers",
        config,
        trained,
        title=f"Optimizers: SGD and Adam at learning rate {config.lr:g}, with and without batch norm",
        question="Does batch norm help with SGD and with Adam alike, at the same learning rate?",
        notes=(
            network_note(config, trained, SHOWN[config.activation], "after the first hidden layer alone"),
            f"Learning rate {config.lr:g} for both, SGD with momentum {config.momentum:g} and Nesterov's step; batches "
            f"of {config.batch_size}, {config.epochs} epochs of {trained.data.steps(config.batch_size)} steps.",
        ),
        conclusions=verdicts(trained, list(_OPTIMIZERS)),
        curves={"curves": (f"SGD and Adam at learning rate {config.lr:g}", trained.runs.arms)},
    )


def _plans(config: Config, data: Classes) -> list[ArmPlan]:
    return [
        deep_plan(config, data, name, config.activation, normed, optimizer)
        for prefix, optimizer in _OPTIMIZERS.items()
        for normed, name in enumerate(reversed(pair(prefix)))
    ]
