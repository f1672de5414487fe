"""What does batch norm compute, step by step, with numbers small enough for pencil and paper?

The two vectors of three features are those of a Keras tutorial on batch norm: (0.23, 1.26, -2.41) and
(0.56, 0.75, 1.00), a batch of two, with gamma = beta = 1. Every intermediate is computed here in plain Python, by
algorithm 1 of the batch norm paper (Ioffe & Szegedy 2015) and its gradients, with the population variance and with the
sample variance, and is then compared with `batch_norm` and `batch_norm_backward`. The tutorial's table is compared with
both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from normcore.functional import batch_norm, batch_norm_backward, batch_norm_forward

from ._by_hand import POPULATION, SAMPLE, Steps, steps
from ._config import contents, finite, positive
from ._environment import environment
from ._picture import Picture
from ._result import Result
from ._table import Column, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VECTORS = ((0.23, 1.26, -2.41), (0.56, 0.75, 1.00))
# Variance and output (of the first vector) as the tutorial prints them: text, since how many digits count.
_PRINTED = (("0.054", "-0.710"), ("0.130", "0.707"), ("5.81", "-0.707"))


@dataclass(frozen=True)
class Config:
    """All that decides the study's numbers.

    Attributes
    ----------
    vectors : tuple of tuple of float
        The rows of the batch, two or more of one length.
    gamma, beta : float
        Scale and shift, the same for all features.
    eps : float
        Added to the variance.

    Raises
    ------
    ValueError, TypeError
        If a value makes no example.
    """

    vectors: tuple[tuple[float, ...], ...] = _VECTORS
    gamma: float = 1.0
    beta: float = 1.0
    eps: float = 1e-5

    QUICK: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        if not isinstance(self.vectors, tuple) or not all(isinstance(row, tuple) for row in self.vectors):
            raise TypeError(f"vectors must be a tuple of tuples of numbers, got {self.vectors!r}")
        if len(self.vectors) < 2 or not self.vectors[0] or len({len(row) for row in self.vectors}) > 1:
            raise ValueError(f"vectors must be two or more, of one length that is not 0, got {self.vectors}")
        for row in self.vectors:
            for value in row:
                finite(value, "every entry of vectors")
        finite(self.gamma, "gamma")
        finite(self.beta, "beta")
        positive(self.eps, "eps")


def run(config: Config = Config(), progress: bool = False) -> Result:  # noqa: ARG001 - every study takes it; this one takes no time
    """Do the example with both variances, and compare it with `batch_norm`.

    Parameters
    ----------
    config : Config
        What to do.
    progress : bool, default False
        Not used: it is done at once.

    Returns
    -------
    Result
        Print its ``table()``.

    Examples
    --------
    >>> from normcore.studies import worked_example
    >>> print(worked_example.run().conclusions[0])
    batch_norm and batch_norm_backward give the numbers above, to within 1e-14.
    """
    started = time.perf_counter()
    # A simple gradient: 1 for the first row, 0 for the others, as if the loss were the sum over the first row.
    dy = [1.0, *(0.0 for _ in config.vectors[1:])]
    done = {
        kind: [
            steps(feature, dy, kind, config.gamma, config.beta, config.eps)
            for feature in zip(*config.vectors, strict=True)
        ]
        for kind in (POPULATION, SAMPLE)
    }
    tutorials = config.vectors == _VECTORS
    return Result(
        study="worked-example",
        title="Batch norm by hand: every step, on two small vectors"
        if tutorials
        else f"Batch norm by hand: every step, on {len(config.vectors)} vectors",
        question="What does batch norm compute, and which variance does it use?",
        notes=(
            f"The batch: {', '.join(_row(vector) for vector in config.vectors)}. "
            f"gamma = {config.gamma:g}, beta = {config.beta:g}, eps = {config.eps:g}, in float64.",
            "Each feature is normalised by itself, over the rows of the batch.",
            "Backward: the gradient of y is 1 in the first row and 0 in the others.",
        ),
        config=contents(config),
        tables=(
            *(_table(kind, features) for kind, features in done.items()),
            *([_tutorial(done)] if tutorials else []),
        ),
        texts={f"Step by step, {kind} variance": _written_out(config, done[kind], kind) for kind in done},
        conclusions=(
            _agreement(config, done),
            *(_mixture(config, done) if tutorials else ()),
            _gradient_vanishes(config, done) if len(config.vectors) == 2 else _sums(done),
            "batch_norm normalises with the population variance, as algorithm 1 of the paper does; the sample variance "
            "is what goes into the running variance, for inference, as in the paper and in PyTorch.",
        ),
        seconds=time.perf_counter() - started,
        environment=environment("not used"),
        pictures=(
            Picture(
                "steps",
                "Every value of the batch after each step: as it is, centred, normalised, scaled and shifted. Left: "
                "with the population variance, right: with the sample variance. A line is a feature of a row.",
                partial(_draw, done),
            ),
        ),
        data={kind: [feature._asdict() for feature in features] for kind, features in done.items()},
    )


def _row(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.2f}' for value in values)})"


def _table(kind: str, features: list[Steps]) -> Table:
    """Every intermediate of every value."""
    names = ("x", "mean", "x - mean", "squared", "var", "sqrt(var + eps)", "xhat", "y", "dy", "dx")
    rows = [
        [
            index, row + 1, done.x[row], done.mean, done.centred[row], done.squares[row], done.var, done.std,
            done.xhat[row], done.y[row], done.dy[row], done.dx[row],
        ]
        for index, done in enumerate(features, 1)
        for row in range(len(done.x))
    ]  # fmt: skip
    columns = [Column("feature"), Column("row"), *(Column(name, spec=".6g") for name in names)]
    return Table(kind, f"With the {kind} variance", columns, rows, "report")


def _written_out(config: Config, features: list[Steps], kind: str) -> str:
    return "\n\n".join(_feature(config, done, number, kind) for number, done in enumerate(features, 1))


def _feature(config: Config, done: Steps, number: int, kind: str) -> str:
    m = len(done.x)
    along = sum(a * b for a, b in zip(done.dxhat, done.xhat, strict=True))
    lines = [
        ("x", f"{_several(done.x)}"),
        ("mean", f"({' + '.join(map(_number, done.x))}) / {m} = {done.mean:.6f}"),
        ("x - mean", _several(done.centred)),
        ("(x - mean)^2", _several(done.squares)),
        (
            "var",
            f"({' + '.join(f'{value:.6f}' for value in done.squares)}) / {done.divisor} = {done.var:.6f}"
            f"   ({kind}: {'m' if kind == POPULATION else 'm - 1'} = {done.divisor})",
        ),
        ("sqrt(var + eps)", f"sqrt({done.var:.6f} + {config.eps:g}) = {done.std:.6f}"),
        ("xhat", f"(x - mean) / {done.std:.6f} = {_several(done.xhat)}"),
        ("y", f"{config.gamma:g} * xhat + {config.beta:g} = {_several(done.y)}"),
        ("dy", _several(done.dy)),
        ("dbeta", f"sum(dy) = {done.dbeta:.6f}"),
        ("dgamma", f"sum(dy * xhat) = {done.dgamma:.6f}"),
        ("dxhat", f"{config.gamma:g} * dy = {_several(done.dxhat)}"),
        (
            "dx",
            f"(dxhat - {sum(done.dxhat):.6f} / {m} - xhat * {along:.6f} / {done.divisor}) / {done.std:.6f} = "
            f"({', '.join(f'{value:.3e}' for value in done.dx)})",
        ),
    ]
    return "\n".join([f"feature {number}", *(f"  {name:<16}{text}" for name, text in lines)])


def _number(value: float) -> str:
    return f"({value:.6f})" if value < 0 else f"{value:.6f}"


def _several(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.6f}' for value in values)})"


# --- the tutorial's table ---------------------------------------------------------------------------------------------


def fits(printed: str, value: float) -> bool:
    """Whether `value`, rounded to as many digits as are printed, is what is printed."""
    return f"{value:.{len(printed.partition('.')[2])}f}" == printed


def _candidates(done: dict[str, list[Steps]], index: int) -> dict[str, float]:
    """What an output of the tutorial may be; if nothing else fits, also what its rounded variance gives."""
    found = {f"xhat, {kind}": done[kind][index].xhat[0] for kind in done}
    found |= {f"y, {kind}": done[kind][index].y[0] for kind in done}
    variance, output = _PRINTED[index]
    if not any(fits(output, value) for value in found.values()):
        found[f"xhat, with {variance} for the variance"] = done[SAMPLE][index].centred[0] / math.sqrt(float(variance))
    return found


def _tutorial(done: dict[str, list[Steps]]) -> Table:
    """Which of our numbers each entry of the tutorial's table is."""
    rows: list[list[Any]] = []
    for index, (variance, output) in enumerate(_PRINTED):
        which = [kind for kind in done if fits(variance, done[kind][index].var)]
        rows.append([index + 1, "variance", variance, *(done[kind][index].var for kind in done), _or(which)])
        which = [name for name, value in _candidates(done, index).items() if fits(output, value)]
        rows.append([index + 1, "output", output, *(done[kind][index].xhat[0] for kind in done), _or(which)])
    columns = [
        Column("feature"), Column("entry"), Column("tutorial"), Column("population", spec=".6f"),
        Column("sample", spec=".6f"), Column("it is"),
    ]  # fmt: skip
    title = "The tutorial's table: variance, and output of the first vector, beside var and xhat of both kinds"
    return Table("tutorial", title, columns, rows)


