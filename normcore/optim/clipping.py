"""Clipping of gradients."""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Iterable
from itertools import repeat
from numbers import Real
from typing import Any

import numpy as np

from normcore._shown import shown
from normcore.nn import Module, Parameter
from normcore.nn._checks import Array, as_bool, as_number, listed

from . import _compiled
from ._gradients import to_scale

_SMALLEST = 1e-280  # of a sum of powers that has lost nothing to underflow


def clip_grad_norm_(
    parameters: Parameter | Iterable[Parameter],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> float:
    """Scale all gradients, in place, so that their norm together is at most `max_norm`; return the norm before.

    Call it between `model.backward(...)` and `optimizer.step()`, as `torch.nn.utils.clip_grad_norm_`.

    Parameters
    ----------
    parameters : iterable of Parameter, or a Parameter
        `model.parameters()`. Those without a gradient are passed over.
    max_norm : float
        At least 0.
    norm_type : float
        Order p of the norm; `inf` for the largest magnitude.
    error_if_nonfinite : bool
        Whether a norm that is NaN or infinite is an error. Otherwise gradients are scaled all the same, as in PyTorch:
        to zero (and NaN where they were infinite) by an infinite norm, to NaN by NaN.

    Returns
    -------
    float
        The norm of all gradients laid end to end, `sum(abs(g)**p)**(1/p)`, accumulated in float64; 0.0 without any.

    Notes
    -----
    Gradients are multiplied by `max_norm / (norm + 1e-6)` where that is below 1. The sums are float64 whatever the
    gradients are: a norm beyond the range of float32 is a number here, and infinite in PyTorch. Powers that leave
    float64 (of a large order, or of float64 gradients beyond 1e154) are taken of the gradients divided by the largest.

    Raises
    ------
    RuntimeError
        If `error_if_nonfinite` and the norm is NaN or infinite. No gradient has been changed then.
    TypeError, ValueError
        If an argument is not as above.
    """
    params = [parameters] if isinstance(parameters, Parameter) else listed(parameters)
    if isinstance(parameters, Module) or params is None:
        raise TypeError(
            f"clip_grad_norm_: parameters must be an iterable of parameters, got {type(parameters).__name__}; "
            "pass model.parameters()."
        )
    for param in params:
        if not isinstance(param, Parameter):
            raise TypeError(
                f"clip_grad_norm_: parameters must hold Parameter objects, got {type(param).__name__}; "
                "pass model.parameters()."
            )
    max_norm = as_number(max_norm, "max_norm", "clip_grad_norm_", "[0, inf)")
    order = _as_order(norm_type)
    error_if_nonfinite = as_bool(error_if_nonfinite, "error_if_nonfinite", "clip_grad_norm_")
    found = [to_scale(param, "clip_grad_norm_") for param in params if param.grad is not None]
    grads = [grad for grad in found if grad.size]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # what is not finite is told by the result
        total = _norm(grads, order)
        if error_if_nonfinite and not math.isfinite(total):
            raise RuntimeError(
                f"clip_grad_norm_: the norm of the gradients is {total}; look for the layer whose gradient is not "
                "finite, or pass error_if_nonfinite=False to scale by it all the same."
            )
        factor = max_norm / (total + 1e-6)
        if not factor >= 1.0:  # NaN too
            # One call for all of them: Python looks for Ctrl-C between calls.
            deque(map(operator.imul, grads, repeat(factor)), maxlen=0)
    return total


def _as_order(norm_type: Any) -> float:
    try:
        order = (
            float(norm_type) if isinstance(norm_type, Real) and not isinstance(norm_type, np.timedelta64) else math.nan
        )
    except OverflowError:  # an int beyond float64
        order = math.nan
    if not order > 0:
        raise ValueError(f"clip_grad_norm_: norm_type must be above 0, or inf, got {shown(norm_type)}.")
    return order


def _norm(grads: list[Array], p: float) -> float:
    if not grads:
        return 0.0
    if p < math.inf:
        total = sum(map(_squares, grads)) if p == 2.0 else _powers(grads, 1.0, p)
        if _SMALLEST < total < math.inf:
            return math.sqrt(total) if p == 2.0 else float(total ** (1.0 / p))
    largest = float(np.max([np.abs(grad).max() for grad in grads]))
    if p == math.inf or not 0.0 < largest < math.inf:
        return largest
    # As parts of the largest one no power overflows, and what underflows is too little to count.
    return largest * float(_powers(grads, largest, p) ** (1.0 / p))


def _powers(grads: list[Array], unit: float, p: float) -> np.float64:
    """The sum of the powers in float64."""
    total: np.float64 = np.sum([np.add.reduce((np.abs(g, dtype=np.float64) / unit) ** p, axis=None) for g in grads])
    return total


def _squares(grad: Array) -> float:
    """The sum of squares in float64."""
    fused = _compiled.fused()
    total = None if fused is None else fused.squares(grad)
    if total is None:
        flat = grad.ravel(order="K")
        total = np.einsum("i,i->", flat, flat, dtype=np.float64, casting="same_kind")
    return float(total)
