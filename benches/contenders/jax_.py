"""JAX: the formulas under ``jit``, compiled for this shape, waiting for the result, which is fresh or donated.

XLA's threads are as many as the CPUs that the process may use when JAX starts; `environment` sees to that.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benches.cases import EPS, MOMENTUM, Problem, view

from .base import Contender, Ways


def _absent() -> str:
    return "" if importlib.util.find_spec("jax") else "jax is not installed"


@contextmanager
def _session(n: int) -> Iterator[None]:  # noqa: ARG001 - see environment
    import jax

    with jax.enable_x64(True):  # else float64 would become float32; nothing changes for the others
        yield


def _formula(p: Problem) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A function of arrays whose first result is y or dx, and its arguments."""
    import jax
    import jax.numpy as jnp

    shape, axes, parameters = view(p.case)
    over = tuple(axis for axis, length in enumerate(parameters) if length == 1)
    wide = jnp.promote_types(p.x.dtype, jnp.float32)
    n = p.x.size // p.weight.size
    centred = p.case.op != "rms_norm"
    x, dy, weight, bias, mean, var = (jax.device_put(a) for a in (p.x, p.dy, p.weight, p.bias, p.mean, p.var))

    def statistics(x: Any) -> tuple[Any, Any]:
        m = x.mean(axes, keepdims=True) if centred else jnp.zeros((), x.dtype)
        return m, jnp.square(x - m).mean(axes, keepdims=True)

    def apply(x: Any, m: Any, v: Any, weight: Any, bias: Any) -> Any:
        y = (x - m) * (jax.lax.rsqrt(v + EPS) * weight.reshape(parameters))
        y = y + bias.reshape(parameters) if centred else y
        return y.astype(p.x.dtype).reshape(p.case.shape)

    def forward(x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
        m, v = statistics(x.reshape(shape).astype(wide))
        y = apply(x.reshape(shape).astype(wide), m, v, weight, bias)
        if p.case.op != "batch_norm":
            return y, m, v
        keep, unbiased = 1 - MOMENTUM, v.ravel() * (n / (n - 1))
        return y, m, v, keep * mean + MOMENTUM * m.ravel(), keep * var + MOMENTUM * unbiased

    def inference(x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
        m, v = mean.reshape(parameters).astype(wide), var.reshape(parameters).astype(wide)
        return (apply(x.reshape(shape).astype(wide), m, v, weight, bias),)

    def backward(dy: Any, x: Any, m: Any, rstd: Any, weight: Any) -> Any:
        dy, xhat = dy.reshape(shape).astype(wide), (x.reshape(shape).astype(wide) - m) * rstd
        g = dy * weight.reshape(parameters)
        inner = g - xhat * (g * xhat).mean(axes, keepdims=True)
        inner = inner - g.mean(axes, keepdims=True) if centred else inner
        dx = (inner * rstd).astype(p.x.dtype).reshape(p.case.shape)
        return dx, (dy * xhat).sum(over), dy.sum(over) if centred else 0

    if p.case.direction == "backward":
        m, v = statistics(x.reshape(shape).astype(wide))
        return backward, (dy, x, m, jax.lax.rsqrt(v + EPS), weight)
    return (forward if p.case.direction == "forward" else inference), (x, weight, bias, mean, var)


def _ways(p: Problem) -> Ways:
    import jax
    import jax.numpy as jnp

    wait: Any = jax.block_until_ready
    function, arguments = _formula(p)
    plain = jax.jit(function)
    donating = jax.jit(lambda out, *rest: function(*rest), donate_argnums=0, keep_unused=True)  # noqa: ARG005 - out is there to be donated
    kept = [jnp.zeros(p.x.shape, p.x.dtype)]

    def fresh() -> Any:
        return wait(plain(*arguments))

    def donated() -> Any:
        results = wait(donating(kept[0], *arguments))
        kept[0] = results[0]  # its memory is the next call's result
        return results

    return {"jit": fresh, "jit, donated": donated}


JAX = Contender("JAX", _ways, _absent, _session, peer=True)
