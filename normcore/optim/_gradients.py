"""Whether the gradients of parameters are what a step can take: somebody may have set them."""

from __future__ import annotations

import numpy as np

from normcore._memory import overlap, overlaps_itself
from normcore._shown import shown
from normcore.nn import Parameter
from normcore.nn._checks import Array


def gradient_of(param: Parameter, owner: str) -> Array:
    """The gradient of a parameter that has one, as a plain array of the parameter's shape, or a clear error."""
    grad = param.grad
    where = f"{owner}: a parameter of shape {param.data.shape} has a grad"
    if not isinstance(grad, np.ndarray) or isinstance(grad, np.ma.MaskedArray):
        got = "that is a masked array" if isinstance(grad, np.ma.MaskedArray) else f"of {shown(grad)}"
        raise TypeError(f"{where} {got}; set grad to a NumPy array of the shape of data, or to None.")
    grad = np.asarray(grad)
    if grad.dtype.kind != "f":
        raise TypeError(f"{where} of {grad.dtype}; set grad to floating point, such as grad.astype(np.float32).")
    if grad.shape != param.data.shape:
        raise ValueError(f"{where} of shape {grad.shape}; set grad to an array of the shape of data.")
    return grad


def check_for_step(param: Parameter, owner: str) -> None:
    """The gradient can be read while the parameter's data are written."""
    grad = gradient_of(param, owner)
    where = f"{owner}: a parameter of shape {param.data.shape}"
    if not param.data.flags.writeable:
        raise ValueError(
            f"{where} has data that is read-only; set data to a copy of it, or grad to None to leave it alone."
        )
    if overlaps_itself(param.data):
        raise ValueError(f"{where} has data whose elements share memory (a broadcast view); set data to a copy of it.")
    if overlap(grad, param.data):
        raise ValueError(f"{where} has a grad that shares memory with its data; set grad to a copy.")


def to_scale(param: Parameter, owner: str) -> Array:
    """The gradient, which can be written to."""
    grad = gradient_of(param, owner)
    where = f"{owner}: a parameter of shape {param.data.shape} has a grad"
    if not grad.flags.writeable:
        raise ValueError(f"{where} that is read-only; set grad to a copy of it.")
    if overlaps_itself(grad):
        raise ValueError(f"{where} whose elements share memory (a broadcast view); set grad to a copy of it.")
    return grad
