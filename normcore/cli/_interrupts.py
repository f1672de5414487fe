"""Ctrl-C while results are written: it ends the drawing of pictures, and is held back from the rest, which is quick."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Whether Ctrl-C may break off what is done now; only the first one does."""

    def __init__(self) -> None:
        self.allowed = False
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of handlers
        self.came = True
        if self.allowed:
            self.allowed = False
            raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[Interrupts]:
    """Hold Ctrl-C back, but where the object that is given says `allowed`; not where somebody else handles it."""
    interrupts = Interrupts()
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    signal.signal(signal.SIGINT, interrupts)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
