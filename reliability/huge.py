"""Arrays of more than 2**31 elements: every walk forward and backward, and the statistics, against NumPy in pieces.

    python -m reliability.huge                      # 9 GiB of memory, some ten minutes
    python -m reliability.huge --elements 100000    # the same code on small arrays, in a second

float16, so that an array takes 4 GiB. The gradient dy is a view whose elements share memory, and takes none; dx is
written over y. What is expected is computed here a second time, in float64 and half a million values at a time,
importing only the functions that are tried. Prints a line for each call and exits with 1 if one of them is wrong.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import normcore as nc

Array = NDArray[Any]

ELEMENTS = 2**31 + 2**16
PIECE = 1 << 19  # values in float64 at a time: they stay in cache
TILE = 1_000_003  # a prime: no index that wraps around finds the same values
EPS = 1e-5
HALF_ULP = 2.0**-11
# One rounding to float16, and the sums that were added in another order before it.
ALLOWED = 1.01 * HALF_ULP


class Case(NamedTuple):
    """An array seen as (A, G, L): parameters along G, statistics over the axes of `over`."""

    name: str
    op: str
    shape: tuple[int, ...]
    seen: tuple[int, int, int]
    over: tuple[int, int]
    told: tuple[Any, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed
    lead: int = 1  # how many axes of the array are A


def cases(elements: int) -> list[Case]:
    """Every way in which a walk can be long."""

    def channels(n: int, c: int) -> tuple[tuple[int, ...], tuple[int, int, int]]:
        high = math.isqrt(elements // (n * c)) + 1
        wide = elements // (n * c * high) + 1
        return (n, c, high, wide), (n, c, high * wide)

    fifteen, one, groups, row = channels(3, 5), channels(1, 1), channels(7, 3), channels(1, 2)
    high = math.isqrt(elements // 3) + 1
    last = high, elements // (3 * high) + 1, 3
    rows = elements // 128 + 1, 128
    return [
        Case("channels in the middle", "batch_norm", *fifteen, (0, 2)),
        Case("one channel", "batch_norm", *one, (0, 2)),
        Case("channels last", "batch_norm", last, (last[0] * last[1], 3, 1), (0, 2), (), {"axis": -1}, 2),
        Case("many rows", "layer_norm", rows, (*rows, 1), (1, 2), (128,)),
        Case("rows of segments", "group_norm", *groups, (1, 2), (1,)),
        Case("one long row", "group_norm", *row, (1, 2), (1,)),
        Case("RMS of many rows", "rms_norm", rows, (*rows, 1), (1, 2), (128,), {"eps": EPS}),
    ]


def pieces(seen: tuple[int, int, int]) -> Iterator[tuple[slice, slice]]:
    """Slices of A and of L, of some PIECE values together."""
    a, g, length = seen
    wide = max(1, min(length, PIECE // g))
    tall = max(1, PIECE // (g * wide))
    for start in range(0, a, tall):
        for left in range(0, length, wide):
            yield slice(start, start + tall), slice(left, left + wide)


def fill(x: Array) -> None:
    """Values that depend on their place: a tile of random ones, scaled and shifted by the number of the tile."""
    tile = np.random.default_rng(20150211).standard_normal(TILE).astype(np.float16)
    flat = x.reshape(-1)
    for k, start in enumerate(range(0, len(flat), TILE)):
        part = flat[start : start + TILE]
        np.multiply(tile[: len(part)], np.float16(1 + k % 5), out=part)
        part += np.float16(k % 17 - 8)


class Moments:
    """Mean and population variance, one for each place along the axes that are not summed over."""

    def __init__(self, case: Case) -> None:
        shape = tuple(1 if axis in case.over else n for axis, n in enumerate(case.seen))
        self.count, self.mean, self.squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.over, self.by_rows = case.over, 0 not in case.over

    def add(self, at: slice, values: Array) -> None:
        """Merge in a piece, by the formula of Chan, Golub and LeVeque."""
        where = at if self.by_rows else slice(None)
        count = float(values.size // self.mean[where].size)
        mean = values.mean(axis=self.over, keepdims=True)
        squares = np.square(values - mean).sum(axis=self.over, keepdims=True)
        total = self.count[where] + count
        delta = mean - self.mean[where]
        self.squares[where] += squares + delta * delta * self.count[where] * count / total
        self.mean[where] += delta * count / total
        self.count[where] = total


class Trial:
    """A case, its arrays and what is expected of them."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.x = np.empty(case.shape, np.float16)
        fill(self.x)
        self.y = np.empty(case.shape, np.float16)
        rng = np.random.default_rng(1)
        g = case.seen[1]
        parameters = case.told if case.op in ("layer_norm", "rms_norm") else (g,)
        self.weight, self.bias = rng.uniform(0.5, 1.5, parameters), rng.standard_normal(parameters)
        self.centred = case.op != "rms_norm"
        self.steps = (11, 7, 5, 1)[-len(case.shape) :]
        reach = 1 + sum(step * (n - 1) for step, n in zip(self.steps, case.shape, strict=True))
        self.gradient = rng.standard_normal(reach).astype(np.float16)
        strides = [2 * step for step in self.steps]
        self.dy = np.lib.stride_tricks.as_strided(self.gradient, case.shape, strides, writeable=False)
        moments = Moments(case)
        for at, values in self.values(self.x):
            moments.add(at[0], values)
        self.mean = moments.mean if self.centred else np.zeros_like(moments.mean)
        self.var = moments.squares / moments.count
        if not self.centred:
            self.var += np.square(moments.mean)
        self.rstd = 1.0 / np.sqrt(self.var + EPS)
        self.count = moments.count

    def values(self, array: Array) -> Iterator[tuple[tuple[slice, slice], Array]]:
        """The pieces of an array in float64, and where they are."""
        seen = array.reshape(self.case.seen)
        for at in pieces(self.case.seen):
            yield at, seen[at[0], :, at[1]].astype(np.float64)

    def of_piece(self, statistics: Array, at: tuple[slice, slice]) -> Array:
        """The statistics that belong to a piece."""
        return statistics[at[0]] if 0 not in self.case.over else statistics

    def dy_of(self, at: tuple[slice, slice]) -> Array:
        """The values of dy in a piece, by their places in the memory that they share."""
        lead = self.case.lead
        before, behind = slice(0, lead), slice(lead + 1, None)
        a, length = self.case.seen[0], self.case.seen[2]
        rows = self._places(np.arange(*at[0].indices(a)), before)[:, None, None]
        columns = self._places(np.arange(*at[1].indices(length)), behind)[None, None, :]
        channels = (self.steps[lead] * np.arange(self.case.seen[1]))[None, :, None]
        return self.gradient[rows + channels + columns].astype(np.float64)

    def _places(self, numbers: Array, axes: slice) -> Array:
        if not self.case.shape[axes]:
            return np.zeros_like(numbers)
        found = np.unravel_index(numbers, self.case.shape[axes])
        return sum((step * index for step, index in zip(self.steps[axes], found, strict=True)), np.zeros_like(numbers))

    def forward(self) -> Any:
        """Normalise, with the running statistics where there are any."""
        arguments = [self.weight] if not self.centred else [self.weight, self.bias]
        function = getattr(nc, f"{self.case.op}_forward")
        return function(self.x, *self.case.told, *arguments, out=self.y, **self.case.options)[1]

    def worst_of_y(self) -> float:
        """The largest error of y, relative to what its terms are."""
        weight, bias = self.weight.reshape(1, -1, 1), self.bias.reshape(1, -1, 1) * self.centred
        worst, y = 0.0, self.y.reshape(self.case.seen)
        for at, x in self.values(self.x):
            scaled = (x - self.of_piece(self.mean, at)) * self.of_piece(self.rstd, at) * weight
            error = np.abs(y[at[0], :, at[1]] - (scaled + bias))
            worst = max(worst, float((error / (np.abs(scaled) + np.abs(bias) + 2.0**-14)).max()))
        return worst

    def worst_of_gradients(self, dweight: Array, dbias: Array | None) -> float:
        """The largest relative error of the gradients; dx is where y was."""
        weight = self.weight.reshape(1, -1, 1)
        of_weight, of_bias = np.zeros(self.case.seen[1]), np.zeros(self.case.seen[1])
        first, second = np.zeros_like(self.mean), np.zeros_like(self.mean)
        for at, x in self.values(self.x):
            xhat = (x - self.of_piece(self.mean, at)) * self.of_piece(self.rstd, at)
            g = self.dy_of(at)
            of_weight += (g * xhat).sum(axis=(0, 2))
            of_bias += g.sum(axis=(0, 2))
            part = self.of_piece(first, at)
            part += (g * weight).sum(axis=self.case.over, keepdims=True)
            part = self.of_piece(second, at)
            part += (g * weight * xhat).sum(axis=self.case.over, keepdims=True)
        magnitude = max(1.0, float(np.abs(of_weight).max()), float(np.abs(of_bias).max()))
        worst = float(np.abs(dweight.reshape(-1) - of_weight).max()) / magnitude
        if dbias is not None:
            worst = max(worst, float(np.abs(dbias.reshape(-1) - of_bias).max()) / magnitude)
        dx = self.y.reshape(self.case.seen)
        first *= self.centred
        for at, x in self.values(self.x):
            rstd, count = self.of_piece(self.rstd, at), self.of_piece(self.count, at)
            xhat = (x - self.of_piece(self.mean, at)) * rstd
            g = self.dy_of(at) * weight
            expected = rstd * (g - self.of_piece(first, at) / count - xhat * self.of_piece(second, at) / count)
            terms = (
                np.abs(g),
                np.abs(self.of_piece(first, at) / count),
                np.abs(xhat * self.of_piece(second, at) / count),
            )
            scale = rstd * sum(terms) + 2.0**-14
            worst = max(worst, float((np.abs(dx[at[0], :, at[1]] - expected) / scale).max()))
        return worst

    def worst_of_statistics(self, found: Sequence[Array], wanted: Sequence[Array]) -> float:
        """The largest relative error of statistics."""
        spread, worst = np.sqrt(self.var.reshape(-1)), 0.0
        for one, other in zip(found, map(np.ravel, wanted), strict=True):
            worst = max(worst, float((np.abs(one.reshape(-1) - other) / (np.abs(other) + spread)).max()))
        return worst


