"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from normcore.nn import Parameter
from normcore.nn._checks import Array, as_bool, as_number

from . import _compiled
from ._state import Group, State
from .optimizer import Optimizer, Params


class SGD(Optimizer):
    """Gradient descent with momentum, as `torch.optim.SGD`.

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        `model.parameters()`, or groups of parameters with options of their own: see `Optimizer`.
    lr : float
        Learning rate.
    momentum : float
        Share of the old direction that is kept.
    dampening : float
        Share of the gradient that is kept out of the momentum buffer.
    weight_decay : float
        Adds `weight_decay * p` to the gradient.
    nesterov : bool
        Nesterov momentum. Needs momentum, and no dampening.
    maximize : bool
        Climb instead: step along the gradient. Weight decay still shrinks.

    Notes
    -----
    With g the gradient (its negative for `maximize`; plus weight decay) of parameter p::

        buf = g                                      first step with momentum
        buf = momentum * buf + (1 - dampening) * g   later steps
        d   = g + momentum * buf                     nesterov
        d   = buf                                    momentum
        d   = g                                      neither
        p   = p - lr * d

    Raises
    ------
    ValueError
        If a number is negative or not finite, or `nesterov` lacks its conditions.
    TypeError
        If an argument is of the wrong kind.
    """

    option_names = ("momentum", "dampening", "weight_decay", "nesterov", "maximize")
    _off_by_default = ("maximize",)
    state_names = ("momentum_buffer",)

    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool
    maximize: bool

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        self.momentum = as_number(momentum, "momentum", "SGD", "[0, inf)")
        self.dampening = as_number(dampening, "dampening", "SGD", "(-inf, inf)")
        self.weight_decay = as_number(weight_decay, "weight_decay", "SGD", "[0, inf)")
        self.nesterov = as_bool(nesterov, "nesterov", "SGD")
        self.maximize = as_bool(maximize, "maximize", "SGD")
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                "SGD: nesterov needs momentum above 0 and dampening 0, "
                f"got momentum={momentum!r} and dampening={dampening!r}."
            )
        super().__init__(params, lr)

    def _step_together(self, group: Group) -> Iterable[Parameter]:
        fused = _compiled.fused()
        if fused is None:
            return super()._step_together(group)
        rest: list[Parameter] = fused.sgd(
            group["params"], self.state, group["lr"], group["momentum"], group["dampening"], group["weight_decay"],
            group["nesterov"], group["maximize"], _compiled.threads,
        )  # fmt: skip
        return rest

    def _update(self, data: Array, grad: Array, state: State, a: Array, b: Array) -> None:
        direction = grad
        if self.weight_decay:
            np.multiply(data, self.weight_decay, out=a)
            (np.subtract if self.maximize else np.add)(a, grad, out=a)
            direction = a
        elif self.maximize:
            direction = np.negative(grad, out=a)
        if self.momentum:
            buf = state.get("momentum_buffer")
            if buf is None:
                buf = state["momentum_buffer"] = np.array(direction)  # in its order of memory
            else:
                buf *= self.momentum
                buf += direction if self.dampening == 0 else np.multiply(direction, 1 - self.dampening, out=b)
            if self.nesterov:
                np.multiply(buf, self.momentum, out=b)
                b += direction
                direction = b
            else:
                direction = buf
        data -= np.multiply(direction, self.lr, out=b)
