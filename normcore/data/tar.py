"""Walking through a tar archive that nobody vouches for.

Not `tarfile`: it reads the headers that extend others whole, as large as they say they are, and what it raises for a
damaged archive differs between versions of Python. Here nothing is ever written, links are not followed, and what is
read is read by the caller, who knows how large it may be.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .errors import DataError
from .unpack import AGAIN, Unpacked

BLOCK = 512
MAX_MEMBERS = 100
MAX_OTHER = 1 << 20  # bytes of a member that is not asked for
FILE, FOLDER, EXTENSIONS = b"0\x007", b"5", b"xgLK"


class Member(NamedTuple):
    """A file in an archive."""

    name: str
    size: int


def walk(archive: Unpacked, limits: dict[str, int]) -> Iterator[Member]:
    """Yield the files whose last name is in `limits`; the caller may read `size` bytes before it asks for the next one.

    Parameters
    ----------
    archive : Unpacked
        At its start.
    limits : dict from str to int
        Names of the files, and how many bytes each may have at the most.

    Raises
    ------
    DataError
        If the archive is damaged, or holds what has no place in a data set: paths that lead out of it, links under
        a name in `limits`, too many or too large members.
    """
    for _ in range(MAX_MEMBERS):
        header = archive.read_at_most(BLOCK)
        if not any(header):
            _finish(archive)
            return
        kind, member = _parsed(header, archive.path)
        start = archive.position
        name = member.name.rsplit("/", 1)[-1]
        wanted = name in limits and kind not in EXTENSIONS + FOLDER
        if not wanted and member.size > MAX_OTHER:
            raise DataError(
                f"{archive.path} holds {member.name!r} of {member.size} bytes, which does not belong in it; if it is "
                f"another version of the set, get the binary one, else {AGAIN}"
            )
        if wanted and member.size > limits[name]:
            raise DataError(f"{archive.path} holds {member.name!r} of {member.size} bytes, too many; {AGAIN}")
        if wanted:
            if kind not in FILE:
                raise DataError(f"{archive.path} holds {member.name!r} as a link, not as a file; {AGAIN}")
            yield Member(name, member.size)
        archive.skip(start + member.size + -member.size % BLOCK - archive.position)
    raise DataError(f"{archive.path} holds more than {MAX_MEMBERS} members; {AGAIN}")


def _parsed(header: bytearray, path: str) -> tuple[bytes, Member]:
    sizes, sums = _octal(header[124:136]), _octal(header[148:156])
    if len(header) < BLOCK or sizes is None or sums != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise DataError(f"{path} is no tar archive, or a damaged one: a header is wrong; {AGAIN}")
    name = _text(header[:100])
    if header[257:262] == b"ustar" and header[345]:
        name = f"{_text(header[345:500])}/{name}"
    if name.startswith("/") or ".." in name.split("/"):
        raise DataError(f"{path} holds {name!r}, a path that leads out of the archive; get it from a place you trust")
    kind = bytes(header[156:157])
    return kind, Member(name, 0 if kind in FOLDER else sizes)


def _octal(field: bytearray) -> int | None:
    digits = bytes(field).strip(b" \0")
    return int(digits, 8) if digits and set(digits) <= set(b"01234567") else None


def _text(field: bytearray) -> str:
    return bytes(field).split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def _finish(archive: Unpacked) -> None:
    """Read the padding behind the last member, so that gzip compares its checksum."""
    for _ in range(2 * MAX_OTHER // BLOCK):
        padding = archive.read_at_most(BLOCK)
        if not padding:
            return
        if any(padding):
            break
    raise DataError(f"{archive.path} goes on behind its end; {AGAIN}")