def timed(function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, float]:
    """What a call returns, and its seconds."""
    started = time.perf_counter()
    result = function(*arguments, **options)
    return result, time.perf_counter() - started


def try_case(case: Case) -> bool:
    """All calls of a case; whether all of them were right."""
    trial, right = Trial(case), True

    def report(what: str, seconds: float, worst: float, allowed: float) -> None:
        nonlocal right
        right &= worst <= allowed
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        verdict = "" if worst <= allowed else f"   WRONG: more than {allowed:.1e}"
        print(
            f"{case.name:24} {what:20} {seconds:6.1f} s   worst {worst:.1e}   peak {peak:.2f} GiB{verdict}", flush=True
        )

    ctx, seconds = timed(trial.forward)
    report(f"{case.op}_forward", seconds, trial.worst_of_y(), ALLOWED)
    report("  its statistics", 0.0, trial.worst_of_statistics([ctx.mean, ctx.rstd], [trial.mean, trial.rstd]), 1e-9)
    backward = getattr(nc, f"{case.op}_backward")
    (_, dweight, dbias), seconds = timed(backward, trial.dy, ctx, out=trial.y)
    report(f"{case.op}_backward", seconds, trial.worst_of_gradients(dweight, dbias), ALLOWED)
    if case.op == "batch_norm":
        axis = case.options.get("axis", 1)
        found, seconds = timed(nc.batch_stats, trial.x, axis=axis)
        report("batch_stats", seconds, trial.worst_of_statistics(found, [trial.mean, trial.var]), 1e-9)
        moments = nc.RunningMoments(axis=axis)
        _, seconds = timed(moments.update, trial.x)
        seen = trial.x.reshape(case.seen)
        wanted = [trial.mean, trial.var, *(end.astype(np.float64) for end in (seen.min((0, 2)), seen.max((0, 2))))]
        worst = trial.worst_of_statistics([moments.mean, moments.var, moments.min, moments.max], wanted)
        report("RunningMoments", seconds, worst, 1e-9)
        assert (moments.count == trial.x.size // case.seen[1]).all()
    return right


def available() -> int:
    """Bytes of memory that are free, or would be if asked for."""
    with open("/proc/meminfo") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["MemAvailable"].split()[0]) * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Arrays of more than 2**31 elements against NumPy in pieces.")
    parser.add_argument("--elements", type=int, default=ELEMENTS, help="of an array, at least (default 2**31 + 2**16)")
    parser.add_argument("--case", help="only those whose name has this word")
    given = parser.parse_args(arguments)
    need = 2 * 2 * given.elements + 2**30 * (given.elements > 2**28)
    if available() < need:
        print(f"skipped: needs {need / 2**30:.1f} GiB, and {available() / 2**30:.1f} are free; close something first")
        return 2
    results = [try_case(case) for case in cases(given.elements) if given.case is None or given.case in case.name]
    print(f"{sum(results)} of {len(results)} cases right, arrays of {given.elements} elements or a few more")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
