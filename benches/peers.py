"""normcore beside its peers in one run, and whether it is as fast as promised: ``python -m benches.peers``.

All have the same number of threads and take turns on the same arrays; before anything is timed, results are compared.
See docs/benchmarks.md. The exit code is 1 when a target is missed or a peer computes something else, 2 when the
arguments make no sense.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import normcore as nc
from benches import (
    comparing,
    environment,
    epochs,
    footprint,
    grid,
    networks,
    perceptrons,
    report,
    scalers,
    table,
    targets,
)
from benches import contenders as competition
from benches.cases import Case, matches
from benches.contenders import Contender
from benches.results import COPY, OURS, Result

IMPORT_PAIRS = 15


class Job(NamedTuple):
    """Something to measure."""

    name: str
    measure: Callable[[], Result]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print it; return the exit code."""
    options = _parser().parse_args(argv)
    wrong = _wrong(options)
    chosen = contenders(options)
    todo = [] if wrong else list(jobs(options, chosen))
    if not todo and not wrong:
        wrong = f"--only {options.only!r} leaves nothing; leave it out to see what there is"
    if wrong:
        print(f"benches.peers: {wrong}", file=sys.stderr)
        return 2
    columns = [c.name for c in competition.CONTENDERS if c.name not in (OURS, COPY)]
    about = environment.describe(options.threads)
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    for contender in chosen:
        if contender.absent():
            print(f"{contender.name} is absent: {contender.absent()}")
    print("x copy: how many copies of x normcore's call costs; then how many times as long as normcore the others take")
    print("\n" + table.head(columns))
    results = run(todo, columns, options.patience)
    return conclude(options, results, columns, about)


def run(todo: Sequence[Job], columns: Sequence[str], patience: float = 0.0) -> list[Result]:
    """Measure, and print a row for each as soon as it is there; progress goes to stderr."""
    results = []
    started = time.monotonic()
    for i, job in enumerate(todo):
        passed = time.monotonic() - started
        left = f", {passed / i * (len(todo) - i):.0f} s left" if i else ""
        print(f"[{i + 1}/{len(todo)}{left}] {job.name}", file=sys.stderr, flush=True)
        results.append(_undisturbed(job, patience))
        print(table.row(results[-1], columns), flush=True)
    return results


def _undisturbed(job: Job, patience: float) -> Result:
    """Measure when the machine is idle, and again when it was not, for as long as patience lasts."""
    end = time.monotonic() + patience
    tries: list[Result] = []
    while not tries or (table.mark(tries[-1]) and time.monotonic() < end):
        environment.wait(end - time.monotonic(), table.BUSY)
        busy = environment.Busy()
        result = job.measure()
        tries.append(replace(result, busy=busy.share()))
    return min(tries, key=lambda result: result.busy or 0.0)


def conclude(
    options: argparse.Namespace, results: Sequence[Result], columns: Sequence[str], about: dict[str, object]
) -> int:
    """Print means, gaps and targets, write what is to be written, and return the exit code."""
    print("\nGeometric means\n" + table.head(columns))
    print("\n".join(table.means(results, columns)))
    why = list(table.reasons(results))
    if why:
        print("\nMissing\n" + "\n".join(why))
    shares = [x.busy for x in results if x.busy is not None]
    if shares:
        about["busy"] = f"other processes took {fmean(shares):.0%} of the CPUs, at most {max(shares):.0%} in a line"
        print(f"\n{about['busy']}; lines with * were measured on a busy machine")
    outcomes = targets.judge_all(results)
    print("\nTargets" + (" (tiny shapes and one round: this says nothing about speed)" if options.quick else ""))
    print("\n".join(table.summary(outcomes)))
    if options.json is not None:
        judged = [
            {"name": o.target.name, "bound": o.target.bound, "value": o.value, "holds": o.holds} for o in outcomes
        ]
        content = {"about": about, "results": [x.to_dict() for x in results], "targets": judged}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        print(f"\nWritten: {options.json}")
    if options.write_results is not None:
        report.write(options.write_results, options.command, about, results, outcomes, columns)
        print(f"\nWritten: {options.write_results}")
    wrong = any(_wrong_result(result) for result in results)
    return 1 if wrong else 0 if options.quick else targets.exit_code(outcomes)


def _wrong_result(result: Result) -> bool:
    """Whether normcore failed, or a peer computes something else; a peer may fail, and is listed."""
    reasons = result.missing.items()
    return any("DiffersError" in reason or (name == OURS and reason.startswith("failed")) for name, reason in reasons)


