"""Writing a result to a folder: numbers as JSON and CSV, pictures as PNG and GIF."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from normcore.training._files import write_atomically

from ._result import Outcome


def files(result: Outcome, pictures: bool) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every file, the numbers first; a picture is drawn when it is its turn."""
    yield from numbers(result)
    if pictures:
        yield from drawn(result)


def numbers(result: Outcome) -> Iterator[tuple[str, bytes]]:
    """Yield the files of numbers."""
    yield "result.json", result.to_json().encode()
    for table in result.tables:
        yield f"{table.name}.csv", table.to_csv().encode()


def drawn(result: Outcome) -> Iterator[tuple[str, bytes]]:
    """Draw and yield one picture after the other."""
    for picture in result.pictures:
        yield picture.name + picture.suffix, picture.render()


def write(folder: Path, name: str, content: bytes) -> Path:
    """Write a file whole or not at all; an OSError has its path as `filename`."""
    path = folder / name
    write_atomically(os.fspath(path), content)
    return path
