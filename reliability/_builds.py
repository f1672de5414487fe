"""Kinds of builds in which the compiled code is watched: their flags, how they run, and how their reports read."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "sanitizers"

# Python compiles extensions with -fwrapv, under which nothing that overflows is reported.
_UNDEFINED = "undefined,float-cast-overflow -fno-wrapv -fno-sanitize-recover=all"
_GENERATED = (
    "*.so", "*.pyd", "*.egg-info", "__pycache__", "_compiled_lane.c", "_compiled_pool.c", "_context.c", "_setting.c",
    "_workers.c", "cython_kernels.c", "_products.c", "_softmax.c", "_fused.c", "normcore-study-*",
)  # fmt: skip
_COPIED = ("normcore", "tests", "benches", "docs", "reliability")
# Without frame pointers of CPython a stack ends at its first frame; ours are above that.
_SYMBOLS = "-O1 -g -fno-omit-frame-pointer"


class Kind(NamedTuple):
    """How a build is made and run."""

    flags: str
    preloaded: tuple[str, ...] = ()  # libraries of the compiler, before CPython's
    environment: dict[str, str] = {}  # noqa: RUF012 - a NamedTuple's default, which nobody changes
    command: tuple[str, ...] = ()  # before the interpreter
    patience: int = 5  # times as long as otherwise may a process take that a test waits for


# abort_on_error: a signal is a failure for whoever waits for the process. exitcode=0: leaks of CPython, which keeps
# much until its end, do not fail it; those of ours are told from the report.
_HALT = "halt_on_error=1:abort_on_error=1"
KINDS = {
    "address": Kind(
        f"{_SYMBOLS} -fsanitize=address,{_UNDEFINED}",
        ("libasan.so", "libstdc++.so"),  # its interceptor of C++ exceptions looks for the latter at the start
        {
            "ASAN_OPTIONS": f"{_HALT}:detect_leaks=1:exitcode=0:allocator_may_return_null=1:log_path={{log}}",
            "UBSAN_OPTIONS": f"{_HALT}:print_stacktrace=1:log_path={{log}}",
        },
        patience=10,
    ),
    "undefined": Kind(
        f"{_SYMBOLS} -fsanitize={_UNDEFINED}",
        environment={"UBSAN_OPTIONS": f"{_HALT}:print_stacktrace=1:log_path={{log}}"},
    ),
    "bounds": Kind("-O1 -g -fstack-protector-all", environment={"NORMCORE_DEBUG": "1"}),
    "thread": Kind(
        f"{_SYMBOLS} -fsanitize=thread",
        ("libtsan.so",),
        # CPython, NumPy and OpenBLAS are not instrumented: of them it sees locks, and the memory that they copy.
        {
            "TSAN_OPTIONS": "halt_on_error=1:die_after_fork=0:ignore_noninstrumented_modules=1:report_signal_unsafe=0:"
            "log_path={log}"
        },
        ("setarch", platform.machine(), "-R"),  # its shadow memory wants addresses that are not random
        patience=20,
    ),
    "memcheck": Kind(
        f"{_SYMBOLS}",
        command=(
            "valgrind",
            "--tool=memcheck",
            "--track-origins=yes",
            "--log-file={log}.%p",
            "--num-callers=20",
            f"--fullpath-after={FOLDER}/memcheck/",
            f"--fullpath-after={FOLDER}/memcheck-seeded/",
        ),
    ),
}


def prepare(kind: str, name: str, edit: Sequence[tuple[str, str, str]] = ()) -> Path:
    """Copy the sources to a folder of that name, replace texts (file, old, new) and compile; return the folder.

    What has not changed since is not compiled again. The checkout is left as it is.
    """
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    for part in _COPIED:
        source, target = ROOT / part, folder / part
        if not source.is_dir():  # an installation from an archive may lack some
            continue
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_GENERATED), dirs_exist_ok=True)
        for path in target.rglob("*.[ph]*"):  # what is no longer there
            if "__pycache__" not in path.parts and not (source / path.relative_to(target)).exists():
                path.unlink()
    for path in ROOT.iterdir():
        if path.is_file() and path.suffix in (".py", ".toml", ".md", ".in", "") and not path.name.startswith("."):
            shutil.copy2(path, folder)
    for file, old, new in edit:
        text = (folder / file).read_text()
        if text.count(old) != 1:
            raise SystemExit(
                f"reliability.sanitize: {file} has {text.count(old)} times {old!r}, which a fault replaces."
            )
        (folder / file).write_text(text.replace(old, new))
    flags, stamp = KINDS[kind].flags, folder / "flags.txt"
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", f"-j{os.cpu_count()}"]
    if not stamp.exists() or stamp.read_text() != flags:
        command.append("--force")
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"NORMCORE_FLAGS": flags} | _switches(kind),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nreliability.sanitize: the build of {folder} failed.")
    stamp.write_text(flags)
    return folder


def _switches(kind: str) -> dict[str, str]:
    return {key: value for key, value in KINDS[kind].environment.items() if key.startswith("NORMCORE")}


def run(kind: str, folder: Path, arguments: Sequence[str], capture: bool = False) -> subprocess.CompletedProcess[str]:
    """Run `python arguments` with the build in that folder; its reports are in `reports(folder)`."""
    how = KINDS[kind]
    log = folder / "report"
    for old in folder.glob("report.*"):
        old.unlink()
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PYTHONMALLOC": "malloc",  # CPython's own pools hide where an object ends
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "RELIABILITY_PATIENCE": str(how.patience),
        **{key: value.format(log=log) for key, value in how.environment.items()},
    }
    if how.preloaded:
        environment["LD_PRELOAD"] = " ".join(map(_library, how.preloaded))
    return subprocess.run(
        [*(word.format(log=log) for word in how.command), sys.executable, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE if capture else None,
        stderr=subprocess.STDOUT if capture else None,
        text=True,
        check=False,
    )


def _library(name: str) -> str:
    """Where the compiler has it."""
    compiler = os.environ.get("CC", "gcc").split()[0]
    done = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=False)
    path = done.stdout.strip()
    if done.returncode or not Path(path).is_absolute():
        raise SystemExit(f"reliability.sanitize: {compiler} has no {name}; install GCC's sanitizers.")
    return path


# --- reports ----------------------------------------------------------------------------------------------------------

_HEADS = re.compile(
    r"ERROR: AddressSanitizer: .*|runtime error: .*|WARNING: ThreadSanitizer: [^(]*|ThreadSanitizer: CHECK failed.*"
)
# What CPython keeps for a thread until its function returns. One that the interpreter's end stops leaves it behind, and
# with it whatever the thread had in hand, our results among it.
_STOPPED = re.compile(r"^Direct leak of .*\n(?: +#\d+ .*\n)*? +#\d+ .* thread_PyThread_start_new_thread ", re.M)
_OURS = re.compile(r"(?<![\w/.-])normcore/")  # paths are relative to the folder of the build


def reports(folder: Path) -> list[str]:
    """One line for each thing reported: what it is, and the first of our functions in it."""
    return [line for path in sorted(folder.glob("report.*")) for line in findings(path.read_text(errors="replace"))]


def findings(text: str) -> list[str]:
    """The lines of one report."""
    found = [f"{match[0].strip()} ({_place(text[match.start() :])})" for match in _HEADS.finditer(text)]
    stopped = _STOPPED.search(text) is not None
    for leak in re.findall(r"^(?:Direct|Indirect) leak of.*?(?=^$|\Z)", text, re.M | re.S):
        if _place(leak) != _NOWHERE and not (stopped and leak.startswith("Indirect")):
            found.append(f"{leak.splitlines()[0].rstrip(':')} ({_place(leak)})")
    # valgrind: each error is a paragraph
    for error in re.split(r"^==\d+== *$", text, flags=re.M):
        lines = [re.sub(r"^==\d+== *", "", line) for line in error.strip().splitlines()]
        if len(lines) > 1 and lines[1].startswith(("at 0x", "by 0x")) and _place(error) != _NOWHERE:
            found.append(f"{lines[0]} ({_place(error)})")
    return found


_NOWHERE = "not in normcore"


def _place(text: str) -> str:
    for line in text.splitlines():
        if re.search(r"#\d+ |(?:at|by) 0x", line) and _OURS.search(line):
            return re.sub(r"^.*?(?:#\d+ |0x[0-9A-Fa-f]+: )(?:0x[0-9a-f]+ in )?", "", line).strip()
    return _NOWHERE
