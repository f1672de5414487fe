"""The targets as data: the rows of the speed contract, each with the results it looks at, its value and its bound.

"At most 2.2 copies" is meant for every shape unless the contract says "geometric mean". Multiples of the copy of an
array are multiples of the time that memory takes, so they are asked of arrays over 1 MB; below, the copy is over
before the second thread is awake, and what counts is to be no slower than anybody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import geometric_mean
from typing import NamedTuple

from benches import scalers
from benches.cases import HALF, MB, Case
from benches.results import OURS, Result

PEERS = ("PyTorch", "compile", "JAX", "NumPy")
MEAN, EVERY = "geometric mean", "every one"
AT_MOST, AT_LEAST = "at most", "at least"
MANY_ROWS = 4096
TINY = (64, 10)

Value = Callable[[Result], float | None]
Where = Callable[[Result], bool]


class Target(NamedTuple):
    """Something promised.

    Attributes
    ----------
    name : str
    where : callable
        Which results it is about.
    value : callable
        The number in each that counts; None leaves the result out.
    sense : {AT_MOST, AT_LEAST}
    bound : float
    statistic : {MEAN, EVERY}
        Whether the geometric mean has to keep the bound, or every one.
    unit : str
        Behind the numbers.
    """

    name: str
    where: Where
    value: Value
    sense: str
    bound: float
    statistic: str = EVERY
    unit: str = "x"


class Outcome(NamedTuple):
    """What became of a target; `holds` is None where nothing was measured that it is about."""

    target: Target
    holds: bool | None
    value: float | None = None  # what was compared with the bound
    mean: float | None = None
    where: str = ""  # the worst
    beyond: int = 0
    cases: int = 0


def judge(target: Target, results: Sequence[Result]) -> Outcome:
    """Compare a target with what was measured."""
    pairs = [(value, x) for x in results if target.where(x) and (value := target.value(x)) is not None]
    if not pairs:
        return Outcome(target, None)
    values = [value for value, _ in pairs]
    mean = geometric_mean(values) if min(values) > 0 else sum(values) / len(values)
    most = target.sense == AT_MOST
    worst, where = max(pairs, key=lambda pair: pair[0] if most else -pair[0])
    value = mean if target.statistic == MEAN else worst
    missed = sum(not _keeps(one, target) for one in values)
    return Outcome(target, _keeps(value, target), value, mean, where.name, missed, len(values))


def judge_all(results: Sequence[Result]) -> list[Outcome]:
    """All targets, in their order."""
    return [judge(target, results) for target in TARGETS]


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """1 if one is missed."""
    return int(any(outcome.holds is False for outcome in outcomes))


def _keeps(value: float, target: Target) -> bool:
    return value <= target.bound if target.sense == AT_MOST else value >= target.bound


# --- which results ----------------------------------------------------------------------------------------------------


def _grid(
    ops: str, direction: str, layout: str = "", *, over: int = 0, upto: int | None = None, rows: int = 0
) -> Where:
    """float32 cases of the operations, in a direction and layout, larger than `over` bytes."""

    def where(result: Result) -> bool:
        case = result.case
        return (
            case is not None
            and case.op in ops.split()
            and case.direction == direction
            and case.layout == (layout or case.layout)
            and case.dtype == "float32"
            and case.nbytes > over
            and (upto is None or case.nbytes <= upto)
            and case.shape[0] >= rows
        )

    return where


def _any_case(result: Result) -> bool:
    return result.case is not None


def _large(result: Result) -> bool:
    return result.case is not None and result.case.nbytes > MB


def _half(result: Result) -> bool:
    return _large(result) and result.case is not None and result.case.dtype in HALF


def _tiny(result: Result) -> bool:
    return result.case == Case("batch_norm", "forward", TINY)


def _named(start: str) -> Where:
    return lambda result: result.name.startswith(start)


# --- which number -----------------------------------------------------------------------------------------------------


def _copies(result: Result) -> float | None:
    return result.copies


def _over(name: str, other: str = OURS) -> Value:
    return lambda result: result.over(name, other)


def _amount(result: Result) -> float | None:
    return result.amount


def _microseconds(result: Result) -> float | None:
    return result.seconds["fresh"] * 1e6 if "fresh" in result.seconds else None


def _of_float32(result: Result) -> float | None:
    """The multiple of the copy, as a part of what float32 may cost."""
    assert result.case is not None
    kind = "inference" if result.case.direction == "inference" else result.case.op, result.case.layout
    bound = MULTIPLES.get((kind[0], kind[1]), MULTIPLES.get((kind[0], "")))
    if bound is None or result.copies is None:
        return None
    return result.copies / bound[result.case.direction == "backward"]


# Copies that forward and backward may cost, by operation (or "inference") and layout.
MULTIPLES: Mapping[tuple[str, str], tuple[float, float]] = {
    ("batch_norm", "NCHW"): (1.5, 2.2),
    ("batch_norm", "NC"): (2.2, 3.0),
    ("inference", ""): (1.15, 1.15),
    ("layer_norm", ""): (1.3, 2.2),
    ("rms_norm", ""): (1.3, 2.2),
    ("group_norm", ""): (1.6, 2.4),
    ("instance_norm", ""): (1.6, 2.4),
}
# The start of a training step's name -> how many times as long PyTorch takes.
STEPS: Mapping[str, float] = {
    "3072-64-32-10": 3.0,
    "784-128-64-10": 3.5,
    "eight layers of ten": 6.0,
    "784-512-256-128-64-10": 1.3,
    "784-1024-1024-1024-10": 1.15,
}
# What a StandardScaler does -> how many times as long scikit-learn's takes.
SCALERS: Mapping[str, float] = {"fit": 4.0, "fit_transform": 3.0, "one row": 20.0}
IMAGES = "NCHW"


def _batch() -> Iterator[Target]:
    name, op = "batch norm, training", "batch_norm"
    forward, backward = _grid(op, "forward", IMAGES), _grid(op, "backward", IMAGES)
    yield Target(f"{name}, forward NCHW, copies", forward, _copies, AT_MOST, 1.5, MEAN)
    yield Target(f"{name}, forward NCHW, PyTorch", forward, _over("PyTorch"), AT_LEAST, 6.0, MEAN)
    yield Target(f"{name}, forward NCHW, copies, no shape over", forward, _copies, AT_MOST, 2.5)
    yield Target(f"{name}, backward NCHW, copies", backward, _copies, AT_MOST, 2.2, MEAN)
    yield Target(f"{name}, backward NCHW, PyTorch", backward, _over("PyTorch"), AT_LEAST, 3.0, MEAN)
    for direction, bound in (("forward", 2.2), ("backward", 3.0)):
        many = _grid(op, direction, "NC", over=MB, rows=MANY_ROWS)
        yield Target(f"{name}, {direction} NC with many rows, copies", many, _copies, AT_MOST, bound)
        large, small = _grid(op, direction, "NC", over=8 * MB), _grid(op, direction, "NC", upto=8 * MB)
        yield Target(f"{name}, {direction} NC over 8 MB, PyTorch", large, _over("PyTorch"), AT_LEAST, 4.0)
        yield Target(f"{name}, {direction} NC up to 8 MB, PyTorch", small, _over("PyTorch"), AT_LEAST, 1.0)
    yield Target("batch norm, inference, copies", _grid(op, "inference", over=MB), _copies, AT_MOST, 1.15)


def _rows() -> Iterator[Target]:
    for name, ops in (("layer and RMS", "layer_norm rms_norm"), ("group and instance", "group_norm instance_norm")):
        for direction in ("forward", "backward"):
            bound = MULTIPLES[ops.split()[0], ""][direction == "backward"]
            large = _grid(ops, direction, over=MB)
            yield Target(f"{name} norm, {direction}, copies", large, _copies, AT_MOST, bound)
            every = _grid(ops, direction)
            yield Target(f"{name} norm, {direction}, PyTorch", every, _over("PyTorch"), AT_LEAST, 1.5)


def _others() -> Iterator[Target]:
    half = "float16 and bfloat16, copies, as a part of float32's bound"
    yield Target(half, _half, _of_float32, AT_MOST, 1.5)
    yield Target("(64, 10), training forward with ctx", _tiny, _microseconds, AT_MOST, 1.2, unit=" us")
    yield Target("(64, 10), training forward with ctx, PyTorch", _tiny, _over("PyTorch", "fresh"), AT_LEAST, 4.0)
    nobody = "nothing slower than PyTorch, torch.compile, JAX or NumPy"
    yield Target(nobody, _any_case, lambda result: result.least(PEERS), AT_LEAST, 1.0)
    yield Target("import normcore over import numpy", _named("import"), _amount, AT_MOST, 15.0, unit=" ms")
    yield Target("wheel", _named("wheel"), _amount, AT_MOST, 2.0, unit=" MB")
    yield Target("a fresh output over out=", _any_case, _over("fresh"), AT_MOST, 1.25)
    for start, bound in STEPS.items():
        yield Target(f"training step, {start}", _named(f"training {start}"), _over("PyTorch"), AT_LEAST, bound)
    yield Target("an epoch of MNIST over scikit-learn", _named("epoch"), _over("scikit-learn"), AT_LEAST, 1.0)
    fits, row = _named("perceptron fit"), _named("perceptron predict_proba")
    yield Target("MLPClassifier without norm over scikit-learn's", fits, _over("scikit-learn"), AT_LEAST, 1.0)
    batch = _over("scikit-learn", "batch norm")
    yield Target("MLPClassifier with batch norm over scikit-learn's without", fits, batch, AT_LEAST, 1.0)
    yield Target("MLPClassifier, a row predicted, over scikit-learn's", row, _over("scikit-learn"), AT_LEAST, 2.0)
    for way, bound in SCALERS.items():
        yield Target(
            f"StandardScaler, {way}, scikit-learn", _named(f"scaler, {way} "), _over("scikit-learn"), AT_LEAST, bound
        )
    yield Target("StandardScaler, memory of fit, arrays", _named("scaler, memory"), scalers.arrays, AT_MOST, 1.1)
    yield Target("Trainer.fit over a bare loop", _named("fit,"), _over(OURS, "bare loop"), AT_MOST, 1.2)
    yield Target("Numba over Cython, over 1 MB", _large, _over("Numba"), AT_MOST, 1.5)
    yield Target("2 threads against 1, over 1 MB", _large, _over("1 thread"), AT_LEAST, 1.7)


TARGETS: tuple[Target, ...] = (*_batch(), *_rows(), *_others())
