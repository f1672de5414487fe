"""normcore beside its peers and a plain copy, in one run, as ratios: ``python -m benches.peers`` from the checkout.

For each case all contenders take turns in rounds on the same input (see `normcore._bench.interleaved`), with the same
number of threads. Before anything is timed, their results are compared with normcore's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import normcore as nc
from benches import table
from benches.cases import GRID, QUICK, Case, cases, problem
from benches.contenders import CONTENDERS, Contender, copying, normcore_
from normcore._bench import Times, interleaved

# Of a value around 1. Wide, because peers sum a million float32 in float32; another formula differs by far more.
_TOLERANCE = {"float16": 2e-2, "float32": 5e-3, "float64": 1e-9}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print it; return the exit code."""
    options = _parser().parse_args(argv)
    if options.threads < 1:
        print(f"benches.peers: --threads must be at least 1, got {options.threads}", file=sys.stderr)
        return 2
    chosen = list(cases(QUICK if options.quick else GRID, options.only))
    if not chosen:
        print(f"benches.peers: --only {options.only!r} leaves no case; leave it out to see them all", file=sys.stderr)
        return 2
    seconds, rounds = (0.0, 1) if options.quick else (options.seconds, 7)
    lines = compare(chosen, options.threads, seconds, rounds)
    if options.json is not None:
        content = {"threads": options.threads, "config": dict(nc.show_config()), "lines": [x.to_dict() for x in lines]}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        print(f"\nWritten: {options.json}")
    return 0


def compare(
    chosen: Sequence[Case],
    threads: int,
    seconds: float,
    rounds: int,
    contenders: Sequence[Contender] = CONTENDERS,
) -> list[table.Line]:
    """Measure cases and print a line for each, then the geometric means.

    Parameters
    ----------
    chosen : sequence of Case
        What to time.
    threads : int
        For every contender.
    seconds, rounds
        For each case, as in `interleaved`.
    contenders : sequence of Contender
        Modules; those that are absent get a column that says so.

    Returns
    -------
    list of Line
        One for each case.

    Raises
    ------
    ArithmeticError
        If a contender computes something else.
    """
    peers = [c.NAME for c in contenders if c.NAME not in (copying.NAME, normcore_.NAME)]
    print(
        f"{threads} thread{'' if threads == 1 else 's'}; medians of interleaved rounds; results reused where possible"
    )
    for contender in contenders:
        if contender.absent():
            print(f"{contender.NAME} is absent: {contender.absent()}")
    print("x copy: how many copies of x normcore's call costs; peers: how many times as long as normcore they take\n")
    print(table.head(peers))
    lines = []
    with ExitStack() as stack:
        present = [c for c in contenders if not c.absent()]
        for contender in present:
            stack.enter_context(contender.session(threads))
        for case in chosen:
            lines.append(_measure(case, present, peers, seconds, rounds))
            print(table.row(lines[-1]), flush=True)
    print("\ngeometric means")
    print("\n".join(table.summary(lines)))
    return lines


def _measure(case: Case, present: Sequence[Contender], peers: Sequence[str], seconds: float, rounds: int) -> table.Line:
    arrays = problem(case)
    key = (case.op, case.direction)
    ways = {contender.NAME: contender.WAYS[key](arrays) for contender in present if key in contender.WAYS}
    _check(case, ways)
    calls = {f"{name}: {way}": call for name, own in ways.items() for way, call in own.items()}
    times = interleaved(calls, seconds, rounds)
    best = {name: times.fastest([f"{name}: {way}" for way in own]) for name, own in ways.items()}
    return _line(case, times, best, peers)


def _line(case: Case, times: Times, best: Mapping[str, str], peers: Sequence[str]) -> table.Line:
    ours = best[normcore_.NAME]
    return table.Line(
        case=case,
        seconds=times.median(ours),
        copies=times.ratio(ours, best[copying.NAME]),
        peers={name: times.ratio(best[name], ours) if name in best else None for name in peers},
        ways={name: way.removeprefix(f"{name}: ") for name, way in best.items()},
        medians={name: times.median(way) for name, way in best.items()},
    )


def _check(case: Case, ways: Mapping[str, Mapping[str, Callable[[], Any]]]) -> None:
    """A contender that computes something else is not a contender."""
    (ours,) = ways[normcore_.NAME].values()
    expected = np.asarray(ours()).astype(np.float64)
    for name, own in ways.items():
        if name == copying.NAME:
            continue
        for way, call in own.items():
            error = float(np.max(np.abs(np.asarray(call()) - expected) / (1 + np.abs(expected))))
            if not error <= _TOLERANCE[case.dtype]:
                raise ArithmeticError(
                    f"{case}: {name}'s {way} differs from normcore by {error:.3g}; compare them first"
                )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches.peers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--threads", type=int, default=nc.get_num_threads(), metavar="N", help="for all (default: %(default)s)"
    )
    parser.add_argument("--only", default="", metavar="WORDS", help='cases with all these words: "backward NCHW"')
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="for each case (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="two tiny shapes, one round: shows only that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
