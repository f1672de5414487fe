"""The binary version of CIFAR-10: six files of records, in a folder or a tar archive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .splitting import Part
from .tar import walk
from .unpack import AGAIN, unpacked

FOLDER = "cifar-10-batches-bin"
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
BATCHES = (*TRAIN, TEST)
RECORD = 1 + 3 * 32 * 32  # the label; then red, green and blue, each row by row
MAX_RECORDS = 10_000  # in a batch as it is published
CLASSES = 10


def read_cifar10(path: str | os.PathLike[str]) -> tuple[Part, Part]:
    """Read CIFAR-10's binary version from its tar archive or the folder that came out of it.

    A file is a row of records of 3,073 bytes: the label, then 1,024 bytes each of red, green and blue, row by row
    (Krizhevsky 2009, the page of CIFAR-10). Nothing is unpacked to the disk, and there is no pickle in it.

    Parameters
    ----------
    path : str or path-like
        ``cifar-10-binary.tar.gz`` (plain tar will do), or the folder with ``data_batch_1.bin`` to ``data_batch_5.bin``
        and ``test_batch.bin``, or the folder around that one.

    Returns
    -------
    train, test : Part
        Named tuples ``(X, y)``: X (n, 3072) uint8, reshaped to (n, 3, 32, 32) the images; y (n,) uint8, 0 to 9. The
        five training files are in their order.

    Raises
    ------
    DataError
        If a file is missing, damaged, cut short, has more than 10,000 records or labels over 9, or if the archive
        holds what has no place in it. No more than such files' size is ever read.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from normcore.data import read_cifar10
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for number in range(1, 6):
    ...     _ = (folder / f"data_batch_{number}.bin").write_bytes(bytes([number]) + bytes(3072))
    >>> _ = (folder / "test_batch.bin").write_bytes(bytes([9]) + bytes(3072))
    >>> train, test = read_cifar10(folder)
    >>> train.X.shape, train.y
    ((5, 3072), array([1, 2, 3, 4, 5], dtype=uint8))
    """
    batches = read_batches(path)
    return _part(np.concatenate([batches[name] for name in TRAIN])), _part(batches[TEST])


def read_batches(path: str | os.PathLike[str]) -> dict[str, NDArray[np.uint8]]:
    """The six files by name, checked: a row for each record, the label in column 0."""
    path = Path(path)
    batches = {}
    for name, records in _in_folder(path) if path.is_dir() else _in_archive(path):
        if name in batches:
            raise DataError(f"{path} holds {name} twice; {AGAIN}")
        batches[name] = records
    missing = [name for name in BATCHES if name not in batches]
    if missing:
        raise DataError(
            f"{path} holds no {', '.join(missing)}; it must be the binary version of CIFAR-10, "
            "cifar-10-binary.tar.gz or the folder in it"
        )
    return batches


def _in_folder(folder: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    folder = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    for name in BATCHES:
        file = folder / name
        if file.is_file():
            with unpacked(file) as contents:
                # one byte more than fits shows that there is too much
                yield name, _records(contents.read_at_most(MAX_RECORDS * RECORD + 1), str(file))


def _in_archive(path: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    with unpacked(path) as archive:
        for member in walk(archive, dict.fromkeys(BATCHES, MAX_RECORDS * RECORD)):
            name = member.name.rsplit("/", 1)[-1]
            yield name, _records(archive.read(member.size), f"{name} in {path}")


def _records(content: bytearray, name: str) -> NDArray[np.uint8]:
    if not content or len(content) % RECORD or len(content) > MAX_RECORDS * RECORD:
        raise DataError(
            f"{name} must hold 1 to {MAX_RECORDS} records of {RECORD} bytes, got {len(content)} bytes; {AGAIN}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0]
    if labels.max() >= CLASSES:
        row = int(np.argmax(labels >= CLASSES))
        raise DataError(f"{name} must hold labels from 0 to 9, got {labels[row]} in record {row}; {AGAIN}")
    return records


def _part(records: NDArray[np.uint8]) -> Part:
    return Part(np.ascontiguousarray(records[:, 1:]), records[:, 0].copy())
