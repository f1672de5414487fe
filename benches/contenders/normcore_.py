"""normcore: with ``out=``; with a fresh result, as in a loop that does not pass one; on one thread; on Numba."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import normcore as nc
from benches.cases import MB, MOMENTUM, Array, Problem

from .base import Contender, NotOffered, Way, Ways


def forward_call(p: Problem) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """The forward function of a problem's norm, its arguments and keywords."""
    x, weight, bias, k = p.x, p.weight, p.bias, (p.case.shape[-1],)
    running = {"running_mean": p.mean.copy(), "running_var": p.var.copy(), "momentum": MOMENTUM}
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "batch_norm": ((x, weight, bias), {**running, "eps": p.eps}),
        "layer_norm": ((x, k, weight, bias, p.eps), {}),
        "rms_norm": ((x, k, weight, p.eps), {}),
        "group_norm": ((x, p.case.groups, weight, bias, p.eps), {}),
        "instance_norm": ((x, weight, bias), {"eps": p.eps}),
    }
    return f"{p.case.op}_forward", *calls[p.case.op]


def _function(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] | None = getattr(nc, name, None)
    if function is None:
        raise NotOffered(f"not in this version: normcore has no {name}")
    return function


def _prepare(p: Problem, out: Array | None) -> tuple[str, Way]:
    name, arguments, keywords = forward_call(p)
    into = {} if out is None else {"out": out}
    if p.case.direction == "inference":
        rest = (p.mean, p.var, p.weight, p.bias, False, MOMENTUM, p.eps)
        return p.case.op, partial(_function(p.case.op), p.x, *rest, **into)
    if p.case.direction == "forward":
        return name, partial(_function(name), *arguments, **keywords, **into)
    backward = p.case.op + "_backward"
    function = _function(backward)
    _, ctx = _function(name)(*arguments, **keywords)
    return backward, partial(function, p.dy, ctx, **into)


def _checked(p: Problem, out: Array | None) -> tuple[str, Way]:
    try:
        name, way = _prepare(p, out)
        way()
    except TypeError as error:  # a dtype that it does not take
        raise NotOffered(f"not in this version: {p.case.op} of {p.case.dtype}: {error}") from error
    return name, way


def _reused(p: Problem) -> Ways:
    name, way = _checked(p, np.zeros_like(p.x))
    return {f"{name}(out=)": way}


def _fresh(p: Problem) -> Ways:
    name, way = _checked(p, None)
    kept: list[Any] = [None]

    def loop() -> Any:
        kept[0] = result = way()  # the last result lives until the next one is there, as in a loop
        return result

    return {name: way if p.x.nbytes < MB // 16 else loop}


def _serial(p: Problem) -> Ways:
    if p.x.nbytes <= MB or nc.get_num_threads() == 1:
        raise NotOffered("")
    name, way = _checked(p, np.zeros_like(p.x))

    def call() -> Any:
        with nc.threads(1):
            return way()

    return {f"{name}(out=)": call}


def _numba_absent() -> str:
    return "" if importlib.util.find_spec("numba") else "numba is not installed"


def _numba(p: Problem) -> Ways:
    if p.x.nbytes <= MB:  # what it promises is about larger arrays, and every operation takes seconds to compile
        raise NotOffered("")
    try:
        with nc.use_backend("numba"):
            name, way = _prepare(p, np.zeros_like(p.x))
            way()
    except TypeError as error:  # its reason for declining
        raise NotOffered(str(error)) from error

    def call() -> Any:
        with nc.use_backend("numba"):
            return way()

    return {f"{name}(out=)": call}


NORMCORE = Contender("normcore", _reused, session=nc.threads)
FRESH = Contender("fresh", _fresh)
SERIAL = Contender("1 thread", _serial)
NUMBA = Contender("Numba", _numba, absent=_numba_absent)
