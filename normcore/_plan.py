"""Everything a user can get wrong is found here; what comes out is a frozen plan.

A plan says which walk over memory a call needs and with which sizes and dtypes. The dispatcher and the kernels check
nothing and know nothing of axes or strides.

The channels walk
-----------------
Batch norm keeps one statistic for each channel. Whatever the rank of ``x`` and wherever its channel axis lies, in
memory the array is three nested loops, ``(outer, channels, inner)``::

    (N, C)                    ->  (N, C, 1)
    (N, C, H, W)              ->  (N, C, H * W)
    (N, H, W, C), axis=-1     ->  (N * H * W, C, 1)      channels last
    Fortran-ordered (N, C)    ->  (1, C, N)

``order`` is the permutation of the axes that puts them in the order of memory, slowest first. An array that is
contiguous in no order at all (a slice with a step, negative strides) is walked as a contiguous copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsFloat, SupportsIndex

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from normcore._context import NormContext

    Array = NDArray[Any]

FLOAT_DTYPES = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))
BATCH_NORM_RANKS = (2, 5)
_OVERLAP_WORK = 10_000  # bound on NumPy's exact overlap search; past it two arrays count as overlapping


class Plan(NamedTuple):
    """What a kernel needs to know of a call, and what an explanation of it says."""

    op: str  # "batch_norm"
    walk: str  # "channels"
    direction: str  # "forward", "backward" or "stats"
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: tuple[int, ...]  # axes of x, slowest in memory first
    copies: bool  # contiguous in no order: the kernels see a copy
    outer: int
    channels: int
    inner: int
    training: bool = True
    momentum: float = 0.1
    eps: float = 1e-5

    @property
    def group_size(self) -> int:
        """Values behind each statistic, the paper's m."""
        return self.outer * self.inner

    @property
    def size(self) -> int:
        return self.outer * self.channels * self.inner


class Operands(NamedTuple):
    """The checked arrays of a forward call."""

    x: Array
    weight: Array | None = None
    bias: Array | None = None
    running_mean: Array | None = None
    running_var: Array | None = None
    out: Array | None = None


# --- the planners: one for each public function, with its signature ---------------------------------------------------


def batch_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    axis: int = 1,
    out: Any = None,
) -> tuple[Plan, Operands]:
    x = _float_array("x", x)
    axis = _axis(axis, x.ndim)
    training = _flag("training", training)
    momentum = _momentum(momentum)
    eps = _eps(eps)
    channels = x.shape[axis]
    weight = _channel_vector("weight", weight, channels)
    bias = _channel_vector("bias", bias, channels)
    running_mean, running_var = _running_statistics(running_mean, running_var, channels, training)
    plan = _channels_plan("batch_norm", "forward", x, axis)._replace(training=training, momentum=momentum, eps=eps)
    if training:
        _needs_values(plan, at_least=2)
    if out is not None:
        _writable_like("out", out, "x", x)
    read = {"weight": weight, "bias": bias}
    if training:
        _separate({"running_mean": running_mean}, {"running_var": running_var, "x": x, "out": out, **read})
        _separate({"running_var": running_var}, {"x": x, "out": out, **read})
    else:
        read |= {"running_mean": running_mean, "running_var": running_var}
    _separate({"out": out}, read)
    _separate_or_same("out", out, "x", x)
    return plan, Operands(x, weight, bias, running_mean, running_var, out)


def batch_norm_forward(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    running_mean: Any = None,
    running_var: Any = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    axis: int = 1,
    out: Any = None,
) -> tuple[Plan, Operands]:
    return batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps, axis=axis, out=out)


def batch_norm_backward(dy: Any, ctx: NormContext, *, out: Any = None) -> tuple[Plan, Operands]:
    return _backward("batch_norm", dy, ctx, out)


def batch_stats(x: Any, *, axis: int = 1) -> tuple[Plan, Operands]:
    x = _float_array("x", x)
    plan = _channels_plan("batch_stats", "stats", x, _axis(axis, x.ndim))
    _needs_values(plan, at_least=1)
    return plan, Operands(x)


PLANNERS: dict[str, Callable[..., tuple[Plan, Operands]]] = {
    "batch_norm": batch_norm,
    "batch_norm_forward": batch_norm_forward,
    "batch_norm_backward": batch_norm_backward,
    "batch_stats": batch_stats,
}


