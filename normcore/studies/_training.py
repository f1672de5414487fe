"""Training all arms of a study with all its seeds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from normcore.nn import MLP, Module, Sequential
from normcore.nn._norm import Norm
from normcore.optim import Optimizer
from normcore.training import Callback, DivergenceError, Trainer

from ._blas import one_blas_thread
from ._config import TrainingConfig
from ._data import Classes, load_classes
from ._environment import environment
from ._progress import StudyProgress
from ._runs import Run, TrainingRuns


class Recorder(Callback):
    """A callback whose `recorded` is kept in the `Run`; one is made for every training."""

    recorded: Any = None


class ArmPlan(NamedTuple):
    """How an arm is trained.

    Attributes
    ----------
    name : str
        What sets it apart, such as "batch norm".
    model : callable
        Returns the untrained network for a seed.
    optimizer : callable
        Returns the optimiser of that network.
    batch_size : int
        Rows in a step.
    recorder : callable, optional
        Returns a new recorder.
    loss : str
        The trainer's name of the loss.
    data : callable, optional
        Returns for a seed the data of this arm, where arms differ in what they see.
    """

    name: str
    model: Callable[[int], Module]
    optimizer: Callable[[Module], Optimizer]
    batch_size: int
    recorder: Callable[[], Recorder] | None = None
    loss: str = "cross_entropy"
    data: Callable[[int], Classes] | None = None


def network(
    data: Classes,
    hidden: tuple[int, ...],
    activation: str,
    norm: str | Sequence[str | None] | None,
    seed: int,
    placement: str = "before",
) -> Sequential:
    """Return an untrained network; the weights of its Linear layers depend on the seed alone, not on the norm.

    A norm is between a Linear and its activation (`placement` "before") or behind the activation ("after").
    """
    model = MLP(data.sizes(hidden), activation=activation, norm=norm, seed=seed)
    if placement == "before":
        return model
    layers = list(model)
    for index in [index for index, layer in enumerate(layers) if isinstance(layer, Norm)]:
        layers[index : index + 2] = layers[index + 1], layers[index]
    return Sequential(*layers)


def train_all(
    plans: Sequence[ArmPlan], data: Classes, epochs: int, seeds: Sequence[int], bar: StudyProgress
) -> TrainingRuns:
    """Train every arm with every seed: all arms with the first one, then with the next.

    Ctrl-C ends it: the trainings that were finished are returned, the one it came into is left out. Before the first is
    finished, KeyboardInterrupt is passed on.
    """
    runs: list[Run] = []
    planned = len(plans) * len(seeds)
    try:
        for seed in seeds:
            for plan in plans:
                bar.training = plan.name if len(seeds) == 1 else f"{plan.name}, seed {seed}"
                runs.append(_train(plan, data, epochs, seed, bar))
    except KeyboardInterrupt:
        if not runs:
            raise
    return TrainingRuns(tuple(runs), planned)


def _train(plan: ArmPlan, data: Classes, epochs: int, seed: int, bar: StudyProgress) -> Run:
    model = plan.model(seed)
    trainer = Trainer(model, plan.optimizer(model), plan.loss)
    if plan.data is not None:
        data = plan.data(seed)
    recorder = plan.recorder() if plan.recorder else None
    callbacks: list[Callback] = [bar] if recorder is None else [bar, recorder]
    # A training that diverges has no numbers for the epochs that it did not get to, and the tables show it.
    with np.errstate(over="ignore", invalid="ignore"), suppress(DivergenceError):
        trainer.fit(*data.train, epochs, plan.batch_size, data.validation, seed=seed, callbacks=callbacks)
    history = trainer.history
    bar.skip(epochs - len(history))
    while len(history) < epochs:
        history.append(dict.fromkeys(trainer.log_names, math.nan), 0.0)
    return Run(plan.name, seed, history.history, history.seconds, None if recorder is None else recorder.recorded)


@dataclass(frozen=True)
class Trained:
    """What `train_study` returns.

    Attributes
    ----------
    data : Classes
        What was trained on.
    runs : TrainingRuns
        What happened.
    seconds : float
        Wall-clock time of everything.
    environment : dict of str to str
        What it ran on.
    """

    data: Classes
    runs: TrainingRuns
    seconds: float
    environment: dict[str, str]

    def shape(self, hidden: tuple[int, ...]) -> str:
        """Return the network's layers, such as 784-128-64-10."""
        return "-".join(map(str, self.data.sizes(hidden)))

    @property
    def fairness(self) -> str:
        """What the arms have in common, a sentence for the notes."""
        rows, held = len(self.data.train.y), len(self.data.validation.y)
        seeds = [run.seed for run in self.runs.of(self.runs.arms[0])]
        which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
        return (
            f"Data: {self.data.name}, {rows:,} images to train on and {held:,} to validate with, which choose nothing; "
            f"{which}. With the same seed all networks have the same starting weights and the same batches in the same "
            "order."
        )


def train_study(config: TrainingConfig, plans: Callable[[Classes], Sequence[ArmPlan]], progress: bool) -> Trained:
    """Load the data of a config and train the arms that `plans` returns for them with all its seeds."""
    started = time.perf_counter()
    data = load_classes(config.data, config.data_dir, progress)
    arms = plans(data)
    trainings = len(arms) * config.repeats
    with one_blas_thread() as blas, StudyProgress(config.epochs * trainings, progress) as bar:
        runs = train_all(arms, data, config.epochs, config.seeds, bar)
    return Trained(data, runs, time.perf_counter() - started, environment(blas))