def _or(names: list[str]) -> str:
    return " or ".join(names) if names else "neither"


def _mixture(config: Config, done: dict[str, list[Steps]]) -> list[str]:
    """What the tutorial mixes, counted."""
    indices = range(len(_PRINTED))
    variances = {kind: sum(fits(_PRINTED[i][0], done[kind][i].var) for i in indices) for kind in done}
    outputs = {kind: sum(fits(_PRINTED[i][1], done[kind][i].xhat[0]) for i in indices) for kind in done}
    rounded = [i for i in indices if not any(fits(_PRINTED[i][1], done[kind][i].xhat[0]) for kind in done)]
    said = [
        "The tutorial mixes the two variances: the formula above its table divides by m, which is the population "
        f"variance, but in the table {variances[SAMPLE]} of {len(indices)} variances are sample variances and "
        f"{variances[POPULATION]} are population variances; {outputs[SAMPLE]} outputs are xhat of the sample variance "
        f"and {outputs[POPULATION]} of the population variance. By the formula the outputs are "
        f"{', '.join(f'{done[POPULATION][i].xhat[0]:.3f}' for i in indices)}."
    ]
    for i in rounded:
        variance, output = _PRINTED[i]
        said.append(
            f"Its {output} is neither: it is {done[SAMPLE][i].centred[0]:.3f} / sqrt({variance}), with the sample "
            f"variance {done[SAMPLE][i].var:.5f} rounded first; without rounding it is {done[SAMPLE][i].xhat[0]:.3f}."
        )
    if config.beta and not any(fits(_PRINTED[i][1], done[kind][i].y[0]) for i in indices for kind in done):
        said.append(
            f"Its outputs are xhat, not y: with gamma = beta = 1, as it says, they would be 1 more, "
            f"{', '.join(f'{done[SAMPLE][i].y[0]:.3f}' for i in indices)} with the sample variance."
        )
    return said


