"""Everything a user can get wrong is found here; what comes out is a frozen plan.

A planner for each public function, with its signature: the arguments are checked, all of them, before anything is
written. A sixth norm is one more planner.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from normcore import _checks as check
from normcore._activation import activation_code
from normcore._context import NormContext
from normcore._memory import memory_order
from normcore._plan import Operands, Plan, backward_of, channels_walk, rows_walk

Planned = tuple[Plan, Operands]

CHANNELS_EXAMPLE = "(N, C) or (N, C, H, W)"
INSTANCE_EXAMPLE = "(N, C, L) or (N, C, H, W)"


# --- batch norm -------------------------------------------------------------------------------------------------------


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
) -> Planned:
    return _batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps, axis, None, out)


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
    activation: str | None = None,
    out: Any = None,
) -> Planned:
    return _batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps, axis, activation, out)


def _batch_norm(
    x: Any, running_mean: Any, running_var: Any, weight: Any, bias: Any, training: bool, momentum: float, eps: float,
    axis: int, activation: str | None, out: Any,
) -> Planned:  # fmt: skip
    x = check.float_array("x", x)
    check.ranked(x, 2, 5, CHANNELS_EXAMPLE)
    axis = check.channel_axis(axis, x.ndim)
    training = check.flag("training", training)
    momentum = check.momentum_value(momentum)
    eps = check.eps_value(eps)
    code = activation_code(activation)
    channels = x.shape[axis]
    meaning = check.PER_CHANNEL_OF_AXIS
    weight = check.parameter("weight", weight, (channels,), meaning)
    bias = check.parameter("bias", bias, (channels,), meaning)
    running = check.running_statistics(running_mean, running_var, channels, meaning, "training", training)
    plan = channels_walk(
        "batch_norm", "forward", x.shape, x.dtype, memory_order(x), axis, training, momentum, eps, code
    )
    if training:
        _needs_values(plan, at_least=2)
    return plan, _operands(x, weight, bias, *running, out, updates=training)


def batch_stats(x: Any, *, axis: int = 1) -> Planned:
    x = check.float_array("x", x)
    check.ranked(x, 2, 5, CHANNELS_EXAMPLE)
    plan = channels_walk(
        "batch_stats", "stats", x.shape, x.dtype, memory_order(x), check.channel_axis(axis, x.ndim)
    )  # fmt: skip
    _needs_values(plan, at_least=1)
    return plan, Operands(x)


def _needs_values(plan: Plan, at_least: int) -> None:
    if plan.groups == 0 or plan.group_size >= at_least:
        return
    if plan.group_size == 0:
        raise ValueError(
            f"x has shape {plan.shape}: its {plan.groups} channels hold no values, and statistics over nothing are "
            "undefined; pass at least one row"
        )
    raise ValueError(
        f"x has shape {plan.shape}: one value per channel, and batch norm in training needs more than one, because its "
        "variance would be zero; use a larger batch, or training=False with running statistics"
    )


# --- layer norm and RMS norm ------------------------------------------------------------------------------------------


def layer_norm(
    x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *, out: Any = None
) -> Planned:
    return _layer_norm("layer_norm", x, normalized_shape, weight, bias, eps, None, out)


def layer_norm_forward(
    x: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    activation: str | None = None,
    out: Any = None,
) -> Planned:
    return _layer_norm("layer_norm", x, normalized_shape, weight, bias, eps, activation, out)


def rms_norm(
    x: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None, *, out: Any = None
) -> Planned:
    return _layer_norm("rms_norm", x, normalized_shape, weight, None, eps, None, out)


def rms_norm_forward(
    x: Any,
    normalized_shape: Any,
    weight: Any = None,
    eps: float | None = None,
    *,
    activation: str | None = None,
    out: Any = None,
) -> Planned:
    return _layer_norm("rms_norm", x, normalized_shape, weight, None, eps, activation, out)


def _layer_norm(
    op: str, x: Any, normalized_shape: Any, weight: Any, bias: Any, eps: Any, activation: str | None, out: Any
) -> Planned:
    x = check.float_array("x", x)
    shape = check.normalized_axes(normalized_shape, x)
    centred = op == "layer_norm"
    if centred:
        eps = check.eps_value(eps)
    elif eps is None:
        eps = check.MACHINE_EPSILON[x.dtype.name]
    else:
        eps = check.eps_value(eps, "None, for the machine epsilon of x, or a positive finite number such as 1e-6")
    code = activation_code(activation)
    weight = check.parameter("weight", weight, shape, check.PER_ELEMENT)
    bias = check.parameter("bias", bias, shape, check.PER_ELEMENT)
    lead = x.ndim - len(shape)
    rows, segments = math.prod(x.shape[:lead]), math.prod(shape)
    plan = rows_walk(
        op, x.shape, x.dtype, memory_order(x), (0, lead), (rows, segments, 1), shape, lead, 0.0, eps, centred, code
    )
    return plan, _operands(x, weight, bias, None, None, out)


# --- group norm -------------------------------------------------------------------------------------------------------


def group_norm(
    x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *, out: Any = None
) -> Planned:
    return _group_norm(x, num_groups, weight, bias, eps, None, out)


def group_norm_forward(
    x: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    activation: str | None = None,
    out: Any = None,
) -> Planned:
    return _group_norm(x, num_groups, weight, bias, eps, activation, out)


def _group_norm(
    x: Any, num_groups: int, weight: Any, bias: Any, eps: float, activation: str | None, out: Any
) -> Planned:
    x = check.float_array("x", x)
    check.ranked(x, 2, 5, CHANNELS_EXAMPLE)
    batch, channels, *spatial = x.shape
    groups = check.group_count(num_groups, channels)
    eps = check.eps_value(eps)
    code = activation_code(activation)
    weight = check.parameter("weight", weight, (channels,), check.PER_CHANNEL)
    bias = check.parameter("bias", bias, (channels,), check.PER_CHANNEL)
    sizes = batch * groups, channels // groups, math.prod(spatial)
    group_size = sizes[1] * sizes[2]
    if group_size == 0:
        raise ValueError(
            f"x has shape {x.shape}: its groups hold no values, and statistics over nothing are undefined; "
            "pass an x with channels whose spatial axes are not empty"
        )
    if batch * group_size == 1:
        raise ValueError(
            f"x has shape {x.shape}: one value in each of {groups} groups, and its variance would be zero; "
            "pass more values, or fewer groups"
        )
    plan = rows_walk(
        "group_norm", x.shape, x.dtype, memory_order(x), (2, x.ndim), sizes, (channels,), 0, 0.0, eps, True, code
    )
    return plan, _operands(x, weight, bias, None, None, out)


# --- instance norm ----------------------------------------------------------------------------------------------------


def instance_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    out: Any = None,
) -> Planned:
    return _instance_norm(x, running_mean, running_var, weight, bias, use_input_stats, momentum, eps, None, out)


def instance_norm_forward(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    running_mean: Any = None,
    running_var: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str | None = None,
    out: Any = None,
) -> Planned:
    return _instance_norm(x, running_mean, running_var, weight, bias, use_input_stats, momentum, eps, activation, out)


def _instance_norm(
    x: Any, running_mean: Any, running_var: Any, weight: Any, bias: Any, use_input_stats: bool, momentum: float,
    eps: float, activation: str | None, out: Any,
) -> Planned:  # fmt: skip
    x = check.float_array("x", x)
    check.ranked(x, 3, 5, INSTANCE_EXAMPLE)
    use_input_stats = check.flag("use_input_stats", use_input_stats)
    momentum = check.momentum_value(momentum)
    eps = check.eps_value(eps)
    code = activation_code(activation)
    batch, channels, *spatial = x.shape
    meaning = check.PER_CHANNEL
    weight = check.parameter("weight", weight, (channels,), meaning)
    bias = check.parameter("bias", bias, (channels,), meaning)
    running = check.running_statistics(running_mean, running_var, channels, meaning, "use_input_stats", use_input_stats)
    length = math.prod(spatial)
    if use_input_stats and channels and length < 2:
        _refuse_instances(x.shape, length)
    order = memory_order(x)
    plan = (
        rows_walk(
            "instance_norm", x.shape, x.dtype, order, (2, x.ndim), (batch * channels, 1, length), (channels,), 0,
            momentum, eps, True, code,
        )
        if use_input_stats  # otherwise mean and variance are given, one pair a channel, as in batch norm's inference
        else channels_walk("instance_norm", "forward", x.shape, x.dtype, order, 1, False, momentum, eps, code)
    )  # fmt: skip
    return plan, _operands(x, weight, bias, *running, out, updates=use_input_stats)


def _refuse_instances(shape: tuple[int, ...], length: int) -> None:
    if length == 0:
        raise ValueError(
            f"x has shape {shape}: its instances hold no values, and statistics over nothing are undefined; "
            "pass an x whose spatial axes are not empty"
        )
    raise ValueError(
        f"x has shape {shape}: one value per instance and channel, and its variance would be zero; "
        "pass more than one spatial element, or use_input_stats=False with running statistics"
    )


# --- what all share ---------------------------------------------------------------------------------------------------


def _operands(
    x: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, out: Any, updates: bool = False
) -> Operands:
    """The arrays of a call; those that are written share memory with no other, save `out` with `x`."""
    returned = out
    if out is not None:
        out = check.writable_like("out", out, "x", x)
    if running_mean is not None and updates:
        others = ("x", x), ("out", out), ("weight", weight), ("bias", bias)
        check.apart("running_mean", running_mean, ("running_var", running_var), *others)
        check.apart("running_var", running_var, *others)
    if out is not None:
        check.apart("out", out, ("weight", weight), ("bias", bias))
        if not updates:
            check.apart("out", out, ("running_mean", running_mean), ("running_var", running_var))
        check.apart_or_same("out", out, "x", x)
    return Operands(x, weight, bias, running_mean, running_var, out, returned)


def _backward(op: str, dy: Any, ctx: Any, *, out: Any = None) -> Planned:
    plan = ctx.plan if isinstance(ctx, NormContext) else None
    if not isinstance(plan, Plan):
        raise TypeError(f"ctx must be what {op}_forward returned, got {type(ctx).__name__}; pass its second result")
    if plan.op != op:
        raise ValueError(f"ctx comes from {plan.op}_forward; call {plan.op}_backward, not {op}_backward")
    if ctx.overwritten:
        raise ValueError(f"ctx has lost its x: {op}_forward wrote its result over it (out=x); call it without out=x")
    dy = check.float_array("dy", dy)
    if dy.shape != plan.shape:
        raise ValueError(f"dy must have the shape of x in ctx, {plan.shape}, got {dy.shape}")
    if dy.dtype != plan.dtype:
        raise TypeError(f"dy must have the dtype of x in ctx, {plan.dtype}, got {dy.dtype}; use dy.astype(x.dtype)")
    check.intact(ctx, plan)
    returned = out
    if out is not None:
        out = check.writable_like("out", out, "dy", dy)
        kept = ("x", "weight", "bias", "mean", "rstd")
        check.apart("out", out, *((f"ctx.{name}", getattr(ctx, name)) for name in kept))
        check.apart_or_same("out", out, "dy", dy)
    return backward_of(plan), Operands(dy, out=out, returned=returned)


batch_norm_backward = partial(_backward, "batch_norm")
layer_norm_backward = partial(_backward, "layer_norm")
rms_norm_backward = partial(_backward, "rms_norm")
group_norm_backward = partial(_backward, "group_norm")
instance_norm_backward = partial(_backward, "instance_norm")

PLANNERS: dict[str, Callable[..., Planned]] = {
    "batch_norm": batch_norm,
    "batch_norm_forward": batch_norm_forward,
    "batch_norm_backward": batch_norm_backward,
    "batch_stats": batch_stats,
    "layer_norm": layer_norm,
    "layer_norm_forward": layer_norm_forward,
    "layer_norm_backward": layer_norm_backward,
    "rms_norm": rms_norm,
    "rms_norm_forward": rms_norm_forward,
    "rms_norm_backward": rms_norm_backward,
    "group_norm": group_norm,
    "group_norm_forward": group_norm_forward,
    "group_norm_backward": group_norm_backward,
    "instance_norm": instance_norm,
    "instance_norm_forward": instance_norm_forward,
    "instance_norm_backward": instance_norm_backward,
}
