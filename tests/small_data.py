"""Small data sets in the formats of the published ones, written by other code than what reads them."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from normcore.data import catalog

IDX_CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CIFAR_FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
ARCHIVE = "cifar-10-binary.tar.gz"


def idx_bytes(array):
    """The contents of an IDX file."""
    array = np.asarray(array)
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, IDX_CODES[array.dtype.name], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


class Small(NamedTuple):
    """What was written: the contents of each file, and the arrays of the two parts."""

    files: dict
    train: tuple
    test: tuple


def small_mnist(train=30, test=12, seed=0):
    """The contents of the four files, unpacked."""
    rng = np.random.default_rng(seed)
    parts = [
        (rng.integers(0, 256, (n, 28, 28), np.uint8), rng.permutation(np.arange(n) % 10).astype(np.uint8))
        for n in (train, test)
    ]
    arrays = [array for part in parts for array in part]
    return Small(dict(zip(IDX_FILES, map(idx_bytes, arrays), strict=True)), *parts)


def small_cifar10(records=2, seed=0):
    """The contents of the six files."""
    rng = np.random.default_rng(seed)
    batches = [rng.integers(0, 256, (records, 3073), np.uint8) for _ in CIFAR_FILES]
    for batch in batches:
        batch[:, 0] %= 10
    train = np.concatenate(batches[:5])
    files = {name: batch.tobytes() for name, batch in zip(CIFAR_FILES, batches, strict=True)}
    return Small(files, (train[:, 1:], train[:, 0]), (batches[5][:, 1:], batches[5][:, 0]))


def tar_bytes(files, folder="cifar-10-batches-bin", mode="w:gz", **options):
    """An archive of these files, with the folder and the page that the published one has."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **options) as archive:
        if folder:
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        for name, content in {"readme.html": b"<p>", **files}.items():
            entry = tarfile.TarInfo(f"{folder}/{name}" if folder else name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def write(folder, files, packed=False):
    """Write files by name, each packed by gzip if asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
        else:
            (folder / name).write_bytes(content)
    return folder


def publish(monkeypatch, name, small, mirrors=()):
    """Make the small set the published one of that name; return the files as they are downloaded."""
    source = catalog.SOURCES[name]
    sums = {file: hashlib.sha256(content).hexdigest() for file, content in small.files.items()}
    if name == "cifar10":
        downloads, contents = {ARCHIVE: tar_bytes(small.files)}, [sums]
    else:
        downloads = {f"{file}.gz": gzip.compress(content, mtime=0) for file, content in small.files.items()}
        # nobody has published what is in the files of Fashion-MNIST
        contents = [{} if name == "fashion-mnist" else {file: value} for file, value in sums.items()]
    files = tuple(
        catalog.File(file, len(content), hashlib.sha256(content).hexdigest(), inside)
        for (file, content), inside in zip(downloads.items(), contents, strict=True)
    )
    sizes = (len(small.train[1]), len(small.test[1]))
    monkeypatch.setitem(catalog.SOURCES, name, replace(source, files=files, sizes=sizes, mirrors=tuple(mirrors)))
    return downloads
