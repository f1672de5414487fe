"""How many threads a call may use.

The default is what OpenMP would use (``OMP_NUM_THREADS``, the CPU affinity), at most what the process's cgroup allows,
and at most what threadpoolctl or another caller of ``omp_set_num_threads`` has limited it to, though the threads are
normcore's own (workers.c) and OpenMP runs none of them. ``set_num_threads`` sets it for the process, ``threads`` for a
block of code in one thread or task. Below a measured amount of work a call is serial whatever the number, because
waking a thread costs more than it saves; results have the same bits either way.
"""

from __future__ import annotations

import operator
import os
from typing import SupportsIndex

from normcore._setting import Block, Setting
from normcore._shown import shown

PARALLEL_BYTES = 200_000  # of x: measured; below it two threads are slower than one
MAX_THREADS = 1024


class _Process:
    """What holds for the whole process."""

    requested: int | None = None
    used_threads = False  # threads have run here, so a forked child must not use any
    forked = False


_override: Setting[int] = Setting("normcore_num_threads")


def set_num_threads(n: SupportsIndex) -> None:
    """Let kernels use up to `n` threads, in the whole process.

    Parameters
    ----------
    n : int
        From 1 to 1024.

    Raises
    ------
    TypeError, ValueError
        If `n` is not such an int.
    """
    _Process.requested = _checked(n)
    _Process.forked = _Process.forked and _Process.used_threads


def get_num_threads() -> int:
    """Return the number of threads that a large call may use, here and now."""
    if _Process.forked:
        return 1
    override = _override.get()
    if override is not None:
        return override
    openmp = _openmp_threads()
    if _Process.requested is not None:
        # Fewer than at import: threadpoolctl, say, has limited OpenMP since, and means us too.
        return min(_Process.requested, openmp) if openmp < _openmp_at_import else _Process.requested
    return min(openmp, _cgroup_limit)


class threads(Block[int]):  # noqa: N801 - used like a function: with nc.threads(2):
    """Limit the threads of the calls in a ``with`` block, in this thread or task alone.

    Parameters
    ----------
    n : int
        From 1 to 1024.

    Examples
    --------
    >>> import normcore as nc
    >>> with nc.threads(1):
    ...     nc.get_num_threads()
    1
    """

    def __init__(self, n: SupportsIndex) -> None:
        super().__init__(_override, _checked(n))


def threads_for(nbytes: int) -> int:
    """The number of threads for a call on an array of `nbytes`."""
    return 1 if nbytes < PARALLEL_BYTES else get_num_threads()


def about_to_use(n: int) -> int:
    """Remember that the process has started threads; return `n`."""
    if n > 1:
        _Process.used_threads = True
    return n


def describe() -> str:
    """The number of threads and where it comes from, in words."""
    n = get_num_threads()
    if _Process.forked:
        remedy = "its parent had used them" if _Process.used_threads else "set_num_threads allows them again"
        return f"{n}: this process was forked, and threads do not survive that; {remedy}"
    source = (
        "nc.threads" if _override.get() is not None else "nc.set_num_threads" if _Process.requested else "the machine"
    )
    return f"{n} ({source}), for arrays of {PARALLEL_BYTES // 1000} KB and more"


def _checked(n: SupportsIndex) -> int:
    message = f"n must be an int from 1 to {MAX_THREADS}, the number of threads, got {shown(n)}"
    if isinstance(n, bool):
        raise TypeError(message)
    try:
        number = operator.index(n)
    except Exception:  # an __index__ of somebody else's may raise anything
        raise TypeError(message) from None
    if not 1 <= number <= MAX_THREADS:
        raise ValueError(message)
    return number


def _openmp_threads() -> int:
    try:
        from normcore.backends.cython_kernels import openmp_max_threads
    except ImportError:
        return _affinity()
    return int(openmp_max_threads())


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cgroup_cpus() -> int:
    """CPUs that the control group of this process may use, rounded up; a large number without a limit."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        if quota != "max":
            return max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no cgroup v2 here
    return MAX_THREADS


def _after_fork_in_child() -> None:
    # Threads do not survive a fork. Ours (workers.c) start again in the child, but Numba's pool would wait for its own.
    _Process.forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

_openmp_at_import = _openmp_threads()
_cgroup_limit = _cgroup_cpus()
