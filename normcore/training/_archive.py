"""Files of arrays and one text, without pickle: npz by NumPy alone, or safetensors."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from normcore.nn._checks import Array

from ._files import write_atomically

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
    content = Path(path).read_bytes()
    if content[:2] == b"PK":
        arrays = _from_npz(content)
        text = arrays.pop(_TEXT, None)
        if text is None or text.dtype != np.uint8:
            raise ValueError("it is an npz file, but no checkpoint")
        return arrays, text.tobytes().decode(errors="replace")
    if Path(path).suffix == ".safetensors":
        return _from_safetensors(content)
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


def _from_npz(content: bytes) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            damaged = archive.testzip()  # NumPy's reading may stop short of the checksum
        if damaged is not None:
            raise zipfile.BadZipFile
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, OSError, NotImplementedError, RuntimeError):
        raise ValueError("it is damaged") from None


def _checksum(arrays: Mapping[str, Array], text: str) -> str:
    total = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total = zlib.crc32(array.tobytes(), zlib.crc32(f"{name} {array.dtype} {arrays[name].shape}".encode(), total))
    return str(total)


def _as_safetensors(arrays: Mapping[str, Array], text: str) -> bytes:
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    return bytes(save(whole, {_TEXT: text, "checksum": _checksum(whole, text)}))


def _from_safetensors(content: bytes) -> tuple[dict[str, Array], str]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load
    except ImportError:
        raise ImportError("load_checkpoint: a .safetensors file needs the package safetensors; install it.") from None
    import json

    try:
        arrays: dict[str, Array] = load(content)
        about = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError):
        raise ValueError("it is damaged") from None
    if _TEXT not in about:
        raise ValueError("it is a safetensors file, but no checkpoint")
    if about.get("checksum") != _checksum(arrays, about[_TEXT]):
        raise ValueError("it is damaged")
    return arrays, about[_TEXT]
