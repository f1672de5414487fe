"""Where the files of data sets are looked for, and where downloaded ones go."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import DataNotFoundError


def cache_dir() -> Path:
    """Return the folder in which downloaded data sets are kept, whether it exists or not.

    ``$XDG_CACHE_HOME/normcore`` where that is set to an absolute path; else ``~/.cache/normcore`` on Linux and its
    kin, ``~/Library/Caches/normcore`` on macOS and ``%LOCALAPPDATA%\\normcore`` on Windows.

    Examples
    --------
    >>> from normcore.data import cache_dir
    >>> cache_dir().name
    'normcore'
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):  # the XDG specification: a relative path is invalid and ignored
        return Path(given, "normcore")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "normcore"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", "")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "normcore"
    return Path.home() / ".cache" / "normcore"


def roots(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """The folders to look in, in order: the one given, that of ``$NORMCORE_DATA``, the cache."""
    if data_dir is not None and not isinstance(data_dir, (str, os.PathLike)):
        raise TypeError(f"data_dir must be None or a path, got {data_dir!r}; pass the folder that holds the data")
    if data_dir is not None and not os.fspath(data_dir):
        raise ValueError("data_dir must be None or a path, got an empty string; pass the folder that holds the data")
    given = [data_dir] if data_dir is not None else []
    named = [os.environ["NORMCORE_DATA"]] if os.environ.get("NORMCORE_DATA") else []
    found = [Path(root).expanduser() for root in (*given, *named)]
    try:
        return [*found, cache_dir()]
    except RuntimeError:  # nobody's home is known, as in some containers
        if not found:
            raise DataNotFoundError(
                "there is no home folder to keep data sets in; pass data_dir, or set NORMCORE_DATA to a folder"
            ) from None
        return found


def download_root(roots: Sequence[Path], data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder to download to: the one given, else the first that can be written to, shared ones often cannot."""
    if data_dir is not None:
        return roots[0]
    return next((root for root in roots if _writable(root)), roots[-1])


def _writable(folder: Path) -> bool:
    """Whether something can be put there, also where the folder would have to be made first."""
    existing = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    return existing.is_dir() and os.access(existing, os.W_OK)


def candidates(roots: Sequence[Path], folders: Sequence[str], names: Sequence[str]) -> list[Path]:
    """The files and folders that exist among `names`, in each root's `folders` first and then in the root itself."""
    places = [root / folder for root in roots for folder in (*folders, ".")]
    return [place / name for place in places for name in names if (place / name).exists()]
