"""What is hard to sum: a row for each kind of data, with the reason why it is there."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from benches.cases import EPS, Array, Case, Problem, View, dtype_of, problem, view

Make = Callable[[np.random.Generator, View, str], Array]

# of each dtype: the distance from 1 to the next number, the smallest normal number, the largest
_NUMBERS = {
    "float16": (2.0**-10, 2.0**-14, 65504.0),
    "bfloat16": (2.0**-7, 2.0**-126, (2 - 2.0**-7) * 2.0**127),
    "float32": (2.0**-23, 2.0**-126, (2 - 2.0**-23) * 2.0**127),
    "float64": (2.0**-52, 2.0**-1022, (2 - 2.0**-52) * 2.0**1023),
}


def eps_of(dtype: str) -> float:
    """The distance from 1 to the next number of a dtype."""
    return _NUMBERS[dtype][0]


def tiny_of(dtype: str) -> float:
    """The smallest normal number of a dtype."""
    return _NUMBERS[dtype][1]


class Data(NamedTuple):
    """A kind of data: its name, why it is there, its values in float64 for a view of x, and the norm's eps."""

    name: str
    reason: str
    make: Make
    eps: float = EPS


def normal(offset: float = 0.0, scale: float = 1.0) -> Make:
    """Independent normal values."""

    def make(rng: np.random.Generator, seen: View, _: str) -> Array:
        return scale * rng.standard_normal(seen.shape) + offset

    return make


def _largest(rng: np.random.Generator, seen: View, dtype: str) -> Array:
    largest = _NUMBERS["float32" if dtype == "float64" else dtype][2]
    values: Array = rng.uniform(-largest, largest, seen.shape)
    return values


def _constant(rng: np.random.Generator, seen: View, _: str) -> Array:
    """A number for each group, of any size."""
    numbers = rng.standard_normal(_reduced(seen)) * 10.0 ** rng.integers(-3, 4, _reduced(seen))
    values: Array = np.broadcast_to(numbers, seen.shape).copy()
    return values


def _last_digit(rng: np.random.Generator, seen: View, dtype: str) -> Array:
    """A number or the next one of the dtype, by chance."""
    return 1000.0 + 512.0 * eps_of(dtype) * rng.integers(0, 2, seen.shape)


def _one_differs(_: np.random.Generator, seen: View, dtype: str) -> Array:
    values = np.full(seen.shape, 1000.0)
    values[_one(seen, 0.5)] += 512.0 * eps_of(dtype)
    return values


def _some_constant(rng: np.random.Generator, seen: View, _: str) -> Array:
    values = rng.standard_normal(seen.shape) + 3
    firsts = values[tuple(slice(0, 1) if axis in seen.axes else slice(None) for axis in range(values.ndim))]
    return np.where(rng.integers(0, 2, _reduced(seen)) == 1, firsts, values)


def outlier(place: float, size: float = 1e4) -> Make:
    """Normal values and one large one in every group, at a part `place` of the way through it."""

    def make(rng: np.random.Generator, seen: View, _: str) -> Array:
        values = rng.standard_normal(seen.shape)
        values[_one(seen, place)] = size
        return values

    return make


def _cancelling(rng: np.random.Generator, seen: View, _: str) -> Array:
    return rng.standard_normal(seen.shape) + 1e4 * rng.choice((-1.0, 1.0), seen.shape)


def _trend(rng: np.random.Generator, seen: View, _: str) -> Array:
    steps = np.linspace(-1e3, 1e3, math.prod(seen.shape)).reshape(seen.shape)
    return steps + rng.standard_normal(seen.shape)


def _many_sizes(rng: np.random.Generator, seen: View, _: str) -> Array:
    return rng.standard_normal(seen.shape) * 10.0 ** rng.uniform(-4, 4, seen.shape)


