"""A plain copy of x, the fastest that can be had with these threads: the floor that memory sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from benches.cases import Problem
from normcore._bench import ThreadedCopy

from . import torch_
from .base import Contender, Ways

_WORTH_THREADS = 100_000  # bytes; below, handing a part to another thread takes longer than copying it
_pool = [ThreadedCopy(1)]  # the one of the session


@contextmanager
def _session(n: int) -> Iterator[None]:
    """A pool of threads for the copy in parts."""
    _pool.append(ThreadedCopy(n))
    try:
        yield
    finally:
        _pool.pop().close()


def _ways(p: Problem) -> Ways:
    x = p.x.view(np.uint16) if p.x.itemsize == 2 else p.x  # the same bytes; NumPy copies foreign dtypes one by one
    y = np.zeros_like(x)
    ways: dict[str, Callable[[], Any]] = {"np.copyto": partial(np.copyto, y, x)}
    if p.x.nbytes > _WORTH_THREADS:
        ways["np.copyto in threads"] = partial(_pool[-1], y, x)
    if not torch_.TORCH.absent():
        source = torch_.tensor(p.x)
        ways["torch copy_"] = partial(torch_.tensor(np.zeros_like(p.x)).copy_, source)
    return ways


COPY = Contender("copy", _ways, session=_session)
