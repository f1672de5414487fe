"""Timing in turns: rounds in which every contender has its turn, as many as it takes, medians.

Between turns there is a pause, in which the threads of the one before go to sleep, and an untimed call, after
which caches and threads are where this contender has them in a loop of its own.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Way = Callable[[], Any]
Ways = Mapping[str, Mapping[str, Way]]  # contender -> way -> call

SAMPLE = 1e-3  # seconds of calls in a sample: enough for the clock, short enough for many rounds
SETTLE = 10e-3  # the pause: libgomp's threads spin for about 8 ms after a loop before they sleep
ROUNDS = 5  # at least, unless a case has taken three times as long as it may
STEADY = 0.01  # enough rounds when the standard error of every median is less than this
_WARM = 20e-3  # a longer call needs no untimed one before it
_FAR = 4.0  # a contender this many times slower than ours has its last turn in round ROUNDS


class Times:
    """Seconds for a call, by contender and way, one value for each round."""

    def __init__(self, samples: Mapping[str, Mapping[str, list[float]]]) -> None:
        self.samples = samples

    def best(self, name: str) -> tuple[str, float]:
        """A contender's fastest way and its median, among the ways timed most often."""
        ways = self.samples[name]
        most = max(len(values) for values in ways.values())
        medians = {way: statistics.median(values) for way, values in ways.items() if len(values) == most}
        way = min(medians, key=medians.__getitem__)
        return way, medians[way]

    def medians(self) -> dict[str, float]:
        """The seconds of every contender's fastest way."""
        return {name: self.best(name)[1] for name in self.samples}


def interleaved(
    ways: Ways,
    seconds: float,
    rounds: int = ROUNDS,
    reference: str = "normcore",
    warm: float = 0.0,
    sample: float | None = None,
) -> Times:
    """Time contenders in turns.

    Parameters
    ----------
    ways : dict of str to dict of str to callable
        The contenders, and how each can do it. A way that turns out clearly slower than another of the same contender
        has no more turns.
    seconds : float
        For all, roughly; less when the medians stand earlier.
    rounds : int
        How many rounds at least.
    reference : str
        Contenders much slower than this one are timed in the first `rounds` rounds only.
    warm : float
        Seconds of untimed calls before a sample, one at least: more for what runs in a loop for minutes, whose threads
        are awake then.
    sample : float, optional
        Seconds of calls in a sample; SAMPLE if not given.

    Returns
    -------
    Times
    """
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        return _rounds(ways, seconds, rounds, reference, warm, SAMPLE if sample is None else sample)
    finally:
        if collecting:
            gc.enable()


def _rounds(ways: Ways, seconds: float, rounds: int, reference: str, warm: float, sample: float) -> Times:
    calls = {(name, way): call for name, own in ways.items() for way, call in own.items()}
    first = {key: _sample(call, 1) for key, call in calls.items()}  # it may have warmed up more than it shows
    first = {key: min(first[key], _sample(call, 1)) for key, call in calls.items()}
    samples: dict[str, dict[str, list[float]]] = {name: {way: [] for way in own} for name, own in ways.items()}
    live = list(calls)
    started = time.perf_counter()
    done = 0
    while True:
        for key in live:
            time.sleep(SETTLE)
            if first[key] < _WARM:
                _sample(calls[key], _count(warm, first[key]))
            samples[key[0]][key[1]].append(_sample(calls[key], _count(sample, first[key])))
        done += 1
        live.append(live.pop(0))  # another one begins the next round
        elapsed = time.perf_counter() - started
        if done >= rounds and (elapsed > seconds or (done > rounds and _steady(live, samples))):
            return Times(samples)
        if done >= 3 and elapsed > 3 * seconds > 0:
            return Times(samples)
        live = _still(live, samples, reference, done >= rounds)


def _still(
    live: list[tuple[str, str]], samples: Mapping[str, Mapping[str, list[float]]], reference: str, enough: bool
) -> list[tuple[str, str]]:
    """Who has another turn: nobody far off, and no way that another of the same contender beats clearly."""
    times = Times(samples)
    best = times.medians()
    count = len(samples[live[0][0]][live[0][1]])
    margin = 2.0 if count < 2 else 1.3 if count < ROUNDS else 1.1
    kept = []
    for name, way in live:
        behind = statistics.median(samples[name][way]) / best[name]
        if behind <= margin and not (enough and best[name] > _FAR * best.get(reference, math.inf)):
            kept.append((name, way))
    return kept or live


def _steady(live: list[tuple[str, str]], samples: Mapping[str, Mapping[str, list[float]]]) -> bool:
    return all(_error(samples[name][way]) < STEADY for name, way in live)


def _error(values: list[float]) -> float:
    """The relative standard error of a median, from the median absolute deviation."""
    middle = statistics.median(values)
    deviation = statistics.median(abs(value - middle) for value in values)
    return 1.25 * 1.48 * deviation / (middle * math.sqrt(len(values)))


def _count(seconds: float, one: float) -> int:
    return max(1, math.ceil(seconds / max(one, 1e-8)))


def _sample(call: Way, repeat: int) -> float:
    started = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - started) / repeat
