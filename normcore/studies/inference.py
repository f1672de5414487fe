"""With which statistics should a network with batch norm be used: running averages, exact ones, or those of the batch?

The batch norm paper (Ioffe & Szegedy 2015, algorithm 2) computes the statistics of the training data when the training
is over; `nc.recalibrate` does. Everybody keeps running averages instead, which follow the batches with a momentum (here
PyTorch's: the weight of the new batch). The third way is to stay in training mode and use the statistics of each test
batch: an accident as often as an intention. Statistics for inference do not take part in training, so the same trained
networks are used in all these ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from normcore.nn import BatchNorm1d, Module, Sequential
from normcore.optim import SGD, Optimizer
from normcore.training._data import batch_bounds

from ._config import TrainingConfig, contents, several, whole
from ._data import Classes
from ._estimate import Difference
from ._picture import Picture
from ._result import Result
from ._run_tables import PERCENT, Measures, every_epoch, every_run, spread_note
from ._runs import Run, TrainingRuns
from ._statistics import EXACT, ORDERS, Averages, momentum_name
from ._table import Column, Table
from ._training import ArmPlan, Trained, network, train_study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MEASURES: Measures = (
    ("val_loss", Column("validation loss", spec=".4f")),
    ("val_accuracy", Column("validation accuracy", spec=PERCENT)),
    ("mean", Column("means off", "spreads", ".2g")),
    ("var", Column("log variances off", spec=".2g")),
)


@dataclass(frozen=True)
class Config(TrainingConfig):
    """All that decides the study's numbers; `TrainingConfig` has the rest, and `batch_size` of it is not used.

    Attributes
    ----------
    sizes : tuple of int
        Rows in a step of training.
    momenta : tuple of float or None
        Of the running averages: the weight of the new batch; None for the mean of all batches since the beginning.
    test_sizes : tuple of int
        Rows in a batch at test time.
    """

    hidden: tuple[int, ...] = (100, 100)
    epochs: int = 10
    lr: float = 0.1
    sizes: tuple[int, ...] = (4, 15, 60, 250)
    momenta: tuple[float | None, ...] = (0.01, 0.1, 0.5, 0.9, None)
    test_sizes: tuple[int, ...] = (1, 2, 4, 15, 60, 250)

    QUICK: ClassVar[Mapping[str, Any]] = {"repeats": 1, "epochs": 5, "sizes": (15, 250)}

    def __post_init__(self) -> None:
        super().__post_init__()
        several(self.sizes, "sizes")
        for size in self.sizes:
            whole(size, "every entry of sizes", 2, ", as batch norm needs two rows")
        several(self.momenta, "momenta")
        for momentum in self.momenta:
            if momentum is not None and not (isinstance(momentum, (int, float)) and 0 < momentum <= 1):
                raise ValueError(f"every entry of momenta must be None or from above 0 to 1, got {momentum!r}")
        several(self.test_sizes, "test_sizes")
        for size in self.test_sizes:
            whole(size, "every entry of test_sizes")


def run(config: Config = Config(), progress: bool = False) -> Result:
    """Train with every batch size and seed, and evaluate with all kinds of statistics.

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
    runs = trained.runs
    ways = [*map(momentum_name, config.momenta), EXACT]
    sizes = [size for size in config.sizes if _trained_with(size) in runs.arms]
    averages, batches = _averages(runs, ways), _batches(runs)
    return Result(
        study="inference",
        title=f"Inference: which statistics batch norm should use, on {trained.data.name}",
        question="With which statistics should a network with batch norm be used?",
        notes=_notes(config, trained),
        config=contents(config),
        tables=(
            _last(averages, sizes, ways),
            _batch_table(config, batches, sizes, runs),
            every_epoch(averages, head="trained with, used with", measures=_MEASURES),
            every_run(averages, _MEASURES),
        ),
        conclusions=[
            *(_momentum_verdict(averages, size, ways) for size in sizes),
            *_batch_verdicts(config, averages, batches, sizes, runs),
        ],
        seconds=trained.seconds,
        environment=trained.environment,
        pictures=(
            Picture(
                "epochs",
                "Validation loss (logarithmic) over the epochs for each batch size of the training and each kind of "
                "statistics. Lines are means over the seeds, shades reach from the lowest to the highest seed.",
                partial(_epochs_picture, averages, sizes, ways, trained.data.name),
            ),
            *([_test_batches(config, averages, batches, sizes, trained.data.name)] if batches.runs else []),
        ),
        interrupted=runs.interrupted,
    )


def _trained_with(size: int) -> str:
    return f"batches of {size}"


def _plans(config: Config, data: Classes) -> list[ArmPlan]:
    def optimizer(model: Module) -> Optimizer:
        return SGD(model.parameters(), lr=config.lr)

    return [
        ArmPlan(
            _trained_with(size),
            partial(_network, config, data),
            optimizer,
            size,
            partial(Averages, data.train, data.validation, config.momenta, config.test_sizes, config.epochs),
        )
        for size in config.sizes
    ]


