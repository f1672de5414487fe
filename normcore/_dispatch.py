"""Chooses a kernel for a plan, prepares its buffers, runs it.

``KERNELS`` is the whole table, fastest first. The first entry that does not decline runs. A backend that the user asked
for by name runs or raises; nothing is replaced silently.
"""

from __future__ import annotations

import math
import os
import warnings
from functools import cache, lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from normcore import _threads, backends
from normcore._buffers import (
    delivered,
    float64_vector,
    gradient,
    gradient_room,
    in_walk,
    input_and_result,
    room_in_c_order,
    to_c_order,
    to_walk_order,
    walked,
)
from normcore._context import NormContext
from normcore._memory import same_memory
from normcore._running import running_update
from normcore._setting import Block, Setting
from normcore._shown import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from normcore._plan import Operands, Plan

    Array = NDArray[Any]


class Entry(NamedTuple):
    """A row of the kernel table."""

    backend: str
    walk: str
    automatic: bool  # runs without being asked for by name

    @property
    def name(self) -> str:
        return f"{self.backend}: {self.walk}"


KERNELS = (
    Entry("cython", "channels", automatic=True),
    Entry("cython", "rows", automatic=True),
    Entry("numba", "channels", automatic=False),  # compiling at the first call would surprise who did not ask for it
    Entry("numba", "rows", automatic=False),
    Entry("reference", "channels", automatic=True),
    Entry("reference", "rows", automatic=True),
)

chosen_backend: Setting[str] = Setting("normcore_backend")
_NOT_RUN = -1.0  # what no kernel writes into rstd


# --- choosing ---------------------------------------------------------------------------------------------------------


class use_backend(Block[str]):  # noqa: N801 - used like a function: with nc.use_backend("numba"):
    """Run the calls in a ``with`` block on one backend.

    The choice is a context variable: it holds in this thread or task and not in others. It goes before the environment
    variable ``NORMCORE_BACKEND``, which chooses for a whole process and is read at the first call.

    Parameters
    ----------
    name : {"cython", "numba", "reference"}
        The backend.

    Raises
    ------
    ValueError
        If there is no backend of that name.
    ImportError
        If it cannot be loaded here; the message says why and what to install.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> with nc.use_backend("reference"):
    ...     mean, var = nc.batch_stats(np.array([[1.0, 10.0], [3.0, 10.0]]))
    >>> mean, var
    (array([ 2., 10.]), array([1., 0.]))
    """

    def __init__(self, name: str) -> None:
        super().__init__(chosen_backend, _available("use_backend(name)", name))


def _available(asked_by: str, name: str) -> str:
    if not isinstance(name, str) or name not in backends.BACKENDS:
        raise ValueError(f"{asked_by} must be one of {', '.join(backends.BACKENDS)}, got {shown(name)}")
    backends.load(name)
    return name


@cache
def process_backend() -> str | None:
    name = os.environ.get("NORMCORE_BACKEND", "")
    return _available("NORMCORE_BACKEND", name) if name else None


def asked_for() -> str | None:
    """The backend that the user asked for by name, if any."""
    return chosen_backend.get() or process_backend()


@lru_cache(256)
def _declines(entry: Entry, walk: str, dtype: np.dtype[Any], activation: int) -> str | None:
    """Why the entry does not carry a call, or None."""
    try:
        module = backends.load(entry.backend)
    except ImportError as error:
        return str(error)
    reason: str | None = module.declines(walk, dtype, activation)
    return reason


@lru_cache(256)
def _first(asked: str | None, walk: str, dtype: np.dtype[Any], activation: int) -> Entry | tuple[str, ...]:
    """The first entry that carries a call, or the reasons why none does."""
    reasons = []
    for entry in KERNELS:
        if entry.walk != walk or (entry.backend != asked if asked else not entry.automatic):
            continue
        reason = _declines(entry, walk, dtype, activation)
        if reason is None:
            return entry
        reasons.append(reason)
    return tuple(reasons)


def choose(plan: Plan) -> Entry:
    """The table entry that runs `plan`."""
    asked = asked_for()
    entry = _first(asked, plan.walk, plan.dtype, plan.activation)
    if not isinstance(entry, Entry):
        raise TypeError(
            f"the {asked} backend, asked for by name, cannot run {plan.op} on x of {plan.dtype}: {'; '.join(entry)}; "
            "choose another with use_backend or leave the choice to normcore"
        )
    if asked is None and entry.backend == "reference":
        _warn_if_not_compiled()
    return entry


@cache
def _warn_if_not_compiled() -> None:
    """Say once that everything runs on the slow backend because the fast one is missing."""
    try:
        backends.load("cython")
    except ImportError as error:
        warnings.warn(f"normcore runs on its slow reference backend: {error}", RuntimeWarning, stacklevel=5)


@cache
def _kernels(backend: str, dtype: np.dtype[Any]) -> backends.Kernels:
    module: ModuleType = backends.load(backend)
    kernels: backends.Kernels = module.kernels(dtype)
    return kernels


LOOPS = {"channels": ("outer", "channels", "inner"), "rows": ("rows", "segments", "length")}


class Explanation(NamedTuple):
    """Which kernel runs a call, and why those before it do not."""

    plan: Plan
    kernel: str
    num_threads: int
    declined: dict[str, str]  # kernel -> reason

    def __str__(self) -> str:
        plan = self.plan
        lines = [f"{plan.op}, {plan.direction}, x {plan.shape} {plan.dtype}: runs on {self.kernel}"]
        loops = zip(LOOPS[plan.walk], plan.sizes, strict=True)
        lines.append(f"  walk     {' x '.join(f'{name} {size}' for name, size in loops)}")
        if plan.copies:
            lines.append("  layout   x is contiguous in no order that suits this walk: walked as a contiguous copy")
        lines.append(f"  threads  {self.num_threads}")
        lines += [f"  declined {name}: {reason}" for name, reason in self.declined.items()]
        return "\n".join(lines)


