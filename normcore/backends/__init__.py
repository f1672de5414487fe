"""Three modules with the same few loops: ``cython`` (default), ``numba`` (on request), ``reference`` (NumPy).

A backend is a module with two functions:

``declines(walk, dtype, activation) -> str | None``
    Why it cannot carry such a call, or None if it can; `activation` is a code of ``normcore._activation``.
``kernels(dtype) -> Kernels``
    Its loops for that dtype.

The loops check nothing: sizes, dtypes and contiguity are the plan's promise.
"""

from __future__ import annotations

import importlib
import os
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

    # x, y, dy, dx: C-contiguous (N, C, S); statistics and parameters: float64, one per channel
    channels_stats: Callable[..., None]  # x, mean, var, num_threads
    channels_forward: Callable[..., None]
    # x, weight, bias, mean, var, rstd, y, eps, training, activation, num_threads; mean and var are written in training
    channels_backward: Callable[..., None]
    # dy, x, weight, bias, mean, rstd, dx, dweight, dbias, training, activation, num_threads

    # x, y, dy, dx: C-contiguous (rows, segments, length); statistics: float64, one per row; parameters: float64, P of
    # them, segment k of row r having number (r * segments + k) % P
    rows_forward: Callable[..., None]
    # x, weight, bias, mean, var, rstd, y, eps, centred, activation, num_threads; not centred: mean stays 0
    rows_backward: Callable[..., None]
    # dy, x, weight, bias, mean, rstd, dx, dweight, dbias, centred, activation, num_threads


def load(name: str) -> ModuleType:
    """Import a backend; ImportError says why it is not there."""
    try:
        return importlib.import_module(_MODULES[name])
    except ImportError as error:
        if name == "numba" and error.name == "numba":
            raise ImportError(_NUMBA_MISSING) from error
        if name == "cython":
            raise ImportError(f"the cython backend is not built here ({error}); {_remedy()}") from error
        raise


def _remedy() -> str:
    """What to do about missing kernels: in a source tree they are missing even where normcore is installed."""
    folder = os.path.dirname(__file__)
    if os.path.exists(os.path.join(folder, "cython_kernels.pyx")):
        return (
            "Python has found the source tree before any installed copy: run elsewhere, or install the tree itself "
            "with pip install -e ."
        )
    return "install normcore-cpu with a C compiler at hand"


def numba_status() -> str:
    """Whether Numba is installed, without importing it: that takes longer than everything else together."""
    import importlib.metadata
    import importlib.util

    if importlib.util.find_spec("numba") is None:
        return _NUMBA_MISSING
    return f"available (Numba {importlib.metadata.version('numba')}), runs only when asked for by name"
