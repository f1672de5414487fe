"""Faults in the C and Cython sources, all compiled at once, each switched on in a process of its own.

    python -m reliability.mutants.compiled                  build a copy with all faults of ``compiled_faults.py``, and try each
    python -m reliability.mutants.compiled --keep DIR       build there, or use what was built there before
    python -m reliability.mutants.compiled --only workers   those whose file or description contains this

The copy is compiled with -O1. Exit code 1: a fault survived.
"""

from __future__ import annotations

import argparse
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
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
    "workers.c": ["core/test_workers.py", "core/test_threads.py", "core/test_norms_threads.py", "core/test_pool.py", "nn/test_threads.py"],
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
    for path in (folder / "normcore").rglob("*"):
        name = path.relative_to(folder / "normcore").as_posix()
        faults = [(number, fault) for number, fault in enumerate(FAULTS, 1) if fault.file == name]
        if faults:
            path.write_text(seeded(path.read_text(), faults))
        if path.suffix == ".pyx":
            lines = path.read_text().splitlines(keepends=True)
            first = next(
                i for i, line in enumerate(lines) if line.startswith(("from ", "cimport ", "cdef ", "import "))
            )
            path.write_text("".join([*lines[:first], DECLARATION, *lines[first:]]))
    environment = os.environ | {"CFLAGS": f"{os.environ.get('CFLAGS', '')} -include {header}"}
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=folder, env=environment, check=True
    )


def _generated() -> list[str]:
    return [path.stem for path in (ROOT / "normcore").rglob("*.pyx")] + ["_context"]


def tests_for(fault: Seeded) -> list[str]:
    return next(tests for start, tests in TESTS.items() if fault.file.startswith(start))


def without_faults(plugin: session.Collected, items: list[pytest.Item], folder: Path) -> list[pytest.Item]:
    """Those that pass without a fault, the shortest first."""
    traced = folder / "traced"
    session.in_turn(
        [("", lambda: session.save(traced, session.trace(plugin, items, ())), 3600.0)], 1, lambda _, died: None
    )
    ran: dict[str, session.Ran] = pickle.loads(traced.read_bytes())
    return sorted((item for item in items if item.nodeid in ran), key=lambda item: ran[item.nodeid].seconds)


def work(plugin: session.Collected, number: int, items: list[pytest.Item]) -> str:
    os.environ[SWITCH] = str(number)
    plugin.failed = None
    return session.run(plugin, items)


def try_all(folder: Path, only: str, jobs: int) -> int:
    """Collect once for each choice of tests, then fork for each fault; the number of survivors."""
    survivors = 0
    for tests in dict.fromkeys(tuple(tests_for(fault)) for fault in FAULTS):
        wanted = [
            (number, fault)
            for number, fault in enumerate(FAULTS, 1)
            if tuple(tests_for(fault)) == tests and only in f"{fault.file} {fault.what}"
        ]
        lost: list[int] = []

        def took(name: tuple[int, Seeded], died: session.Died, lost: list[int] = lost) -> None:
            number, fault = name
            if not died.said:
                lost.append(number)
            voice.write(f"{number:3} {died.said or 'SURVIVED'} ({died.seconds:.0f} s)  {fault.file}: {fault.what}\n")

        def collected(
            all_tests: pytest.Session,
            wanted: list[tuple[int, Seeded]] = wanted,
            took: object = took,
            lost: list[int] = lost,
        ) -> None:
            items = without_faults(plugin, all_tests.items, folder)
            voice.write(f"{len(items)} of {len(all_tests.items)} tests pass without a fault\n")
            works = ((pair, partial(work, plugin, pair[0], items), 900.0) for pair in wanted)
            session.in_turn(works, jobs, took)  # type: ignore[arg-type] # a default has to be an object

        if not wanted:
            continue
        plugin = session.Collected(collected)
        voice = os.fdopen(os.dup(1), "w", buffering=1)
        pid = os.fork()
        if not pid:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            session.pytest_with(plugin, [str(folder / "tests" / name) for name in tests], "not numba")
            if plugin.failed == "collection":
                voice.write("the tests are not in order\n")
            os._exit(min(len(lost), 200))
        survivors += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return survivors


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reliability.mutants.compiled", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--keep", type=Path, help="a folder for the build")
    parser.add_argument("--only", default="", help="faults whose file or description contains this")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        if not (folder / "setup.py").exists():
            folder.mkdir(exist_ok=True)
            build(folder)
        os.chdir(folder)
        sys.path[:] = [str(folder), *(entry for entry in sys.path if Path(entry).resolve() != ROOT)]
        survivors = try_all(folder, options.only, options.jobs)
    print(f"{len(FAULTS)} faults, {survivors} survived")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
