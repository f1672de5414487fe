"""Arrays of more than 2**31 elements: every walk forward and backward, and the statistics, against NumPy in pieces.

    python -m reliability.huge                      # 9.2 GiB of memory, some minutes for each case
    python -m reliability.huge --elements 100000    # the same code on small arrays, in a second

float16, so that an array takes 4 GiB. The gradient dy is a view whose elements share memory, and takes none; dx is
written over y. What is expected is computed here a second time, in float64 and some hundred thousand values at a time,
importing only the functions that are tried: sums from all values, y and dx in pieces at both ends, around element 2**31
and in 60 other places. Prints a line for each call and exits with 1 if one of them is wrong.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import normcore as nc

Array = NDArray[Any]
Place = tuple[slice, ...]  # of a piece: slices of the first and the third axis

ELEMENTS = 2**31 + 2**16
PIECE = 1 << 17  # values in float64 at a time: they stay in cache
LOOKED_AT = 60  # pieces of y and dx, besides those that matter most
TILE = 1_000_003  # a prime: no index that wraps around finds the same values
CENTRE = 3.0  # of x: what sums are measured from
EPS = 1e-5
# One rounding to float16, and the sums that were added in another order before it.
ALLOWED = 1.01 * 2.0**-11
STATISTICS = 1e-9


class Case(NamedTuple):
    """A call. Parameters lie along an axis; statistics are per place on that axis (channels), or on axis 0 (rows)."""

    name: str
    op: str
    shape: tuple[int, ...]
    by_rows: bool
    told: tuple[Any, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed
    axis: int = 1  # of the parameters


def cases(elements: int) -> list[Case]:
    """Every way in which a walk can be long."""

    def images(n: int, c: int) -> tuple[int, ...]:
        high = math.isqrt(elements // (n * c)) + 1
        return n, c, high, elements // (n * c * high) + 1

    high = math.isqrt(elements // 3) + 1
    last = high, elements // (3 * high) + 1, 3
    rows = elements // 128 + 1, 128
    return [
        Case("channels in the middle", "batch_norm", images(3, 5), by_rows=False),
        Case("channels last", "batch_norm", last, False, (), {"axis": -1}, axis=2),
        Case("many rows", "layer_norm", rows, True, (128,)),
        Case("one long row", "group_norm", images(1, 2), True, (1,)),
        Case("one channel", "batch_norm", images(1, 1), False),
        Case("rows of segments", "group_norm", images(7, 3), True, (1,)),
        Case("RMS of many rows", "rms_norm", rows, True, (128,), {"eps": EPS}),
    ]


def places(shape: tuple[int, ...]) -> list[Place]:
    """Where the pieces of an array are: some PIECE values of the first axis, or of the third one."""
    first, each = shape[0], math.prod(shape[1:])
    if each <= PIECE or len(shape) < 4:
        step = max(1, PIECE // each)
        return [(slice(i, i + step),) for i in range(0, first, step)]
    step = max(1, PIECE * shape[2] // each)
    return [(slice(i, i + 1), slice(None), slice(k, k + step)) for i in range(first) for k in range(0, shape[2], step)]


def chosen(shape: tuple[int, ...]) -> list[Place]:
    """The pieces that are looked at element by element."""
    every = places(shape)
    beyond = int(len(every) * min(1.0, 2**31 / math.prod(shape)))
    numbers = {0, len(every) - 1, *range(max(0, beyond - 2), min(len(every), beyond + 2))}
    numbers |= set(np.linspace(0, len(every) - 1, min(LOOKED_AT, len(every))).astype(int).tolist())
    return [every[number] for number in sorted(numbers)]


def fill(x: Array) -> None:
    """Values that depend on their place: a tile of random ones, turned further each time."""
    tile = (np.random.default_rng(20150211).standard_normal(TILE) + CENTRE).astype(np.float16)
    flat = x.reshape(-1)
    for k, start in enumerate(range(0, len(flat), TILE)):
        turned = k * 7919 % TILE
        part = flat[start : start + TILE]
        part[: TILE - turned] = tile[turned:][: len(part)]
        if len(part) > TILE - turned:
            part[TILE - turned :] = tile[: len(part) - (TILE - turned)]


class Trial:
    """A case, its arrays and what is expected of them."""

    def __init__(self, case: Case) -> None:
        self.case, shape = case, case.shape
        self.x, self.y = np.empty(shape, np.float16), np.empty(shape, np.float16)
        fill(self.x)
        rng = np.random.default_rng(1)
        parameters = shape[case.axis]
        self.weight, self.bias = rng.uniform(0.5, 1.5, parameters), rng.standard_normal(parameters)
        beside = [-1 if axis == case.axis else 1 for axis in range(len(shape))]
        self.scale, self.shift = self.weight.reshape(beside), self.bias.reshape(beside)
        steps = (11, 7, 5, 1)[-len(shape) :]
        reach = 1 + sum(step * (n - 1) for step, n in zip(steps, shape, strict=True))
        gradient = rng.standard_normal(reach).astype(np.float16)
        self.dy = np.lib.stride_tricks.as_strided(gradient, shape, [2 * step for step in steps], writeable=False)
        kept = 0 if case.by_rows else case.axis
        self.over = tuple(axis for axis in range(len(shape)) if axis != kept)
        self.not_parameters = tuple(axis for axis in range(len(shape)) if axis != case.axis)
        self.count = math.prod(shape) // shape[kept]
        self.centred = case.op != "rms_norm"
        self._expect()

    def _zeros(self) -> Array:
        return np.zeros([1 if axis in self.over else n for axis, n in enumerate(self.case.shape)])

    def _expect(self) -> None:
        """Mean and variance, from distances from CENTRE, near which the mean is."""
        total, squares = self._zeros(), self._zeros()
        for at, values in self.pieces(self.x, places(self.case.shape)):
            values -= CENTRE
            self.part(total, at)[...] += values.sum(axis=self.over, keepdims=True)
            np.square(values, out=values)
            self.part(squares, at)[...] += values.sum(axis=self.over, keepdims=True)
        mean = total / self.count
        self.mean, self.var = mean + CENTRE, squares / self.count - np.square(mean)
        if not self.centred:
            self.var += np.square(self.mean)
            self.mean = np.zeros_like(self.mean)
        self.rstd = 1.0 / np.sqrt(self.var + EPS)

    def pieces(self, array: Array, where: Iterable[Place]) -> Iterator[tuple[Place, Array]]:
        """Pieces of an array in float64, and where they are."""
        for at in where:
            yield at, array[at].astype(np.float64)

    def part(self, statistics: Array, at: Place) -> Array:
        """The statistics that belong to a piece."""
        return statistics[at[0]] if self.case.by_rows else statistics

    def normalised(self, at: Place, x: Array) -> Array:
        """x is written over."""
        x -= self.part(self.mean, at)
        x *= self.part(self.rstd, at)
        return x

    def forward(self) -> Any:
        """The context of the call, whose result is in y."""
        arguments = [self.weight, self.bias] if self.centred else [self.weight]
        function = getattr(nc, f"{self.case.op}_forward")
        return function(self.x, *self.case.told, *arguments, out=self.y, **self.case.options)[1]

    def worst_of_y(self) -> float:
        """The largest error of y, relative to what its terms are."""
        worst = 0.0
        for at, x in self.pieces(self.x, chosen(self.case.shape)):
            scaled, shift = self.normalised(at, x) * self.scale, self.shift * self.centred
            error = np.abs(self.y[at] - (scaled + shift))
            worst = max(worst, float((error / (np.abs(scaled) + np.abs(shift) + 2.0**-14)).max()))
        return worst

    def worst_of_gradients(self, dweight: Array, dbias: Array | None) -> float:
        """The largest relative error of the gradients; dx is where y was."""
        of_weight, of_bias = np.zeros_like(self.weight), np.zeros_like(self.weight)
        first, second = self._zeros(), self._zeros()
        for at, x in self.pieces(self.x, places(self.case.shape)):
            xhat, dy = self.normalised(at, x), self.dy[at].astype(np.float64)
            of_bias += dy.sum(axis=self.not_parameters)
            dy_xhat = dy * xhat
            of_weight += dy_xhat.sum(axis=self.not_parameters)
            dy *= self.scale
            dy_xhat *= self.scale
            self.part(first, at)[...] += dy.sum(axis=self.over, keepdims=True)
            self.part(second, at)[...] += dy_xhat.sum(axis=self.over, keepdims=True)
        magnitude = max(1.0, float(np.abs(of_weight).max()), float(np.abs(of_bias).max()))
        worst = float(np.abs(dweight - of_weight).max()) / magnitude
        if dbias is not None:
            worst = max(worst, float(np.abs(dbias - of_bias).max()) / magnitude)
        first *= self.centred / self.count
        second /= self.count
        for at, x in self.pieces(self.x, chosen(self.case.shape)):
            xhat, dz = self.normalised(at, x), self.dy[at] * self.scale
            terms = dz, self.part(first, at), xhat * self.part(second, at)
            expected = (terms[0] - terms[1] - terms[2]) * self.part(self.rstd, at)
            scale = sum(map(np.abs, terms)) * self.part(self.rstd, at) + 2.0**-14
            worst = max(worst, float((np.abs(self.y[at] - expected) / scale).max()))
        return worst

    def worst_of_statistics(self, found: Sequence[Array], wanted: Sequence[Array]) -> float:
        """The largest error of statistics, relative to themselves and the spread of x."""
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
        verdict = "right" if worst <= allowed else f"WRONG: more than {allowed:.1e}"
        print(
            f"{case.name:22}  {what:19}  {seconds:6.1f} s  worst {worst:.1e}  peak {peak:.2f} GiB  {verdict}",
            flush=True,
        )

    print(f"{case.name}: x {case.shape}, {math.prod(case.shape)} elements", flush=True)
    ctx, seconds = timed(trial.forward)
    report(f"{case.op}_forward", seconds, trial.worst_of_y(), ALLOWED)
    worst = trial.worst_of_statistics([ctx.mean, ctx.rstd], [trial.mean, trial.rstd])
    report("  its statistics", 0.0, worst, STATISTICS)
    backward = getattr(nc, f"{case.op}_backward")
    (_, dweight, dbias), seconds = timed(backward, trial.dy, ctx, out=trial.y)
    report(f"{case.op}_backward", seconds, trial.worst_of_gradients(dweight, dbias), ALLOWED)
    if case.op == "batch_norm":
        found, seconds = timed(nc.batch_stats, trial.x, axis=case.axis)
        report("batch_stats", seconds, trial.worst_of_statistics(found, [trial.mean, trial.var]), STATISTICS)
        moments = nc.RunningMoments(axis=case.axis)
        _, seconds = timed(moments.update, trial.x)
        ends = [end(trial.x, axis=trial.over).astype(np.float64) for end in (np.min, np.max)]
        found = [moments.mean, moments.var, moments.min, moments.max]
        worst = trial.worst_of_statistics(found, [trial.mean, trial.var, *ends])
        report("RunningMoments", seconds, worst if (moments.count == trial.count).all() else math.inf, STATISTICS)
    return right


def available() -> int:
    """Bytes of memory that are free, or would be if asked for."""
    with open("/proc/meminfo") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["MemAvailable"].split()[0]) * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m reliability.huge", description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=ELEMENTS, help="of an array, at least (default 2**31 + 2**16)")
    parser.add_argument("--case", help="only those whose name has these words")
    given = parser.parse_args(arguments)
    need = 4 * given.elements + 3 * 2**29 * (given.elements > 2**28)
    if available() < need:
        print(f"skipped: needs {need / 2**30:.1f} GiB, and {available() / 2**30:.1f} are free; close something first")
        return 2
    results = [try_case(case) for case in cases(given.elements) if given.case is None or given.case in case.name]
    print(f"{sum(results)} of {len(results)} cases right, arrays of {given.elements} elements or a few more")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
