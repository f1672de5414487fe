"""What a million calls leave behind: references, objects, bytes of C's malloc.

Each call of `reliability.surface` is repeated alone, so that a leak is told with its call. Counted before and after:

references  to what the call is given again and again: arrays, dtypes, parameters, a context
objects     blocks of CPython's allocator (`sys.getallocatedblocks`), every object and string among them
bytes       in use in C's malloc (`mallinfo2` of glibc; arrays of NumPy, scratch memory of the kernels)

A leak is there every time, what caches keep is not: a call is reported when each of three trials left more than half a
reference or object, or four bytes, a call. The exit code is 1 when one was, and 2 when the arguments make no sense.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

import normcore as nc
from reliability.surface import Arrays, Call, surface

TRIALS = 3


class Growth(NamedTuple):
    """What one call left behind on average; bytes are None where C's malloc does not tell."""

    references: float
    objects: float
    nbytes: float | None

    @property
    def leaks(self) -> bool:
        """Whether it is more than the rounding of a few calls."""
        return self.references > 0.5 or self.objects > 0.5 or (self.nbytes is not None and self.nbytes > 4.0)

    def __str__(self) -> str:
        nbytes = "" if self.nbytes is None else f", {self.nbytes:.1f} bytes"
        return f"{self.references:.2f} references, {self.objects:.2f} objects{nbytes} a call"


class _Mallinfo2(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keep",
        )
    )


def _malloc_counter() -> Callable[[], int] | None:
    """The bytes that malloc has given out and not got back; None where the C library does not say."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2  # glibc 2.33
    except (AttributeError, OSError, TypeError):  # another C library; on Windows there is no CDLL(None)
        return None
    mallinfo2.restype = _Mallinfo2

    def count() -> int:
        info = mallinfo2()
        return int(info.uordblks + info.hblkhd)

    return count


_in_malloc = _malloc_counter()


def growth(call: Call, repeats: int) -> Growth:
    """What `repeats` calls left behind, the least of up to three trials."""
    for _ in range(call.warm):
        call.run()
    least = Growth(np.inf, np.inf, None if _in_malloc is None else np.inf)
    for _ in range(TRIALS):
        found = _trial(call, repeats)
        least = Growth(*(None if a is None else min(a, b) for a, b in zip(found, least, strict=True)))
        if not least.leaks:
            break
    return least


def _trial(call: Call, repeats: int) -> Growth:
    limit = nc.get_pool_limit()
    before = _counts(call, limit)
    for _ in range(repeats):
        call.run()
    after = _counts(call, limit)
    return Growth(*(None if a is None else (a - b) / repeats for a, b in zip(after, before, strict=True)))


def _counts(call: Call, limit: int) -> tuple[int, int, int | None]:
    nc.set_pool_limit(0)  # what is kept on purpose
    nc.set_pool_limit(limit)
    gc.collect()
    return (
        sum(sys.getrefcount(given) for given in call.given),
        sys.getallocatedblocks(),
        None if _in_malloc is None else _in_malloc(),
    )


def seeded() -> list[Call]:
    """Calls that leak on purpose: a reference, an object, memory of malloc. All of them must be reported."""
    x = np.zeros(3)
    malloc = ctypes.CDLL(None).malloc if _in_malloc is not None else None

    def reference() -> Arrays:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(x))
        return []

    def an_object() -> Arrays:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(object()))
        return []

    def memory() -> Arrays:
        assert malloc is not None
        malloc(64)
        return []

    calls = [Call("seeded reference", reference, (x,)), Call("seeded object", an_object, (x,))]
    return calls if malloc is None else [*calls, Call("seeded memory", memory, (x,))]


def main(argv: Sequence[str] | None = None) -> int:
    """Call, count and print; return the exit code."""
    options = _parser().parse_args(argv)
    calls = seeded() if options.seeded else surface()
    repeats = -(-options.calls // len(calls))
    if repeats < 10:
        print(f"reliability.leaks: --calls must be at least {9 * len(calls) + 1}, got {options.calls}", file=sys.stderr)
        return 2
    started, resident, leaking = time.monotonic(), 0, []
    gc.freeze()  # what is there already is not looked at in every count
    try:
        for number, call in enumerate(calls):
            found = growth(call, repeats)
            if found.leaks:
                leaking.append(call.name)
                print(f"LEAKS: {call.name}: {found}", flush=True)
            if number == 0:
                resident = _resident()
    finally:
        gc.unfreeze()
    print(f"{len(calls)} kinds of calls, {repeats:,} of each, {time.monotonic() - started:.0f} s: {len(leaking)} leak")
    print(f"The process grew by {(_resident() - resident) / 2**20:.1f} MB at its largest.")
    if options.seeded:
        return 0 if len(leaking) == len(calls) else 1
    return 1 if leaking else 0


def _resident() -> int:
    """The most memory that the process has had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reliability.leaks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000, metavar="N", help="in all (default: a million)")
    parser.add_argument("--seeded", action="store_true", help="calls that leak on purpose: exit code 0 if all are told")
    return parser


if __name__ == "__main__":
    sys.exit(main())
