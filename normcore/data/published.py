"""From the files of a published set to arrays, checked and scaled to 0..1."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import catalog
from .catalog import File, Source
from .cifar import TEST, TRAIN, read_batches
from .dataset import Dataset, Split
from .errors import DataError
from .finding import Request
from .idx import Accept, unpack_idx
from .unpack import AGAIN

OWN = "or pass verify=False for a set of your own"
PLANES = ("red", "green", "blue")


def read_published(request: Request) -> Split:
    """The set that was asked for."""
    return _read_archive(request) if len(request.source.files) == 1 else _read_idx_files(request)


def _read_idx_files(request: Request) -> Split:
    """Four files: images and labels to train on, images and labels to test with."""
    source = request.source
    parts = []
    for count, pair in zip(source.sizes, (source.files[:2], source.files[2:]), strict=True):
        y, label_path = _array(request, pair[1], (count,))
        images, image_path = _array(request, pair[0], (count, *source.image_shape))
        if len(images) != len(y):
            raise DataError(f"{image_path} holds {len(images)} images, but {label_path} {len(y)} labels; {AGAIN}")
        if y.max() >= len(source.class_names):
            raise DataError(f"{label_path} must hold labels from 0 to 9, got {y.max()}; {AGAIN}")
        parts.append(_dataset(source, [images.reshape(len(y), -1)], y))
        del images  # before the next ones are read
    return Split(*parts)


def _array(request: Request, file: File, shape: tuple[int, ...]) -> tuple[NDArray[Any], Path]:
    """What is in the first file of the right name that is not another set's."""
    others = (source for source in catalog.SOURCES.values() if source.name != request.source.name)
    foreign = {sha256 for source in others for other in source.files for sha256 in other.contents.values()}
    for path in request.places(file):
        array, sha256 = unpack_idx(path, _expects(path, shape, request.verify))
        if not request.verify:
            return array, path
        if sha256 not in foreign:
            _compare(str(path), sha256, list(file.contents.values()), request.source)
            return array, path
    raise AssertionError("places() ends with a file or an error")


def _expects(path: Path, shape: tuple[int, ...], exactly: bool) -> Accept:
    """What a file must announce before the rest of it is read."""
    kind = "labels" if len(shape) == 1 else f"images of {' x '.join(str(n) for n in shape[1:])} bytes"

    def accept(dtype: np.dtype[Any], found: tuple[int, ...]) -> None:
        if dtype != np.uint8 or len(found) != len(shape) or found[1:] != shape[1:]:
            raise DataError(f"{path} must hold {kind}, got an array of {dtype.name}, shape {found}; {AGAIN}")
        if exactly and found[0] != shape[0]:
            raise DataError(f"{path} must hold {shape[0]} {kind}, got {found[0]}; {AGAIN}, {OWN}")

    return accept


def _read_archive(request: Request) -> Split:
    """One archive or folder, of batches of records."""
    source = request.source
    (file,) = source.files
    path = next(request.places(file))
    batches = read_batches(path.parent if path.name == TEST else path)
    if request.verify:
        for name, records in batches.items():
            _compare(f"{name} in {path}", hashlib.sha256(records.data).hexdigest(), [file.contents[name]], source)
    parts = []
    for names in (TRAIN, (TEST,)):
        rows = [batches.pop(name) for name in names]
        parts.append(_dataset(source, [r[:, 1:] for r in rows], np.concatenate([r[:, 0] for r in rows])))
        del rows
    return Split(*parts)


def _compare(name: str, sha256: str, published: Sequence[str], source: Source) -> None:
    if published and sha256 not in published:
        raise DataError(
            f"{name} is not the file of {source.title} as it is published, its SHA-256 is {sha256}; {AGAIN}, {OWN}"
        )


def _dataset(source: Source, images: Sequence[NDArray[np.uint8]], y: NDArray[np.uint8]) -> Dataset:
    X = np.empty((len(y), images[0].shape[1]), np.float32)
    start = 0
    for rows in images:  # one after the other: together they would be in memory twice
        np.divide(rows, np.float32(255), out=X[start : start + len(rows)], dtype=np.float32)
        start += len(rows)
    height, width = source.image_shape[-2:]
    pixels = [f"{row}_{column}" for row in range(height) for column in range(width)]
    planes = PLANES if len(source.image_shape) == 3 else ("pixel",)
    return Dataset(
        name=source.name,
        X=X,
        y=y.astype(np.int64),
        feature_names=tuple(f"{plane}_{pixel}" for plane in planes for pixel in pixels),
        class_names=source.class_names,
        image_shape=source.image_shape,
        describe=source.describe,
    )
