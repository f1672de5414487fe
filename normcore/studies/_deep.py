"""The network of the studies activations, depth, optimizers and batch-size, and how it is trained.

784-512-256-128-64-10 on MNIST, SGD with learning rate 0.01, momentum 0.9 and Nesterov's step, batches of 128, ten
epochs: a Keras tutorial's. There batch norm comes behind a hidden layer, that is behind its activation, and so it does
here; the batch norm paper has it before the activation, which `placement="before"` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from normcore.nn import Module
from normcore.optim import SGD, Adam, Optimizer

from ._config import TrainingConfig, one_of, positive
from ._data import Classes
from ._training import ArmPlan, Trained, network
from ._verdict import versus

SHOWN = {"sigmoid": "sigmoid", "relu": "ReLU", "sgd": "SGD", "adam": "Adam"}


@dataclass(frozen=True)
class DeepConfig(TrainingConfig):
    """What decides the numbers; `TrainingConfig` has the rest.

    Attributes
    ----------
    momentum : float
        Of SGD, with Nesterov's step.
    placement : {"after", "before"}
        Whether batch norm is behind a hidden layer's activation or before it.
    """

    hidden: tuple[int, ...] = (512, 256, 128, 64)
    epochs: int = 10
    batch_size: int = 128
    lr: float = 0.01
    momentum: float = 0.9
    placement: str = "after"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self.momentum, "momentum")
        one_of(self.placement, ("after", "before"), "placement")


def sgd(config: DeepConfig, model: Module) -> Optimizer:
    """The tutorial's optimiser."""
    return SGD(model.parameters(), lr=config.lr, momentum=config.momentum, nesterov=True)


def adam(config: DeepConfig, model: Module) -> Optimizer:
    """Adam at the same learning rate."""
    return Adam(model.parameters(), lr=config.lr)


def deep_plan(
    config: DeepConfig,
    data: Classes,
    name: str,
    activation: str,
    normed: int,
    optimizer: Callable[[DeepConfig, Module], Optimizer] = sgd,
    batch_size: int | None = None,
) -> ArmPlan:
    """Return the plan of an arm with batch norm at the first `normed` hidden layers."""
    norms = ["batch" if layer < normed else None for layer in range(len(config.hidden))]
    model = partial(network, data, config.hidden, activation, norms, placement=config.placement)
    return ArmPlan(name, model, partial(optimizer, config), batch_size or config.batch_size)


def network_note(config: DeepConfig, trained: Trained, activation: str, where: str) -> str:
    """The network, as a sentence; `where` says at which hidden layers batch norm is."""
    side = "behind the activation" if config.placement == "after" else "before the activation"
    return f"Network {trained.shape(config.hidden)} with {activation}, batch norm {where} ({side})."


def training_note(config: DeepConfig, trained: Trained) -> str:
    """How it is trained, as a sentence."""
    steps = trained.data.steps(config.batch_size)
    return (
        f"SGD with learning rate {config.lr:g}, momentum {config.momentum:g} and Nesterov's step, "
        f"batches of {config.batch_size}, {config.epochs} epochs of {steps} steps."
    )


def pair(prefix: str) -> tuple[str, str]:
    """Names of two arms that differ in batch norm alone: with it, and without."""
    return f"{prefix}, batch norm", f"{prefix}, no norm"


def verdicts(trained: Trained, prefixes: Sequence[str]) -> list[str]:
    """What batch norm did in every pair of arms that is there."""
    pairs = [pair(prefix) for prefix in prefixes]
    return [versus(trained.runs, normed, base) for normed, base in pairs if normed in trained.runs.arms]