def _network(config: Config, data: Classes, seed: int) -> Sequential:
    model = network(data, config.hidden, "relu", "batch", seed)
    for layer in model:
        if isinstance(layer, BatchNorm1d):
            layer.momentum = 1.0  # Averages needs the statistics of every batch
    return model


def _notes(config: Config, trained: Trained) -> tuple[str, ...]:
    return (
        f"Network {trained.shape(config.hidden)} with ReLU, batch norm before each; plain SGD with learning rate "
        f"{config.lr:g}, {config.epochs} epochs.",
        f"{_remainders(config, trained.data)} Batch norm takes a last batch of a few rows badly, in training and in "
        "the running averages.",
        "Running averages begin with mean 0 and variance 1; momentum is the weight of the new batch. Exact statistics "
        "are those of all training rows, layer by layer (nc.recalibrate), taken when they are needed.",
        "How far statistics are off: root mean square over all channels, of the difference of the means in units of "
        "the exact spread, and of the difference of the logarithms of the variances.",
        trained.fairness,
    )


def _remainders(config: Config, data: Classes) -> str:
    rows = [batch_bounds(len(data.train.y), size)[-1] for size in config.sizes]
    those = ", ".join(f"{stop - start} ({size})" for (start, stop), size in zip(rows, config.sizes, strict=True))
    return f"Rows in the last batch of an epoch, by batch size: {those}."


# --- what was found, as runs of arms ----------------------------------------------------------------------------------


def _arm(size: int, way: str) -> str:
    return f"{_trained_with(size)}, {way}"


def _averages(runs: TrainingRuns, ways: list[str]) -> TrainingRuns:
    """A run for every training and kind of statistics, with a `Worth` for each epoch."""
    found = tuple(
        Run(
            f"{run.arm}, {way}",
            run.seed,
            {key: [getattr(worth, key) for worth in run.recorded.epochs[way]] for key, _ in _MEASURES},
            run.seconds[: len(run.recorded.epochs[way])],
        )
        for run in runs.runs
        for way in ways
        if run.recorded.epochs[way]
    )
    return TrainingRuns(found, len(found))


def _batches(runs: TrainingRuns) -> TrainingRuns:
    """A run for every training, test batch size and order that could be done."""
    found = tuple(
        Run(f"{run.arm}, {size}, {order}", run.seed, {"val_loss": [worth[0]], "val_accuracy": [worth[1]]}, [0.0])
        for run in runs.runs
        for (size, order), worth in run.recorded.batches.items()
        if not isinstance(worth, str)
    )
    return TrainingRuns(found, len(found))


def _batch_arm(trained: int, size: int, order: str) -> str:
    return f"{_trained_with(trained)}, {size}, {order}"


def _refusal(runs: TrainingRuns, size: int) -> str:
    """Why test batches of a size cannot be done; empty if they can."""
    said = [run.recorded.batches.get((size, ORDERS[0])) for run in runs.runs]
    return next((one for one in said if isinstance(one, str)), "")


# --- tables -----------------------------------------------------------------------------------------------------------


def _last(averages: TrainingRuns, sizes: list[int], ways: list[str]) -> Table:
    columns = [Column("trained with"), Column("used with"), *(column for _, column in _MEASURES)]
    rows = [
        [_trained_with(size), way, *(averages.at(_arm(size, way), key) for key, _ in _MEASURES)]
        for size in sizes
        for way in ways
    ]
    return Table("statistics", f"After the last epoch ({spread_note(averages)})", columns, rows)


def _batch_table(config: Config, batches: TrainingRuns, sizes: list[int], runs: TrainingRuns) -> Table:
    columns = [
        Column("trained with"),
        Column("test batches of"),
        *(
            Column(f"{what}, {order}", spec=spec)
            for order in ORDERS
            for what, spec in (("loss", ".4f"), ("accuracy", PERCENT))
        ),
    ]
    rows: list[list[Any]] = []
    for size in sizes:
        for test in config.test_sizes:
            cells: list[Any] = []
            for order in ORDERS:
                arm = _batch_arm(size, test, order)
                for key in ("val_loss", "val_accuracy"):
                    cells.append("cannot" if _refusal(runs, test) else batches.at(arm, key))
            rows.append([_trained_with(size), test, *cells])
    title = f"With the statistics of each test batch ({spread_note(runs)})"
    return Table("test-batches", title, columns, rows)


# --- what the numbers say ---------------------------------------------------------------------------------------------


