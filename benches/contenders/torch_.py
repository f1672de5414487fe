"""PyTorch, eager, in inference mode: its lowest-level calls and its functional ones.

In and out of place: ``out=`` saves the allocation and, for backward, costs a copy; the faster one counts.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benches.cases import MOMENTUM, Array, Problem

from .base import Contender, Way, Ways


def absent() -> str:
    """PyTorch is optional."""
    return "" if importlib.util.find_spec("torch") else "torch is not installed"


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Threads for its loops."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def session(n: int) -> Iterator[None]:
    """Threads; inference mode, in which a call passes autograd by."""
    import torch

    with threads(n), torch.inference_mode():
        yield


def tensor(array: Array) -> Any:
    """The array as a tensor that shares its memory."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


class Tensors(NamedTuple):
    """A problem's arrays; running statistics are written to, so they are copies."""

    x: Any
    dy: Any
    weight: Any
    bias: Any
    mean: Any
    var: Any


def tensors(p: Problem) -> Tensors:
    """The problem's arrays as tensors."""
    return Tensors(*map(tensor, (p.x, p.dy, p.weight, p.bias, p.mean.copy(), p.var.copy())))


class Operation(NamedTuple):
    """A function, its arguments, its ``out=`` form and the names of the results that takes."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    into: Callable[..., Any] | None = None
    outs: tuple[str, ...] = ("out0", "out1", "out2")


def _sizes(p: Problem) -> tuple[int, int, int, int]:
    n, c = p.case.shape[:2]
    return n, c, math.prod(p.case.shape[2:]), p.case.groups or c


def native_forward(p: Problem, t: Tensors) -> Operation:
    """The call that autograd would make in training, and that returns statistics too."""
    import torch

    aten, k = torch.ops.aten, [p.case.shape[-1]]
    if p.case.op == "batch_norm":
        arguments: tuple[Any, ...] = (t.x, t.weight, t.bias, t.mean, t.var, True, MOMENTUM, p.eps)
        into = aten.native_batch_norm.out
        return Operation(torch.native_batch_norm, arguments, into, ("out", "save_mean", "save_invstd"))
    if p.case.op == "layer_norm":
        arguments = (t.x, k, t.weight, t.bias, p.eps)
        return Operation(torch.native_layer_norm, arguments, aten.native_layer_norm.out)
    if p.case.op == "rms_norm":
        return Operation(aten._fused_rms_norm.default, (t.x, k, t.weight, p.eps))
    arguments = (t.x, t.weight, t.bias, *_sizes(p), p.eps)
    return Operation(torch.native_group_norm, arguments, aten.native_group_norm.out)


def functional_forward(p: Problem, t: Tensors) -> Operation:
    """The call that a user makes, in training or inference."""
    import torch.nn.functional as F  # noqa: N812 - its usual name

    training, k = p.case.direction == "forward", (p.case.shape[-1],)
    table: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "batch_norm": (F.batch_norm, (t.x, t.mean, t.var, t.weight, t.bias, training, MOMENTUM, p.eps)),
        "layer_norm": (F.layer_norm, (t.x, k, t.weight, t.bias, p.eps)),
        "rms_norm": (F.rms_norm, (t.x, k, t.weight, p.eps)),
        "group_norm": (F.group_norm, (t.x, p.case.groups, t.weight, t.bias, p.eps)),
        "instance_norm": (F.instance_norm, (t.x, None, None, t.weight, t.bias, True, MOMENTUM, p.eps)),
    }
    return Operation(*table[p.case.op])


def backward(p: Problem, t: Tensors) -> Operation:
    """The call that autograd would make; for RMS norm, which has none on the CPU, the formula."""
    import torch

    aten, k, every = torch.ops.aten, [p.case.shape[-1]], [True, True, True]
    if p.case.op == "rms_norm":
        wide = torch.promote_types(t.x.dtype, torch.float32)
        rstd = torch.rsqrt(t.x.to(wide).square().mean(-1, keepdim=True) + p.eps).to(t.x.dtype)
        return Operation(_rms_backward, (t.dy, t.x, rstd, t.weight))
    forward = native_forward(p, t)
    _, mean, rstd = forward.function(*forward.arguments)
    if p.case.op == "batch_norm":
        arguments: tuple[Any, ...] = (t.dy, t.x, t.weight, t.mean, t.var, mean, rstd, True, p.eps, every)
        call = aten.native_batch_norm_backward
    elif p.case.op == "layer_norm":
        arguments = (t.dy, t.x, k, mean, rstd, t.weight, t.bias, every)
        call = aten.native_layer_norm_backward
    else:
        arguments = (t.dy, t.x, mean, rstd, t.weight, *_sizes(p), every)
        call = aten.native_group_norm_backward
    return Operation(call.default, arguments, call.out)


def _rms_backward(dy: Any, x: Any, rstd: Any, weight: Any) -> tuple[Any, Any]:
    xhat = x * rstd
    g = dy * weight
    dx = rstd * (g - xhat * (g * xhat).mean(-1, keepdim=True))
    return dx, (dy * xhat).flatten(0, -2).sum(0)


def _autograd(p: Problem) -> Way:
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        t = tensors(p)
        x, weight = t.x.detach().requires_grad_(), t.weight.detach().requires_grad_()
        y = torch.nn.functional.rms_norm(x, (x.shape[-1],), weight, p.eps)

    def call() -> Any:
        with torch.inference_mode(False):
            return torch.autograd.grad(y, (x, weight), t.dy, retain_graph=True)

    return call


def _both(name: str, operation: Operation) -> dict[str, Way]:
    """The call with fresh results and, where there is one, with given ones."""
    import torch

    ways: dict[str, Way] = {name: partial(operation.function, *operation.arguments)}
    if operation.into is not None:
        results = operation.function(*operation.arguments)
        out = {key: torch.zeros_like(one) for key, one in zip(operation.outs, results, strict=True)}
        ways[f"{name}(out=)"] = partial(operation.into, *operation.arguments, **out)
    return ways


def _ways(p: Problem) -> Ways:
    import torch

    t = tensors(p)
    if p.case.direction == "backward":
        ways = _both("native backward" if p.case.op != "rms_norm" else "formula", backward(p, t))
        if p.case.op == "rms_norm":
            ways["autograd"] = _autograd(p)
        return ways
    usual = functional_forward(p, t)
    ways = {"functional": partial(usual.function, *usual.arguments)}
    if p.case.direction == "forward":
        return ways | _both("native", native_forward(p, t))
    empty = torch.empty(0, dtype=t.x.dtype)
    arguments = (t.x, t.weight, t.bias, t.mean, t.var, False, MOMENTUM, p.eps)
    ways["native(out=)"] = partial(torch.native_batch_norm, *arguments, out=(torch.zeros_like(t.x), empty, empty))
    return ways


TORCH = Contender("PyTorch", _ways, absent, session, peer=True)
