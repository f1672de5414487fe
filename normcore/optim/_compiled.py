"""Whether the compiled loops step the parameters, and on how many threads."""

from __future__ import annotations

from types import ModuleType

from normcore._dispatch import asked_for
from normcore._threads import get_num_threads

_PARALLEL_BYTES = 400_000  # of a step's arrays: 8 us on one thread

_module: ModuleType | None
try:
    from . import _fused as _module
except ImportError:  # nothing is compiled here: NumPy gives the same bits in more passes over memory
    _module = None


def fused() -> ModuleType | None:
    """The compiled module, or None where it is missing or the user asked for another backend."""
    return _module if asked_for() in (None, "cython") else None


def threads(nbytes: int) -> int:
    """The number of threads for a step over so many bytes."""
    return 1 if nbytes < _PARALLEL_BYTES else get_num_threads()
