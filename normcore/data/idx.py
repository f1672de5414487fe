"""The IDX format of MNIST: a header with type and shape, and the numbers."""

from __future__ import annotations

import hashlib
import math
import os
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .unpack import AGAIN, unpacked

# The third byte of a file. Numbers of several bytes are big-endian.
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_BYTES = 1 << 30
MAX_DIMENSIONS = 32  # of an array in NumPy 1

Accept = Callable[["np.dtype[Any]", tuple[int, ...]], None]


def read_idx(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """Read an array from an IDX file, plain or packed by gzip.

    Two zero bytes, one for the type, one for the number of dimensions; then each dimension as a big-endian uint32, and
    the numbers in C order, big-endian (LeCun, Cortes and Burges, the page of MNIST).

    Parameters
    ----------
    path : str or path-like
        The file. Whether it is packed is seen from its contents, not from its name.
    max_bytes : int, default 2**30
        The largest array that is read. The header is compared with it before anything else is read, and memory grows
        with what the file holds and not with what its header promises.

    Returns
    -------
    ndarray
        Of the type and shape that the header says, in native byte order, writable.

    Raises
    ------
    DataError
        If the file is no IDX file, is damaged, is cut short, holds more than its header says, or is larger than
        `max_bytes`.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from normcore.data import read_idx
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
    >>> path.write_bytes(bytes([0, 0, 8, 1]) + bytes([0, 0, 0, 3]) + bytes([7, 2, 1]))
    11
    >>> read_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    return unpack_idx(path, lambda *_: None, max_bytes)[0]


def unpack_idx(path: str | os.PathLike[str], accept: Accept, max_bytes: int = MAX_BYTES) -> tuple[NDArray[Any], str]:
    """The array and the SHA-256 of the contents; `accept` sees type and shape before anything is read by them."""
    with unpacked(path) as contents:
        start = contents.read(4)
        if start[:2] != b"\0\0" or start[2] not in TYPES or not 1 <= start[3] <= MAX_DIMENSIONS:
            seems = "; it looks like a web page" if start.lstrip()[:1] == b"<" else ""
            raise DataError(f"{contents.path} is no IDX file: it begins with {start.hex(' ')}{seems}; {AGAIN}")
        dtype = np.dtype(TYPES[start[2]])
        dimensions = contents.read(4 * start[3])
        shape = struct.unpack(f">{start[3]}I", dimensions)
        if 0 in shape:
            raise DataError(f"{contents.path} holds an empty array of shape {shape}; {AGAIN}")
        accept(dtype, shape)
        size = dtype.itemsize * math.prod(shape)
        if size > max_bytes:
            raise DataError(
                f"{contents.path} says that it holds an array of shape {shape}, which is {size} bytes and more than "
                f"max_bytes={max_bytes}; if that is right, pass a larger max_bytes"
            )
        numbers = contents.read(size)
        if not contents.ends():
            raise DataError(f"{contents.path} holds more than the {size} bytes of the shape {shape} it names; {AGAIN}")
        checksum = hashlib.sha256(start + dimensions)
        checksum.update(numbers)
        array = np.frombuffer(numbers, dtype).reshape(shape)
        return array.astype(dtype.newbyteorder("="), copy=False), checksum.hexdigest()
