"""Can batch norm rescue a deep, badly initialised regression network, and what goes on in its layers?

The set-up is that of a PyTorch tutorial on batch norm: y = x^2 - 5 + noise on [-7, 10], 2,000 points, eight hidden
layers of ten tanh units, weights from N(0, 0.1), every bias -0.2, batch norm with momentum 0.5 (PyTorch's: the weight
of the new batch) on the input and between each hidden Linear and its tanh, Adam 0.03, batches of 64, 12 epochs. 200
more points are for validation. With such small weights hardly anything of x gets through eight layers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from normcore.data import Part
from normcore.nn import MLP, BatchNorm1d, Linear, Module
from normcore.optim import Adam, Optimizer
from normcore.training import Trainer, recalibrate

from ._blas import one_blas_thread
from ._config import contents, finite, positive, sizes, whole
from ._data import Classes
from ._environment import environment
from ._estimate import Estimate, difference
from ._layer_values import SIZE, Story
from ._picture import Animation, Picture
from ._progress import StudyProgress
from ._result import Result
from ._run_tables import Measures, every_epoch, every_run, last_epoch
from ._runs import TrainingRuns
from ._table import Column, Table
from ._training import ArmPlan, Recorder, train_all
from ._window import Window, no_window

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOW, _HIGH = -7.0, 10.0
_VALIDATION_POINTS = 200
_ARMS = {"no norm": False, "batch norm": True}
_MEASURES: Measures = (
    ("loss", Column("training error", spec=".2f")),
    ("val_loss", Column("validation error", spec=".2f")),
)


@dataclass(frozen=True)
class Config:
    """All that decides the study's numbers.

    Attributes
    ----------
    points : int
        To train on, evenly spread over [-7, 10].
    noise : float
        Standard deviation of what is added to x^2 - 5.
    hidden : tuple of int
        Units in each hidden layer.
    weight_std, bias : float
        Starting values of every Linear: weights from N(0, weight_std), biases all the same.
    momentum : float
        Of batch norm: the weight of the new batch in the running statistics.
    epochs, batch_size : int
        How long to train, and in which steps.
    lr : float
        Adam's learning rate.
    seed : int
        For the noise; and of the first repeat, for the starting weights and the order of the batches.
    repeats : int
        With how many seeds everything is done.
    live : bool
        Whether to show the histograms in a window while the networks of the first seed are trained.

    Raises
    ------
    ValueError, TypeError
        If a value makes no study, or `live` is asked for where no window can be opened.
    """

    points: int = 2000
    noise: float = 2.0
    hidden: tuple[int, ...] = (10,) * 8
    weight_std: float = 0.1
    bias: float = -0.2
    momentum: float = 0.5
    epochs: int = 12
    batch_size: int = 64
    lr: float = 0.03
    seed: int = 0
    repeats: int = 5
    live: bool = field(default=False, compare=False, repr=False)

    QUICK: ClassVar[Mapping[str, Any]] = {"repeats": 2, "epochs": 4}

    def __post_init__(self) -> None:
        whole(self.points, "points", 2, ", as batch norm needs two rows")
        positive(self.noise, "noise")
        sizes(self.hidden, "hidden")
        positive(self.weight_std, "weight_std")
        finite(self.bias, "bias")
        positive(self.momentum, "momentum")
        whole(self.epochs, "epochs")
        whole(self.batch_size, "batch_size", 2, ", as batch norm needs two rows")
        positive(self.lr, "lr")
        whole(self.seed, "seed", 0)
        whole(self.repeats, "repeats")
        if self.live and (why := no_window()):
            raise ValueError(f"live needs {why}")


def run(config: Config = Config(), progress: bool = False) -> Result:
    """Train the network without norm and with batch norm, with every seed, and look into the first two.

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

    Examples
    --------
    >>> from normcore.studies import regression
    >>> result = regression.run(regression.Config(epochs=1, repeats=1, hidden=(10, 10)))
    >>> [row[0] for row in result.tables[0].rows]
    ['no norm', 'batch norm']
    """
    started = time.perf_counter()
    data = make_data(config)
    window = Window("normcore study regression", *SIZE) if config.live else None
    story = Story(data.validation, config.epochs, window)
    try:
        with one_blas_thread() as blas, StudyProgress(config.epochs * 2 * config.repeats, progress) as bar:
            runs = train_all(_plans(config, data, story), data, config.epochs, _seeds(config), bar)
    finally:
        if window is not None:
            window.close()
    floor, spread = config.noise**2, float(np.var(data.validation.y, dtype=np.float64))
    last = len(story.epochs) - 1
    return Result(
        study="regression",
        title="Regression: a deep, badly initialised network on a noisy parabola",
        question="Can batch norm rescue a network that starts badly, and what goes on in its layers?",
        notes=_notes(config),
        config=contents(config),
        tables=(
            last_epoch(runs, measures=_MEASURES),
            _units(runs, story),
            every_epoch(runs, "print", measures=_MEASURES),
            every_run(runs, _MEASURES),
        ),
        conclusions=(*_verdicts(runs, floor, spread), *_signal(story)),
        seconds=time.perf_counter() - started,
        environment=environment(blas),
        pictures=(
            Picture(
                "curves",
                "Mean squared error (logarithmic) over the epochs, training on the left and validation on the right. "
                "Lines are means over the seeds, shades reach from the lowest to the highest seed. Dotted: the "
                "noise's variance, below which no network can get; dashed: always saying the mean.",
                partial(_curves, runs, floor, spread),
            ),
            Picture(
                "fits",
                "The points to validate with, and what the networks of the first seed say after the last epoch.",
                partial(_fits, story),
            ),
            Animation(
                "layers",
                f"From epoch to epoch: {story.caption}",
                partial(_frames, story),
            ),
            *(
                Picture(
                    f"layers-epoch-{epoch:02d}",
                    f"{f'After epoch {epoch}' if epoch else 'Before the training'}: {story.caption}",
                    partial(story.figure, epoch),
                    report=epoch in (0, last),
                )
                for epoch in story.epochs
            ),
        ),
        interrupted=runs.interrupted,
    )


def make_data(config: Config) -> Classes:
    """Return the points: evenly spread, noise from N(0, config.noise)."""
    rng = np.random.default_rng(config.seed)
    parts = []
    for count in (config.points, _VALIDATION_POINTS):
        x = np.linspace(_LOW, _HIGH, count)[:, None]
        y = x * x - 5 + rng.normal(0, config.noise, x.shape)
        parts.append(Part(x.astype(np.float32), y.astype(np.float32)))
    return Classes("a noisy parabola", parts[0], parts[1], 1)


def network(config: Config, normed: bool, seed: int) -> MLP:
    """Return an untrained network; its weights depend on the seed alone."""
    model = MLP([1, *config.hidden, 1], "tanh", "batch" if normed else None, seed, momentum=config.momentum)
    rng = np.random.default_rng(seed)
    for layer in model:
        if isinstance(layer, Linear) and layer.bias is not None:
            layer.weight.data[...] = rng.normal(0, config.weight_std, layer.weight.shape)
            layer.bias.data[...] = config.bias
    if normed:
        model.insert(0, BatchNorm1d(1, momentum=config.momentum))
    return model


class _Look(Recorder):
    """Adds to the story before the first epoch and after each, in the first training of its arm.

    `recorded` is the validation error with the exact statistics of all training points, None without batch norm.
    """

    def __init__(self, arm: str, story: Story, data: Classes) -> None:
        self._arm, self._story, self._data = arm, story, data
        self._told = story.begin(arm)

    def on_train_begin(self, trainer: Trainer) -> None:
        """What the starting values do."""
        if self._told:
            self._story.add(self._arm, trainer)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:  # noqa: ARG002 - the signature of what it overrides
        """What was learned."""
        if self._told:
            self._story.add(self._arm, trainer)

    def on_train_end(self, trainer: Trainer) -> None:
        """Put the exact statistics in the place of the running ones: the training is over."""
        if recalibrate(trainer.model, self._data.train.X):
            self.recorded = trainer.evaluate(*self._data.validation)["loss"]


def _seeds(config: Config) -> range:
    return range(config.seed, config.seed + config.repeats)


def _plans(config: Config, data: Classes, story: Story) -> list[ArmPlan]:
    def optimizer(model: Module) -> Optimizer:
        return Adam(model.parameters(), lr=config.lr)

    return [
        ArmPlan(
            name,
            partial(network, config, normed),
            optimizer,
            config.batch_size,
            partial(_Look, name, story, data),
            "mse",
        )
        for name, normed in _ARMS.items()
    ]


def _notes(config: Config) -> tuple[str, ...]:
    shape = "-".join(map(str, (1, *config.hidden, 1)))
    return (
        f"y = x^2 - 5 + noise of standard deviation {config.noise:g}, {config.points:,} points on "
        f"[{_LOW:g}, {_HIGH:g}] to train on and {_VALIDATION_POINTS} others to validate with, which choose nothing.",
        f"Network {shape} with tanh; weights from N(0, {config.weight_std:g}), every bias {config.bias:g}.",
        f"Batch norm on the input and before every tanh, with momentum {config.momentum:g} for the new batch.",
        f"Adam with learning rate {config.lr:g}, batches of {config.batch_size}, {config.epochs} epochs. With the same "
        "seed both networks have the same starting weights and the same batches in the same order; the points are the "
        "same for all seeds.",
        "Errors are mean squared errors; x and y have no unit.",
    )


# --- what the numbers say ---------------------------------------------------------------------------------------------


def _verdicts(runs: TrainingRuns, floor: float, spread: float) -> list[str]:
    """How far each arm got between the noise and the mean, and by how much they differ."""
    said = []
    for arm in runs.arms:
        error = runs.at(arm, "val_loss")
        explained = 1 - (error.mean - floor) / (spread - floor)
        said.append(
            f"{arm.capitalize()} ended at a validation error of {error.mean:.2f} (the noise alone has {floor:.2f}, "
            f"always saying the mean {spread:.2f}): it found {max(explained, 0):.0%} of what there is to find."
        )
    if len(runs.arms) == 2:
        gap = runs.compare("batch norm", "no norm", "val_loss")
        word = "below" if gap.mean < 0 else "above"
        text = f"The error with batch norm ended {abs(gap.mean):.2f} {word} that without"
        if gap.seeds < 2:
            said.append(f"{text} (one seed, so it may be chance).")
        else:
            chance = "" if gap.clear else ", so it may be chance"
            said.append(f"{text} (95 % interval {gap.low:+.2f} to {gap.high:+.2f} over {gap.seeds} seeds{chance}).")
        said += _statistics(runs)
    return said


def _statistics(runs: TrainingRuns) -> list[str]:
    """What of the error comes from running statistics that are not those of the data."""
    those = [run for run in runs.of("batch norm") if run.recorded is not None]
    if not those:
        return []
    gap = difference([run.recorded for run in those], [run.history["val_loss"][-1] for run in those])
    error = Estimate.over(run.recorded for run in those).mean
    sure = "" if gap.clear else ", which may be chance"
    return [
        "The running statistics follow the last few batches alone with this momentum. With the exact ones of all "
        f"training points in their place (nc.recalibrate) the error is {error:.2f}, {abs(gap.mean):.2f} "
        f"{'lower' if gap.mean < 0 else 'higher'}{sure}."
    ]


def _signal(story: Story) -> list[str]:
    """Whether x gets through to the last hidden layer, before and after the training."""
    said = []
    for arm, found in story.seen.items():
        if len(found) > 1:
            before, after = (_spread(one.pre[-1]) for one in (found[0], found[-1]))
            said.append(
                f"{arm.capitalize()}: the pre-activations of the last hidden layer vary over the points by a standard "
                f"deviation of {before:.2g} before the training and {after:.2g} after it (mean over units, first seed)."
            )
    return said


def _spread(values: Any) -> float:
    """Standard deviation over the points, mean over the units."""
    return float(np.std(values, axis=0, dtype=np.float64).mean())


def _units(runs: TrainingRuns, story: Story) -> Table:
    """Mean and spread of every layer's pre-activations and activations, after every epoch, first seed."""
    rows = [
        [
            arm, epoch, layer + 1,
            *(
                number
                for values in (one.linear[layer], one.pre[layer], one.post[layer])
                for number in (float(values.mean(dtype=np.float64)), _spread(values))
            ),
        ]
        for arm, found in story.seen.items()
        for epoch, one in enumerate(found)
        for layer in range(len(one.pre))
    ]  # fmt: skip
    names = ("Linear's output", "pre-activation", "activation")
    columns = [
        Column("network"), Column("epoch"), Column("layer"),
        *(Column(f"{what} of {name}") for name in names for what in ("mean", "spread over points")),
    ]  # fmt: skip
    title = f"Values in every layer, seed {runs.runs[0].seed}: mean, and standard deviation over the points"
    return Table("layers", title, columns, rows, "report")


