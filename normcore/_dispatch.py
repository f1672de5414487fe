"""Chooses a kernel for a plan, prepares its buffers, runs it.

``KERNELS`` is the whole table, fastest first. The first entry that does not decline runs. A backend that the user asked
for by name runs or raises; nothing is replaced silently.
"""

from __future__ import annotations

import os
import warnings
from contextvars import ContextVar, Token
from functools import cache
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from normcore import _plan, _threads, backends
from normcore._context import NormContext

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
    Entry("numba", "channels", automatic=False),  # compiling at the first call would surprise who did not ask for it
    Entry("reference", "channels", automatic=True),
)

_backend: ContextVar[str | None] = ContextVar("normcore_backend", default=None)


# --- choosing ---------------------------------------------------------------------------------------------------------


class use_backend:  # noqa: N801 - used like a function: with nc.use_backend("numba"):
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
        self._name = _available("use_backend(name)", name)
        self._tokens: list[Token[str | None]] = []

    def __enter__(self) -> None:
        self._tokens.append(_backend.set(self._name))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _backend.reset(self._tokens.pop())


def _available(asked_by: str, name: str) -> str:
    if name not in backends.BACKENDS:
        raise ValueError(f"{asked_by} must be one of {', '.join(backends.BACKENDS)}, got {name!r}")
    backends.load(name)
    return name


@cache
def _process_backend() -> str | None:
    name = os.environ.get("NORMCORE_BACKEND", "")
    return _available("NORMCORE_BACKEND", name) if name else None


def asked_for() -> str | None:
    """The backend that the user asked for by name, if any."""
    return _backend.get() or _process_backend()


def _declines(entry: Entry, plan: Plan) -> str | None:
    """Why the entry does not carry the call, or None."""
    if entry.walk != plan.walk:
        return f"walks {entry.walk}, and this call needs {plan.walk}"
    try:
        module = backends.load(entry.backend)
    except ImportError as error:
        return str(error)
    reason: str | None = module.declines(plan.walk, plan.dtype)
    return reason


def choose(plan: Plan) -> Entry:
    """The table entry that runs `plan`."""
    asked = asked_for()
    reasons = []
    for entry in KERNELS:
        if entry.walk != plan.walk or (entry.backend != asked if asked else not entry.automatic):
            continue
        reason = _declines(entry, plan)
        if reason is None:
            if entry.backend == "reference" and asked is None:
                _warn_if_not_compiled()
            return entry
        reasons.append(reason)
    raise TypeError(
        f"the {asked} backend, asked for by name, cannot run {plan.op} on {plan.dtype}: {'; '.join(reasons)}; "
        "choose another with use_backend or leave the choice to normcore"
    )


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


class Explanation(NamedTuple):
    """Which kernel runs a call, and why those before it do not."""

    plan: Plan
    kernel: str
    num_threads: int
    declined: dict[str, str]  # kernel -> reason

    def __str__(self) -> str:
        plan = self.plan
        lines = [f"{plan.op}, {plan.direction}, x {plan.shape} {plan.dtype}: runs on {self.kernel}"]
        lines.append(f"  walk     outer {plan.outer} x channels {plan.channels} x inner {plan.inner}")
        if plan.copies:
            lines.append("  layout   x is contiguous in no order of its axes: walked as a contiguous copy")
        lines.append(f"  threads  {self.num_threads}")
        lines += [f"  declined {name}: {reason}" for name, reason in self.declined.items()]
        return "\n".join(lines)


def explanation(plan: Plan) -> Explanation:
    """Explain the choice for `plan` without running it."""
    chosen = choose(plan)
    asked = asked_for()
    declined = {}
    for entry in KERNELS[: KERNELS.index(chosen)]:
        reason = (
            _declines(entry, plan) if entry.automatic or entry.backend == asked else "runs only when asked for by name"
        )
        if asked and entry.backend != asked:
            reason = f"the {asked} backend was asked for by name"
        declined[entry.name] = reason or ""
    return Explanation(plan, chosen.name, _num_threads(plan, chosen), declined)


def _num_threads(plan: Plan, entry: Entry) -> int:
    return 1 if entry.backend == "reference" else _threads.threads_for(plan.size * plan.dtype.itemsize)


def _run(plan: Plan, entry: Entry, kernel: str, *args: Any) -> None:
    getattr(_kernels(entry.backend, plan.dtype), kernel)(*args, _threads.about_to_use(_num_threads(plan, entry)))


# --- running ----------------------------------------------------------------------------------------------------------


def stats(plan: Plan, ops: Operands) -> tuple[Array, Array]:
    """Mean and population variance of every channel."""
    entry = choose(plan)
    mean, var = np.empty(plan.channels), np.empty(plan.channels)
    if plan.size:
        walked = _walked(plan, np.ascontiguousarray(ops.x) if plan.copies else ops.x)
        _run(plan, entry, "channels_stats", walked, mean, var)
    return mean, var


