"""Does batch norm after the first hidden layer help a deep network with sigmoids, and does it help one with ReLUs?

A sigmoid passes on at most a quarter of a gradient, so that in front of four of them the first layer hardly gets any; a
ReLU passes on all of it or none. See `_deep` for the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ._arms_result import arms_result
from ._data import Classes
from ._deep import SHOWN, DeepConfig, deep_plan, network_note, pair, training_note, verdicts
from ._result import Result
from ._training import ArmPlan, train_study

_ACTIVATIONS = ("sigmoid", "relu")


@dataclass(frozen=True)
class Config(DeepConfig):
    """All that decides the study's numbers; see `DeepConfig`."""


def run(config: Config = Config(), progress: bool = False) -> Result:
    """Train four networks, sigmoid and ReLU with and without batch norm, with every seed.

    Arguments, result and errors are those of `norms.run`.
    """
    trained = train_study(config, partial(_plans, config), progress)
    return arms_result(
        "activations",
        config,
        trained,
        title="Activations: sigmoid and ReLU, with and without batch norm",
        question="Does one batch norm help a deep network with sigmoids, and does it help one with ReLUs?",
        notes=(
            network_note(config, trained, "sigmoid or ReLU", "after the first hidden layer alone"),
            training_note(config, trained),
        ),
        conclusions=verdicts(trained, [SHOWN[activation] for activation in _ACTIVATIONS]),
        curves={"curves": ("Batch norm after the first hidden layer", trained.runs.arms)},
    )


def _plans(config: Config, data: Classes) -> list[ArmPlan]:
    return [
        deep_plan(config, data, name, activation, normed)
        for activation in _ACTIVATIONS
        for normed, name in enumerate(reversed(pair(SHOWN[activation])))
    ]