def _backward(op: str, dy: Any, ctx: NormContext, out: Any) -> tuple[Plan, Operands]:
    plan = getattr(ctx, "plan", None)
    if not isinstance(plan, Plan):
        raise TypeError(f"ctx must be what {op}_forward returned, got {type(ctx).__name__}; pass its second result")
    if plan.op != op:
        raise ValueError(f"ctx comes from {plan.op}_forward; call {plan.op}_backward, not {op}_backward")
    if ctx.overwritten:
        raise ValueError(f"ctx has lost its x: {op}_forward wrote its result over it (out=x); call it without out=x")
    dy = _float_array("dy", dy)
    if dy.shape != plan.shape:
        raise ValueError(f"dy must have the shape of x in ctx, {plan.shape}, got {dy.shape}")
    if dy.dtype != plan.dtype:
        raise TypeError(f"dy must have the dtype of x in ctx, {plan.dtype}, got {dy.dtype}; use dy.astype(x.dtype)")
    if out is not None:
        _writable_like("out", out, "dy", dy)
        _separate({"out": out}, {"ctx.x": ctx.x, "ctx.weight": ctx.weight, "ctx.mean": ctx.mean, "ctx.rstd": ctx.rstd})
        _separate_or_same("out", out, "dy", dy)
    return plan._replace(direction="backward"), Operands(dy, out=out)


# --- the walk ---------------------------------------------------------------------------------------------------------


def memory_order(x: Array) -> tuple[int, ...] | None:
    """The axes of `x`, slowest in memory first, or None if `x` is contiguous in no order."""
    axes = tuple(range(x.ndim))
    if x.flags.c_contiguous and x.flags.aligned:
        return axes
    order = tuple(sorted(axes, key=lambda a: -x.strides[a]))  # stable: axes of one stride keep their order
    view = x.transpose(order)
    return order if view.flags.c_contiguous and view.flags.aligned else None


def _channels_plan(op: str, direction: str, x: Array, axis: int) -> Plan:
    order = memory_order(x)
    copies = order is None
    if order is None:
        order = tuple(range(x.ndim))
    at = order.index(axis)
    outer = math.prod(x.shape[a] for a in order[:at])
    inner = math.prod(x.shape[a] for a in order[at + 1 :])
    if x.shape[axis] == 1:
        outer, inner = 1, outer * inner  # one channel is one run
    return Plan(op, "channels", direction, x.shape, x.dtype, order, copies, outer, x.shape[axis], inner)


def _needs_values(plan: Plan, at_least: int) -> None:
    if plan.channels == 0 or plan.group_size >= at_least:
        return
    if plan.group_size == 0:
        raise ValueError(
            f"x has shape {plan.shape}: its {plan.channels} channels hold no values, and statistics over nothing are "
            "undefined; pass at least one row"
        )
    raise ValueError(
        f"x has shape {plan.shape}: one value per channel, and batch norm in training needs more than one, because its "
        "variance would be zero; use a larger batch, or training=False with running statistics"
    )


# --- the arguments ----------------------------------------------------------------------------------------------------


def _plain_array(name: str, value: Any) -> Array:
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be ignored; fill or drop the masked values first")
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be an array, got {type(value).__name__}, which NumPy cannot read: {error}"
        ) from None


def _float_array(name: str, value: Any) -> Array:
    array = _plain_array(name, value)
    if array.dtype not in FLOAT_DTYPES:
        if array.dtype.newbyteorder("=") in FLOAT_DTYPES:
            raise TypeError(
                f"{name} has the byte order of another machine ({array.dtype.str}); "
                f"convert it with {name}.astype({name}.dtype.newbyteorder('='))"
            )
        raise TypeError(
            f"{name} must be float16, float32 or float64, got {array.dtype}; {_conversion(name, array.dtype)}"
        )
    return array


def _conversion(name: str, dtype: np.dtype[Any]) -> str:
    if dtype.kind in "biuf":
        return f"convert it with {name}.astype(numpy.float32)"
    return "other kinds of data have no mean and variance here"


def _axis(axis: SupportsIndex, ndim: int) -> int:
    low, high = BATCH_NORM_RANKS
    if not low <= ndim <= high:
        raise ValueError(
            f"x must have {low} to {high} dimensions, such as (N, C) or (N, C, H, W), got {ndim}; reshape it first"
        )
    try:
        if isinstance(axis, (bool, np.bool_)):
            raise TypeError
        at = axis.__index__()
    except (AttributeError, TypeError):
        raise TypeError(f"axis must be an int, the channel axis of x, got {axis!r}") from None
    if not -ndim <= at < ndim:
        raise ValueError(f"axis must be from {-ndim} to {ndim - 1} for an x of {ndim} dimensions, got {at}")
    return at % ndim


def _flag(name: str, value: Any) -> bool:
    if value is True or value is False or isinstance(value, np.bool_):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {value!r}")