def _momentum_verdict(averages: TrainingRuns, size: int, ways: list[str]) -> str:
    """Which running averages do worse than the exact statistics, which better, by the validation loss."""
    exact = _arm(size, EXACT)
    loss = averages.at(exact, "val_loss").mean
    start = f"Trained with batches of {size}: the exact statistics have a validation loss of {loss:.4f}"
    gaps = {way: averages.compare(_arm(size, way), exact, "val_loss") for way in ways if way != EXACT}
    if next(iter(gaps.values())).seeds < 2:
        listed = ", ".join(f"{gap.mean:+.4f} with {way}" for way, gap in gaps.items())
        return f"{start}; running averages change it by {listed} (one seed, so it may be chance)."
    parts = []
    for what, those in (
        ("clearly worse", [way for way, gap in gaps.items() if gap.low > 0]),
        ("clearly better", [way for way, gap in gaps.items() if gap.high < 0]),
        ("not clearly different", [way for way, gap in gaps.items() if not gap.clear]),
    ):
        if those:
            parts.append(f"{what}: {', '.join(f'{way} ({gaps[way].mean:+.4f})' for way in those)}")
    seeds = next(iter(gaps.values())).seeds
    return f"{start}; of the running averages (95 % intervals over {seeds} seeds) {'; '.join(parts)}."


def _batch_verdicts(
    config: Config, averages: TrainingRuns, batches: TrainingRuns, sizes: list[int], runs: TrainingRuns
) -> list[str]:
    said = [
        f"Test batches of {test} cannot be normalised with their own statistics: {_refusal(runs, test)}"
        for test in config.test_sizes
        if _refusal(runs, test)
    ]
    done = [test for test in config.test_sizes if not _refusal(runs, test)]
    both = TrainingRuns((*averages.runs, *batches.runs), 0)
    for test, order in dict.fromkeys(
        [(done[0], ORDERS[0]), (done[-1], ORDERS[0]), (done[-1], ORDERS[1])] if done else []
    ):
        gaps = {
            size: both.compare(arm, _arm(size, EXACT), "val_accuracy")
            for size in sizes
            if (arm := _batch_arm(size, test, order)) in both.arms
        }
        if gaps:
            listed = ", ".join(f"{gap.mean * 100:+.2f} ({size})" for size, gap in gaps.items())
            said.append(
                f"With the statistics of test batches of {test}, {order}, the accuracy differs from that with the "
                f"exact ones by these points, by batch size of the training: {listed}; "
                f"{_how_sure(list(gaps.values()))}."
            )
    return said


def _how_sure(gaps: Sequence[Difference]) -> str:
    if gaps[0].seeds < 2:
        return "one seed, so it may be chance"
    clear = sum(gap.clear for gap in gaps)
    return f"more than chance explains (95 % intervals) in {clear} of {len(gaps)}"


# --- pictures ---------------------------------------------------------------------------------------------------------


def _test_batches(
    config: Config, averages: TrainingRuns, batches: TrainingRuns, sizes: list[int], name: str
) -> Picture:
    return Picture(
        "test-batches",
        "Validation accuracy when every test batch is normalised with its own statistics, over the rows in it; "
        "solid: shuffled, dashed: sorted by class. Dotted: with the exact statistics. Points are means over "
        "the seeds, bars reach from the lowest to the highest seed.",
        partial(_batches_picture, config, averages, batches, sizes, name),
    )


def _epochs_picture(averages: TrainingRuns, sizes: list[int], ways: list[str], name: str) -> Figure:
    from ._drawing import band, legend_below, logarithmic, new_figure, tidy, whole_numbers

    columns = min(2, len(sizes))
    figure, panels = new_figure(f"Statistics for inference, {name}", -(-len(sizes) // columns), columns)
    order = [EXACT, *(way for way in ways if way != EXACT)]  # black is what the others are compared with
    for axes in panels.ravel()[len(sizes) :]:
        axes.remove()
    for axes, size in zip(panels.ravel(), sizes, strict=False):
        for index, way in enumerate(order):
            band(axes, averages, _arm(size, way), "val_loss", index, way)
        tidy(axes, f"trained with batches of {size}", "epoch", "validation loss (cross-entropy, nats)")
        whole_numbers(axes)
        logarithmic(axes)
    legend_below(figure, panels[0, 0], 3)
    return figure


def _batches_picture(
    config: Config, averages: TrainingRuns, batches: TrainingRuns, sizes: list[int], name: str
) -> Figure:
    from matplotlib.ticker import NullLocator

    from ._drawing import COLOURS, in_percent, legend_below, new_figure, ranges, tidy

    figure, panels = new_figure(f"Statistics of the test batch, {name}", width=8, height=4.5)
    axes = panels[0, 0]
    done: list[int] = []
    for index, size in enumerate(sizes):
        axes.axhline(
            averages.at(_arm(size, EXACT), "val_accuracy").mean, color=COLOURS[index], linestyle=":", linewidth=1.2
        )
        for order, style in zip(ORDERS, ("-", "--"), strict=True):
            done = [test for test in config.test_sizes if _batch_arm(size, test, order) in batches.arms]
            arms = [_batch_arm(size, test, order) for test in done]
            if done:
                ranges(axes, batches, done, arms, "val_accuracy", index, f"trained with {size}, {order}", style)
    tidy(axes, "after the last epoch", "rows in a test batch", "validation accuracy (%)")
    if done:
        axes.set_xscale("log")
        axes.set_xticks(done, labels=[str(test) for test in done])
        axes.xaxis.set_minor_locator(NullLocator())
    in_percent(axes)
    legend_below(figure, axes, 2)
    return figure
