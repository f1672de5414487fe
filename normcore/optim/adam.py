"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from normcore._shown import shown
from normcore.nn import Parameter
from normcore.nn._checks import Array, as_bool, as_number

from . import _compiled
from ._state import Group, State
from .optimizer import Optimizer, Params


class Adam(Optimizer):
    """Adam (Kingma & Ba, 2015), as `torch.optim.Adam`.

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        `model.parameters()`, or groups of parameters with options of their own: see `Optimizer`.
    lr : float
        Learning rate.
    betas : pair of float
        Decay of the averages of the gradient and of its square; in [0, 1).
    eps : float
        Added to the root of the second average, outside the root.
    weight_decay : float
        Adds `weight_decay * p` to the gradient (an L2 penalty; `AdamW` has the other decay).
    amsgrad : bool
        Divide by the root of the largest v so far instead of v (Reddi et al., 2018). Switched on later, it begins with
        the v of then.
    maximize : bool
        Climb instead: step along the gradient. Weight decay still shrinks.

    Notes
    -----
    With g the gradient (its negative for `maximize`; plus weight decay) of parameter p in its step t = 1, 2, ...::

        m = m + (1 - beta1) * (g - m)
        v = beta2 * v + (1 - beta2) * g**2
        p = p - lr / (1 - beta1**t) * m / (sqrt(v) / sqrt(1 - beta2**t) + eps)

    With `amsgrad` the last line has `max_v = max(max_v, v)` in the place of v, as in PyTorch: the largest v, before
    its correction by `1 - beta2**t`.

    For a float16 parameter m, v and the step are float32.

    Raises
    ------
    ValueError
        If a number is negative, not finite, or a beta is 1 or more.
    TypeError
        If an argument is of the wrong kind.
    """

    option_names = ("betas", "eps", "weight_decay", "amsgrad", "maximize")
    _off_by_default = ("amsgrad", "maximize")
    state_names = ("step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    _optional_states = ("max_exp_avg_sq",)
    _never_negative = ("exp_avg_sq", "max_exp_avg_sq")
    _decoupled = False  # whether the decay shrinks the parameter itself, as AdamW's

    betas: tuple[float, float]
    eps: float
    weight_decay: float
    amsgrad: bool
    maximize: bool

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        name = type(self).__name__
        try:
            beta1, beta2 = betas
        except Exception:  # an __iter__ of somebody else's may raise anything
            raise ValueError(f"{name}: betas must be a pair of numbers, got {shown(betas)}.") from None
        self.betas = (as_number(beta1, "betas[0]", name, "[0, 1)"), as_number(beta2, "betas[1]", name, "[0, 1)"))
        self.eps = as_number(eps, "eps", name, "[0, inf)")
        self.weight_decay = as_number(weight_decay, "weight_decay", name, "[0, inf)")
        self.amsgrad = as_bool(amsgrad, "amsgrad", name)
        self.maximize = as_bool(maximize, "maximize", name)
        super().__init__(params, lr)

    def _step_together(self, group: Group) -> Iterable[Parameter]:
        fused = _compiled.fused()
        if fused is None:
            return super()._step_together(group)
        rest: list[Parameter] = fused.adam(
            group["params"], self.state, group["lr"], *group["betas"], group["eps"], group["weight_decay"],
            group["amsgrad"], group["maximize"], self._decoupled, _compiled.threads,
        )  # fmt: skip
        return rest

    def _update(self, data: Array, grad: Array, state: State, a: Array, b: Array) -> None:
        if not state:
            state.update(step=0, exp_avg=np.zeros_like(data), exp_avg_sq=np.zeros_like(data))
        beta1, beta2 = self.betas
        m, v = state["exp_avg"], state["exp_avg_sq"]
        state["step"] = t = state["step"] + 1
        if self.maximize:
            grad = np.negative(grad, out=b)
        if self.weight_decay and self._decoupled:
            data *= 1 - self.lr * self.weight_decay
        elif self.weight_decay:
            np.multiply(data, self.weight_decay, out=a)
            grad = np.add(a, grad, out=b)

        np.subtract(grad, m, out=a)
        a *= 1 - beta1
        m += a

        np.multiply(grad, grad, out=a)
        a *= 1 - beta2
        v *= beta2
        v += a

        if self.amsgrad:
            if "max_exp_avg_sq" not in state:
                state["max_exp_avg_sq"] = np.zeros_like(data)
            v = np.maximum(state["max_exp_avg_sq"], v, out=state["max_exp_avg_sq"])
        np.sqrt(v, out=a)
        # Not a division, which is slow, and by a number that is the same for all values.
        a *= 1 / math.sqrt(1 - beta2**t)
        a += self.eps
        np.divide(m, a, out=a)
        a *= self.lr / (1 - beta1**t)
        data -= a


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019), as `torch.optim.AdamW`.

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        `model.parameters()`, or groups of parameters with options of their own. `decay_groups(model, weight_decay)`
        makes groups that leave biases and the parameters of normalisation layers undecayed.
    lr : float
        Learning rate.
    betas : pair of float
        Decay of the averages of the gradient and of its square; in [0, 1).
    eps : float
        Added to the root of the second average, outside the root.
    weight_decay : float
        The parameter is multiplied by `1 - lr * weight_decay` before Adam's step, which does not see the decay.
    amsgrad, maximize : bool
        As Adam's.

    Raises
    ------
    ValueError
        If a number is negative, not finite, or a beta is 1 or more.
    TypeError
        If an argument is of the wrong kind.
    """

    _constants = {"decoupled_weight_decay": True}  # noqa: RUF012 - as the base class declares it
    _decoupled = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
