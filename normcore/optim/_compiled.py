"""Whether the compiled loops step the parameters, and on how many threads."""

from __future__ import annotations

from types import ModuleType

from normcore import _threads
from normcore._dispatch import asked_for

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
    return _threads.about_to_use(_threads.threads_for(nbytes))
