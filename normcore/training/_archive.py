"""Files of arrays and one text, without pickle: npz by NumPy alone, or safetensors."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from normcore._npz import NpzError, NpzReader
from normcore._reading import opened
from normcore.nn._checks import Array

from ._files import write_atomically
from ._safetensors import SafetensorsReader

_TEXT = "normcore.json"
_T = TypeVar("_T")


def check_format(path: str, owner: str) -> None:
    """The package that the format needs must be there: better said now than after the first epoch."""
    if Path(path).suffix == ".safetensors":
        try:
            import safetensors.numpy  # noqa: F401 - whether it is there
        except ImportError:
            raise ImportError(
                f"{owner}: a .safetensors file needs the package safetensors; install it, or use a name in .npz."
            ) from None


def write(path: str, arrays: Mapping[str, Array], text: str) -> None:
    """Write arrays and text, whole or not at all; the format is told from the name."""
    check_format(path, "save_checkpoint")
    if Path(path).suffix == ".safetensors":
        content = _as_safetensors(arrays, text)
    else:
        content = _as_npz({**arrays, _TEXT: np.frombuffer(text.encode(), np.uint8)})
    write_atomically(path, content)


def read(path: str, accept: Callable[[str, Mapping[str, Array]], _T]) -> tuple[dict[str, Array], _T]:
    """The arrays, and what `accept` made of the text; ValueError, saying why, if it is damaged or another kind of file.

    `accept` is called with the text and with an array for each that the file declares, of its shape and dtype and of no
    memory. What it raises is raised before any array is read.
    """
    with opened(path) as file:
        start = file.read(2)  # before the rest, which may be anything of any size
        file.seek(0)
        if start == b"PK":
            return _from_npz(file, accept)
        if Path(path).suffix == ".safetensors":
            return _from_safetensors(file, accept)
    raise ValueError("it is neither an npz nor a .safetensors file, or it is damaged")


def _as_npz(arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    try:
        np.savez(file, **arrays)
    except ValueError as error:
        # zipfile, made to close an archive that Ctrl-C has cut short, raises this in the place of that.
        cause: BaseException | None = error
        while cause is not None:
            cause = cause.__context__
            if isinstance(cause, KeyboardInterrupt):
                raise cause from None
        raise
    return file.getvalue()


def _from_npz(file: BinaryIO, accept: Callable[[str, Mapping[str, Array]], _T]) -> tuple[dict[str, Array], _T]:
    try:
        reader = NpzReader(file, os.fstat(file.fileno()).st_size)  # what is saved here is not compressed
        declared = dict(reader.declared)
        if declared.pop(_TEXT, np.zeros(0)).dtype != np.uint8:
            raise ValueError("it is an npz file, but no checkpoint")
        text = reader.read(_TEXT).tobytes().decode()
        accepted = accept(text, declared)
        return {name: reader.read(name) for name in declared}, accepted
    except NpzError as error:
        raise ValueError(f"it {error}") from None


def _checksum(arrays: Mapping[str, Array], text: str) -> str:
    total = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        total = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), total)
        total = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, total)
    return str(total)


def _as_safetensors(arrays: Mapping[str, Array], text: str) -> bytes:
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    content = bytes(save(whole, {_TEXT: text, "checksum": _checksum(whole, text)}))
    # The package puts its metadata in an order that chance decides; the same training is to give the same file.
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    ordered = json.dumps(header).encode()
    ordered += b" " * (-len(ordered) % 8)  # as the format has it: the numbers begin at a multiple of eight
    return len(ordered).to_bytes(8, "little") + ordered + content[end:]


def _from_safetensors(file: BinaryIO, accept: Callable[[str, Mapping[str, Array]], _T]) -> tuple[dict[str, Array], _T]:
    reader = SafetensorsReader(file, os.fstat(file.fileno()).st_size)
    if _TEXT not in reader.about:
        raise ValueError("it is a safetensors file, but no checkpoint")
    text = reader.about[_TEXT]
    accepted = accept(text, reader.declared)
    arrays = {name: reader.read(name) for name in reader.declared}
    if reader.about.get("checksum") != _checksum(arrays, text):
        raise ValueError("it is damaged")
    return arrays, accepted
