"""Features of very different scales: which scaling helps, and can batch norm in the network take its place?

Every feature of the data is multiplied by a random factor, from 10**-d to 10**d, as when one column is in millimetres
and the next in years. The same network is then trained on these raw data, on the raw data with batch norm in the
network, and on the data after each of the usual scalings, learned from the training rows: min-max, mean normalisation,
standardisation, unit length (of rows, as the word is mostly used, and of columns), PCA and ZCA whitening. The learning
rate is chosen for each from the same grid, since raw data want another one than scaled data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normcore.data import Part
from normcore.nn import BatchNorm1d, Module, Sequential
from normcore.optim import SGD, Optimizer

from ._arms_result import arms_result
from ._blas import one_blas_thread
from ._config import TrainingConfig, positive, several
from ._data import Classes, load_classes
from ._environment import environment
from ._needs import MissingPackageError
from ._progress import StudyProgress
from ._result import Result
from ._runs import Run, TrainingRuns
from ._table import Column, Table
from ._training import ArmPlan, Trained, network, train_all
from ._verdict import capitalised, points

Array = NDArray[Any]
_KEY = "val_accuracy"


class Arm(NamedTuple):
    """What sets an arm apart.

    Attributes
    ----------
    scaler : str
        A key of `_scalers`, empty for raw data.
    norm : bool
        Whether there is batch norm before each hidden activation.
    on_input : bool
        Whether there is batch norm in front of everything too.
    """

    scaler: str = ""
    norm: bool = False
    on_input: bool = False


ARMS = {
    "raw": Arm(),
    "min-max": Arm("min-max"),
    "mean normalisation": Arm("mean"),
    "standardisation": Arm("standard"),
    "unit length of rows": Arm("rows"),
    "unit length of columns": Arm("columns"),
    "PCA whitening": Arm("pca"),
    "ZCA whitening": Arm("zca"),
    "raw, batch norm": Arm(norm=True),
    "raw, batch norm on the input too": Arm(norm=True, on_input=True),
    "standardisation, batch norm": Arm("standard", norm=True),
}
_RAW, _STANDARD = "raw", "standardisation"
_NORMED = tuple(name for name, arm in ARMS.items() if arm.norm)


@dataclass(frozen=True)
class Config(TrainingConfig):
    """All that decides the study's numbers; `TrainingConfig` has the rest, and `lr` of it is not used.

    Attributes
    ----------
    decades : float
        Features are multiplied by factors from 10**-decades to 10**decades, evenly spread in the logarithm, other ones
        for each seed.
    lrs : tuple of float
        The grid of learning rates. Each arm gets the one with which its training loss ends lowest with the first seed.
    """

    hidden: tuple[int, ...] = (64, 32)
    epochs: int = 10
    batch_size: int = 60
    decades: float = 3.0
    lrs: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)

    QUICK: ClassVar[Mapping[str, Any]] = {"repeats": 1, "epochs": 4, "lrs": (1e-3, 1e-1, 1.0, 10.0)}

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self.decades, "decades")
        several(self.lrs, "lrs")
        for lr in self.lrs:
            positive(lr, "every entry of lrs")


def run(config: Config = Config(), progress: bool = False) -> Result:
    """Find each arm's learning rate with the first seed, then train with all seeds.

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
    MissingPackageError
        If scikit-learn, which the scalers build on, is not installed.
    """
    _scalers()
    started = time.perf_counter()
    data = load_classes(config.data, config.data_dir, progress)
    scaled = lru_cache(len(ARMS))(partial(scaled_data, config, data))
    trainings = len(ARMS) * (len(config.lrs) + config.repeats - 1)
    with one_blas_thread() as blas, StudyProgress(config.epochs * trainings, progress) as bar:
        tried = train_all(
            [_plan(config, data, scaled, name, lr) for name in ARMS for lr in config.lrs],
            data, config.epochs, [config.seed], bar,
        )  # fmt: skip
        chosen = {name: best for name in ARMS if (best := _best(config, tried, name)) is not None}
        runs = [replace(run, arm=name) for name, lr in chosen.items() for run in tried.of(_tried_name(name, lr))]
        if not tried.interrupted and config.repeats > 1:
            plans = [_plan(config, data, scaled, name, lr) for name, lr in chosen.items()]
            runs += _rest(plans, chosen, data, config, bar)
    complete = not tried.interrupted
    planned = len(chosen) * config.repeats if complete else len(ARMS) * config.repeats
    every = TrainingRuns(tuple(runs), planned)
    trained = Trained(data, every, time.perf_counter() - started, environment(blas))
    present = every.arms
    return arms_result(
        "scaling",
        config,
        trained,
        title="Scaling: features of very different scales, scaled before or normalised within",
        question="Which scaling of the features helps, and can batch norm in the network take its place?",
        notes=(
            f"Every feature is multiplied by a factor from 10^-{config.decades:g} to 10^{config.decades:g}, evenly "
            "spread in the logarithm, other ones for each seed; scalings are learned from the training rows.",
            f"Network {trained.shape(config.hidden)} with ReLU, plain SGD, batches of {config.batch_size}, "
            f"{config.epochs} epochs. Batch norm is before each ReLU.",
            f"Each has the learning rate of {', '.join(f'{lr:g}' for lr in config.lrs)} with which its own training "
            "loss ends lowest with the first seed.",
        ),
        conclusions=_verdicts(every, chosen, config),
        curves={
            "scalings": ("Scalings before the network", [name for name in ARMS if name not in _NORMED][:6]),
            "batch-norm": (
                "Batch norm in the network, beside scalings before it",
                [_RAW, _STANDARD, "PCA whitening", "ZCA whitening", *_NORMED],
            ),
        },
        tables=(_rates(config, tried, chosen, [name for name in ARMS if name in present]),),
    )


def scaled_data(config: Config, data: Classes, scaler: str, seed: int) -> Classes:
    """Return the data with features of different scales, after a scaling that was learned from the training rows."""
    rng = np.random.default_rng(seed)
    factors = 10.0 ** rng.uniform(-config.decades, config.decades, data.features)
    train, validation = (part.X * factors for part in (data.train, data.validation))
    if scaler:
        learned = _scalers()[scaler]().fit(train)
        train, validation = learned.transform(train), learned.transform(validation)
    return replace(
        data,
        train=Part(train.astype(np.float32), data.train.y),
        validation=Part(validation.astype(np.float32), data.validation.y),
    )


def _scalers() -> dict[str, Callable[[], Any]]:
    """The scalers by name; they need scikit-learn."""
    try:
        from normcore.estimators import MeanScaler, MinMaxScaler, StandardScaler, UnitLengthScaler, Whitener
    except ImportError as error:
        raise MissingPackageError(
            f"the study scaling needs scikit-learn, on which the scalers build: {error}"
        ) from None
    return {
        "min-max": MinMaxScaler,
        "mean": MeanScaler,
        "standard": StandardScaler,
        "rows": UnitLengthScaler,
        "columns": partial(UnitLengthScaler, axis=0),
        "pca": partial(Whitener, "pca"),
        "zca": partial(Whitener, "zca"),
    }


# --- training ---------------------------------------------------------------------------------------------------------


def _tried_name(name: str, lr: float) -> str:
    return f"{name}, learning rate {lr:g}"


def _plan(config: Config, data: Classes, scaled: Callable[[str, int], Classes], name: str, lr: float) -> ArmPlan:
    def optimizer(model: Module) -> Optimizer:
        return SGD(model.parameters(), lr=lr)

    arm = ARMS[name]
    return ArmPlan(
        _tried_name(name, lr),
        partial(_network, config, data, arm),
        optimizer,
        config.batch_size,
        data=partial(scaled, arm.scaler),
    )


def _network(config: Config, data: Classes, arm: Arm, seed: int) -> Sequential:
    model = network(data, config.hidden, "relu", "batch" if arm.norm else None, seed)
    return model.insert(0, BatchNorm1d(data.features)) if arm.on_input else model


def _best(config: Config, tried: TrainingRuns, name: str) -> float | None:
    """The learning rate of the lowest training loss; None if none was tried before Ctrl-C."""
    losses = {lr: run.history["loss"][-1] for lr in config.lrs for run in tried.of(_tried_name(name, lr))}
    if len(losses) < len(config.lrs):
        return None
    return min(losses, key=lambda lr: losses[lr] if np.isfinite(losses[lr]) else np.inf)


def _rest(
    plans: list[ArmPlan], chosen: Mapping[str, float], data: Classes, config: Config, bar: StudyProgress
) -> list[Run]:
    """The other seeds, at the learning rates that were chosen; what was finished before Ctrl-C."""
    names = {_tried_name(name, lr): name for name, lr in chosen.items()}
    try:
        done = train_all(plans, data, config.epochs, config.seeds[1:], bar).runs
    except KeyboardInterrupt:  # before the first of them was finished: the first seed is there
        return []
    return [replace(run, arm=names[run.arm]) for run in done]


# --- what the numbers say ---------------------------------------------------------------------------------------------


def _rates(config: Config, tried: TrainingRuns, chosen: Mapping[str, float], names: list[str]) -> Table:
    """The training loss at every learning rate."""
    columns = [
        Column("data and network"), *(Column(f"{lr:g}", spec=".4f") for lr in config.lrs), Column("chosen", spec="g"),
    ]  # fmt: skip
    rows = [
        [
            name,
            *(tried.of(_tried_name(name, lr))[0].history["loss"][-1] for lr in config.lrs),
            chosen[name],
        ]
        for name in names
    ]  # fmt: skip
    title = f"Training loss after the last epoch at each learning rate, seed {config.seed} (nan: it diverged)"
    return Table("learning-rates", title, columns, rows)


def _verdicts(runs: TrainingRuns, chosen: Mapping[str, float], config: Config) -> list[str]:
    """Every arm against the raw data, batch norm against standardisation, and choices at the edge of the grid."""
    said = []
    for base, arms in ((_RAW, [name for name in ARMS if name != _RAW]), (_STANDARD, [*_NORMED])):
        if base not in runs.arms:
            continue
        for arm in arms:
            if arm in runs.arms:
                accuracy = runs.at(arm, _KEY).mean
                gap = points(runs.compare(arm, base, _KEY), base)
                said.append(f"{capitalised(arm)}: {accuracy:.2%}, {gap}.")
    ends = {min(config.lrs), max(config.lrs)}
    edge = [f"{name} ({lr:g})" for name, lr in chosen.items() if lr in ends]
    if edge:
        said.append(f"Chosen at an end of the grid, so that another rate may be better: {', '.join(edge)}.")
    return said
