"""Reading npz files that nobody vouches for: arrays of numbers, in no more memory than was allowed.

Not `np.load`: it takes the memory that a header promises, evaluates that header as Python, and where a header promises
less than there is, it does not come to the checksum.
"""

from __future__ import annotations

import errno
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 20
_START = b"\x93NUMPY\x01\x00"
# What np.save writes before numbers.
_HEADER = re.compile(
    rb"\{'descr': '([<>|][fiub][0-9]{1,2})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:[0-9]{1,19}, )*[0-9]{1,19},?|)\), \} *\n"
)
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, LookupError, NotImplementedError, RuntimeError)


class NpzError(ValueError):
    """The file is damaged, or made to do harm; the message goes on after "it"."""


class NpzReader:
    """An npz file whose arrays are declared first and read when they are asked for.

    Parameters
    ----------
    file : file
        Open for reading and seeking.
    max_bytes : int
        How much the arrays may take together; compared with what the archive says before any of them is read.

    Attributes
    ----------
    declared : dict of str to ndarray
        By name, an array of the shape and dtype that `read` will return. It takes no memory, and its numbers mean
        nothing.

    Raises
    ------
    NpzError
        If it is no npz file of numbers, damaged, larger, or has a name twice. So does `read`.
    OSError
        If it cannot be read.
    """

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self.declared: dict[str, NDArray[Any]] = {}
        self._entries: dict[str, zipfile.ZipInfo] = {}
        with _judged():
            archive = self._archive = zipfile.ZipFile(file)
            entries = archive.infolist()
            # A damaged length of a comment swallows the entries behind it.
            if _counted(file) != min(len(entries), 0xFFFF):
                raise zipfile.BadZipFile
            # Also where entries lie one over another, each as large as the file.
            if sum(entry.file_size for entry in entries) > max_bytes:
                raise NpzError(f"holds more than {max_bytes} bytes of arrays; do not compress it anew")
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                # Other ways to compress may ask for gigabytes before they give a byte.
                known = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                if name == entry.filename or name in self._entries or not known:
                    raise zipfile.BadZipFile
                self._entries[name] = entry
                with archive.open(entry) as stream:
                    dtype, shape, _ = _header(stream, entry.file_size)
                self.declared[name] = stand_in(dtype, shape)

    def read(self, name: str) -> NDArray[Any]:
        """The array of this name, when its checksum is right."""
        entry, declared = self._entries[name], self.declared[name]
        with _judged(), self._archive.open(entry) as stream:
            dtype, shape, order = _header(stream, entry.file_size)
            if dtype != declared.dtype or shape != declared.shape:  # the file has changed since
                raise zipfile.BadZipFile
            array: NDArray[Any] = np.empty(shape, dtype, order=order)
            fill(stream, array)
            if stream.read(1):  # at its end, the checksum is compared
                raise zipfile.BadZipFile
        return array


def read_npz(file: BinaryIO, max_bytes: int) -> dict[str, NDArray[Any]]:
    """The arrays by name, when every checksum is right. Parameters and errors are those of `NpzReader`."""
    reader = NpzReader(file, max_bytes)
    return {name: reader.read(name) for name in reader.declared}


def stand_in(dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of this dtype and shape that takes no memory; ValueError if there can be none."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def fill(stream: IO[bytes], array: NDArray[Any]) -> None:
    """Read the bytes of a new array, in its order of memory; EOFError if there are too few."""
    content = array.reshape(-1, order="A").view(np.uint8).data
    while content:
        count = stream.readinto(content[:_CHUNK])  # type: ignore[attr-defined] # IO has none, what is passed has
        if not count:
            raise EOFError
        content = content[count:]


@contextmanager
def _judged() -> Iterator[None]:
    """What a damaged file makes of the reading of it, as an NpzError."""
    try:
        yield
    except NpzError:
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # a seek to a place before the file
            raise
        raise NpzError("is damaged") from None
    except (*_DAMAGED, ValueError, TypeError, OverflowError):
        raise NpzError("is damaged") from None


def _counted(file: BinaryIO) -> int:
    """How many entries the archive says that it has, in the record that ends it."""
    file.seek(-22, os.SEEK_END)
    signature, count = struct.unpack("<4s6xH10x", file.read(22))
    return count if signature == b"PK\5\6" else -1


def _header(stream: IO[bytes], size: int) -> tuple[np.dtype[Any], tuple[int, ...], Literal["C", "F"]]:
    """Dtype, shape and order of memory of the array in an entry of `size` bytes."""
    start = stream.read(len(_START) + 2)
    length = int.from_bytes(start[len(_START) :], "little")
    header = _HEADER.fullmatch(stream.read(length))
    if start[: len(_START)] != _START or header is None:
        raise zipfile.BadZipFile
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(number) for number in header[3].split(b",") if number)
    if len(_START) + 2 + length + dtype.itemsize * math.prod(shape) != size:
        raise zipfile.BadZipFile
    return dtype, shape, "F" if header[2] == b"True" else "C"
