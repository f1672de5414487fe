"""Puts faults into modules of normcore, one at a time, and says which no test notices.

    python -m reliability.mutants optim                     all faults of a group, some ten minutes for a thousand
    python -m reliability.mutants plan --sample 200         as many, drawn at random (--seed)
    python -m reliability.mutants nn --module linear.py     one module
    python -m reliability.mutants plan --left               those that survived before, to see new tests kill them
    python -m reliability.mutants --report                  the table of all results so far

Results are added to a file (--results); a fault that was killed before, in the same text of its function, is not tried
again. Exit code 1: a fault survived that ``equivalent.txt`` does not explain, in the words that ``ast.unparse`` of
Python 3.11 has.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import random
import sys
import tempfile
import traceback
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np  # noqa: F401 - before the forks, as the next ones: what they share is imported once
import pytest
import scipy.special  # noqa: F401 - see above

from reliability.mutants import operators, record, session
from reliability.mutants.record import Result
from reliability.mutants.targets import GROUPS, ROOT, Group


class Fault(NamedTuple):
    """A mutant and where it is."""

    path: Path
    source: int
    mutant: operators.Mutant
    body: tuple[range, ...]  # lines to look for tests by, the best first; none for what the import runs

    @property
    def module(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def import_name(self) -> str:
        return self.module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def faults(paths: list[Path]) -> list[Fault]:
    found = []
    for path in paths:
        text = path.read_text()
        bodies: dict[str, list[int]] = {}
        every = operators.mutants(text)
        for mutant in every:
            bodies.setdefault(mutant.function, []).extend(mutant.lines)
        for mutant in every:
            lines = bodies[mutant.function]
            body = (mutant.lines, range(min(lines), max(lines) + 1)) if not mutant.on_import else ()
            found.append(Fault(path, zlib.crc32(mutant.source.encode()), mutant, body))
    return found


def results_of_today(path: Path) -> list[Result]:
    """What is in a file of results, without the faults that are no more."""
    results = record.read(path)
    modules = sorted({ROOT / result.module for result in results})
    exist = {(fault.module, fault.mutant.key) for fault in faults([module for module in modules if module.exists()])}
    return record.judged(results, exist, record.equivalents(record.EQUIVALENT.read_text()))


class Run:
    """The faults of one group, tried."""

    def __init__(self, group: Group, todo: list[Fault], options: argparse.Namespace) -> None:
        self.group, self.todo, self.options = group, todo, options
        self.tests = [str(ROOT / "tests" / name) for name in group.tests]
        self.known = record.equivalents(record.EQUIVALENT.read_text())
        self.done = 0

    def __call__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            traced = Path(folder, "traced")
            again = Path(folder, "again")
            self._wait(partial(self._inside_functions, traced, again))
            ran = session.read(traced)
            later = set(again.read_text().splitlines()) if again.exists() else set()
            works = (
                (fault, partial(self._imported, fault, tests), self._patience(ran, tests))
                for fault in self.todo
                if f"{fault.module} {fault.mutant.key}" in later
                for tests in [session.chosen(ran, "", (), self.options.seconds)]
            )
            session.in_turn(works, self.options.jobs, self._took)

    def _wait(self, work: Callable[[], None]) -> None:
        """In a process that imports normcore, so that this one does not."""
        pid = os.fork()
        if not pid:
            try:
                work()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)

    def _inside_functions(self, traced: Path, again: Path) -> None:
        silence = os.open(os.devnull, os.O_RDWR)
        self.voice = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(silence, 1)
        plugin = session.Collected(lambda collected: self._collected(plugin, collected, traced, again))
        session.pytest_with(plugin, self.tests, self.group.deselected)
        if plugin.failed:
            self.voice.write(f"the tests are not in order: {plugin.failed}\n")

    def _collected(self, plugin: session.Collected, collected: pytest.Session, traced: Path, again: Path) -> None:
        items = {item.nodeid: item for item in collected.items}
        paths = sorted({str(fault.path) for fault in self.todo})
        ran = session.without_faults(plugin, list(items.values()), paths, traced)
        self.voice.write(f"{len(ran)} of {len(items)} tests pass; {len(self.todo)} faults\n")
        for name in {fault.import_name for fault in self.todo}:
            importlib.import_module(name)  # what is imported when it is used: a fork would import the original
        functions, caches = {path: session.functions_of(path) for path in paths}, session.caches()
        gc.freeze()  # a collection would touch, and so copy, all that the forks share

        def inside(fault: Fault, tests: list[str]) -> str:
            session.limit_memory()
            try:
                code = fault.mutant.compile(str(fault.path))
            except SyntaxError:
                return "no program"
            if not session.replace(functions[str(fault.path)], code):
                return "again"
            for cached in caches:
                cached.cache_clear()
            plugin.failed = None
            return session.run(plugin, [items[name] for name in tests])

        def works() -> Iterator[tuple[Fault, Callable[[], str], float]]:
            for fault in self.todo:
                tests = [] if fault.mutant.on_import else self._tests(ran, fault)
                if not tests:  # perhaps a function that only the import calls
                    later(fault)
                else:
                    yield fault, partial(inside, fault, tests), self._patience(ran, tests)

        def later(fault: Fault) -> None:
            with again.open("a") as file:
                file.write(f"{fault.module} {fault.mutant.key}\n")

        def took(fault: Fault, died: session.Died) -> None:
            if died.said == "again":
                later(fault)
            else:
                self._took(fault, died)

        session.in_turn(works(), self.options.jobs, took)

    def _imported(self, fault: Fault, tests: list[str]) -> str:
        session.limit_memory()
        try:
            code = fault.mutant.compile(str(fault.path))
        except SyntaxError:
            return "no program"
        sys.meta_path.insert(0, session.Instead(fault.import_name, str(fault.path), code))
        order = {name: i for i, name in enumerate(tests)}

        def work(collected: pytest.Session) -> None:
            items = [item for item in collected.items if item.nodeid in order]
            session.run(plugin, sorted(items, key=lambda item: order[item.nodeid]))

        plugin = session.Collected(work)
        files = sorted({str(ROOT / name.partition("::")[0]) for name in tests})
        session.pytest_with(plugin, files, self.group.deselected)
        return plugin.failed or ""

    def _tests(self, ran: dict[str, session.Ran], fault: Fault) -> list[str]:
        return session.chosen(ran, str(fault.path), fault.body, self.options.seconds)

    def _patience(self, ran: dict[str, session.Ran], tests: list[str]) -> float:
        return 30.0 + 5 * sum(ran[name].seconds for name in tests)

    def _took(self, fault: Fault, died: session.Died) -> None:
        if died.said != "no program":
            self._write(fault, "killed" if died.said else "survived", died.said, died.seconds)

    def _write(self, fault: Fault, outcome: str, by: str, seconds: float) -> None:
        if outcome == "survived" and (fault.module, fault.mutant.key) in self.known:
            outcome = "equivalent"
        line = fault.mutant.lines.start
        result = Result(fault.module, fault.mutant.key, line, fault.source, outcome, by, round(seconds, 2))
        record.write(self.options.results, result)
        if outcome == "survived":
            voice = getattr(self, "voice", sys.stdout)
            print(f"{outcome}: {fault.module}:{line}: {fault.mutant.key}", file=voice, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m reliability.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("groups", nargs="*", choices=[[], *GROUPS], help="what to mutate")
    parser.add_argument("--module", default="", help="only modules whose path contains this")
    parser.add_argument("--sample", type=int, help="as many faults of each group, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tests", nargs="+", help="below tests/: a quick choice to begin with")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--seconds", type=float, default=60.0, help="of tests to run for a fault, at most")
    parser.add_argument("--results", type=Path, default=Path("mutants.jsonl"), help="a file that is added to")
    parser.add_argument("--left", action="store_true", help="only those that --results says survived: after new tests")
    parser.add_argument("--report", action="store_true", help="print the table of all results")
    options = parser.parse_args()
    for name in options.groups:
        group = GROUPS[name]._replace(**({"tests": tuple(options.tests)} if options.tests else {}))
        every = faults([path for path in group.paths if options.module in path.as_posix()])
        if options.sample is not None and options.sample < len(every):
            every = random.Random(options.seed).sample(every, options.sample)
        wanted = record.to_try(results_of_today(options.results), options.left)
        todo = [f for f in every if wanted(f.module, f.mutant.key, f.source)]
        if todo:
            why = "not left by --results" if options.left else "killed before"
            print(f"{name}: {len(every)} faults, {len(every) - len(todo)} of them {why}", flush=True)
            Run(group, todo, options)()
    results = results_of_today(options.results)
    if options.report or options.groups:
        print("\n".join(record.table(results)))
    return int(any(result.outcome == "survived" for result in results))


if __name__ == "__main__":
    sys.exit(main())
