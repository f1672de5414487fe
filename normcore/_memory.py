"""Where arrays lie in memory: the order of their axes, and which of them share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

C_ORDER = tuple(tuple(range(ndim)) for ndim in range(65))  # the axes of a C-contiguous array, by rank
_OVERLAP_WORK = 10_000  # bound on NumPy's exact overlap search; past it two arrays count as overlapping


def memory_order(x: Array) -> tuple[int, ...] | None:
    """The axes of `x`, slowest in memory first, or None if `x` is contiguous in no order."""
    flags = x.flags
    if not flags.aligned:
        return None
    axes = C_ORDER[x.ndim]
    if flags.c_contiguous:
        return axes
    order = tuple(sorted(axes, key=lambda a: -x.strides[a]))  # stable: axes of one stride keep their order
    return order if x.transpose(order).flags.c_contiguous else None


def overlap(a: Array, b: Array) -> bool:
    """True if the arrays share memory, or if that is too hard to say."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return bool(np.shares_memory(a, b, max_work=_OVERLAP_WORK))  # type: ignore[arg-type] # the stubs know 0 and -1 alone
    except np.exceptions.TooHardError:
        return True


def same_memory(a: Array, b: Array) -> bool:
    """True if they are the same elements in the same places; the stride of an axis of one element says nothing."""
    return a is b or (
        a.shape == b.shape
        and all(s == t or n == 1 for s, t, n in zip(a.strides, b.strides, a.shape, strict=True))
        and a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
    )


def overlaps_itself(array: Array) -> bool:
    """True if two elements may lie in the same memory: a zero stride, or strides that interleave."""
    flags = array.flags
    if flags.c_contiguous or flags.f_contiguous or 0 in array.shape:
        return False
    reach = array.itemsize  # bytes spanned by the axes looked at so far
    for stride, length in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < reach:
            return True
        reach += stride * (length - 1)
    return False
