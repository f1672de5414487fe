"""The progress display of a download."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

LINES = 10


class DownloadProgress:
    """A bar on stderr where tqdm is installed, a line for each tenth where it is not.

    Parameters
    ----------
    name : str
        What is being downloaded.
    size : int
        Its bytes.
    shown : bool
        False shows nothing.
    """

    def __init__(self, name: str, size: int, shown: bool) -> None:
        self._name = name
        self._size = size
        self._bar: Any = None
        self._lines = shown
        self._last = 0
        if shown:
            try:
                from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore] # stubs may be installed
            except ImportError:
                return
            self._lines = False
            self._bar = tqdm(total=size, unit="B", unit_scale=True, desc=name, file=sys.stderr)

    def __enter__(self) -> DownloadProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def at(self, position: int) -> None:
        """Show that so many bytes are there; fewer than before, when a server made it begin anew."""
        if self._bar is not None:
            self._bar.update(position - self._bar.n)
        tenth = position * LINES // self._size
        if self._lines and tenth > self._last:
            print(f"{self._name}: {tenth * 100 // LINES} % of {self._size} bytes", file=sys.stderr, flush=True)
        self._last = tenth
