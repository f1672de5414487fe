"""Whether the compiled loops step the parameters, and on how many threads."""

from __future__ import annotations

from types import ModuleType

from normcore._dispatch import asked_for
from normcore._threads import about_to_use, threads_for

# Bytes of a step's arrays from which threads pay: 8 million float32 parameters with Adam. Much more than for a norm,
# because the step's threads end with it (_fused.pyx), and have to be started.
_PARALLEL_BYTES = 128_000_000

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
    return 1 if nbytes < _PARALLEL_BYTES else about_to_use(threads_for(nbytes))
