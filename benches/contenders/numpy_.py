"""NumPy, the formula written with care: in place in a reused result, no temporaries of the size of x."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from benches.cases import MOMENTUM, Problem
from normcore import _bench

NAME = "NumPy"


def absent() -> str:
    """It is always there."""
    return ""


def session(n: int) -> AbstractContextManager[Any]:  # noqa: ARG001 - the contenders' signature
    """NumPy's loops run on one thread, whatever is asked for."""
    return nullcontext()


def _forward(p: Problem) -> Mapping[str, Callable[[], Any]]:
    y, running_mean, running_var = np.empty_like(p.x), p.mean.copy(), p.var.copy()
    n = p.x.size // p.mean.size
    keep = p.x.dtype.type(1 - MOMENTUM)
    new = p.x.dtype.type(MOMENTUM)

    def forward() -> Any:
        _, mean, rstd = _bench.numpy_forward(p.x, p.weight, p.bias, y)
        var = (1 / (rstd * rstd)).ravel() * p.x.dtype.type(n / (n - 1))
        np.add(keep * running_mean, new * mean.ravel(), out=running_mean)
        np.add(keep * running_var, new * var, out=running_var)
        return y

    return {"in place": forward}


def _backward(p: Problem) -> Mapping[str, Callable[[], Any]]:
    dx = np.empty_like(p.x)
    _, mean, rstd = _bench.numpy_forward(p.x, p.weight, p.bias, dx)
    return {"in place": lambda: _bench.numpy_backward(p.dy, p.x, p.weight, mean, rstd, dx)[0]}


def _inference(p: Problem) -> Mapping[str, Callable[[], Any]]:
    y = np.empty_like(p.x)
    return {"in place": lambda: _bench.numpy_inference(p.x, p.mean, p.var, p.weight, p.bias, y)}


WAYS = {
    ("batch_norm", "forward"): _forward,
    ("batch_norm", "backward"): _backward,
    ("batch_norm", "inference"): _inference,
}
