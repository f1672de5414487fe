"""Adam."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from normcore.nn import Parameter
from normcore.nn._checks import Array, as_number

from .optimizer import Optimizer, State


class Adam(Optimizer):
    """Adam (Kingma & Ba, 2015), as `torch.optim.Adam`.

    Parameters
    ----------
    params : iterable of Parameter
        `model.parameters()`.
    lr : float
        Learning rate.
    betas : pair of float
        Decay of the averages of the gradient and of its square; in [0, 1).
    eps : float
        Added to the root of the second average, outside the root.
    weight_decay : float
        Adds `weight_decay * p` to the gradient (an L2 penalty, not AdamW's decay).

    Notes
    -----
    With g the gradient (plus weight decay) of parameter p in its step t = 1, 2, ...::

        m = m + (1 - beta1) * (g - m)
        v = beta2 * v + (1 - beta2) * g**2
        p = p - lr / (1 - beta1**t) * m / (sqrt(v) / sqrt(1 - beta2**t) + eps)

    For a float16 parameter m, v and the step are float32.

    Raises
    ------
    ValueError
        If a number is negative, not finite, or a beta is 1 or more.
    TypeError
        If an argument is of the wrong kind.
    """

    option_names = ("betas", "eps", "weight_decay")
    state_names = ("step", "exp_avg", "exp_avg_sq")
    _never_negative = ("exp_avg_sq",)

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        try:
            beta1, beta2 = betas
        except (TypeError, ValueError):
            raise ValueError(f"Adam: betas must be a pair of numbers, got {betas!r}.") from None
        self.betas = (as_number(beta1, "betas[0]", "Adam", "[0, 1)"), as_number(beta2, "betas[1]", "Adam", "[0, 1)"))
        self.eps = as_number(eps, "eps", "Adam", "[0, inf)")
        self.weight_decay = as_number(weight_decay, "weight_decay", "Adam", "[0, inf)")
        super().__init__(params, lr)

    def _update(self, data: Array, grad: Array, state: State, a: Array, b: Array) -> None:
        if not state:
            state.update(step=0, exp_avg=np.zeros_like(data), exp_avg_sq=np.zeros_like(data))
        beta1, beta2 = self.betas
        m, v = state["exp_avg"], state["exp_avg_sq"]
        state["step"] = t = state["step"] + 1
        if self.weight_decay:
            np.multiply(data, self.weight_decay, out=b)
            b += grad
            grad = b

        np.subtract(grad, m, out=a)
        a *= 1 - beta1
        m += a

        np.multiply(grad, grad, out=a)
        a *= 1 - beta2
        v *= beta2
        v += a

        np.sqrt(v, out=a)
        a /= math.sqrt(1 - beta2**t)
        a += self.eps
        np.divide(m, a, out=a)
        a *= self.lr / (1 - beta1**t)
        data -= a
