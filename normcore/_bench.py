"""``normcore bench``: batch norm beside NumPy and a plain copy, on this machine, in one run.

The contenders take turns in rounds, so that a machine that slows down or is shared does so for all of them; a ratio is
the median over the rounds of the ratio within a round. Every contender writes into a result of its own that is reused.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normcore._threads import get_num_threads, threads
from normcore.functional import batch_norm, batch_norm_backward, batch_norm_forward

Array = NDArray[Any]
Call = Callable[[], Any]

SHAPES: tuple[tuple[int, ...], ...] = ((64, 10), (1024, 256), (100_000, 32), (32, 64, 28, 28), (32, 64, 56, 56))
EPS = 1e-5

_SAMPLE = 1e-3  # seconds of calls in a sample: enough for the clock, short enough for many rounds
_SETTLE = 2e-3  # seconds between contenders, for the threads of the last one to go to sleep
_ROUNDS = 5  # at least


# --- timing -----------------------------------------------------------------------------------------------------------


class Times:
    """Seconds for a call of each contender, one value for each round."""

    def __init__(self, samples: Mapping[str, Sequence[float]]) -> None:
        self.samples = samples

    def median(self, name: str) -> float:
        """The median time of `name`."""
        return statistics.median(self.samples[name])

    def fastest(self, names: Sequence[str]) -> str:
        """The contender among `names` with the lowest median."""
        return min(names, key=self.median)

    def ratio(self, name: str, other: str) -> float:
        """How many times as long as `other` `name` takes: the median of the ratios within each round."""
        return statistics.median(a / b for a, b in zip(self.samples[name], self.samples[other], strict=True))


def interleaved(calls: Mapping[str, Call], seconds: float, rounds: int = _ROUNDS) -> Times:
    """Time calls in turns.

    Parameters
    ----------
    calls : dict of str to callable
        Every one is called without arguments.
    seconds : float
        How long to go on, all calls together.
    rounds : int
        How many rounds at least, even when they take longer.

    Returns
    -------
    Times
        Each sample is a mean over as many calls as fill a millisecond, after one that does not count: it brings the
        caches and threads to where this contender has them in a loop of its own.
    """
    repeats = {name: _repeats(call) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    end = time.perf_counter() + seconds
    done = 0
    while done < rounds or time.perf_counter() < end:
        for name in names:
            time.sleep(_SETTLE)
            samples[name].append(_sample(calls[name], repeats[name]))
        names.append(names.pop(0))  # another one begins the next round
        done += 1
    return Times(samples)


def _sample(call: Call, repeat: int) -> float:
    call()
    started = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - started) / repeat


def _repeats(call: Call) -> int:
    return max(1, math.ceil(_SAMPLE / max(_sample(call, 1), 1e-7)))


# --- contenders -------------------------------------------------------------------------------------------------------


def numpy_forward(x: Array, weight: Array, bias: Array, out: Array) -> tuple[Array, Array, Array]:
    """Batch norm in training as one writes it in NumPy, in place in `out`; return it with mean and 1/std."""
    axes = channel_axes(x)
    n = x.size // weight.size
    mean = x.mean(axis=axes, keepdims=True)
    np.subtract(x, mean, out=out)
    var = squares(out).reshape(mean.shape) / n
    rstd = 1 / np.sqrt(var + np.float32(EPS))
    out *= rstd * weight.reshape(mean.shape)
    out += bias.reshape(mean.shape)
    return out, mean, rstd


def numpy_backward(
    dy: Array, x: Array, weight: Array, mean: Array, rstd: Array, out: Array
) -> tuple[Array, Array, Array]:
    """Its gradients for x (in `out`), weight and bias."""
    n = x.size // weight.size
    dbias = dy.sum(axis=channel_axes(x), keepdims=True)
    np.subtract(x, mean, out=out)
    out *= rstd
    dweight = products(dy, out).reshape(mean.shape)
    out *= -dweight / n
    out += dy
    out -= dbias / n
    out *= rstd * weight.reshape(mean.shape)
    return out, dweight.ravel(), dbias.ravel()


def numpy_inference(x: Array, mean: Array, var: Array, weight: Array, bias: Array, out: Array) -> Array:
    """Batch norm with given statistics, which is one scale and one shift."""
    shape = channel_shape(x)
    scale = weight / np.sqrt(var + np.float32(EPS))
    np.multiply(x, scale.reshape(shape), out=out)
    out += (bias - mean * scale).reshape(shape)
    return out


def channel_axes(x: Array) -> tuple[int, ...]:
    """All axes but the channels'."""
    return (0, *range(2, x.ndim))


