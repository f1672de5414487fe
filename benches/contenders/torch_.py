"""PyTorch, eager, in inference mode: its lowest-level batch norm calls and its functional one.

In and out of place: ``out=`` saves the allocation and, for backward, costs a copy; the faster one counts.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from benches.cases import EPS, MOMENTUM, Problem

NAME = "PyTorch"


def absent() -> str:
    """PyTorch is optional."""
    return "" if importlib.util.find_spec("torch") else "torch is not installed"


@contextmanager
def session(n: int) -> Iterator[None]:
    """Threads for its loops; inference mode, in which a call passes autograd by."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


def _tensors(p: Problem) -> tuple[Any, ...]:
    import torch

    # Running statistics are written to, so they are copies; the others share memory with the arrays.
    arrays = (p.x, p.dy, p.weight, p.bias, p.mean.copy(), p.var.copy())
    return tuple(torch.from_numpy(array) for array in arrays)


def _forward(p: Problem) -> Mapping[str, Callable[[], Any]]:
    import torch

    x, _, weight, bias, mean, var = _tensors(p)
    out = (torch.empty_like(x), torch.empty_like(mean), torch.empty_like(mean))
    call = torch.native_batch_norm
    return {
        "native_batch_norm": lambda: call(x, weight, bias, mean, var, True, MOMENTUM, EPS)[0],
        "native_batch_norm(out=)": lambda: call(x, weight, bias, mean, var, True, MOMENTUM, EPS, out=out)[0],
    }


def _backward(p: Problem) -> Mapping[str, Callable[[], Any]]:
    import torch

    x, dy, weight, bias, mean, var = _tensors(p)
    _, save_mean, save_rstd = torch.native_batch_norm(x, weight, bias, mean, var, True, MOMENTUM, EPS)
    out = {"out0": torch.empty_like(x), "out1": torch.empty_like(weight), "out2": torch.empty_like(bias)}
    arguments = (dy, x, weight, mean, var, save_mean, save_rstd, True, EPS, [True, True, True])
    call = torch.ops.aten.native_batch_norm_backward.default
    into = torch.ops.aten.native_batch_norm_backward.out
    return {
        "native_batch_norm_backward": lambda: call(*arguments)[0],
        "native_batch_norm_backward(out=)": lambda: into(*arguments, **out)[0],
    }


def _inference(p: Problem) -> Mapping[str, Callable[[], Any]]:
    import torch

    x, _, weight, bias, mean, var = _tensors(p)
    out = (torch.empty_like(x), torch.empty(0, dtype=x.dtype), torch.empty(0, dtype=x.dtype))
    functional = torch.nn.functional.batch_norm
    native = torch.native_batch_norm
    return {
        "F.batch_norm": lambda: functional(x, mean, var, weight, bias, False, MOMENTUM, EPS),
        "native_batch_norm(out=)": lambda: native(x, weight, bias, mean, var, False, MOMENTUM, EPS, out=out)[0],
    }


WAYS = {
    ("batch_norm", "forward"): _forward,
    ("batch_norm", "backward"): _backward,
    ("batch_norm", "inference"): _inference,
}
