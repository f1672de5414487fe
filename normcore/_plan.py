"""A frozen plan of a call: which walk over memory, with which sizes and dtypes.

The planners (``_planners.py``) make it from checked arguments; the dispatcher and the kernels check nothing and know
nothing of axes or strides. There are two walks.

The channels walk
-----------------
Batch norm keeps one statistic for each channel. Whatever the rank of ``x`` and wherever its channel axis lies, in
memory the array is three nested loops, ``(outer, channels, inner)``::

    (N, C)                    ->  (N, C, 1)
    (N, C, H, W)              ->  (N, C, H * W)
    (N, H, W, C), axis=-1     ->  (N * H * W, C, 1)      channels last
    Fortran-ordered (N, C)    ->  (1, C, N)

The rows walk
-------------
The other norms keep one statistic for each contiguous run, a row. A row is made of segments, each of which has one
weight and one bias; ``(rows, segments, length)``::

    layer and RMS norm   (N, T, D), normalized_shape D      ->  (N * T, D, 1)
    group norm           (N, C, H, W), G groups             ->  (N * G, C / G, H * W)
    instance norm        (N, C, H, W)                       ->  (N * C, 1, H * W)

Weight and bias lie in memory as P values; segment k of row r has the one numbered ``(r * segments + k) % P``.

``order`` is the permutation of the axes that puts them in the order of memory, slowest first. An array that is
contiguous in no order at all (a slice with a step, negative strides) is walked as a contiguous copy; so is one whose
order would tear the rows apart (channels-last memory in group norm).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from normcore._memory import C_ORDER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]

_PLANS = 1024  # plans kept for calls that come again; a plan holds no array


class Plan(NamedTuple):
    """What a kernel needs to know of a call, and what an explanation of it says."""

    op: str  # "batch_norm"
    walk: str  # "channels" or "rows"
    direction: str  # "forward", "backward" or "stats"
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: tuple[int, ...]  # axes of x, slowest in memory first
    copies: bool  # the kernels see a contiguous copy
    sizes: tuple[int, int, int]  # of the walk
    groups: int  # how many means and variances
    group_size: int  # values behind each, the paper's m
    parameter_shape: tuple[int, ...]  # of weight and bias
    row_axes: int  # how many leading axes of x number the rows, one row for each place
    training: bool  # the statistics are those of x
    momentum: float
    eps: float
    centred: bool  # the mean is subtracted
    activation: int  # a code of _activation.py

    @property
    def size(self) -> int:
        return self.groups * self.group_size

    @property
    def in_c_order(self) -> bool:
        return self.order is C_ORDER[len(self.shape)]


class Operands(NamedTuple):
    """The checked arrays of a forward call, all of them plain."""

    x: Array
    weight: Array | None = None
    bias: Array | None = None
    running_mean: Array | None = None
    running_var: Array | None = None
    out: Array | None = None
    returned: Array | None = None  # what the user gave as `out`: itself, or of the subclass that `out` is a view of


@lru_cache(_PLANS)
def channels_walk(
    op: str,
    direction: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    order: tuple[int, ...] | None,
    axis: int,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: int = 0,
) -> Plan:
    """One statistic for each place on `axis`; `order` is that of memory, or None."""
    copies = order is None
    order = _canonical(order, len(shape))
    at = order.index(axis)
    channels = shape[axis]
    outer = math.prod(shape[a] for a in order[:at])
    inner = math.prod(shape[a] for a in order[at + 1 :])
    if channels == 1:
        outer, inner = 1, outer * inner  # one channel is one run
    return Plan(
        op, "channels", direction, shape, dtype, order, copies, (outer, channels, inner), channels, outer * inner,
        (channels,), 0, training, momentum, eps, True, activation,
    )  # fmt: skip


@lru_cache(_PLANS)
def rows_walk(
    op: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    order: tuple[int, ...] | None,
    free: tuple[int, int],
    sizes: tuple[int, int, int],
    parameter_shape: tuple[int, ...],
    row_axes: int,
    momentum: float,
    eps: float,
    centred: bool,
    activation: int,
) -> Plan:
    """One statistic for each row; the axes of the range `free` may lie in memory in any order among themselves."""
    natural = C_ORDER[len(shape)]
    start, stop = free
    copies = order is None or order[:start] != natural[:start] or order[stop:] != natural[stop:]
    order = natural if copies else _canonical(order, len(shape))
    rows, segments, length = sizes
    return Plan(
        op, "rows", "forward", shape, dtype, order, copies, sizes, rows, segments * length,
        parameter_shape, row_axes, True, momentum, eps, centred, activation,
    )  # fmt: skip


@lru_cache(_PLANS)
def backward_of(plan: Plan) -> Plan:
    """The plan of the backward call that follows a forward call."""
    return plan._replace(direction="backward")


def _canonical(order: tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """C order as the one tuple that stands for it."""
    return C_ORDER[ndim] if order is None or order == C_ORDER[ndim] else order
