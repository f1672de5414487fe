"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import time
from pathlib import Path
from typing import Any

from ._errors import kind

_LEFT = 3600.0  # seconds after which a temporary file is of a process that was killed


def as_path(value: Any, owner: str, name: str = "path") -> str:
    """`value`, a str or a path, as a str that names a file."""
    try:
        path = os.fspath(value)
    except TypeError:
        path = None
    if not isinstance(path, str):
        got = repr(value) if value is None or isinstance(value, (bytes, int, float)) else kind(value)
        raise TypeError(f"{owner}: {name} must be a str or a path, got {got}.")
    if not Path(path).name or path.endswith(("/", os.sep)):
        raise ValueError(f"{owner}: {name} must be the name of a file, got {path!r}.")
    return path


def write_atomically(path: str, content: bytes) -> None:
    """Write beside `path` first, down to the disk, and then put it in its place.

    Whoever reads `path`, also after a crash or a power cut, finds the old content or the new one.
    """
    target = Path(path)
    _remove_leftovers(target)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    # Not tempfile: its files are readable by their owner alone, and would stay so.
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except FileNotFoundError:  # which would name the file that nobody asked for
        raise FileNotFoundError(errno.ENOENT, "There is no such folder; make it first", str(target.parent)) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_directory(target.parent)


def _remove_leftovers(target: Path) -> None:
    """Remove what processes left that were killed while they wrote; not what one may be writing now."""
    with contextlib.suppress(OSError):
        for left in target.parent.glob(f".{glob.escape(target.name)}.????????.tmp"):
            if time.time() - left.stat().st_mtime > _LEFT:
                left.unlink()


def _sync_directory(path: Path) -> None:
    """The new name is on the disk too, where the system can be asked for that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
