"""Three modules with the same few loops: ``cython`` (default), ``numba`` (on request), ``reference`` (NumPy).

A backend is a module with two functions:

``declines(walk, dtype) -> str | None``
    Why it cannot carry such a call, or None if it can.
``kernels(dtype) -> Kernels``
    Its loops for that dtype.

The loops check nothing: sizes, dtypes and contiguity are the plan's promise.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

BACKENDS = ("cython", "numba", "reference")
_MODULES = {
    "cython": "normcore.backends.cython_kernels",
    "numba": "normcore.backends.numba_kernels",
    "reference": "normcore.backends.reference",
}


_NUMBA_MISSING = 'the numba backend needs Numba, which is not installed; run pip install "normcore-cpu[numba]"'


class Kernels(NamedTuple):
    """The loops of a backend for one dtype."""

    channels_stats: Callable[..., None]  # x (N, C, S) -> mean, var
    channels_forward: Callable[..., None]  # x (N, C, S) -> y; in training mean and var too
    channels_backward: Callable[..., None]  # dy, x (N, C, S) -> dx, dweight, dbias
    rows_forward: Callable[..., None] | None = None  # x (R, K, L) -> mean, var, rstd, y
    rows_backward: Callable[..., None] | None = None  # dy, x (R, K, L) -> dx, dweight, dbias


def load(name: str) -> ModuleType:
    """Import a backend; ImportError says why it is not there."""
    try:
        return importlib.import_module(_MODULES[name])
    except ImportError as error:
        if name == "numba" and error.name == "numba":
            raise ImportError(_NUMBA_MISSING) from error
        if name == "cython":
            raise ImportError(
                f"the cython backend is not built here ({error}); install normcore-cpu with a C compiler at hand"
            ) from error
        raise


def numba_status() -> str:
    """Whether Numba is installed, without importing it: that takes longer than everything else together."""
    import importlib.metadata
    import importlib.util

    if importlib.util.find_spec("numba") is None:
        return _NUMBA_MISSING
    return f"available (Numba {importlib.metadata.version('numba')}), runs only when asked for by name"
