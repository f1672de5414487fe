"""Reading a file, packed by gzip or not, without ever holding more of it than was asked for."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from normcore._reading import opened

from .errors import DataError

GZIP = b"\x1f\x8b"
CHUNK = 1 << 18
AGAIN = "put a complete copy in its place, or delete it and let it be downloaded again"


class Unpacked:
    """The contents of a file from its start to its end; whatever is wrong with it is a `DataError` that names it.

    What a file is, its first bytes say and not its name: browsers unpack a file while they save it and leave ".gz" in
    its name.
    """

    def __init__(self, file: BinaryIO, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.position = 0
        packed = file.read(2) == GZIP
        file.seek(0)
        self._stream = cast(BinaryIO, gzip.GzipFile(fileobj=file, mode="rb")) if packed else file

    def read(self, size: int) -> bytearray:
        """Exactly so many bytes."""
        content = self.read_at_most(size)
        if len(content) < size:
            raise DataError(
                f"{self.path} ends after {self.position} bytes, {size - len(content)} bytes too early; {AGAIN}"
            )
        return content

    def read_at_most(self, size: int) -> bytearray:
        """So many bytes, or fewer at the end. Memory grows with what is there, not with what was asked for."""
        content = bytearray()
        while len(content) < size and (chunk := self._some(min(CHUNK, size - len(content)))):
            content += chunk
        return content

    def skip(self, size: int) -> None:
        """Pass over so many bytes."""
        while size > 0:
            size -= len(self.read(min(CHUNK, size)))

    def ends(self) -> bool:
        """Whether nothing follows, to be asked last. At the end, the checksum that gzip keeps has been compared."""
        return not self._some(1)

    def _some(self, size: int) -> bytes:
        try:
            chunk = self._stream.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{self.path} is damaged or cut short ({error}); {AGAIN}") from error
        self.position += len(chunk)
        return chunk


@contextmanager
def unpacked(path: str | os.PathLike[str]) -> Iterator[Unpacked]:
    """Open a file for reading its contents once."""
    with opened(path) as file:
        yield Unpacked(file, path)