def _real(name: str, value: SupportsFloat, allowed: str) -> float:
    if type(value) is float:
        return value
    try:
        if isinstance(value, (bool, np.bool_, str, bytes)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {allowed}, got {value!r}") from None


def _eps(value: SupportsFloat) -> float:
    allowed = "a positive finite number such as 1e-5"
    eps = _real("eps", value, allowed)
    if not 0.0 < eps < math.inf:
        raise ValueError(f"eps must be {allowed}, got {value!r}")
    return eps


def _momentum(value: SupportsFloat) -> float:
    allowed = "a number from 0 to 1, the weight of the new batch in the running statistics"
    momentum = _real("momentum", value, allowed)
    if not 0.0 <= momentum <= 1.0:
        raise ValueError(f"momentum must be {allowed}, got {value!r}")
    return momentum


def _channel_vector(name: str, value: Any, channels: int) -> Array | None:
    if value is None:
        return None
    vector = _float_array(name, value)
    if vector.shape != (channels,):
        raise ValueError(
            f"{name} must have shape ({channels},), one value for each channel of x, got {vector.shape}; "
            "axis says which axis of x holds the channels"
        )
    return vector


def _running_statistics(mean: Any, var: Any, channels: int, training: bool) -> tuple[Array | None, Array | None]:
    if (mean is None) != (var is None):
        given, missing = ("running_mean", "running_var") if var is None else ("running_var", "running_mean")
        raise ValueError(f"{given} was given without {missing}; pass both or neither")
    if mean is None:
        if not training:
            raise ValueError(
                "running_mean and running_var are None, and training=False normalises with them; pass both, or "
                "training=True to use the statistics of the batch"
            )
        return None, None
    for name, value in (("running_mean", mean), ("running_var", var)):
        _channel_vector(name, value, channels)
        if not training:
            continue
        if not isinstance(value, np.ndarray):
            raise TypeError(
                f"{name} must be a NumPy array, which training updates in place, got {type(value).__name__}"
            )
        if not value.flags.writeable:
            raise ValueError(f"{name} is read-only, and training updates it in place; pass a writable copy")
        if _overlaps_itself(value):
            raise ValueError(f"{name} has elements that share memory (a broadcast view); pass a copy")
    return np.asarray(mean), np.asarray(var)


def _writable_like(name: str, out: Any, like_name: str, like: Array) -> None:
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must be a NumPy array with the shape and dtype of {like_name}, got {type(out).__name__}"
        )
    if out.shape != like.shape:
        raise ValueError(f"{name} must have the shape of {like_name}, {like.shape}, got {out.shape}")
    if out.dtype != like.dtype:
        raise TypeError(f"{name} must have the dtype of {like_name}, {like.dtype}, got {out.dtype}")
    if not out.flags.writeable:
        raise ValueError(f"{name} is read-only; pass a writable array")
    if _overlaps_itself(out):
        raise ValueError(f"{name} has elements that share memory (strides {out.strides}); pass an ordinary array")


def _overlaps_itself(array: Array) -> bool:
    """True if two elements may lie in the same memory: a zero stride, or strides that interleave."""
    if array.flags.c_contiguous or array.flags.f_contiguous:
        return False
    if 0 in array.shape:
        return False
    reach = array.itemsize  # bytes spanned by the axes looked at so far
    for stride, length in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < reach:
            return True
        reach += stride * (length - 1)
    return False


def _separate(written: Mapping[str, Array | None], others: Mapping[str, Array | None]) -> None:
    for name, array in written.items():
        if array is None:
            continue
        for other_name, other in others.items():
            if other is not None and _overlap(array, other):
                raise ValueError(f"{name} shares memory with {other_name}; pass an array of its own")


def _separate_or_same(name: str, out: Array | None, other_name: str, other: Array) -> None:
    """`out` may be the very memory of the other array, element for element, but not overlap it otherwise."""
    if out is None or not _overlap(out, other) or same_memory(out, other):
        return
    raise ValueError(
        f"{name} overlaps {other_name} without being the same array; pass {other_name} itself, or a separate array"
    )


def same_memory(a: Array, b: Array) -> bool:
    """True if the arrays are the same elements in the same places."""
    return (
        a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
        and a.shape == b.shape
        and a.strides == b.strides
    )


def _overlap(a: Array, b: Array) -> bool:
    if not np.may_share_memory(a, b):
        return False
    try:
        return bool(np.shares_memory(a, b, max_work=_OVERLAP_WORK))  # type: ignore[arg-type] # the stubs know 0 and -1 alone
    except np.exceptions.TooHardError:
        return True
