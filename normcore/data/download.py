"""Downloading a file whose size and checksum are known: resumed, tried again, and there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import secrets
import socket
import ssl
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from normcore._version import __version__

from .progress import DownloadProgress

CHUNK = 1 << 16
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 4  # in a row without any gain, for each mirror
PAUSE = 0.5  # seconds before the second attempt, twice as long before each further one
LONGEST_PAUSE = 30.0
ABANDONED = 3600.0  # seconds after which a part that nobody writes to may be taken over
AGAIN = {408, 425, 429, 500, 502, 503, 504}  # what a server says when it may answer otherwise soon


class DownloadError(OSError):
    """No mirror gave the file; the message has each one's reason."""


class _LaterError(Exception):
    """This attempt failed, another one may not."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class _NeverError(Exception):
    """This mirror will not give the file."""


def download(urls: Sequence[str], target: Path, size: int, sha256: str, *, progress: bool = False) -> None:
    """Fetch a file from the first mirror that has it, and put it in its place when its checksum is right.

    It is written beside its place under a name of its own, so that several processes can do the same at once. What an
    interrupted download leaves is where the next one goes on.

    Raises
    ------
    DownloadError
        If no mirror gave the file.
    OSError
        If the folder cannot be written to.
    """
    part = _own_part(target)
    reasons = []
    try:
        with DownloadProgress(target.name, size, progress) as bar:
            for url in urls:
                try:
                    _from_mirror(url, part, size, sha256, bar)
                    _put_in_place(part, target, size)
                    return
                except _NeverError as error:
                    reasons.append(f"{url}: {error}")
    finally:
        _leave(part, target)
    raise DownloadError("; ".join(reasons))


def _from_mirror(url: str, part: Path, size: int, sha256: str, bar: DownloadProgress) -> None:
    """All of the file, in as many attempts as it takes while there is gain."""
    most, failures = _length(part), 0
    while True:
        resumed = _length(part) > 0
        try:
            _attempt(url, part, size, bar)
            if _sha256(part) == sha256:
                return
            part.unlink()
            if not resumed:
                raise _NeverError("the file there is another one, its checksum is wrong")
            raise _LaterError("what was resumed has a wrong checksum")
        except _LaterError as error:
            # Gain is counted against the most there ever was, or a server that cannot resume would have it every time.
            gained, most = _length(part) >= most + CHUNK, max(most, _length(part))
            failures = 0 if gained else failures + 1
            if failures == ATTEMPTS:
                raise _NeverError(f"{error}, {ATTEMPTS} times") from error
            time.sleep(min(max(error.pause, PAUSE * 2 ** max(failures - 1, 0)), LONGEST_PAUSE))


def _attempt(url: str, part: Path, size: int, bar: DownloadProgress) -> None:
    """One request for what is missing."""
    have = _length(part)
    if have > size:
        part.unlink()
        have = 0
    bar.at(have)
    if have == size:
        return
    headers = {"User-Agent": f"normcore-cpu/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    response = _answer(urllib.request.Request(url, headers=headers), part)
    with response:
        if response.status != 206:
            have = 0  # the whole file, whether it was asked for or not
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise _LaterError("the server sent another part than it was asked for")
        told = response.headers.get("Content-Length", "")
        if told.isdecimal() and have + int(told) != size:
            raise _NeverError(f"the file there has {have + int(told)} bytes, not {size}")
        part.parent.mkdir(parents=True, exist_ok=True)  # not sooner: without an answer nothing is left behind
        with open(part, "r+b" if have else "wb") as file:
            file.seek(have)
            while have <= size and (chunk := _chunk(response)):
                file.write(chunk)
                have += len(chunk)
                bar.at(min(have, size))
    if have > size:
        part.unlink()
        raise _NeverError(f"the file there has more than {size} bytes")
    if have < size:
        raise _LaterError(f"the connection ended after {have} of {size} bytes")


def _answer(request: urllib.request.Request, part: Path) -> Any:
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # what is there is no beginning of the file there
            part.unlink()
        elif error.code not in AGAIN:
            raise _NeverError(f"HTTP {error.code} {error.reason}") from error
        wait = error.headers.get("Retry-After", "")
        raise _LaterError(f"HTTP {error.code} {error.reason}", float(wait) if wait.isdecimal() else 0.0) from error
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        # no such name, nobody listening, a certificate of somebody else: the same in a second
        if isinstance(cause, (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError)):
            raise _NeverError(_said(cause)) from error
        raise _LaterError(_said(cause)) from error


def _chunk(response: Any) -> bytes:
    try:
        # read1: what has come is written, so that it is there when the connection breaks
        chunk: bytes = response.read1(CHUNK)
        return chunk
    except (OSError, http.client.HTTPException) as error:
        raise _LaterError(_said(error)) from error


def _said(error: Any) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer for {TIMEOUT:g} seconds"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _own_part(target: Path) -> Path:
    """A name that no other process uses, with what an interrupted download left.

    Renaming is what decides between two processes that want the same remains: one of them finds nothing to rename.
    """
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    for left in sorted(target.parent.glob(f".{target.name}.*part")):
        with contextlib.suppress(OSError):
            about = left.lstat()  # in a folder that others write to, a link may lead anywhere
            if stat.S_ISREG(about.st_mode) and (left == _remains(target) or time.time() - about.st_mtime > ABANDONED):
                os.rename(left, part)
                return part
    return part


def _remains(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _leave(part: Path, target: Path) -> None:
    """Leave what has come to the next one, if anything."""
    with contextlib.suppress(OSError):
        if _length(part):
            os.replace(part, _remains(target))
        else:
            part.unlink()


def _put_in_place(part: Path, target: Path, size: int) -> None:
    with open(part, "r+b") as file:
        os.fsync(file.fileno())
    try:
        os.replace(part, target)
    except PermissionError:
        # Windows: another process has put it there meanwhile, and somebody is reading it
        if _length(target) != size:
            raise
        part.unlink()
    _remains(target).unlink(missing_ok=True)  # of another process, and of no use any more


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sha256(path: Path) -> str:
    checksum = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            checksum.update(chunk)
    return checksum.hexdigest()
