"""Does batch norm let a small network learn the handwritten digits sooner?

The network is that of the experiment in the batch norm paper (Ioffe & Szegedy 2015, section 4.1): three hidden layers
of 100 units, batches of 60, plain gradient descent; with tanh where the paper has the sigmoid. Behind three sigmoids
the network without norm hardly leaves its starting point in this many epochs, at any learning rate but one: a more
dramatic picture that tells less. With tanh it learns well, and what batch norm adds is what is seen.

Both networks start from the same weights and see the same batches in the same order. Each has the learning rate, of the
same grid, at which its *own* training loss ends lowest, so neither is held back by a rate that suits the other, and the
validation data choose nothing. 60 is also a size that leaves no last batch of a few rows, which batch norm takes badly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from normcore.data import Dataset, Part, load_digits, split
from normcore.functional import batch_norm_forward, explain
from normcore.nn import MLP, BatchNorm1d
from normcore.optim import SGD
from normcore.training import DivergenceError, History, Trainer

from ._blas import one_blas_thread
from ._config import contents
from ._environment import environment
from ._progress import StudyProgress
from ._two_arms import Arm, StudyResult

_ARMS: dict[str, str | None] = {"no norm": None, "batch norm": "batch"}


@dataclass(frozen=True)
class Config:
    """All that decides the study's numbers.

    Attributes
    ----------
    data : str
        The data set; "digits" is the only one in this version.
    hidden : tuple of int
        Units in each hidden layer.
    activation : {"relu", "sigmoid", "tanh"}
        After each hidden layer.
    epochs, batch_size : int
        How long to train, and in which steps.
    learning_rates : tuple of float
        The grid from which each network gets its best.
    validation_fraction : float
        Share of the data that is not trained on.
    seed : int
        For the split, the starting weights and the order of the batches.

    Raises
    ------
    ValueError
        If a value makes no study.
    """

    data: str = "digits"
    hidden: tuple[int, ...] = (100, 100, 100)
    activation: str = "tanh"
    epochs: int = 20
    batch_size: int = 60
    learning_rates: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
    validation_fraction: float = 0.25
    seed: int = 0

    DATA: ClassVar[tuple[str, ...]] = ("digits",)
    QUICK: ClassVar[Mapping[str, Any]] = {"epochs": 8}

    def __post_init__(self) -> None:
        if self.data not in self.DATA:
            raise ValueError(f"data must be {' or '.join(self.DATA)} in this version, got {self.data!r}; leave it out")
        if not self.hidden:
            raise ValueError("hidden must name at least one layer, for there is nothing to normalise without, got ()")
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size must be at least 2, as batch norm needs two rows, got {self.batch_size}")
        if not self.learning_rates or not all(lr > 0 and math.isfinite(lr) for lr in self.learning_rates):
            raise ValueError(f"learning_rates must hold at least one positive number, got {self.learning_rates}")
        if len(set(self.learning_rates)) != len(self.learning_rates):
            raise ValueError(f"learning_rates must differ from one another, got {self.learning_rates}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")


def run(config: Config = Config(), progress: bool = False) -> StudyResult:
    """Train both networks and return what happened.

    Parameters
    ----------
    config : Config
        What to do.
    progress : bool, default False
        Whether to show a bar on stderr.

    Returns
    -------
    StudyResult
        Print its ``table()``; ``conclusion`` is the answer.

    Raises
    ------
    ValueError
        If an activation or another value of `config` does not exist.

    Examples
    --------
    >>> from normcore.studies import digits
    >>> result = digits.run(digits.Config(epochs=2, learning_rates=(0.3,)))
    >>> [arm.name for arm in result.arms]
    ['no norm', 'batch norm']
    """
    started = time.perf_counter()
    dataset = load_digits()
    train, validation = split(dataset.X, dataset.y, config.validation_fraction, config.seed)
    trainings = len(config.learning_rates) * len(_ARMS)
    with one_blas_thread() as blas, StudyProgress(config.epochs * trainings, progress) as bar:
        no_norm, batch_norm = (_arm(name, config, dataset, train, validation, bar) for name in _ARMS)
    return StudyResult(
        study="digits",
        title=f"{len(dataset.X):,} handwritten digits, without normalisation and with batch norm",
        notes=_notes(config, dataset),
        config=contents(config),
        arms=(no_norm, batch_norm),
        seconds=time.perf_counter() - started,
        environment=environment(blas),
    )


def network(name: str, config: Config, dataset: Dataset) -> MLP:
    """Return the untrained network of the arm `name`; the weights of its Linear layers depend on the seed alone."""
    sizes = [dataset.X.shape[1], *config.hidden, len(dataset.class_names)]
    return MLP(sizes, activation=config.activation, norm=_ARMS[name], seed=config.seed)


def _arm(name: str, config: Config, dataset: Dataset, train: Part, validation: Part, bar: StudyProgress) -> Arm:
    """Train at every learning rate; keep the one whose training loss ends lowest."""
    model = network(name, config, dataset)
    histories: dict[float, History] = {}
    for lr in config.learning_rates:
        model = network(name, config, dataset)
        bar.training = f"{name}, learning rate {lr:g}"
        trainer = Trainer(model, SGD(model.parameters(), lr=lr))
        # A rate that is too large may diverge: the epochs that it did not get to have no loss, and the table shows it.
        with np.errstate(over="ignore", invalid="ignore"), suppress(DivergenceError):
            trainer.fit(*train, config.epochs, config.batch_size, validation, seed=config.seed, callbacks=[bar])
        histories[lr] = trainer.history
        while len(histories[lr]) < config.epochs:
            histories[lr].append(dict.fromkeys(trainer.log_names, math.nan), 0.0)
    tried = {lr: history.history["loss"][-1] for lr, history in histories.items()}
    best = min(tried, key=lambda lr: tried[lr] if math.isfinite(tried[lr]) else math.inf)
    history = histories[best]
    return Arm(name, best, history.history, history.seconds, tried, _kernels(model, config.batch_size))


def _kernels(model: MLP, rows: int) -> tuple[str, ...]:
    """What runs the norm layers' calls, said by `explain` of the same calls."""
    said: dict[str, None] = {}  # a set that keeps its order
    for layer in model:
        if isinstance(layer, BatchNorm1d) and layer.weight is not None and layer.bias is not None:
            arguments: dict[str, Any] = {"running_mean": layer.running_mean, "running_var": layer.running_var}
            x = np.empty((rows, layer.num_features), layer.weight.dtype)
            explanation = explain(batch_norm_forward, x, layer.weight.data, layer.bias.data, **arguments)
            threads = explanation.num_threads
            said[f"{explanation.kernel} ({threads} thread{'' if threads == 1 else 's'})"] = None
    return tuple(said)


def _notes(config: Config, dataset: Dataset) -> tuple[str, ...]:
    sizes = "-".join(map(str, (dataset.X.shape[1], *config.hidden, len(dataset.class_names))))
    return (
        f"Network {sizes} with {config.activation}, batches of {config.batch_size}, plain SGD, seed {config.seed}: "
        "the same starting weights and batches for both.",
        f"Each has its own best learning rate of {', '.join(f'{lr:g}' for lr in config.learning_rates)}: "
        "the one with the lowest training loss in the end.",
    )
