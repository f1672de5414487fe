"""The calls whose memory is watched, each with the arrays that a failure must leave as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import normcore as nc
from normcore.nn import BatchNorm1d, Linear, Parameter
from normcore.optim import SGD, Adam

Array = np.ndarray[Any, Any]


class Attempt(NamedTuple):
    """A call that is ready to be made once: what it returns, and what it may write when it returns."""

    run: Callable[[], list[Array]]
    written: Callable[[], list[Array]]


class Case(NamedTuple):
    """A kind of call; `ready` makes everything anew, so that attempts share nothing."""

    name: str
    ready: Callable[[], Attempt]


class Norm(NamedTuple):
    """A norm, the shape of its x, what it is told besides, and its parameters."""

    name: str
    shape: tuple[int, ...]
    told: tuple[int, ...]
    parameters: int


NORMS = (
    Norm("batch", (6, 400, 30), (), 400),  # channels in blocks
    Norm("batch", (3, 2, 50_000), (), 2),  # few and large channels, in pieces
    Norm("batch", (2_000, 200), (), 200),  # columns
    Norm("batch", (40, 900), (), 900),
    Norm("layer", (300, 500), (500,), 500),
    Norm("layer", (3, 60_000), (60_000,), 60_000),  # large rows, in pieces
    Norm("rms", (300, 500), (500,), 500),
    Norm("group", (60, 400, 3), (8,), 400),
    Norm("group", (2, 4, 40_000), (2,), 4),
    Norm("instance", (6, 400, 30), (), 400),
)
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C order": np.ascontiguousarray,
    "Fortran order": np.asfortranarray,
    "channels last": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2],
}


def every_case(layouts: tuple[str, ...] = tuple(LAYOUTS)) -> Iterator[Case]:
    """Norms in every layout, forward and backward, with and without `out`; statistics; layers; optimisers."""
    for norm in NORMS:
        for layout in layouts:
            for dtype in ("float32", "float64"):
                yield from _of_norm(norm, layout, dtype)
    yield Case("batch_stats", _ready_stats)
    yield Case("RunningMoments.update", _ready_moments)
    # Not RunningCovariance: its product is OpenBLAS's, which crashes where it gets no memory.
    for dtype in ("float32", "float64"):
        yield Case(f"Linear {dtype}", lambda dtype=dtype: _ready_linear(dtype))
        yield Case(f"BatchNorm1d {dtype}", lambda dtype=dtype: _ready_layer(dtype))
        yield Case(f"SGD.step {dtype}", lambda dtype=dtype: _ready_step(dtype, SGD))
        yield Case(f"Adam.step {dtype}", lambda dtype=dtype: _ready_step(dtype, Adam))


def _of_norm(norm: Norm, layout: str, dtype: str) -> Iterator[Case]:
    title = f"{norm.name} norm {'x'.join(map(str, norm.shape))} {dtype}, {layout}"
    yield Case(f"{title}: forward", lambda: ready_forward(norm, layout, dtype))
    yield Case(f"{title}: forward, out=", lambda: ready_forward(norm, layout, dtype, into=True))
    yield Case(f"{title}: backward", lambda: ready_backward(norm, layout, dtype))
    yield Case(f"{title}: backward, out=", lambda: ready_backward(norm, layout, dtype, into=True))


def _operands(norm: Norm, layout: str, dtype: str) -> tuple[Array, Array, dict[str, Any]]:
    rng = np.random.default_rng(0)
    x, dy = (LAYOUTS[layout](rng.standard_normal(norm.shape).astype(dtype)) for _ in range(2))
    options: dict[str, Any] = {"weight": np.linspace(0.5, 2, norm.parameters, dtype="float32")}
    if norm.name != "rms":
        options["bias"] = np.linspace(-1, 1, norm.parameters, dtype="float32")
    return x, dy, options


def ready_forward(norm: Norm, layout: str, dtype: str, into: bool = False) -> Attempt:
    """A forward call, of batch and instance norm with running statistics."""
    x, _, options = _operands(norm, layout, dtype)
    forward = getattr(nc, f"{norm.name}_norm_forward")
    written = []
    if norm.name in ("batch", "instance"):
        options["running_mean"] = np.linspace(0, 1, norm.parameters, dtype="float32")
        options["running_var"] = np.linspace(1, 2, norm.parameters, dtype="float32")
        written += [options["running_mean"], options["running_var"]]
    if into:
        options["out"] = np.full(norm.shape, 7, dtype)
        written += [] if copied(norm, x) else [options["out"]]

    def run() -> list[Array]:
        y, ctx = forward(x, *norm.told, **options)
        return [y, ctx.mean, ctx.rstd]

    return Attempt(run, lambda: written)


def ready_backward(norm: Norm, layout: str, dtype: str, into: bool = False) -> Attempt:
    """A backward call."""
    x, dy, options = _operands(norm, layout, dtype)
    _, ctx = getattr(nc, f"{norm.name}_norm_forward")(x, *norm.told, **options)
    backward = getattr(nc, f"{norm.name}_norm_backward")
    out = np.full(norm.shape, 7, dtype) if into else None

    def run() -> list[Array]:
        return [gradient for gradient in backward(dy, ctx, out=out) if gradient is not None]

    return Attempt(run, lambda: [] if out is None or copied(norm, x) else [out])


def copied(norm: Norm, x: Array) -> bool:
    """Whether no walk reads such an x in place: it is copied into `out` before the kernel takes its scratch memory."""
    options = {"training": True} if norm.name == "batch" else {}
    return nc.explain(getattr(nc, f"{norm.name}_norm"), x, *norm.told, **options).plan.copies


def _ready_stats() -> Attempt:
    x = np.random.default_rng(0).standard_normal((900, 400))
    return Attempt(lambda: list(nc.batch_stats(x)), list)


def _ready_moments() -> Attempt:
    x = np.random.default_rng(0).standard_normal((300, 400))
    x[5, 3] = np.nan
    moments = nc.RunningMoments()
    moments.update(x[:100])

    def run() -> list[Array]:
        moments.update(x[100:])
        return []

    return Attempt(run, lambda: [np.array(moments.count), moments.mean, moments.var, moments.min, moments.max])


def _ready_linear(dtype: str) -> Attempt:
    x = np.random.default_rng(0).standard_normal((64, 784)).astype(dtype)
    layer = Linear(784, 32, dtype=dtype, rng=0)

    def run() -> list[Array]:
        y = layer(x)
        return [y, layer.backward(y), *(param.grad for param in layer.parameters() if param.grad is not None)]

    return Attempt(run, lambda: [param.data for param in layer.parameters()])


def _ready_layer(dtype: str) -> Attempt:
    x = np.random.default_rng(0).standard_normal((900, 300)).astype(dtype)
    layer = BatchNorm1d(300, dtype=dtype)
    return Attempt(lambda: [layer(x)], lambda: list(layer.state_dict().values()))


def _ready_step(dtype: str, optimizer: Any) -> Attempt:
    rng = np.random.default_rng(0)
    params = [Parameter(rng.standard_normal(n).astype(dtype)) for n in (7_000, 900, 50_000)]
    for param in params:
        param.grad = np.ones_like(param.data)
    options = {"momentum": 0.9} if optimizer is SGD else {}
    ready = optimizer(params, lr=0.1, **options)

    def run() -> list[Array]:
        ready.step()
        return []

    return Attempt(run, lambda: [param.data for param in params])