def forward(plan: Plan, ops: Operands) -> tuple[Array, NormContext]:
    """Normalise; update the running statistics in training."""
    entry = choose(plan)
    channels = plan.channels
    weight = _float64(ops.weight, 1.0, channels)
    bias = _float64(ops.bias, 0.0, channels)
    rstd = np.empty(channels)
    if plan.training:
        mean, var = np.empty(channels), np.empty(channels)
    else:
        assert ops.running_mean is not None
        assert ops.running_var is not None
        mean, var = ops.running_mean.astype(np.float64), ops.running_var.astype(np.float64)
    x, y = _input_and_result(plan, ops.x, ops.out)
    if plan.size:
        _run(
            plan, entry, "channels_forward",
            _walked(plan, x), weight, bias, mean, var, rstd, _walked(plan, y), plan.eps, plan.training,
        )  # fmt: skip
    else:
        rstd[:] = 1.0 / np.sqrt(var + plan.eps)
    result = _delivered(y, ops.out)
    if plan.training and ops.running_mean is not None and ops.running_var is not None:
        _update_running(plan, mean, var, ops.running_mean, ops.running_var)
    bias_dtype = None if ops.bias is None else ops.bias.dtype
    overwritten = ops.out is not None and bool(ops.x.size) and _plan.same_memory(ops.out, ops.x)
    return result, NormContext(plan, ops.x, ops.weight, bias_dtype, mean, rstd, overwritten)


def backward(plan: Plan, ops: Operands, ctx: NormContext) -> tuple[Array, Array | None, Array | None]:
    """The gradients for x, weight and bias."""
    entry = choose(plan)
    channels = plan.channels
    weight = _float64(ctx.weight, 1.0, channels)
    dweight, dbias = np.zeros(channels), np.zeros(channels)
    dy, dx = _input_and_result(plan, ops.x, ops.out)
    if plan.size:
        x = np.ascontiguousarray(ctx.x) if plan.copies else ctx.x
        _run(
            plan, entry, "channels_backward",
            _walked(plan, dy), _walked(plan, x), weight, ctx.mean, ctx.rstd, _walked(plan, dx), dweight, dbias,
            plan.training,
        )  # fmt: skip
    return (
        _delivered(dx, ops.out),
        None if ctx.weight is None else dweight.astype(ctx.weight.dtype, copy=False),
        None if ctx.bias_dtype is None else dbias.astype(ctx.bias_dtype, copy=False),
    )


def _update_running(plan: Plan, mean: Array, var: Array, running_mean: Array, running_var: Array) -> None:
    """new = (1 - momentum) * old + momentum * batch, the variance unbiased, as PyTorch does."""
    if not plan.size:
        return
    keep, momentum = 1.0 - plan.momentum, plan.momentum
    unbiased = var * (plan.group_size / (plan.group_size - 1))
    with np.errstate(over="ignore"):  # a variance beyond float32 becomes inf there, as it should
        running_mean[...] = keep * running_mean.astype(np.float64) + momentum * mean
        running_var[...] = keep * running_var.astype(np.float64) + momentum * unbiased


def _float64(vector: Array | None, default: float, channels: int) -> Array:
    """What the kernels take for weight and bias: a contiguous float64 array."""
    if vector is None:
        return np.full(channels, default)
    return np.ascontiguousarray(vector, dtype=np.float64)


def _walked(plan: Plan, array: Array) -> Array:
    """An array that is contiguous in the plan's order, as (outer, channels, inner)."""
    walked: Array = array.transpose(plan.order).reshape(plan.outer, plan.channels, plan.inner)
    return walked


def _in_order(plan: Plan, array: Array) -> bool:
    return array.flags.aligned and array.transpose(plan.order).flags.c_contiguous


def _fresh(plan: Plan) -> Array:
    """A new array laid out in the plan's order, so that a result has the layout of its input."""
    inverse = sorted(range(len(plan.order)), key=plan.order.__getitem__)
    fresh: Array = np.empty([plan.shape[a] for a in plan.order], plan.dtype).transpose(inverse)
    return fresh


def _input_and_result(plan: Plan, source: Array, out: Array | None) -> tuple[Array, Array]:
    """The input and the result of a kernel, both laid out in the plan's order.

    An input of another layout is copied into the result's buffer, and the kernel works in place there: one buffer, not
    two. That buffer is `out` itself where its layout allows, and it is not the source.
    """
    fits = out is not None and _in_order(plan, out)
    if _in_order(plan, source):
        return source, (out if out is not None and fits else _fresh(plan))
    separate = out is not None and not _plan.same_memory(out, source)
    result = out if out is not None and fits and separate else _fresh(plan)
    np.copyto(result, source)
    return result, result


def _delivered(result: Array, out: Array | None) -> Array:
    if out is None or result is out:
        return result
    np.copyto(out, result)
    return out
