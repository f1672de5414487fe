"""normcore, with ``out=``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

import normcore as nc
from benches.cases import EPS, MOMENTUM, Problem

NAME = "normcore"


def absent() -> str:
    """It is always there."""
    return ""


def session(n: int) -> AbstractContextManager[Any]:
    """Threads for this thread's calls."""
    return nc.threads(n)


def _forward(p: Problem) -> Mapping[str, Callable[[], Any]]:
    y, mean, var = np.empty_like(p.x), p.mean.copy(), p.var.copy()

    def forward() -> Any:
        return nc.batch_norm_forward(
            p.x, p.weight, p.bias, running_mean=mean, running_var=var, momentum=MOMENTUM, eps=EPS, out=y
        )[0]

    return {"batch_norm_forward(out=)": forward}


def _backward(p: Problem) -> Mapping[str, Callable[[], Any]]:
    _, ctx = nc.batch_norm_forward(p.x, p.weight, p.bias, eps=EPS)
    dx = np.empty_like(p.x)
    return {"batch_norm_backward(out=)": lambda: nc.batch_norm_backward(p.dy, ctx, out=dx)[0]}


def _inference(p: Problem) -> Mapping[str, Callable[[], Any]]:
    y = np.empty_like(p.x)
    return {"batch_norm(out=)": lambda: nc.batch_norm(p.x, p.mean, p.var, p.weight, p.bias, eps=EPS, out=y)}


WAYS = {
    ("batch_norm", "forward"): _forward,
    ("batch_norm", "backward"): _backward,
    ("batch_norm", "inference"): _inference,
}
