"""Files of arrays and one text, without pickle: npz by NumPy alone, or safetensors."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from normcore._npz import NpzError, read_npz
from normcore._reading import opened
from normcore.nn._checks import Array

from ._files import write_atomically
from ._json import parse

_TEXT = "normcore.json"


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


def read(path: str) -> tuple[dict[str, Array], str]:
    """Arrays and text; ValueError, saying why, if the file is damaged or another kind of file."""
    with opened(path) as file:
        start = file.read(2)  # before the rest, which may be anything of any size
        file.seek(0)
        if start == b"PK":
            return _from_npz(file)
        if Path(path).suffix == ".safetensors":
            return _from_safetensors(file)
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


def _from_npz(file: BinaryIO) -> tuple[dict[str, Array], str]:
    try:
        arrays = read_npz(file, os.fstat(file.fileno()).st_size)  # what is saved here is not compressed
    except NpzError as error:
        raise ValueError(f"it {error}") from None
    text = arrays.pop(_TEXT, None)
    if text is None or text.dtype != np.uint8:
        raise ValueError("it is an npz file, but no checkpoint")
    return arrays, text.tobytes().decode()


def _checksum(arrays: Mapping[str, Array], text: str) -> str:
    total = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total = zlib.crc32(array.tobytes(), zlib.crc32(f"{name} {array.dtype} {arrays[name].shape}".encode(), total))
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


def _from_safetensors(file: BinaryIO) -> tuple[dict[str, Array], str]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load
    except ImportError:
        raise ImportError("load_checkpoint: a .safetensors file needs the package safetensors; install it.") from None

    length, size = int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size
    if not 0 < length <= size - 8:  # before the rest is read
        raise ValueError("it is damaged")
    file.seek(0)
    content = file.read()
    try:
        arrays: dict[str, Array] = load(content)
        about = parse(content[8 : 8 + length].decode()).get("__metadata__") or {}
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError):
        raise ValueError("it is damaged") from None
    if _TEXT not in about:
        raise ValueError("it is a safetensors file, but no checkpoint")
    if about.get("checksum") != _checksum(arrays, about[_TEXT]):
        raise ValueError("it is damaged")
    return arrays, about[_TEXT]
