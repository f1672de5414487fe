"""StandardScaler beside scikit-learn's: learning from a million rows, and scaling a single one."""

from __future__ import annotations

import importlib.util
import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import normcore as nc
from benches.comparing import DiffersError
from benches.epochs import SCIKIT
from benches.results import OURS, Result
from benches.timing import interleaved

WAYS = ("fit", "fit_transform", "row")
_TOLERANCE = 1e-5  # of a value around 1, in float32


class Table(NamedTuple):
    """float32 data, and as many features of a row that comes by itself."""

    rows: int
    features: int = 10
    features_of_a_row: int = 20

    @property
    def shape(self) -> str:
        """As the results call it."""
        return f"{self.rows}x{self.features}"

    def data(self) -> Any:
        """Values around 2, as in the grid."""
        return np.random.default_rng(0).standard_normal((self.rows, self.features), np.float32) + np.float32(2)

    def name(self, way: str) -> str:
        """Of a result."""
        return f"scaler, one row of {self.features_of_a_row}" if way == "row" else f"scaler, {way} {self.shape}"


TABLE, QUICK = Table(1_000_000), Table(300)


def measure(table: Table, way: str, threads: int, seconds: float, rounds: int) -> Result:
    """Time one of WAYS, in turns, after a look at whether the two agree."""
    if importlib.util.find_spec("sklearn") is None:
        return Result(table.name(way), None, missing=_absent(OURS, SCIKIT))
    from sklearn import preprocessing

    from normcore.estimators import StandardScaler

    X = table.data()
    row = np.random.default_rng(1).standard_normal((1, table.features_of_a_row))
    many = np.random.default_rng(2).standard_normal((100, table.features_of_a_row))

    def call(scaler: type[Any]) -> Callable[[], Any]:
        if way == "row":
            fitted = scaler().fit(many)
            return lambda: fitted.transform(row)
        return (lambda: scaler().fit(X)) if way == "fit" else (lambda: scaler().fit_transform(X))

    ways = {OURS: {way: call(StandardScaler)}, SCIKIT: {way: call(preprocessing.StandardScaler)}}
    with nc.threads(threads):
        ours, theirs = (own[way]() for own in ways.values())
        if way == "fit":
            ours, theirs = ours.scale_, theirs.scale_
        error = float(np.max(np.abs(ours - theirs)))
        if not error <= _TOLERANCE:
            raise DiffersError(f"{way} differs from scikit-learn's by {error:.3g}; compare them first")
        times = interleaved(ways, seconds, rounds)
    return Result(table.name(way), None, times.medians())


def memory(table: Table) -> Result:
    """How many megabytes there are at most while a StandardScaler is fitted: the data and all besides."""
    name = f"scaler, memory of fit {table.shape}"
    if importlib.util.find_spec("sklearn") is None:
        return Result(name, None, missing=_absent(OURS))
    from normcore.estimators import StandardScaler

    X = table.data()
    StandardScaler().fit(X[:10])  # what is imported and allocated once
    tracemalloc.start()
    try:
        StandardScaler().fit(X)
        extra = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return Result(name, None, amount=(X.nbytes + extra) / 1e6)


def arrays(result: Result) -> float | None:
    """The memory of a result as a multiple of its data."""
    if result.amount is None:
        return None
    rows, features = map(int, result.name.split()[-1].split("x"))
    return result.amount * 1e6 / (rows * features * np.dtype(np.float32).itemsize)


def _absent(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "absent: scikit-learn is not installed")
