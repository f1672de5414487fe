"""Runs tests on faults, each in a process of its own, forked from one that has everything imported and collected.

A fault inside a function is put into the functions that exist already: their code objects are replaced. One that the
import of a module runs into (constants, defaults, decorators) is put in before the tests are imported, which takes longer.
Only tests that run the faulty lines are run, the shortest first, until one fails.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pickle
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, settings

MEMORY = 8 << 30  # bytes of address space for a process with a fault
Lines = dict[str, frozenset[int]]  # path -> those a test runs


class Ran(NamedTuple):
    """A test that passed without faults."""

    seconds: float
    lines: Lines


class Died(NamedTuple):
    """How a process ended: what it said, by itself ("") or what was done to it."""

    said: str
    seconds: float


# --- processes --------------------------------------------------------------------------------------------------------


class Child:
    """A fork that runs `work` in silence; what that returns is what it says."""

    def __init__(self, work: Callable[[], str], seconds: float) -> None:
        self.began, self.seconds = time.monotonic(), seconds
        self._reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(writing)
            return
        try:  # never back into the caller
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
            os.write(writing, work().encode())
            os.close(writing)
        except BaseException as error:
            os.write(writing, f"{type(error).__name__} outside a test".encode())
        finally:
            os._exit(0)

    def ended(self) -> Died | None:
        """How it ended, or None as long as it runs."""
        seconds = time.monotonic() - self.began
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid and seconds <= self.seconds:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what it started, too
        if not pid:
            os.waitpid(self.pid, 0)
        said = b"timeout" if not pid else os.read(self._reading, 1 << 16)
        os.close(self._reading)
        if os.WIFSIGNALED(status):
            said = f"signal {os.WTERMSIG(status)}".encode()
        return Died(said.decode(), seconds)


def in_turn(
    works: Iterable[tuple[Any, Callable[[], str], float]], jobs: int, took: Callable[[Any, Died], None]
) -> None:
    """Run (name, work, seconds), `jobs` at a time; `took` is told the name and the end of each."""
    running: list[tuple[Any, Child]] = []
    waiting = iter(works)
    while True:
        while len(running) < jobs and (next_one := next(waiting, None)):
            name, work, seconds = next_one
            running.append((name, Child(work, seconds)))
        if not running:
            return
        time.sleep(0.005)
        for entry in list(running):
            if died := entry[1].ended():
                running.remove(entry)
                took(entry[0], died)


# --- tests ------------------------------------------------------------------------------------------------------------


class Collected:
    """A pytest plugin that hands the collected tests to `work` in the place of running them."""

    def __init__(self, work: Callable[[pytest.Session], None]) -> None:
        self.work = work
        self.failed: str | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        # A failure is all there is to know: no smaller example of it is wanted, nor a memory of it.
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("faults", settings.get_profile("default"), phases=phases, database=None)
        settings.load_profile("faults")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            self.failed = "collection"
        else:
            self.work(session)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid


def pytest_with(plugin: Collected, tests: Sequence[str], deselected: str) -> None:
    options = ["-q", "-n0", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:faulthandler", "-k", deselected]
    code = pytest.main([*options, *tests], plugins=[plugin])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and plugin.failed is None:
        plugin.failed = "collection"


def run(plugin: Collected, items: Sequence[pytest.Item]) -> str:
    """Run tests until one fails; its name, or nothing."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if plugin.failed is not None:
            break
    return plugin.failed or ""


def trace(plugin: Collected, items: Sequence[pytest.Item], paths: Sequence[str]) -> dict[str, Ran]:
    """Run all tests; which lines of `paths` each that passes runs."""
    wanted = set(paths)
    lines: dict[str, set[int]] = {}

    def line(frame: FrameType, event: str, _: Any) -> Any:
        lines[frame.f_code.co_filename].add(frame.f_lineno)
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in wanted:
            return None
        lines.setdefault(frame.f_code.co_filename, set())
        return line(frame, event, argument)

    ran = {}
    for item, following in zip(items, [*items[1:], None], strict=True):
        plugin.failed = None
        lines.clear()
        began = time.perf_counter()
        if wanted:
            threading.settrace(call)
            sys.settrace(call)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type] # the stubs do not know that it takes None
        if plugin.failed is None:
            seen = {path: frozenset(numbers) for path, numbers in lines.items()}
            ran[item.nodeid] = Ran(time.perf_counter() - began, seen)
    return ran


def save(path: Path, ran: dict[str, Ran]) -> str:
    path.write_bytes(pickle.dumps(ran))
    return "saved"


def chosen(ran: dict[str, Ran], path: str, choices: Iterable[Iterable[int]], seconds: float) -> list[str]:
    """Tests that run one of the lines, by the first choice of lines that any runs; the shortest first, up to `seconds`."""
    for lines in choices:
        wanted = set(lines)
        hits = [(test.seconds, name) for name, test in ran.items() if not wanted.isdisjoint(test.lines.get(path, ()))]
        if hits:
            names, total = [], 0.0
            for duration, name in sorted(hits):
                total += duration
                if names and total > seconds:
                    break
                names.append(name)
            return names
    return []


# --- putting a fault in -----------------------------------------------------------------------------------------------


def _codes(code: CodeType) -> Iterable[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def functions_of(path: str) -> list[FunctionType]:
    return [f for f in gc.get_objects() if isinstance(f, FunctionType) and f.__code__.co_filename == path]


def caches() -> list[Any]:
    """Of normcore's functions: what the collection of the tests left there is the original's."""
    every = (thing for thing in gc.get_objects() if type(thing) is functools._lru_cache_wrapper)
    return [cached for cached in every if (cached.__module__ or "").startswith("normcore")]


def replace(functions: Sequence[FunctionType], code: CodeType) -> bool:
    """Give the functions of a module the code they have in `code`. False where one cannot take it."""
    found: dict[tuple[str, int], list[CodeType]] = {}
    for inner in _codes(code):
        found.setdefault((inner.co_name, inner.co_firstlineno), []).append(inner)
    for function in functions:
        old = function.__code__
        new = found.get((old.co_name, old.co_firstlineno), [])
        if len(new) != 1 or new[0].co_freevars != old.co_freevars:
            return False
        function.__code__ = new[0]
    return True


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads other code than the file's."""

    code: CodeType

    def get_code(self, fullname: str) -> CodeType:
        return self.code


class Instead(importlib.abc.MetaPathFinder):
    """Finds one module, and gives it other code."""

    def __init__(self, name: str, path: str, code: CodeType) -> None:
        self.name, self.path, self.code = name, path, code

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        loader = _Loader(fullname, self.path)
        loader.code = self.code
        folder = [str(Path(self.path).parent)] if self.path.endswith("__init__.py") else None
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=loader, submodule_search_locations=folder
        )


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
