"""How a function here is compiled: serial, parallel, cached where a cache can be written."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

prange = numba.prange
_njit: Any = numba.njit  # its annotations know no dictionary for `parallel`
_one_parallel_call = threading.Lock()

# Only what is written as prange runs in parallel: a barrier for np.zeros would cost more than the zeros.
_PRANGE_ALONE = dict.fromkeys(("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil"), False)


def compiled(**options: Any) -> Callable[[Function], Function]:
    """``numba.njit`` with the options that every function here shares.

    ``error_model="numpy"`` because Python's check for a zero divisor keeps a loop from being vectorised.
    """
    options = {"nogil": True, "error_model": "numpy"} | options

    def decorate(function: Function) -> Function:
        try:
            return cast(Function, _njit(function, cache=True, **options))
        except RuntimeError:  # no folder that a cache could be written to
            return cast(Function, _njit(function, **options))

    return decorate


def serial_and_parallel(function: Function) -> Callable[..., None]:
    """Compile a driver both ways; the result takes the number of threads as its last argument.

    Serial where a parallel region must not be entered: in a forked child (its number of threads is 1), and, with
    Numba's ``workqueue`` layer, by two Python threads at once.
    """
    serial = compiled()(function)
    # Under a name of its own: Numba's cache on disk does not tell apart what differs in options only, and would hand
    # out whichever was compiled first.
    name = f"{function.__name__}_in_parallel"
    twin = cast(Function, types.FunctionType(function.__code__, function.__globals__, name))
    twin.__qualname__, twin.__module__ = name, function.__module__
    parallel = compiled(parallel=_PRANGE_ALONE | {"fusion": False, "prange": True})(twin)

    def run(*args: Any) -> None:
        *operands, num_threads = args
        num_threads = min(num_threads, numba.get_num_threads())
        if num_threads == 1 or _one_parallel_call.locked():
            serial(*operands)
            return
        with _one_parallel_call:  # not acquire and release: Ctrl-C may come between acquire and what notes it
            before = numba.get_num_threads()
            try:
                numba.set_num_threads(num_threads)
                parallel(*operands)
            finally:
                numba.set_num_threads(before)

    return run
