"""The library that stands before malloc, from Python."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).with_name("allocations.c")


class Seen(NamedTuple):
    """What happened between `begin` and `end`."""

    allocations: int
    failed: bool
    peak: int  # bytes in use at a time, beyond those before


@contextmanager
def library() -> Iterator[Path]:
    """The compiled library, as long as the block lasts."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise FileNotFoundError("no C compiler was found: set CC, or install one")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "allocations.so"
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", str(SOURCE), "-o", str(path)], check=True)
        yield path


def run_watched(arguments: Sequence[str]) -> int:
    """Run this Python anew with the library before malloc; its exit code."""
    with library() as path:
        environment = {**os.environ, "LD_PRELOAD": str(path)}
        return subprocess.run([sys.executable, *arguments], env=environment, check=False).returncode


def is_watched() -> bool:
    """Whether the library is there."""
    return hasattr(ctypes.CDLL(None), "allocations_begin")


def watched(run: Callable[[], Any], fail_at: int = 0, smallest: int = 0) -> tuple[Any, BaseException | None, Seen]:
    """Make a call; its nth allocation of at least `smallest` bytes fails, where n is not 0."""
    malloc: Any = ctypes.CDLL(None)
    counted = (ctypes.c_long * 3)()
    begin, end = malloc.allocations_begin, malloc.allocations_end
    result, error = None, None
    begin(ctypes.c_long(fail_at), ctypes.c_long(smallest))
    try:
        result = run()
    except BaseException as caught:
        error = caught
    finally:
        end(counted)
    return result, error, Seen(counted[0], bool(counted[1]), counted[2])
