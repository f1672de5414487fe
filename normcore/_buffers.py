"""The arrays that a kernel takes and writes, laid out as its walk wants them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from normcore._memory import same_memory
from normcore._pool import empty

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from normcore._plan import Operands, Plan

    Array = NDArray[Any]


def float64_vector(plan: Plan, parameter: Array | None, default: float) -> Array:
    """What the kernels take for weight and bias: a contiguous float64 vector."""
    if parameter is None:
        vector: Array = np.empty(math.prod(plan.parameter_shape))
        vector.fill(default)
        return vector
    if parameter.ndim == 1 and parameter.dtype == np.float64 and parameter.flags.c_contiguous:
        return parameter if parameter.flags.aligned else parameter.copy()
    vector = parameter.astype(np.float64, order="C")
    return vector if vector.ndim == 1 else vector.reshape(-1)


def gradient_room(sums: Array, dtype: np.dtype[Any]) -> Array:
    """Where the gradients of parameters of a dtype will be: the float64 sums themselves, or an array beside them."""
    return sums if dtype == np.float64 else np.empty(sums.shape, dtype)


def gradient(plan: Plan, sums: Array, room: Array) -> Array:
    """A float64 sum for each parameter, as the gradient of that parameter."""
    if room is not sums:
        with np.errstate(over="ignore"):  # a sum beyond the dtype is inf there
            np.copyto(room, sums, casting="same_kind")
    return room if len(plan.parameter_shape) == 1 else room.reshape(plan.parameter_shape)


def walked(plan: Plan, array: Array) -> Array:
    """An array that is contiguous in the plan's order, with the sizes of its walk."""
    return (array if plan.in_c_order else array.transpose(plan.order)).reshape(plan.sizes)


def _in_order(plan: Plan, array: Array) -> bool:
    flags = array.flags
    if not flags.aligned:
        return False
    return flags.c_contiguous if plan.in_c_order else array.transpose(plan.order).flags.c_contiguous


def in_walk(plan: Plan, x: Array) -> Array:
    """The forward call's input as the kernels take it."""
    return x.copy(order="C") if plan.copies else x


def _fresh(plan: Plan) -> Array:
    """A new array laid out in the plan's order, so that a result has the layout of its input."""
    if plan.in_c_order:
        return empty(plan.shape, plan.dtype)
    fresh: Array = empty([plan.shape[a] for a in plan.order], plan.dtype).transpose(_inverse(plan.order))
    return fresh


def _inverse(order: tuple[int, ...]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def _rows_are_permuted(plan: Plan) -> bool:
    return plan.row_axes > 1 and not plan.in_c_order


def room_in_c_order(plan: Plan, per_row: Array) -> Array:
    """Where `to_c_order` writes: the array itself, if the order is the same."""
    return np.empty(per_row.shape) if _rows_are_permuted(plan) else per_row


def to_c_order(plan: Plan, per_row: Array, into: Array) -> None:
    """Statistics in the order of the rows in memory -> in the order of the leading axes of x."""
    if into is not per_row:
        order = plan.order[: plan.row_axes]
        in_walk_order = into.reshape(plan.shape[: plan.row_axes]).transpose(order)
        np.copyto(in_walk_order, per_row.reshape(in_walk_order.shape))


def to_walk_order(plan: Plan, per_row: Array) -> Array:
    """The other way round, in an array of its own."""
    if not _rows_are_permuted(plan):
        return per_row
    order = plan.order[: plan.row_axes]
    return np.ascontiguousarray(per_row.reshape(plan.shape[: plan.row_axes]).transpose(order)).reshape(-1)


def input_and_result(plan: Plan, source: Array, out: Array | None) -> tuple[Array, Array]:
    """The input and the result of a kernel, both laid out in the plan's order.

    An input of another layout is copied into the result's buffer, and the kernel works in place there: one buffer, not
    two. That buffer is `out` itself where its layout allows, and it is not the source.
    """
    fits = out is not None and _in_order(plan, out)
    if _in_order(plan, source):
        return source, (out if out is not None and fits else _fresh(plan))
    separate = out is not None and not same_memory(out, source)
    result = out if out is not None and fits and separate else _fresh(plan)
    np.copyto(result, source)
    return result, result


def delivered(result: Array, ops: Operands) -> Array:
    """The result where the user wants it."""
    if ops.out is None:
        return result
    if result is not ops.out:
        np.copyto(ops.out, result)
    assert ops.returned is not None
    return ops.returned