# --- what else the numbers say ----------------------------------------------------------------------------------------


def _agreement(config: Config, done: dict[str, list[Steps]]) -> str:
    """The largest difference from `batch_norm`, relative to the largest number beside it."""
    x = np.array(config.vectors)
    features = x.shape[1]
    gamma, beta = np.full(features, config.gamma), np.full(features, config.beta)
    mean, var = np.zeros(features), np.zeros(features)
    y, ctx = batch_norm_forward(
        x, gamma, beta, running_mean=mean, running_var=var, training=True, momentum=1.0, eps=config.eps
    )
    dy = np.array([one.dy for one in done[POPULATION]]).T
    dx, dgamma, dbeta = batch_norm_backward(dy, ctx)
    population, sample = done[POPULATION], done[SAMPLE]
    # With momentum 1 the running variance is the batch's sample variance; normalising with it is evaluation mode.
    pairs: list[tuple[Any, Any]] = [
        (y.T, [one.y for one in population]),
        (dx.T, [one.dx for one in population]),
        (dgamma, [one.dgamma for one in population]),
        (dbeta, [one.dbeta for one in population]),
        (mean, [one.mean for one in sample]),
        (var, [one.var for one in sample]),
        (batch_norm(x, mean, var, gamma, beta, eps=config.eps).T, [one.y for one in sample]),
    ]
    off = max(float(np.abs(np.asarray(a) - b).max() / max(1.0, float(np.abs(b).max()))) for a, b in pairs)
    bound = 10.0 ** math.ceil(math.log10(max(off, 1e-15)))
    if bound <= 1e-12:
        return f"batch_norm and batch_norm_backward give the numbers above, to within {bound:.0e}."
    return f"batch_norm and batch_norm_backward are off from the numbers above by up to {off:.1e}, which is a defect."


def _gradient_vanishes(config: Config, done: dict[str, list[Steps]]) -> str:
    largest = max(abs(value) for one in done[POPULATION] for value in one.dx)
    return (
        "Two rows are too few to learn from: whatever the values are, xhat is +1 and -1 (with the sample variance "
        f"{1 / math.sqrt(2):+.3f} and {-1 / math.sqrt(2):+.3f}), so no gradient gets through to x but for what eps = "
        f"{config.eps:g} leaves, here at most {largest:.1e}."
    )


def _sums(done: dict[str, list[Steps]]) -> str:
    largest = max(abs(sum(one.dx)) for features in done.values() for one in features)
    return f"The gradients of a feature sum to 0 over the batch (here to {largest:.0e}): a shift of x changes nothing."


def _draw(done: dict[str, list[Steps]]) -> Figure:
    from ._drawing import COLOURS, MARKERS, legend_below, new_figure, tidy

    figure, panels = new_figure("Batch norm step by step", columns=2, width=6)
    names = ("x", "x - mean", "xhat", "y")
    for axes, (kind, features) in zip(panels[0], done.items(), strict=True):
        for index, one in enumerate(features):
            for row in range(len(one.x)):
                values = (one.x[row], one.centred[row], one.xhat[row], one.y[row])
                axes.plot(
                    range(len(names)), values, "-" if not row else "--", color=COLOURS[index % len(COLOURS)],
                    marker=MARKERS[index % len(MARKERS)], markersize=7, label=f"feature {index + 1}, row {row + 1}",
                    markerfacecolor=COLOURS[index % len(COLOURS)] if not row else "white",
                )  # fmt: skip
        axes.axhline(0, color="#999999", linewidth=0.8)
        axes.set_xticks(range(len(names)), labels=names)
        tidy(axes, f"{kind} variance", "after the step", "value (no unit)")
    panels[0, 1].set_ylim(panels[0, 0].get_ylim())
    legend_below(figure, panels[0, 0], len(done[POPULATION]))
    return figure
