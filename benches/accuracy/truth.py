"""The norms and their gradients in extended precision: the third time they are written, for the digits alone.

``np.longdouble`` on x86 has 64 bits of mantissa, eleven more than float64, so two passes give sums whose error is far
below the last digit of a float64. Elsewhere (`EXTENDED` is False) it may be no wider than float64; then every sum is
``math.fsum``'s, which rounds once, and figures near 1e-16 say less.

The arrays are taken in blocks that fit in the cache, so that groups of 2^24 values need no arrays of 256 MB.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benches.accuracy.data import eps_of
from benches.cases import Array, Problem, view

EXTENDED = bool(np.finfo(np.longdouble).eps < np.finfo(np.float64).eps)
BLOCK = 1 << 14  # values

Axes = tuple[int, ...]
Index = tuple[slice, ...]


class Block(NamedTuple):
    """Some values of the right results, and what was added to get each: the unit in which an error is counted."""

    at: Index
    y: Array
    y_terms: Array
    dx: Array
    dx_terms: Array


class Truth:
    """Right results for a problem, as `View` sees it.

    Attributes
    ----------
    mean, var : ndarray
        One for each statistics group; the mean of RMS norm is 0.
    largest : ndarray
        The largest magnitude in each group.
    dweight, dbias, dweight_terms, dbias_terms : ndarray
        The gradients of the parameters, and the sums of the magnitudes that are added for them.
    """

    def __init__(self, p: Problem) -> None:
        self.seen = seen = view(p.case)
        self.centred = p.case.op != "rms_norm"
        self._x, self._dy = (_float(a).reshape(seen.shape) for a in (p.x, p.dy))
        self._weight, self._bias = (_wide(a).reshape(seen.parameters) for a in (p.weight, p.bias))
        self.parameter_axes = tuple(axis for axis, n in enumerate(seen.parameters) if n == 1)
        n = math.prod(seen.shape[axis] for axis in seen.axes)

        # from the first value of each group, so that one of equal values has exactly this mean
        first = _wide(self._x[tuple(slice(0, 1) if axis in seen.axes else slice(None) for axis in range(self._x.ndim))])
        self.mean = self._drift = first * 0
        self.largest = self._largest()
        if self.centred:
            (sums,) = self._sums(lambda x, at: [(x - _part(first, at), seen.axes)])
            self.mean = first + sums / n
            # what the rounding of the mean leaves of the deviations
            (drift,) = self._sums(lambda x, at: [(self._deviations(x, at), seen.axes)])
            self._drift = drift / n
        (squares,) = self._sums(lambda x, at: [(self._deviations(x, at) ** 2, seen.axes)])
        self.var = squares / n
        self._rstd = 1 / np.sqrt(self.var + _wide(np.float64(p.eps)))
        # One of the terms is the rounding of a mean in float64, which is a sum of x - shift; in float64's own results
        # it shows, for there is no wider type to sum in.
        in_float64 = float(np.finfo(np.float64).eps) / eps_of(p.case.dtype)
        self._rounding = 2 * self.largest * self._rstd * (in_float64 if self.centred else 0.0)

        gradients = self._sums(self._gradient_terms)
        self.dbias, self.dbias_terms, self.dweight, self.dweight_terms = gradients[:4]
        self._m1, self._m2, self._size1, self._size2 = (v / n for v in gradients[4:])

    def blocks(self) -> Iterator[Block]:
        """Every value of y and dx."""
        for at in _blocks(self.seen.shape):
            part = partial(_part, at=at)
            x, dy, weight, bias = _wide(self._x[at]), _wide(self._dy[at]), part(self._weight), part(self._bias)
            rstd, rounding = part(self._rstd), part(self._rounding)
            xhat = self._deviations(x, at) * rstd
            weighted, dxhat = xhat * weight, dy * weight
            y = weighted + bias if self.centred else weighted
            y_terms = abs(weighted) + abs(rounding * weight)
            if self.centred:
                y_terms += abs(bias)
            dx = dxhat - xhat * part(self._m2)
            size1, size2 = part(self._size1), part(self._size2)
            dx_terms = abs(dxhat) + abs(xhat) * (size2 + rounding * size1) + rounding * size2
            if self.centred:
                dx -= part(self._m1)
                dx_terms += size1
            yield Block(at, y, y_terms, dx * rstd, dx_terms * rstd)

    def _gradient_terms(self, x: Array, at: Index) -> list[tuple[Array, Axes]]:
        dy, weight, rounding = _wide(self._dy[at]), _part(self._weight, at), _part(self._rounding, at)
        xhat = self._deviations(x, at) * _part(self._rstd, at)
        product, parameter, statistic = dy * xhat, self.parameter_axes, self.seen.axes
        return [
            (dy, parameter), (abs(dy), parameter),
            (product, parameter), (abs(product) + abs(dy) * rounding, parameter),
            (dy * weight, statistic), (product * weight, statistic),
            (abs(dy * weight), statistic), (abs(product * weight), statistic),
        ]  # fmt: skip

    def _deviations(self, x: Array, at: Index) -> Array:
        if not self.centred:
            return x
        deviations: Array = (x - _part(self.mean, at)) - _part(self._drift, at)
        return deviations

    def _largest(self) -> Array:
        """The largest magnitude of each group."""
        largest = np.zeros_like(self.mean)
        for at in _blocks(self.seen.shape):
            here = _part(largest, at)
            np.maximum(here, _wide(abs(self._x[at]).max(axis=self.seen.axes, keepdims=True)), out=here)
        return largest

    def _sums(self, terms: Callable[[Array, Index], list[tuple[Array, Axes]]]) -> list[Array]:
        """For each (values, axes) that `terms` gives for a block, the sum over these axes of all blocks."""
        totals: list[Array] = []
        for at in _blocks(self.seen.shape):
            for i, (values, axes) in enumerate(terms(_wide(self._x[at]), at)):
                if i == len(totals):
                    shape = [1 if axis in axes else n for axis, n in enumerate(self.seen.shape)]
                    totals.append(np.zeros(shape, np.longdouble))
                _part(totals[i], at)[...] += total(values, axes)
        return totals


def total(values: Array, axes: Axes) -> Array:
    """The sum over some axes, which stay with length 1."""
    if EXTENDED:
        summed: Array = values.sum(axis=axes, keepdims=True)
        return summed
    shape = tuple(1 if axis in axes else n for axis, n in enumerate(values.shape))
    last = np.moveaxis(values, axes, range(-len(axes), 0)).reshape(math.prod(shape), -1)
    return np.array([math.fsum(row) for row in last], np.longdouble).reshape(shape)


def _blocks(shape: tuple[int, ...]) -> Iterator[Index]:
    """Slices of the longest axis with about `BLOCK` values each."""
    longest = max(range(len(shape)), key=lambda axis: shape[axis])
    step = max(1, BLOCK * shape[longest] // max(1, math.prod(shape)))
    for start in range(0, shape[longest], step):
        yield tuple(slice(start, start + step) if axis == longest else slice(None) for axis in range(len(shape)))


def _part(v: Array, at: Index) -> Array:
    """What of a statistic or parameter belongs to a block."""
    return v[tuple(slice(None) if n == 1 else cut for n, cut in zip(v.shape, at, strict=True))]


def _float(a: Array) -> Array:
    """bfloat16, which NumPy cannot make wide at once, as float32: exactly the same numbers."""
    return a.astype(np.float32) if a.dtype.itemsize == 2 else a


def _wide(a: Any) -> Array:
    return _float(np.asarray(a)).astype(np.longdouble)
