"""What the norm layers share: parameters, backward, and how a norm runs in one kernel with the activation behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from normcore._threads import PARALLEL_BYTES, threads
from normcore.functional._own_threads import own_threads

from ._checks import Array
from .module import Module, Parameter

try:
    from . import _products
except ImportError:  # nothing is compiled here: products are NumPy's
    _products = None  # type: ignore[assignment] # as above

# Bytes of x from which a layer may use threads. Where norms and the products beside them have threads of different
# kinds, much more than for a call by itself: Numba's and BLAS's spin for milliseconds after a loop, on cores that the
# other wants (a step of 784-1024-1024-1024-10 with batch 256 took 82 ms on two cores instead of 34). Where both run on
# threads of our own there is no limit: BatchNorm2d and ReLU of 32 x 64 x 28 x 28 take 0.74 ms forward and backward
# instead of 3.2, and that step is no slower.
OTHERS_BYTES = 32_000_000
THREADED_BYTES = 0 if _products is not None and _products.usable() else OTHERS_BYTES


def _may_use_threads(nbytes: int) -> bool:
    """Whether a norm of so many bytes is left to choose; below PARALLEL_BYTES it chooses one thread by itself."""
    if nbytes < PARALLEL_BYTES or nbytes >= OTHERS_BYTES:
        return True
    return nbytes >= THREADED_BYTES and own_threads()


class Context(Protocol):
    """What is read here of the functions' context."""

    plan: Any
    mean: Array
    rstd: Array
    x: Array


Backward = Callable[..., tuple[Array, Array | None, Array | None]]


class Skipped(NamedTuple):
    """What an activation keeps of a forward in which the norm before it did its work."""

    norm: Norm
    ctx: Context
    shape: tuple[int, ...]  # of the result


class Norm(Module):
    """Base of the norm layers. A subclass has `check`, `run`, and the function that is its backward.

    In a `Sequential`, a norm and the activation behind it run as one kernel: `forward_fused`, then `backward_fused`.
    Nothing of it shows: whoever calls the two layers' backward one by one gets what unfused layers would give, because
    what was not kept is computed again.
    """

    weight: Parameter | None
    bias: Parameter | None
    _function: ClassVar[Backward]

    def _make_parameters(self, shape: tuple[int, ...], dtype: np.dtype[Any], weight: bool, bias: bool) -> None:
        """Ones and zeros, or None."""
        self.weight = Parameter(np.ones(shape, dtype)) if weight else None
        self.bias = Parameter(np.zeros(shape, dtype)) if weight and bias else None

    def _parameters(self) -> tuple[Array | None, Array | None]:
        weight, bias = self.weight, self.bias
        return None if weight is None else weight.data, None if bias is None else bias.data

    def run(self, x: Array, activation: str | None) -> tuple[Array, Context]:
        """Normalise x, which is checked, and apply the activation: the result and its context."""
        raise NotImplementedError(f"{type(self).__name__} has no run(x, activation)")

    def _run(self, x: Array, activation: str | None) -> tuple[Array, Context]:
        if _may_use_threads(x.nbytes):
            return self.run(x, activation)
        with threads(1):
            return self.run(x, activation)

    def check(self, x: Array) -> Array:
        """Return x as a plain array that this layer takes, or raise."""
        raise NotImplementedError(f"{type(self).__name__} has no check(x)")

    def repeat(self, ctx: Context) -> tuple[Array, Context]:
        """Run the forward of a context again without its activation and without touching any statistics."""
        return self._run(ctx.x, None)

    def forward(self, x: Array) -> Array:
        """Return the normalised x."""
        y, self._saved = self._run(self.check(x), None)
        return y

    def backward(self, dy: Array) -> Array:
        """Set the gradients of weight and bias and return dx."""
        ctx = self._recall()
        if ctx.plan.activation:
            ctx = self.repeat(ctx)[1]
        return self._gradients(dy, ctx)

    def forward_fused(self, x: Array, activation: Module, name: str) -> Array:
        """Return `activation` (called `name` by the functions) of the normalised x."""
        y, ctx = self._run(self.check(x), name)
        self._saved, activation._saved = ctx, Skipped(self, ctx, y.shape)
        return y

    def backward_fused(self, dy: Array) -> Array:
        """Return dx for the gradient `dy` of what `forward_fused` returned, and set those of weight and bias."""
        return self._gradients(dy, self._saved)

    def _gradients(self, dy: Array, ctx: Context) -> Array:
        if _may_use_threads(ctx.x.nbytes):
            dx, dweight, dbias = self._function(dy, ctx)
        else:
            with threads(1):
                dx, dweight, dbias = self._function(dy, ctx)
        if self.weight is not None:
            self.weight.grad = dweight
        if self.bias is not None:
            self.bias.grad = dbias
        return dx


class Activation(Module):
    """Base of the activations that a norm's kernel can apply."""

    _fused_name: ClassVar[str | None] = None

    @property
    def fused_name(self) -> str | None:
        """What the norm functions call this activation; None where they do not have it."""
        return self._fused_name

    def _recall(self) -> Any:
        saved = super()._recall()
        if type(saved) is Skipped:
            # The norm did this layer's forward. Whoever calls its backward alone needs what that would have kept.
            type(self).forward(self, saved.norm.repeat(saved.ctx)[0].reshape(saved.shape))
            saved = self._saved
        return saved


_OURS = __name__.rpartition(".")[0] + "."


def is_pair(layer: Module, behind: Module) -> bool:
    """Whether these are a norm and an activation, and do what ours do."""
    return (
        isinstance(layer, Norm)
        and isinstance(behind, Activation)
        and all(
            getattr(type(module), name).__module__.startswith(_OURS)
            for module in (layer, behind)
            for name in ("forward", "backward")
        )
    )


def is_watched(module: Module) -> bool:
    """Whether somebody looks at what goes into this very object and comes out of it."""
    own = module.__dict__
    return "_forward_hooks" in own or "forward" in own or "backward" in own
