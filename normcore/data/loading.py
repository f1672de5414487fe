"""The published image sets by name, as arrays."""

from __future__ import annotations

import os
from dataclasses import replace

from . import catalog
from .dataset import Split
from .digits import load_digits
from .finding import Request
from .published import read_published
from .splitting import split

DATASETS = ("digits", "mnist", "fashion-mnist", "cifar10")


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    progress: bool = False,
    verify: bool = True,
) -> Split:
    """Load a data set by its name, in a part to train on and a part to test with.

    Parameters
    ----------
    name : {"digits", "mnist", "fashion-mnist", "cifar10"}
        The set. The digits come with the package and are cut as ``split(X, y, 0.25, seed=0)`` does; the others are cut
        as they are published.
    data_dir, download, progress, verify
        As in `load_mnist`. The digits need none of them.

    Returns
    -------
    Split
        Named tuple ``(train, test)`` of `Dataset`.

    Raises
    ------
    ValueError
        If there is no set of that name.
    DataError, DataNotFoundError
        As in `load_mnist`.

    Examples
    --------
    >>> from normcore.data import load
    >>> train, test = load("digits")
    >>> train.X.shape, test.X.shape
    ((1348, 64), (449, 64))
    """
    if name == "digits":
        digits = load_digits()
        return Split(*(replace(digits, X=part.X, y=part.y) for part in split(digits.X, digits.y, 0.25, seed=0)))
    if name not in DATASETS:
        raise ValueError(f"name must be one of {', '.join(DATASETS)}, got {name!r}; pass one of these")
    return read_published(Request(catalog.SOURCES[name], data_dir, download, progress, verify))


def load_mnist(
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    progress: bool = False,
    verify: bool = True,
) -> Split:
    """Load MNIST: 70,000 images of handwritten digits, 28 x 28 pixels (LeCun, Cortes and Burges, CC BY-SA 3.0).

    Looked for in `data_dir`, in ``$NORMCORE_DATA`` and in `cache_dir()`, in this order, in each of them first in the
    folder ``mnist`` (or ``MNIST/raw``, as torchvision has it) and then in itself. The files are
    ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
    ``t10k-labels-idx1-ubyte``, with or without ``.gz``.

    Parameters
    ----------
    data_dir : str or path-like, optional
        Folder to look in first, and to download to. By default downloads go to ``$NORMCORE_DATA``, or where that is
        not set or cannot be written to, to `cache_dir()`.
    download : bool, default True
        Fetch files that are not found (12 MB). They appear when they are complete and their checksums right; an
        interrupted download is resumed by the next call.
    progress : bool, default False
        Show a bar for each download, or without tqdm lines.
    verify : bool, default True
        Compare numbers of images and checksums with those of the published set. False takes any files of the same
        kind, of other numbers and contents, and still refuses damaged ones.

    Returns
    -------
    Split
        Named tuple ``(train, test)`` of `Dataset`: X (60000, 784) and (10000, 784) float32 from 0 to 1, y int64 from
        0 to 9, ``image_shape`` (28, 28). Every call returns arrays of its own, 220 MB in all.

    Raises
    ------
    DataError
        If a file is damaged, cut short, or not what its name says. It is never replaced: the message says what to do.
    DataNotFoundError
        If a file was not found and not downloaded; the message says which one to put where.
    TypeError
        If `data_dir` is no path.

    Examples
    --------
    >>> from normcore.data import load_mnist
    >>> train, test = load_mnist(progress=True)  # doctest: +SKIP
    >>> train.X.shape, test.y[:4]  # doctest: +SKIP
    ((60000, 784), array([7, 2, 1, 0]))

    A set of one's own in the same format:

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for part in "train", "t10k":
    ...     images = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(2 * 28 * 28)
    ...     labels = bytes([0, 0, 8, 1, 0, 0, 0, 2]) + bytes([4, 9])
    ...     _ = (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
    ...     _ = (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    >>> load_mnist(data_dir=folder, verify=False).train.y
    array([4, 9])
    """
    return load("mnist", data_dir=data_dir, download=download, progress=progress, verify=verify)


def load_fashion_mnist(
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    progress: bool = False,
    verify: bool = True,
) -> Split:
    """Load Fashion-MNIST: 70,000 images of clothing, 28 x 28 pixels (Xiao, Rasul and Vollgraf 2017, MIT licence).

    The files have the names, and the arrays the shapes, of MNIST; the folder is ``fashion-mnist`` (or
    ``FashionMNIST/raw``, as torchvision has it). Files of MNIST that lie in the way are passed over.

    Parameters
    ----------
    data_dir, download, progress, verify
        As in `load_mnist`. A download is 31 MB. Checksums are published for the files as they are downloaded and not
        for what is in them, so `verify` compares less.

    Returns
    -------
    Split
        As of `load_mnist`.

    Raises
    ------
    DataError, DataNotFoundError, TypeError
        As in `load_mnist`.
    """
    return load("fashion-mnist", data_dir=data_dir, download=download, progress=progress, verify=verify)


def load_cifar10(
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    progress: bool = False,
    verify: bool = True,
) -> Split:
    """Load CIFAR-10: 60,000 colour images of ten kinds of things, 32 x 32 pixels (Krizhevsky 2009).

    It is the binary version, ``cifar-10-binary.tar.gz`` or the folder ``cifar-10-batches-bin`` that comes out of it;
    the Python version is pickle, which runs whatever somebody wrote into it, and is not read. Looked for as
    `load_mnist` does, in the folder ``cifar10``.

    Parameters
    ----------
    data_dir, download, progress, verify
        As in `load_mnist`. A download is 170 MB.

    Returns
    -------
    Split
        As of `load_mnist`, with X (50000, 3072) and (10000, 3072): red, green and blue, each row by row, so
        ``image_shape`` is (3, 32, 32). It is 740 MB in all.

    Raises
    ------
    DataError, DataNotFoundError, TypeError
        As in `load_mnist`.
    """
    return load("cifar10", data_dir=data_dir, download=download, progress=progress, verify=verify)
