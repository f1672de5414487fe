"""What a contender is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from benches.cases import Problem

Way = Callable[[], Any]
Ways = Mapping[str, Way]


class NotOffered(Exception):  # noqa: N818 - not an error: the contender does not do this, and the message says why
    """Raised by `Contender.ways`."""


def _no_session(n: int) -> AbstractContextManager[Any]:  # noqa: ARG001 - the contenders' signature
    return nullcontext()


@dataclass(frozen=True)
class Contender:
    """One who takes part.

    Attributes
    ----------
    name : str
        The heading of its column.
    ways : callable
        From a problem to the ways in which it can be done, by name. A way is called without arguments and returns its
        result, or a tuple that begins with it. Preparing is free, and results are reused where the contender allows it.
        The fastest way counts, so that nobody is judged by a poor choice of ours. Raises `NotOffered`.
    absent : callable
        Why it cannot take part here, or an empty string.
    session : callable
        A context manager in which everything is prepared and timed: sets the number of threads and whatever else makes
        it fast, and restores them.
    peer : bool
        Whether it is somebody else's: no operation of ours should be slower.
    """

    name: str
    ways: Callable[[Problem], Ways]
    absent: Callable[[], str] = lambda: ""
    session: Callable[[int], AbstractContextManager[Any]] = _no_session
    peer: bool = False
