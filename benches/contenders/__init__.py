"""Who is compared: one module for each contender.

A module has

``NAME``
    the heading of its column;
``absent() -> str``
    why it cannot take part here, or an empty string;
``session(n) -> context manager``
    everything is prepared and timed inside it: sets the threads to `n` and whatever else makes it fast, and restores
    them;
``WAYS``
    for each operation and direction, a function from a problem to the ways in which this contender can do it, by name.
    A way is called without arguments and returns its result. Preparing is free, and results are reused where the
    contender allows it. The fastest way counts, so that nobody is judged by a poor choice of ours.

Another contender is another module in ``CONTENDERS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from benches.cases import Problem

from . import copying, normcore_, numpy_, torch_

Way = Callable[[], Any]
Prepare = Callable[[Problem], Mapping[str, Way]]


class Contender(Protocol):
    """What a module here offers."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a module's constant
        """The heading of its column."""

    @property
    def WAYS(self) -> Mapping[tuple[str, str], Prepare]:  # noqa: N802
        """How it does each operation and direction."""

    def absent(self) -> str:
        """Why it cannot take part, or an empty string."""

    def session(self, n: int) -> AbstractContextManager[Any]:
        """Use `n` threads inside."""


CONTENDERS: tuple[Contender, ...] = (copying, normcore_, numpy_, torch_)
