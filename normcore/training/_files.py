"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import stat
import time
from pathlib import Path
from typing import Any

from normcore._shown import shown

from ._errors import kind

_LEFT = 3600.0  # seconds after which a temporary file is of a process that was killed
_STEM = 200  # bytes; most systems allow 255


def as_path(value: Any, owner: str, name: str = "path") -> str:
    """`value`, a str or a path, as a str that names a file."""
    try:
        path = os.fspath(value)
    except TypeError:
        path = None
    if not isinstance(path, str):
        got = repr(value) if value is None or isinstance(value, (bytes, int, float)) else kind(value)
        raise TypeError(f"{owner}: {name} must be a str or a path, got {got}.")
    if not Path(path).name or path.endswith(("/", os.sep)) or not _can_be_named(path):
        raise ValueError(f"{owner}: {name} must be the name of a file, got {shown(path)}.")
    return path


def _can_be_named(path: str) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeError:  # half of a pair of surrogates
        return False


def write_atomically(path: str, content: bytes) -> None:
    """Write beside `path` first, down to the disk, and then put it in its place.

    Whoever reads `path`, also after a crash or a power cut, finds the old content or the new one. A link stays and what
    it leads to is replaced; permissions stay those of the file that was there. A pipe or a device, as /dev/null, is
    no file that may be replaced, and is written to.
    """
    target = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    try:
        before = _stat(target)
        if before is not None and not stat.S_ISREG(before.st_mode):
            with open(target, "wb") as file:  # for a folder, the system's error
                file.write(content)
            return
        # The folder alone decides what may be put in its place; who protected the file meant it.
        if before is not None and not os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        _remove_leftovers(target)
        _replace(target, before, content)
    except FileNotFoundError:  # which would name the file that nobody asked for
        raise FileNotFoundError(errno.ENOENT, "There is no such folder; make it first", str(target.parent)) from None
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, path) from None  # which would name the temporary file
    _sync_directory(target.parent)


def _stat(target: Path) -> os.stat_result | None:
    try:
        return os.stat(target)
    except FileNotFoundError:
        return None


def _replace(target: Path, before: os.stat_result | None, content: bytes) -> None:
    temporary = target.with_name(f".{_stem(target)}.{secrets.token_hex(4)}.tmp")
    # Not tempfile: its files are readable by their owner alone, and would stay so.
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except PermissionError:
        raise PermissionError(
            errno.EACCES, "The folder must be writable, for a new file is made in it and put in its place"
        ) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            if before is not None:
                _like(descriptor, before)  # before there is anything to be read
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _like(descriptor: int, before: os.stat_result) -> None:
    """Owner and permissions of the file that was there; some file systems know of neither."""
    now = os.fstat(descriptor)
    if hasattr(os, "fchown") and (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        with contextlib.suppress(OSError):
            os.fchown(descriptor, before.st_uid, before.st_gid)
    if hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode))


def _stem(target: Path) -> str:
    """The beginning of the name, so short that the name of the temporary file is not too long where its own is not."""
    return os.fsdecode(os.fsencode(target.name)[:_STEM])


def _remove_leftovers(target: Path) -> None:
    """Remove what processes left that were killed while they wrote; not what one may be writing now."""
    with contextlib.suppress(OSError):
        for left in target.parent.glob(f".{glob.escape(_stem(target))}.????????.tmp"):
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
