"""Faults in the C and Cython sources, all compiled at once, each switched on in a process of its own.

    python -m reliability.mutants.compiled                  build a copy with all of ``compiled_faults.py``, try each
    python -m reliability.mutants.compiled --keep DIR       build there, or use what was built there before
    python -m reliability.mutants.compiled --only lane pool those whose file or description has one of these
    python -m reliability.mutants.compiled --tests core/test_plans.py     a quick choice of tests to begin with

The copy is compiled with -O1. Exit code 1: a fault survived.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from functools import partial
from pathlib import Path

import pytest

from reliability.mutants import session
from reliability.mutants.compiled_faults import FAULTS, Seeded
from reliability.mutants.targets import ROOT

SWITCH = "NORMCORE_FAULT"
# ahead of everything else in every C file; after fork the number is read anew, as long as no kernel has asked
HEADER = f"""
extern char *getenv(const char *);
extern int atoi(const char *);
__attribute__((unused)) static int normcore_fault(int number) {{
    static int chosen = -1;
    if (chosen < 0) {{
        const char *text = getenv("{SWITCH}");
        chosen = text ? atoi(text) : 0;
    }}
    return chosen == number;
}}
"""
DECLARATION = "cdef extern from *:\n    bint normcore_fault(int) noexcept nogil\n\n"
TESTS = {
    "optim/": ["optim"],
    "nn/": ["nn"],
    "workers.c": ["core/test_workers.py", *(f"core/test_{name}.py" for name in ("threads", "norms_threads", "pool"))],
    "pool.h": ["core/test_pool.py"],
    "": ["core"],
}  # fmt: skip


def seeded(text: str, faults: list[tuple[int, Seeded]]) -> str:
    """A file's text with its faults."""
    for number, fault in faults:
        if text.count(fault.before) != 1:
            raise SystemExit(
                f"{fault.file} has {text.count(fault.before)} times: {fault.before!r}; mend compiled_faults.py"
            )
        text = text.replace(fault.before, fault.after.replace("FAULT", f"normcore_fault({number})"))
    return text


def all_seeded() -> dict[str, str]:
    """The text of every file that has faults, by its name below normcore/."""
    by_file: dict[str, list[tuple[int, Seeded]]] = {}
    for number, fault in enumerate(FAULTS, 1):
        by_file.setdefault(fault.file, []).append((number, fault))
    return {name: seeded((ROOT / "normcore" / name).read_text(), faults) for name, faults in by_file.items()}


def build(folder: Path) -> None:
    """A copy of the sources with every fault, compiled."""
    ignored = shutil.ignore_patterns("*.so", "__pycache__", ".*", "build", *(f"{name}.c" for name in _generated()))
    for name in ("normcore", "tests", "benches"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    (folder / "setup.py").write_text((ROOT / "setup.py").read_text().replace('"-O3"', '"-O1"'))
    header = folder / "fault.h"
    header.write_text(HEADER)
    for name, text in all_seeded().items():
        (folder / "normcore" / name).write_text(text)
    for path in (folder / "normcore").rglob("*.pyx"):
        lines = path.read_text().splitlines(keepends=True)
        first = next(i for i, line in enumerate(lines) if line.startswith(("from ", "cimport ", "cdef ", "import ")))
        path.write_text("".join([*lines[:first], DECLARATION, *lines[first:]]))
    environment = os.environ | {"CFLAGS": f"{os.environ.get('CFLAGS', '')} -include {header}"}
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=folder, env=environment, check=True
    )


def _generated() -> list[str]:
    return [path.stem for path in (ROOT / "normcore").rglob("*.pyx")] + ["_context", "_setting"]


def tests_for(fault: Seeded) -> list[str]:
    return next(tests for start, tests in TESTS.items() if fault.file.startswith(start))


class Trial:
    """The faults that the same tests are for: collected once, forked for each fault."""

    def __init__(self, tests: tuple[str, ...], faults: list[tuple[int, Seeded]], folder: Path, jobs: int) -> None:
        self.tests, self.faults, self.folder, self.jobs = tests, faults, folder, jobs
        self.survivors = 0
        self.plugin = session.Collected(self._collected)
        self.voice = os.fdopen(os.dup(1), "w", buffering=1)

    def __call__(self) -> int:
        """The number of survivors."""
        pid = os.fork()
        if not pid:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            tests = [str(self.folder / "tests" / name) for name in self.tests]
            session.pytest_with(self.plugin, tests, "not numba and not reference")
            if self.plugin.failed == "collection":
                self.voice.write("the tests are not in order\n")
            os._exit(min(self.survivors, 200))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _collected(self, collected: pytest.Session) -> None:
        kept = self.folder / f"traced-{zlib.crc32(' '.join(self.tests).encode())}"  # for another run with --keep
        ran = session.read(kept) if kept.exists() else session.without_faults(self.plugin, collected.items, (), kept)
        self.voice.write(f"{len(ran)} of {len(collected.items)} tests pass without a fault\n")
        passing = [item for item in collected.items if item.nodeid in ran]
        items = sorted(passing, key=lambda item: ran[item.nodeid].seconds)
        works = ((fault, partial(self._work, fault[0], items), 900.0) for fault in self.faults)
        session.in_turn(works, self.jobs, self._took)

    def _work(self, number: int, items: list[pytest.Item]) -> str:
        os.environ[SWITCH] = str(number)
        self.plugin.failed = None
        return session.run(self.plugin, items)

    def _took(self, numbered: tuple[int, Seeded], died: session.Died) -> None:
        number, fault = numbered
        self.survivors += not died.said
        how = died.said or "SURVIVED"
        self.voice.write(f"{number:3} {how} ({died.seconds:.0f} s)  {fault.file}: {fault.what}\n")


def try_all(folder: Path, only: list[str], tests: list[str], jobs: int) -> int:
    """The number of survivors."""
    by_tests: dict[tuple[str, ...], list[tuple[int, Seeded]]] = {}
    for number, fault in enumerate(FAULTS, 1):
        if any(part in f"{fault.file} {fault.what}" for part in only):
            by_tests.setdefault(tuple(tests or tests_for(fault)), []).append((number, fault))
    return sum(Trial(chosen, faults, folder, jobs)() for chosen, faults in by_tests.items())


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reliability.mutants.compiled", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--keep", type=Path, help="a folder for the build")
    parser.add_argument("--only", nargs="+", default=[""], help="faults whose file or description has one of these")
    parser.add_argument("--tests", nargs="+", default=[], help="below tests/: a quick choice to begin with")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        if not (folder / "setup.py").exists():
            folder.mkdir(exist_ok=True)
            build(folder)
        os.chdir(folder)
        sys.path[:] = [str(folder), *(entry for entry in sys.path if Path(entry).resolve() != ROOT)]
        survivors = try_all(folder, options.only, options.tests, options.jobs)
    print(f"{len(FAULTS)} faults, {survivors} survived")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
