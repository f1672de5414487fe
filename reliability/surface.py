"""Calls that between them enter every compiled function, for the programs that watch what such calls do to memory."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import normcore as nc
from normcore.nn import BatchNorm1d, CrossEntropyLoss, LayerNorm, Linear, Parameter, ReLU, Sequential
from normcore.optim import SGD, Adam, AdamW, clip_grad_norm_

Arrays = list[np.ndarray]


class Call(NamedTuple):
    """A call, and the objects that it is given again and again."""

    name: str
    run: Callable[[], Arrays]
    given: tuple[Any, ...]
    warm: int = 3  # calls after which caches keep what they will keep


def surface(large: bool = False) -> list[Call]:
    """Every kind of call, on arrays of some hundred values; large: enough of them for threads and the pool.

    What a call returns depends on how often it was called alone. Two surfaces share nothing.
    """
    rng = np.random.default_rng(7)
    dtypes = ["float32", "float64", "float16"]
    if importlib.util.find_spec("ml_dtypes"):
        import ml_dtypes  # noqa: F401 - gives NumPy the name "bfloat16"

        dtypes.append("bfloat16")
    calls = [call for dtype in dtypes for call in _norms(rng, dtype, 1 if not large else 12)]
    calls += [*_statistics(rng), *_steps(rng, 64 if not large else 300_000), *_network(rng, 8 if not large else 512)]
    return [*calls, _many_shapes(), _many_sizes(), *_mistakes(rng)]


def _norms(rng: np.random.Generator, dtype: str, size: int) -> Iterator[Call]:
    """Forward, backward, inference, `out` and activations, on every walk over memory."""
    activations = itertools.cycle([None, "relu", "gelu", "silu", "tanh", "sigmoid", "leaky_relu", "gelu_tanh"])
    for name, shape, told in (
        ("batch", (4 * size, 6, 3 * size, 7 * size), ()),  # channels
        ("batch", (33 * size * size, 6 * size), ()),  # columns
        ("layer", (12 * size, 17 * size), (17 * size,)),
        ("layer", (2, 40_000 * size), (40_000 * size,)) if size > 1 else ("layer", (2, 300), (300,)),  # large rows
        ("rms", (12 * size, 17 * size), (17 * size,)),
        ("group", (4 * size, 6, 11 * size), (3,)),
        ("instance", (3 * size, 4, 9 * size), ()),
    ):
        x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        n = told[0] if name in ("layer", "rms") else shape[1]
        weight = rng.uniform(0.5, 2.0, n).astype("float32")
        bias = None if name == "rms" else np.linspace(-1, 1, n)
        yield from _one_norm(name, x, dy, weight, bias, told, next(activations))


def _one_norm(
    name: str, x: Any, dy: Any, weight: Any, bias: Any, told: tuple[int, ...], activation: str | None
) -> Iterator[Call]:
    forward, backward = getattr(nc, f"{name}_norm_forward"), getattr(nc, f"{name}_norm_backward")
    arguments = (x, *told, weight) if name == "rms" else (x, *told, weight, bias)
    y_out, dx_out = np.empty_like(x), np.empty_like(x)
    given = (x, dy, weight, bias, x.dtype, activation, y_out, dx_out)
    title = f"{name} norm {x.dtype.name} {x.shape}"

    def both() -> Arrays:
        y, ctx = forward(*arguments, activation=activation)
        return [y, ctx.mean, ctx.rstd, *(a for a in backward(dy, ctx) if a is not None)]

    def into() -> Arrays:
        y, ctx = forward(*arguments, out=y_out)
        return [y.copy(), backward(dy, ctx, out=dx_out)[0].copy()]

    yield Call(f"{title} {activation}", both, given)
    yield Call(f"{title} out=", into, given)
    if name == "batch":
        mean, var = np.linspace(-1, 1, x.shape[1]), np.linspace(1, 2, x.shape[1])

        def inference() -> Arrays:
            y, ctx = forward(*arguments, running_mean=mean, running_var=var, training=False)
            return [y, backward(dy, ctx)[0]]

        def running() -> Arrays:
            return [nc.batch_norm(x, mean.copy(), var.copy(), weight, bias, training=True)]

        yield Call(f"{title} inference", inference, (*given, mean, var))
        yield Call(f"{title} running", running, (*given, mean, var))


def _statistics(rng: np.random.Generator) -> Iterator[Call]:
    x = rng.standard_normal((40, 6))
    with_holes = np.where(rng.random(x.shape) < 0.1, np.nan, x)

    def moments() -> Arrays:
        running = nc.RunningMoments()
        running.update(x)
        running.update(with_holes)
        return [running.mean, running.var]

    def covariance() -> Arrays:
        running = nc.RunningCovariance()
        running.update(x)
        return [running.cov]

    def explained() -> Arrays:
        nc.explain(nc.batch_norm, x, training=True)
        return []

    yield Call("batch_stats", lambda: list(nc.batch_stats(x)), (x,))
    yield Call("RunningMoments", moments, (x, with_holes))
    yield Call("RunningCovariance", covariance, (x,))
    yield Call("explain", explained, (x,))


def _steps(rng: np.random.Generator, size: int) -> Iterator[Call]:
    """Steps of every optimiser, those that begin (and make their state) and those that go on."""
    start, grad = rng.standard_normal((2, size))
    makers: dict[str, Callable[[list[Parameter]], Any]] = {
        "SGD": lambda params: SGD(params, lr=0.1),
        "SGD momentum": lambda params: SGD(params, lr=0.1, momentum=0.9, nesterov=True),
        "Adam": lambda params: Adam(params, lr=0.1, amsgrad=True),
        "AdamW": lambda params: AdamW(params, lr=0.1),
    }
    for name, make in makers.items():
        for dtype in ("float32", "float64"):
            begun, gradient = start.astype(dtype), grad.astype(dtype)

            def steps(make: Any = make, begun: Any = begun, gradient: Any = gradient) -> Arrays:
                param = Parameter(begun.copy())
                optimizer = make([param])
                for _ in range(2):
                    param.grad = gradient.copy()
                    clip_grad_norm_([param], 1.0)
                    optimizer.step()
                return [param.data]

            yield Call(f"{name} {dtype}", steps, (begun, gradient, begun.dtype))


def _network(rng: np.random.Generator, size: int) -> Iterator[Call]:
    """A training step of a network: the products of Linear, the layers' own state, the loss of classes."""
    for dtype in ("float32", "float64"):
        x = rng.standard_normal((2 * size, 5 * size)).astype(dtype)
        classes = np.arange(2 * size) % 3
        model = Sequential(
            Linear(5 * size, 40, dtype=dtype, rng=0),
            BatchNorm1d(40, dtype=dtype),
            ReLU(),
            LayerNorm(40, dtype=dtype),
            Linear(40, 3, dtype=dtype, rng=1),
        )
        loss = CrossEntropyLoss()
        optimizer = Adam(model.parameters(), lr=1e-3)

        def step(
            model: Any = model, loss: Any = loss, optimizer: Any = optimizer, x: Any = x, classes: Any = classes
        ) -> Arrays:
            optimizer.zero_grad()
            value = loss(model(x), classes)
            dx = model.backward(loss.backward())
            optimizer.step()
            return [np.asarray(value), dx]

        yield Call(f"network {dtype}", step, (x, classes, x.dtype))