def explanation(plan: Plan) -> Explanation:
    """Explain the choice for `plan` without running it."""
    chosen = choose(plan)
    asked = asked_for()
    declined = {}
    for entry in KERNELS[: KERNELS.index(chosen)]:
        if entry.walk != plan.walk:
            continue
        if asked:
            reason: str | None = f"the {asked} backend was asked for by name"
        elif entry.automatic:
            reason = _declines(entry, plan.walk, plan.dtype, plan.activation)
        else:
            reason = "runs only when asked for by name"
        assert reason is not None  # it would have been chosen
        declined[entry.name] = reason
    return Explanation(plan, chosen.name, _num_threads(plan, chosen), declined)


def _num_threads(plan: Plan, entry: Entry) -> int:
    return 1 if entry.backend == "reference" else _threads.threads_for(plan.size * plan.dtype.itemsize)


# --- running ----------------------------------------------------------------------------------------------------------


def stats(plan: Plan, ops: Operands) -> tuple[Array, Array]:
    """Mean and population variance of every channel."""
    entry = choose(plan)
    mean, var = np.empty(plan.groups), np.empty(plan.groups)
    if plan.size:
        threads = _threads.about_to_use(_num_threads(plan, entry))
        _kernels(entry.backend, plan.dtype).channels_stats(walked(plan, in_walk(plan, ops.x)), mean, var, threads)
    return mean, var


def forward(plan: Plan, ops: Operands) -> tuple[Array, NormContext]:
    """Normalise; update the running statistics in training. What may fail for want of memory comes first."""
    entry = choose(plan)
    groups, training = plan.groups, plan.training
    rstd = np.empty(groups)
    if training:
        mean, var = (np.empty if plan.centred else np.zeros)(groups), np.empty(groups)
    else:
        assert ops.running_mean is not None
        assert ops.running_var is not None
        mean, var = ops.running_mean.astype(np.float64), ops.running_var.astype(np.float64)
    update = running_update(plan, ops)
    weight, bias = float64_vector(plan, ops.weight, 1.0), float64_vector(plan, ops.bias, 0.0)
    kept_mean, kept_rstd = room_in_c_order(plan, mean), room_in_c_order(plan, rstd)
    x, y = input_and_result(plan, ops.x, ops.out)
    rstd[:1], whole = _NOT_RUN, False
    try:
        if plan.size:
            threads = _threads.about_to_use(_num_threads(plan, entry))
            kernels = _kernels(entry.backend, plan.dtype)
            operands = walked(plan, x), weight, bias, mean, var, rstd, walked(plan, y), plan.eps
            if plan.walk == "rows":
                kernels.rows_forward(*operands, plan.centred, plan.activation, threads)
            else:
                kernels.channels_forward(*operands, training, plan.activation, threads)
        else:
            with np.errstate(all="ignore"):
                rstd[:] = 1.0 / np.sqrt(var + plan.eps)
        whole = True
    finally:
        # The running statistics belong to the result: both are written, or neither.
        if whole or _came_to_its_end(entry, rstd):
            result = delivered(y, ops)
            to_c_order(plan, mean, kept_mean)
            to_c_order(plan, rstd, kept_rstd)
            if update is not None:
                update.apply(kept_mean, var)
    bias_dtype = None if ops.bias is None else ops.bias.dtype
    kept_bias = ops.bias if plan.activation else None
    overwritten = ops.out is not None and bool(ops.x.size) and same_memory(ops.out, ops.x)
    return result, NormContext(plan, ops.x, ops.weight, kept_bias, bias_dtype, kept_mean, kept_rstd, overwritten)


def _came_to_its_end(entry: Entry, rstd: Array) -> bool:
    """Whether a compiled kernel ended, in spite of an exception: Python looks for Ctrl-C as it returns."""
    return entry.backend != "reference" and rstd.size > 0 and bool(rstd[0] != _NOT_RUN)


def backward(plan: Plan, ops: Operands, ctx: NormContext) -> tuple[Array, Array | None, Array | None]:
    """The gradients for x, weight and bias."""
    entry = choose(plan)
    parameters = math.prod(plan.parameter_shape)
    dweight, dbias = np.zeros(parameters), np.zeros(parameters)
    weight, bias = float64_vector(plan, ctx.weight, 1.0), float64_vector(plan, ctx.bias, 0.0)
    x, mean, rstd = in_walk(plan, ctx.x), to_walk_order(plan, ctx.mean), to_walk_order(plan, ctx.rstd)
    weight_gradient = None if ctx.weight is None else gradient_room(dweight, ctx.weight.dtype)
    bias_gradient = None if ctx.bias_dtype is None else gradient_room(dbias, ctx.bias_dtype)
    dy, dx = input_and_result(plan, ops.x, ops.out)
    if plan.size:
        threads = _threads.about_to_use(_num_threads(plan, entry))
        kernels = _kernels(entry.backend, plan.dtype)
        operands = walked(plan, dy), walked(plan, x), weight, bias, mean, rstd, walked(plan, dx), dweight, dbias
        if plan.walk == "rows":
            kernels.rows_backward(*operands, plan.centred, plan.activation, threads)
        else:
            kernels.channels_backward(*operands, plan.training, plan.activation, threads)
    return (
        delivered(dx, ops),
        None if weight_gradient is None else gradient(plan, dweight, weight_gradient),
        None if bias_gradient is None else gradient(plan, dbias, bias_gradient),
    )