def channel_shape(x: Array) -> tuple[int, ...]:
    """The shape of one value per channel, to broadcast against x."""
    return (1, x.shape[1], *[1] * (x.ndim - 2))


def squares(x: Array) -> Array:
    """The sum of squares of each channel, without a temporary of the size of x."""
    return products(x, x)


def products(x: Array, y: Array) -> Array:
    """The sum of x * y over each channel, without a temporary of the size of x."""
    total: Array = np.einsum("nc...,nc...->c...", x, y)
    sums: Array = total.sum(axis=tuple(range(1, total.ndim)))
    return sums


class ThreadedCopy:
    """`numpy.copyto` with the array cut among threads; NumPy releases the GIL while it copies."""

    def __init__(self, num_threads: int) -> None:
        self._pool = ThreadPoolExecutor(num_threads - 1) if num_threads > 1 else None
        self._parts = num_threads

    def __call__(self, target: Array, source: Array) -> Array:
        """Copy a contiguous array."""
        if self._pool is None:
            np.copyto(target, source)
            return target
        flat_target, flat_source = target.reshape(-1), source.reshape(-1)
        cuts = [flat_source.size * i // self._parts for i in range(self._parts + 1)]
        first, *others = [slice(a, b) for a, b in itertools.pairwise(cuts)]
        waiting = [self._pool.submit(np.copyto, flat_target[part], flat_source[part]) for part in others]
        np.copyto(flat_target[first], flat_source[first])
        for future in waiting:
            future.result()
        return target

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


# --- the command ------------------------------------------------------------------------------------------------------


def run(num_threads: int | None = None, seconds: float = 10.0, shapes: Sequence[tuple[int, ...]] = SHAPES) -> None:
    """Print the comparison.

    Parameters
    ----------
    num_threads : int, optional
        For normcore and the copy; NumPy's own loops use one. What `get_num_threads` says when not given.
    seconds : float
        How long, roughly.
    shapes : sequence of tuple of int
        (N, C) or (N, C, ...), float32.
    """
    num_threads = get_num_threads() if num_threads is None else num_threads
    copy = ThreadedCopy(num_threads)
    print(f"batch norm, float32, {num_threads} thread{'' if num_threads == 1 else 's'}, medians, results reused")
    print("copy: the fastest copy of the same array; x copy: how many copies it costs; NumPy: how many times as long\n")
    print(f"{'shape':<18}{'':<11}{'copy':>10}{'normcore':>11}{'x copy':>9}{'NumPy':>8}")
    try:
        with threads(num_threads):
            for shape in shapes:
                calls = _calls(shape, copy)
                for what, ours in calls.items():
                    times = interleaved(ours, seconds / (len(shapes) * len(calls)))
                    fastest = times.fastest([name for name in ours if name.startswith("copy")])
                    print(
                        f"{shape!s:<18}{what:<11}{duration(times.median(fastest)):>10}"
                        f"{duration(times.median('normcore')):>11}{times.ratio('normcore', fastest):>9.2f}"
                        f"{times.ratio('numpy', 'normcore'):>7.1f}x",
                        flush=True,
                    )
    finally:
        copy.close()


def duration(seconds: float) -> str:
    """A time for reading: 1.2 us, 34.5 ms."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def _calls(shape: tuple[int, ...], copy: ThreadedCopy) -> dict[str, dict[str, Call]]:
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape, np.float32) for _ in range(2))
    weight, bias, mean, var = (rng.uniform(0.5, 1.5, shape[1]).astype(np.float32) for _ in range(4))
    ours, theirs, copied = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    _, ctx = batch_norm_forward(x, weight, bias)
    _, their_mean, their_rstd = numpy_forward(x, weight, bias, theirs)
    copies: dict[str, Call] = {"copy": lambda: np.copyto(copied, x), "copy, threads": lambda: copy(copied, x)}
    return {
        "forward": {
            "normcore": lambda: batch_norm_forward(x, weight, bias, out=ours),
            "numpy": lambda: numpy_forward(x, weight, bias, theirs),
            **copies,
        },
        "backward": {
            "normcore": lambda: batch_norm_backward(dy, ctx, out=ours),
            "numpy": lambda: numpy_backward(dy, x, weight, their_mean, their_rstd, theirs),
            **copies,
        },
        "inference": {
            "normcore": lambda: batch_norm(x, mean, var, weight, bias, out=ours),
            "numpy": lambda: numpy_inference(x, mean, var, weight, bias, theirs),
            **copies,
        },
    }
