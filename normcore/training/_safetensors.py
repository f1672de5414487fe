"""Reading safetensors files that nobody vouches for: the header first, then the arrays, each into its own memory.

Not the package's reader, which wants the whole file in memory and copies the arrays out of it, or wants a map of the
file, which ends the process when the file is cut short under it.
"""

from __future__ import annotations

import math
from typing import Any, BinaryIO

import numpy as np

from normcore._npz import fill, stand_in
from normcore.nn._checks import Array

from ._json import parse

_LONGEST_HEADER = 100_000_000  # the package's own limit
_DTYPES = {
    "BOOL": "?", "I8": "<i1", "U8": "<u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8",
    "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip


class SafetensorsReader:
    """A safetensors file whose arrays are declared first and read when they are asked for.

    Parameters
    ----------
    file : file
        Open for reading and seeking, at its start.
    size : int
        How many bytes it has.

    Attributes
    ----------
    about : dict of str to str
        The metadata.
    declared : dict of str to ndarray
        By name, an array of the shape and dtype that `read` will return, which takes no memory.

    Raises
    ------
    ValueError
        If the header is not one, or its arrays are not the rest of the file, to the last byte. From `read`, if the file
        has become shorter since.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(size - 8, _LONGEST_HEADER):
            raise ValueError("it is damaged")
        header = file.read(length)
        self._places: dict[str, int] = {}
        try:
            if header[:1] != b"{":
                raise ValueError
            entries = parse(header.decode())
            self.about = dict(entries.pop("__metadata__", None) or {})
            if not all(isinstance(value, str) for value in self.about.values()):
                raise ValueError
            self.declared = {name: self._declared(name, entry) for name, entry in entries.items()}
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            raise ValueError("it is damaged") from None
        # One behind another from the first byte to the last, as the format has it: none over another, nothing between.
        end = 0
        for name in sorted(self.declared, key=lambda name: (self._places[name], self.declared[name].nbytes)):
            if self._places[name] != end:
                raise ValueError("it is damaged")
            end += self.declared[name].nbytes
        self._start = 8 + length
        if self._start + end != size:
            raise ValueError("it is damaged")

    def _declared(self, name: str, entry: dict[str, Any]) -> Array:
        shape, (start, stop) = entry["shape"], entry["data_offsets"]
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        if not isinstance(shape, list) or not all(
            type(number) is int and 0 <= number < 2**63 for number in (*shape, start, stop)
        ):
            raise ValueError
        if stop - start != dtype.itemsize * math.prod(shape):
            raise ValueError
        self._places[name] = start
        return stand_in(dtype, tuple(shape))

    def read(self, name: str) -> Array:
        """The array of this name, in C order."""
        declared = self.declared[name]
        array: Array = np.empty(declared.shape, declared.dtype)
        self._file.seek(self._start + self._places[name])
        try:
            fill(self._file, array)
        except EOFError:
            raise ValueError("it is damaged") from None
        return array
