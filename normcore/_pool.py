"""The pool that large results take their memory from, and its limit.

Freed memory of a few large results (of 256 KB and more) is kept for the next ones, because asking the system for it
anew costs a page fault for every 4 KB: more than the normalisation that fills it. An array from the pool is an ordinary
array that owns its data; the memory comes back when the array is freed, whoever holds it until then.
"""

from __future__ import annotations

import math
import operator
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from normcore._shown import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

try:
    from normcore import _compiled_pool as _compiled
except ImportError:  # nothing is compiled here: NumPy's own memory will do
    _compiled = None  # type: ignore[assignment] # a module, or None

POOLED_BYTES = 262144  # below, malloc has memory at hand; as in _compiled_pool.pxd
_MOST = 256 * 2**20
_PART_OF_MEMORY = 16


def _default_limit() -> int:
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return _MOST
    return min(_MOST, memory // _PART_OF_MEMORY)


def empty(shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An uninitialised array for a result, from the pool where that pays."""
    if _compiled is None or math.prod(shape) * dtype.itemsize < POOLED_BYTES:
        return np.empty(shape, dtype)
    return _compiled.empty(shape, dtype)


def get_pool_limit() -> int:
    """Bytes of freed results that are kept for new ones at most; 0 where nothing is compiled.

    Returns
    -------
    int
        256 MB, or a 16th of the machine's memory if that is less, until `set_pool_limit` says otherwise.
    """
    return 0 if _compiled is None else _compiled.get_limit()


def set_pool_limit(nbytes: int) -> None:
    """Keep at most `nbytes` of freed results for new ones, for the whole process; 0 keeps none.

    What is kept beyond it is freed at once. Results never hold more memory than they need plus a quarter.

    Parameters
    ----------
    nbytes : int
        Not negative.

    Raises
    ------
    TypeError
        If `nbytes` is not an int.
    ValueError
        If it is negative.
    """
    try:
        value = operator.index(nbytes)
    except Exception:  # an __index__ of somebody else's may raise anything
        raise TypeError(f"nbytes must be an int, got {type(nbytes).__name__}; 0 keeps no memory.") from None
    if value < 0 or value > 2**62:
        raise ValueError(f"nbytes must be from 0 to 2**62, got {shown(value)}; 0 keeps no memory.")
    if _compiled is not None:
        _compiled.set_limit(value)


def describe() -> str:
    """For `show_config`."""
    if _compiled is None:
        return "none: nothing is compiled"
    return f"{_compiled.held() / 2**20:.0f} MB of at most {_compiled.get_limit() / 2**20:.0f} MB"


if _compiled is not None:
    _compiled.set_limit(_default_limit())
