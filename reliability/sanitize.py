"""Run the tests in builds that watch the compiled code: sanitizers of addresses and threads, bounds checks, valgrind.

    python -m reliability.sanitize address          # AddressSanitizer and UndefinedBehaviorSanitizer, LeakSanitizer too
    python -m reliability.sanitize undefined        # the latter alone: faster
    python -m reliability.sanitize bounds           # every index of the walks is checked (NORMCORE_DEBUG)
    python -m reliability.sanitize thread           # ThreadSanitizer, over reliability.races and the tests of threads
    python -m reliability.sanitize memcheck         # valgrind: reads of memory that nobody has written
    python -m reliability.sanitize address --seeded # faults that are put in on purpose are reported

What follows goes to pytest: `python -m reliability.sanitize address tests/core -k layer`. The builds are made in copies
under build/sanitizers, never in the checkout. The exit code is 1 when something is reported or a test fails. For Linux
and GCC.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from reliability._builds import KINDS, prepare, reports, run
from reliability._faults import FAULTS

# What is left out of the suite, and why.
_NOT_HERE = [
    "--ignore=tests/project/test_build.py",  # makes builds of its own, which are not the one that is watched
    "--ignore=tests/test_compiled_code.py",  # counts what is in use in allocators that these builds replace
    "-k=not numba",  # compiled by Numba when it runs: nothing of ours, and an hour
]
# Nor where a sanitizer's library is loaded before all others.
_NOT_PRELOADED = [
    "--ignore=tests/test_memory.py",  # puts a library of its own before malloc, where the sanitizer's must be
    # Chromium does not start with that library; nothing compiled is called
    "--deselect=tests/studies/test_report.py::test_a_browser_renders_it_and_asks_for_nothing_else",
]
_THREADED = ["test_threads", "test_norms_threads", "test_workers", "test_pool"]


def _pytest(kind: str, *rest: str) -> list[str]:
    left_out = _NOT_HERE + (_NOT_PRELOADED if KINDS[kind].preloaded else [])
    return ["-m", "pytest", "-q", "-p", "no:cacheprovider", *left_out, *rest]


SUITES = {kind: [_pytest(kind, "-n2")] for kind in ("address", "undefined", "bounds")}
SUITES["thread"] = [
    ["-m", "reliability.races"],
    _pytest("thread", "-n0", *(f"tests/core/{name}.py" for name in _THREADED),
            "tests/nn/test_threads.py", "tests/optim/test_fused.py"),
]  # fmt: skip
SUITES["memcheck"] = [["-m", "reliability.surface"]]


def main(argv: Sequence[str] | None = None) -> int:
    """Build, run and sum up; return the exit code."""
    options, rest = _parser().parse_known_args(argv)
    if not sys.platform.startswith("linux"):
        print("reliability.sanitize: the builds are for Linux and GCC.", file=sys.stderr)
        return 2
    return _seeded(options.kind) if options.seeded else _suite(options.kind, rest)


def _suite(kind: str, rest: list[str]) -> int:
    started = time.monotonic()
    folder = prepare(kind, kind)
    print(f"Built in {folder} ({time.monotonic() - started:.0f} s)", flush=True)
    suites = SUITES[kind]
    if rest:  # pytest's own arguments, instead of the whole
        suites = [_pytest(kind, "-n0", *rest)]
    failed, found = 0, []
    for arguments in suites:
        failed += run(kind, folder, arguments).returncode != 0
        found += reports(folder)
    for line in found:
        print(f"REPORTED: {line}")
    print(f"{kind}: {len(found)} reported, {failed} of {len(suites)} runs failed, {time.monotonic() - started:.0f} s")
    return 1 if found or failed else 0


def _seeded(kind: str) -> int:
    faults = FAULTS[kind]
    folder = prepare(kind, f"{kind}-seeded", sorted({fault.edit for fault in faults}))
    missed = 0
    for fault in faults:
        done = run(kind, folder, ["-c", fault.program], capture=True)
        lines = [line for line in [*reports(folder), *done.stdout.splitlines()] if fault.says in line]
        missed += not lines
        print(f"{'reported' if lines else 'MISSED'}: {fault.name} ({fault.file}): {lines[0] if lines else done.stdout}")
    print(f"{kind}: {len(faults) - missed} of {len(faults)} faults reported")
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reliability.sanitize",
        description=(__doc__ or "").splitlines()[0],
        epilog="Other arguments are pytest's.",
    )
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--seeded", action="store_true", help="put faults in, and see them reported")
    return parser


if __name__ == "__main__":
    sys.exit(main())