def contenders(options: argparse.Namespace) -> list[Contender]:
    """Who takes part: all but those that were left out by an option, which are said to be absent."""
    off = {"compile": options.no_compile, "JAX": options.no_jax, "Numba": options.no_numba}

    def left_out() -> str:
        return "left out by an option"

    return [replace(c, absent=left_out) if off.get(c.name) else c for c in competition.CONTENDERS]


def jobs(options: argparse.Namespace, chosen: Sequence[Contender]) -> Iterator[Job]:
    """Everything that is to be measured: the grid, steps of training, the import, the wheel."""
    seconds, rounds = (0.0, 1) if options.quick else (options.seconds, 5)
    quick, threads = options.quick, options.threads

    for case in grid.cases(grid.QUICK if quick else grid.GRID, options.only):
        yield Job(str(case), partial(_compare, case, chosen, threads, seconds, rounds))
    steps = networks.QUICK if quick else networks.NETWORKS
    others = [Job(step.name, partial(networks.measure, step, threads, seconds, rounds)) for step in steps]
    epoch, loop = (epochs.QUICK_EPOCH, epochs.QUICK_LOOP) if quick else (epochs.EPOCH, epochs.LOOP)
    others.append(Job("epoch of MNIST", partial(epochs.against_scikit, epoch, threads, seconds, rounds)))
    fits = perceptrons.QUICK_FITS if quick else perceptrons.FITS
    for fit in fits:
        others.append(Job(f"perceptron fit, {fit.name}", partial(perceptrons.fitting, fit, threads, seconds, rounds)))
    row = partial(perceptrons.predicting, fits[-1], threads, seconds, rounds)
    others.append(Job("perceptron predict_proba, one row", row))
    others.append(Job("fit", partial(epochs.against_bare_loop, loop, threads, seconds, rounds)))
    data = scalers.QUICK if quick else scalers.TABLE
    for way in scalers.WAYS:
        others.append(Job(data.name(way), partial(scalers.measure, data, way, threads, seconds, rounds)))
    others.append(Job("scaler, memory of fit", partial(scalers.memory, data)))
    others.append(Job("import normcore over import numpy", partial(footprint.importing, 1 if quick else IMPORT_PAIRS)))
    others.append(Job("wheel", partial(footprint.wheel, options.wheel, options.build_wheel)))
    yield from (job for job in others if matches(job.name, options.only))


def _compare(case: Case, chosen: Sequence[Contender], threads: int, seconds: float, rounds: int) -> Result:
    with ExitStack() as stack:
        for contender in chosen:
            if not contender.absent():
                stack.enter_context(contender.session(threads))
        return comparing.compare(case, chosen, seconds, rounds)


def _wrong(options: argparse.Namespace) -> str:
    if options.threads < 1:
        return f"--threads must be at least 1, got {options.threads}"
    if options.wheel is not None and not options.wheel.is_file():
        return f"--wheel must be a file, got {options.wheel}"
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches.peers", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--threads", type=int, default=min(2, nc.get_num_threads()), metavar="N", help="for all (default: %(default)s)")
    add("--only", default="", metavar="WORDS", help='what has all these words in its name: "backward NCHW"')
    add("--seconds", type=float, default=1.5, metavar="S", help="for each case, at most roughly (default: %(default)s)")
    add("--patience", type=float, default=0.0, metavar="S", help="how long a line may wait for an idle machine")
    add("--quick", action="store_true", help="tiny shapes, one round: shows only that everything runs")
    add("--no-compile", action="store_true", help="without torch.compile, which takes minutes to compile")
    add("--no-jax", action="store_true", help="without JAX")
    add("--no-numba", action="store_true", help="without the Numba backend, which compiles for minutes the first time")
    add("--wheel", type=Path, metavar="FILE", help="the wheel whose size is judged")
    add("--build-wheel", action="store_true", help="build a wheel and judge its size")
    add("--json", type=Path, metavar="FILE", help="write the numbers too")
    add("--write-results", type=Path, nargs="?", const=report.FILE, metavar="FILE",
        help=f"write the tables as Markdown (default file: {report.FILE.name} here)")  # fmt: skip
    parser.set_defaults(command=shlex.join(["python", "-m", "benches.peers", *sys.argv[1:]]))
    return parser


if __name__ == "__main__":
    environment.restart(max(1, _parser().parse_args().threads), sys.argv[1:])
    sys.exit(main())
