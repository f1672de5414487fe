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
from typing import IO, Any, BinaryIO

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


def read_npz(file: BinaryIO, max_bytes: int) -> dict[str, NDArray[Any]]:
    """The arrays by name, when every checksum is right.

    Parameters
    ----------
    file : file
        Open for reading and seeking.
    max_bytes : int
        How much the arrays may take together; compared with what the archive says before any of them is read.

    Raises
    ------
    NpzError
        If it is no npz file of numbers, damaged, larger, or has a name twice.
    OSError
        If it cannot be read.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if _counted(file) != min(
                len(entries), 0xFFFF
            ):  # a damaged length of a comment swallows the entries behind it
                raise zipfile.BadZipFile
            # Also where entries lie one over another, each as large as the file.
            if sum(entry.file_size for entry in entries) > max_bytes:
                raise NpzError(f"holds more than {max_bytes} bytes of arrays; do not compress it anew")
            arrays: dict[str, NDArray[Any]] = {}
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                # Other ways to compress may ask for gigabytes before they give a byte.
                known = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                if name == entry.filename or name in arrays or not known:
                    raise zipfile.BadZipFile
                with archive.open(entry) as stream:
                    arrays[name] = _array(stream, entry.file_size)
            return arrays
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


def _array(stream: IO[bytes], size: int) -> NDArray[Any]:
    """The array in an entry of `size` bytes."""
    start = stream.read(len(_START) + 2)
    length = int.from_bytes(start[len(_START) :], "little")
    header = _HEADER.fullmatch(stream.read(length))
    if start[: len(_START)] != _START or header is None:
        raise zipfile.BadZipFile
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(number) for number in header[3].split(b",") if number)
    if len(_START) + 2 + length + dtype.itemsize * math.prod(shape) != size:
        raise zipfile.BadZipFile
    array = np.empty(shape, dtype, order="F" if header[2] == b"True" else "C")
    content = array.reshape(-1, order="A").view(np.uint8).data
    while content:
        count = stream.readinto(content[:_CHUNK])  # type: ignore[attr-defined] # IO has none, a zip's stream has
        if not count:
            raise EOFError
        content = content[count:]
    if stream.read(1):  # at its end, the checksum is compared
        raise zipfile.BadZipFile
    return array