def _many_shapes() -> Call:
    """More shapes than plans are kept of (256)."""
    rows = itertools.cycle(range(2, 300))
    base = np.random.default_rng(3).standard_normal((300, 3)).astype("float32")

    def run() -> Arrays:
        y, ctx = nc.batch_norm_forward(base[: next(rows)])
        return [nc.batch_norm_backward(y, ctx)[0]]

    return Call("many shapes", run, (base,), warm=900)


def _many_sizes() -> Call:
    """Results of more sizes than the pool has blocks."""
    columns = itertools.cycle(range(1024, 2048, 91))
    base = np.random.default_rng(4).standard_normal(64 * 2048).astype("float32")

    def run() -> Arrays:
        n = next(columns)
        return [nc.layer_norm(base[: 64 * n].reshape(64, n), n)]

    return Call("many sizes", run, (base,))


def _mistakes(rng: np.random.Generator) -> Iterator[Call]:
    """Calls that are refused, some of them after an array was made."""
    x = rng.standard_normal((6, 4)).astype("float32")
    wrong = np.ones(5)
    _, ctx = nc.batch_norm_forward(x)
    layer = Linear(4, 3, rng=0)
    classes = np.array([0, 1, 2, 3, 9, 0])
    loss = CrossEntropyLoss()
    for name, error, call in (
        ("weight", ValueError, lambda: nc.batch_norm_forward(x, wrong)),
        ("dy", ValueError, lambda: nc.batch_norm_backward(x[:3], ctx)),
        ("dtype", TypeError, lambda: nc.layer_norm(x.astype("complex64"), 4)),
        ("activation", ValueError, lambda: nc.rms_norm_forward(x, 4, activation="swish")),
        ("out", ValueError, lambda: nc.group_norm(x, 2, out=x[:, ::-1])),
        ("Linear", ValueError, lambda: layer(x[:, :3])),
        ("class", ValueError, lambda: loss(x, classes)),
    ):

        def refused(error: type[Exception] = error, call: Callable[[], Any] = call) -> Arrays:
            try:
                call()
            except error:
                return []
            raise AssertionError("this should have been refused")

        yield Call(f"refused: {name}", refused, (x, wrong, ctx, classes))


def main() -> int:
    """Call everything once with each kind of vectors, and look at every value; return the exit code."""
    from normcore.backends import cython_kernels as kernels

    for vectors in kernels.VECTORS:
        kernels.use_vectors(vectors)
        calls = surface()
        # for valgrind: a branch on every value, which it reports where a value was never written
        strange = [call.name for call in calls if not all(np.isfinite(a.astype(float)).all() for a in call.run())]
        print(f"{vectors}: {len(calls)} calls; with values that are not finite: {strange or 'none'}", flush=True)
        if strange:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
