"""Several threads of Python call everything at once, then a forked child does: for a build with ThreadSanitizer.

`python -m reliability.sanitize thread` makes that build and runs this. Each caller has arrays of its own and asks for
one to three threads of normcore's, so that the crew of workers.c, the pool of results, the fast lane's plans and every
walk of the kernels meet. All callers must get the bits of a serial run. The exit code is 1 when one does not.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence

import normcore as nc
from reliability.surface import surface


def results(threads: int, rounds: int) -> list[bytes]:
    """What every call returns, in order, as bytes."""
    calls = surface(large=True)
    with nc.threads(threads):
        return [array.tobytes() for _ in range(rounds) for call in calls for array in call.run()]


def wrong(callers: int, rounds: int, expected: list[bytes]) -> int:
    """How many of that many callers at once do not get what is expected."""
    same: list[bool] = []
    together = threading.Barrier(callers)

    def caller(number: int) -> None:
        together.wait()
        same.append(results(1 + number % 3, rounds) == expected)

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return callers - sum(same)


def main(argv: Sequence[str] | None = None) -> int:
    """Call and compare, here and in a child; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m reliability.races", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--callers", type=int, default=4, metavar="N", help="Python threads (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="of all calls (default: %(default)s)")
    options = parser.parse_args(argv)
    expected = results(1, options.rounds)
    here = wrong(options.callers, options.rounds, expected)
    print(f"{options.callers} callers, {len(expected)} results each: {here} callers got others", flush=True)
    child = os.fork() if hasattr(os, "fork") else None
    if child == 0:
        nc.set_num_threads(1)
        os._exit(min(1, wrong(options.callers, options.rounds, expected)))
    there = 0 if child is None else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(f"in a forked child: exit code {there}")
    return 1 if here or there else 0


if __name__ == "__main__":
    sys.exit(main())
