"""What calls take of memory beside their results, and what a failed allocation leaves behind.

    python -m reliability.memory                 make every allocation of some hundred calls fail
    python -m reliability.memory --quick         of some of them
    python -m reliability.memory --peaks         what they take, as a table

The exit code is 1 when a failed allocation was not a MemoryError, or changed something, and 2 when the arguments make
no sense. On the compiled kernels: NumPy and Numba, of which the other backends are made, crash in places of their own.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence

import normcore as nc
from reliability.memory.cases import LAYOUTS, Array, Case, every_case
from reliability.memory.peaks import print_peaks
from reliability.memory.watch import is_watched, run_watched, watched

SMALLEST = 1024  # bytes; of NumPy's own, smaller ones there are many, of iterators and casts
NUMPYS = "without setting an exception"  # what NumPy 2.4 raises SystemError with where its own memory fails


def same(a: Sequence[Array], b: Sequence[Array]) -> bool:
    """Whether they are the same to the bit, NaN included."""
    return len(a) == len(b) and all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def copies(arrays: Sequence[Array]) -> list[Array]:
    return [array.copy() for array in arrays]


def failures(case: Case) -> tuple[int, list[str]]:
    """Make each allocation of a call fail; how many there were, and what was wrong."""
    attempt = case.ready()
    result = copies(attempt.run())
    after = copies(attempt.written())
    case.ready().run()  # what is kept from call to call is there now
    wrong: list[str] = []
    n = 0
    while True:
        n += 1
        attempt = case.ready()
        before = copies(attempt.written())
        gc.collect()
        got, error, seen = watched(attempt.run, fail_at=n, smallest=SMALLEST)
        if not seen.failed:
            return n - 1, wrong
        if error is None:  # it found another way: then to the same result
            if not (same(got, result) and same(attempt.written(), after)):
                wrong.append(f"{case.name}: with allocation {n} refused it returned other numbers")
            continue
        if not isinstance(error, MemoryError) and NUMPYS not in str(error):
            wrong.append(f"{case.name}: with allocation {n} refused it raised {type(error).__name__}: {error}")
        if not same(attempt.written(), before):
            wrong.append(
                f"{case.name}: with allocation {n} refused, arrays were changed before the {type(error).__name__}"
            )
        if not (same(attempt.run(), result) and same(attempt.written(), after)):
            wrong.append(f"{case.name}: the call after a refused allocation {n} returned other numbers")


def main(argv: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser().parse_args(given)
    if not is_watched():
        return run_watched(["-m", "reliability.memory", *given])
    nc.set_num_threads(2)
    nc.set_pool_limit(0)  # a pool hides what is taken
    if arguments.peaks:
        print_peaks()
        return 0
    calls = refused = bad = 0
    for case in every_case(("C order", "Fortran order") if arguments.quick else tuple(LAYOUTS)):
        if arguments.quick and "float64" in case.name:
            continue
        n, wrong = failures(case)
        calls, refused, bad = calls + 1, refused + n, bad + len(wrong)
        for line in wrong:
            print(line, flush=True)
    print(
        f"{refused} allocations of {calls} calls were refused, {bad} times something else than MemoryError came of it"
    )
    return 1 if bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reliability.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two layouts, float32")
    parser.add_argument("--peaks", action="store_true", help="print what calls take beside their results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