# --- pictures ---------------------------------------------------------------------------------------------------------


def _curves(runs: TrainingRuns, floor: float, spread: float) -> Figure:
    from ._drawing import GREY, band, legend_below, logarithmic, new_figure, tidy, whole_numbers

    figure, panels = new_figure("A deep network on a noisy parabola", columns=2)
    for axes, key, part in zip(panels[0], ("loss", "val_loss"), ("training", "validation"), strict=True):
        for index, arm in enumerate(runs.arms):
            band(axes, runs, arm, key, index)
        axes.axhline(floor, color=GREY, linestyle=":", label="variance of the noise")
        axes.axhline(spread, color=GREY, linestyle="--", label="always saying the mean")
        tidy(axes, f"{part} error", "epoch", "mean squared error (no unit)")
        whole_numbers(axes)
        logarithmic(axes)
    low = min(axes.get_ylim()[0] for axes in panels[0])
    high = max(axes.get_ylim()[1] for axes in panels[0])
    for axes in panels[0]:
        axes.set_ylim(low, high)
    legend_below(figure, panels[0, 0], 4)
    return figure


def _fits(story: Story) -> Figure:
    from ._drawing import COLOURS, legend_below, new_figure, tidy

    figure, panels = new_figure("What the networks learned", width=7, height=4.5)
    axes = panels[0, 0]
    x, y = story.points.X.ravel(), story.points.y.ravel()
    axes.plot(x, y, ".", color="#AAAAAA", markersize=5, label="points to validate with")
    for index, (arm, found) in enumerate(story.seen.items()):
        if found:
            axes.plot(
                x, found[-1].output.ravel(), "--" if index else "-", color=COLOURS[index], linewidth=2.5, label=arm
            )
    tidy(axes, f"after epoch {len(story.epochs) - 1}, first seed", "x (no unit)", "y (no unit)")
    legend_below(figure, axes, 3)
    return figure


def _frames(story: Story) -> Iterator[Figure]:
    for epoch in story.epochs:
        yield story.figure(epoch)
