"""A plain copy of x, the fastest that can be had with these threads: the floor that memory sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from benches.cases import DIRECTIONS, GRID, Problem
from normcore._bench import ThreadedCopy

from . import torch_

NAME = "copy"

_pool = [ThreadedCopy(1)]  # the one of the session


def absent() -> str:
    """It is always there."""
    return ""


@contextmanager
def session(n: int) -> Iterator[None]:
    """A pool of threads for the copy in parts."""
    _pool.append(ThreadedCopy(n))
    try:
        yield
    finally:
        _pool.pop().close()


def _copy(p: Problem) -> Mapping[str, Callable[[], Any]]:
    y = np.empty_like(p.x)

    def copyto() -> Any:
        np.copyto(y, p.x)
        return y

    ways: dict[str, Callable[[], Any]] = {"np.copyto": copyto}
    if p.x.nbytes > 100_000:  # below, handing a part to another thread takes longer than copying it
        threaded = _pool[-1]
        ways["np.copyto in threads"] = lambda: threaded(y, p.x)
    if not torch_.absent():
        import torch

        source, target = torch.from_numpy(p.x), torch.from_numpy(np.empty_like(p.x))
        ways["torch copy_"] = lambda: target.copy_(source)
    return ways


WAYS = {(op, direction): _copy for op in GRID for direction in DIRECTIONS}
