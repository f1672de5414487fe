"""The program: measure everything, say what is worst, write the page.

The exit code is 1 when a call of normcore breaks the contract, 2 when the arguments make no sense.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import normcore as nc
from benches.accuracy import page
from benches.accuracy.contenders import BACKENDS, TORCH, contenders
from benches.accuracy.data import DATA, LONG, Data, problems
from benches.accuracy.grid import CASES, LONG_CASES, QUICK
from benches.accuracy.rows import Row, rows
from benches.cases import Case, Problem, matches
from benches.contenders import torch_


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; return the exit code."""
    options = _parser().parse_args(argv)
    todo = [(QUICK, DATA)] if options.quick else [(CASES, DATA), (LONG_CASES, (LONG,))]
    left_out = () if importlib.util.find_spec("ml_dtypes") else ("bfloat16",)
    parts = [
        (tuple(c for c in cases if matches(str(c), options.only) and c.dtype not in left_out), every)
        for cases, every in todo
    ]
    if not any(cases for cases, _ in parts):
        print(f"{page.PROGRAM}: --only {options.only!r} leaves nothing; words are norms and dtypes", file=sys.stderr)
        return 2
    chosen = contenders()
    for name in (*BACKENDS, TORCH):
        if name not in chosen:
            print(f"{name} is absent: it is not installed")
    for dtype in left_out:
        print(f"{dtype} is left out: ml_dtypes, whose dtype it is, is not installed")
    print(page.about() + "\n")
    found: list[Row] = []
    with ExitStack() as stack:  # of 2^24 values PyTorch's error depends on the threads; normcore's does not
        stack.enter_context(nc.threads(1))
        if TORCH in chosen:
            stack.enter_context(torch_.threads(1))
        for row in rows(_told(parts), chosen):
            found.append(row)
            if row.ours and row.broken:
                print(f"FAILS: {page.failure(row)}", flush=True)
    print("\n".join(page.summary(found)))
    if options.write is not None:
        page.write(options.write, options.command, found)
        print(f"\nWritten: {options.write}")
    return 1 if any(row.ours and row.broken for row in found) else 0


def _told(parts: Sequence[tuple[tuple[Case, ...], tuple[Data, ...]]]) -> Iterator[tuple[Problem, Data]]:
    """The problems; on stderr which norm is at it."""
    started, last = time.monotonic(), None
    for cases, every in parts:
        for problem, data in problems(cases, every):
            if problem.case != last:
                print(f"[{time.monotonic() - started:.0f} s] {problem.case}", file=sys.stderr, flush=True)
            last = problem.case
            yield problem, data


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {page.PROGRAM}", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="small shapes, without groups of 2^24 values")
    add("--only", default="", metavar="WORDS", help='norms and dtypes with all these words: "layer_norm float64"')
    add("--write", type=Path, nargs="?", const=page.FILE, metavar="FILE",
        help=f"write the page (default file: docs/{page.FILE.name})")  # fmt: skip
    parser.set_defaults(command=shlex.join(["python", "-m", page.PROGRAM, *sys.argv[1:]]))
    return parser


if __name__ == "__main__":
    sys.exit(main())