def _short(number: float) -> str:
    """1e8, not 1e+08."""
    mantissa, _, exponent = f"{number:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def _reduced(seen: View) -> tuple[int, ...]:
    return tuple(1 if axis in seen.axes else size for axis, size in enumerate(seen.shape))


def _one(seen: View, place: float) -> tuple[Any, ...]:
    """The index of one value in every group."""
    return tuple(min(int(place * n), n - 1) if axis in seen.axes else slice(None) for axis, n in enumerate(seen.shape))


LONG = Data("2^24 values", "a sum in float32 stands still at 2^24, and rounding adds up", normal(100.0))

DATA = (
    Data("offset 0", "nothing is hard: the error of the dtype itself", normal()),
    *(
        Data(f"offset {_short(offset)}", reason, normal(offset))
        for offset, reason in (
            (1e2, "E[x^2] - E[x]^2 loses four digits"),
            (1e4, "it loses eight: all that float32 has"),
            (1e6, "the contract's limit: the output keeps its last digits only if x - mean does"),
            (1e8, "beyond it: float32 holds multiples of 8, float64 has half of its digits left"),
        )
    ),
    *(
        Data(f"scale {_short(scale)}", reason, normal(scale=scale), eps)
        for scale, eps, reason in (
            (1e-30, EPS, "squares are below float32; eps decides the result"),
            (1e-15, EPS, "likewise, the other way round in float64"),
            (1e-3, EPS, "a variance below eps"),
            (1e3, EPS, "float16 holds the values, not their squares"),
            (1e15, EPS, "float32 holds the squares, not their sum's square"),
            (1e30, EPS, "squares are above float32"),
        )
    ),
    Data("scale 1e-30, eps 1e-70", "the first of these without eps to hide it", normal(scale=1e-30), 1e-70),
    Data(
        "near 1e-36, eps 1e-12",
        "float32's last normal numbers: what is left of a mean is none",
        normal(3e-36, 1e-36),
        1e-12,
    ),
    Data("the largest", "to the end of the range (float64: of float32's)", _largest),
    Data("constant", "every group one number: the output is exactly bias, the variance exactly 0", _constant),
    Data("some constant", "one group must not change how another is summed", _some_constant),
    Data("one last digit, eps 1e-30", "values that are equal but one, the next number", _one_differs, 1e-30),
    Data("last digits, eps 1e-30", "values that differ in the last digit alone", _last_digit, 1e-30),
    Data("outlier first", "what a shift by the first value alone would be worst at", outlier(0.0)),
    Data("outlier", "one value of 1e4 among normal ones, in the middle", outlier(0.5)),
    Data("cancelling", "a mean near 0 of values near 1e4 and -1e4", _cancelling),
    Data("trend", "values that grow along memory: parts with means far apart are merged", _trend),
    Data("many sizes", "from 1e-4 to 1e4 in one group", _many_sizes),
)


def representable(values: Array, dtype: str) -> bool:
    """Whether a dtype can hold these values: none overflows, and half of those that are not 0 are normal numbers."""
    _, tiny, largest = _NUMBERS[dtype]
    sizes = np.abs(values[values != 0])
    return not sizes.size or (float(sizes.max()) <= largest and float(np.median(sizes)) >= tiny)


def problem_of(case: Case, data: Data) -> Problem | None:
    """The arrays of a case with this data, the same on every run; None where the dtype cannot hold it."""
    rng = np.random.default_rng(zlib.crc32(data.name.encode()))
    values = data.make(rng, view(case), case.dtype)
    if not representable(values, case.dtype):
        return None
    return replace(problem(case), x=values.reshape(case.shape).astype(dtype_of(case.dtype)), eps=data.eps)


def problems(cases: tuple[Case, ...], every: tuple[Data, ...]) -> Iterator[tuple[Problem, Data]]:
    """Every case with every kind of data that its dtype can hold."""
    for case in cases:
        for data in every:
            found = problem_of(case, data)
            if found is not None:
                yield found, data
