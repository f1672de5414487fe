"""Who is measured: normcore's backends and PyTorch, each as a user calls it; what they give as plain arrays."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

import normcore as nc
from benches.cases import Array, Problem
from benches.contenders import NotOffered, normcore_, torch_

# Added to the variance where the variance is asked for: it leaves any var but 0 alone.
NO_EPS = 1e-300
BACKENDS = ("cython", "numba", "reference")
TORCH = "PyTorch"


@dataclass(frozen=True)
class Outputs:
    """What a contender gives; mean is None for RMS norm, dbias where there is no bias."""

    mean: Array | None
    var: Array
    y: Array
    dx: Array
    dweight: Array
    dbias: Array | None


Contender = Callable[[Problem], Outputs]


def contenders() -> Mapping[str, Contender]:
    """All that are installed."""
    found: dict[str, Contender] = {}
    for name in BACKENDS:
        if name != "numba" or importlib.util.find_spec("numba"):
            found[name] = partial(_normcore, name)
    if not torch_.absent():
        found[TORCH] = _torch
    return found


def _normcore(backend: str, p: Problem) -> Outputs:
    name, arguments, keywords = normcore_.forward_call(p)
    with nc.use_backend(backend):
        try:
            y, ctx = getattr(nc, name)(*arguments, **keywords)
        except TypeError as error:  # its reason for declining
            raise NotOffered(str(error)) from error
        dx, dweight, dbias = getattr(nc, f"{p.case.op}_backward")(p.dy, ctx)
        name, arguments, keywords = normcore_.forward_call(replace(p, eps=NO_EPS))
        bare = getattr(nc, name)(*arguments, **keywords)[1]
    return Outputs(None if p.case.op == "rms_norm" else ctx.mean, _var(bare.rstd), y, dx, dweight, dbias)


def _torch(p: Problem) -> Outputs:
    """The functional form and autograd, and the statistics that the operator behind it returns."""
    import torch

    t = torch_.tensors(p)
    parameters = [t.x, t.weight, t.bias][: 2 if p.case.op == "rms_norm" else 3]
    for parameter in parameters:
        parameter.requires_grad_()
    call = torch_.functional_forward(p, t)
    y = call.function(*call.arguments)
    dx, dweight, *dbias = torch.autograd.grad(y, parameters, t.dy)
    with torch.inference_mode():
        *mean, rstd = _torch_statistics(replace(p, eps=NO_EPS))
    return Outputs(
        array(mean[0]) if mean else None, _var(array(rstd)), array(y), array(dx), array(dweight),
        array(dbias[0]) if dbias else None,
    )  # fmt: skip


def _torch_statistics(p: Problem) -> tuple[Any, ...]:
    import torch

    t = torch_.tensors(p)
    if p.case.op == "instance_norm":  # a batch norm of N * C channels, in PyTorch
        x = t.x.reshape(1, p.case.shape[0] * p.case.shape[1], -1)
        return tuple(torch.native_batch_norm(x, None, None, None, None, True, 0.0, p.eps)[1:])
    call = torch_.native_forward(p, t)
    return tuple(call.function(*call.arguments)[1:])


def array(tensor: Any) -> Array:
    """A tensor's values; bfloat16 as float32, which holds them."""
    import torch

    tensor = tensor.detach()
    values: Array = (tensor.to(torch.float32) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return values


def _var(rstd: Array) -> Array:
    """The variance behind 1 / sqrt(var + NO_EPS); one far below NO_EPS is 0."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        var: Array = 1.0 / np.square(rstd.astype(np.float64)) - NO_EPS
    return np.where(np.abs(var) < 1e-12 * NO_EPS, 0.0, var)
