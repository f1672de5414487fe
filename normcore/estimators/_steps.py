"""The optimisers with which steps are scikit-learn's: where eps stands in Adam, and momentum when the rate changes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from normcore import optim
from normcore.nn import Parameter

DECAYED = 0  # the group of parameters that the penalty is about


class Adam(optim.Adam):
    """Adam in the form that section 2 of its paper ends with, scikit-learn's: eps stands outside of the correction.

    `p = p - lr * sqrt(1 - beta2**t) / (1 - beta1**t) * m / (sqrt(v) + eps)`: the same with
    `eps / sqrt(1 - beta2**t)` in place of eps. Where gradients are small, as those of pixels that are always 0, one
    sees the difference.
    """

    def _step_together(self, group: dict[str, Any]) -> Iterable[Parameter]:
        state = self.state.get(group["params"][0])
        t = state["step"] + 1 if state else 1
        # Also where steps are taken one by one, which read the options of the current group.
        self._now = {**group, "eps": group["eps"] / math.sqrt(1.0 - group["betas"][1] ** t)}
        return super()._step_together(self._now)


def make(
    solver: str,
    decayed: Sequence[Parameter],
    others: Sequence[Parameter],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    momentum: float,
    nesterov: bool,
) -> optim.Optimizer:
    """An optimiser whose first group is `decayed`."""
    groups: list[dict[str, Any]] = [{"params": list(decayed)}, {"params": list(others)}]
    if solver == "adam":
        return Adam(groups, lr, betas, eps)
    # Without momentum Nesterov's is plain descent.
    return optim.SGD(groups, lr, momentum, nesterov=nesterov and momentum > 0)


def set_lr(optimizer: optim.Optimizer, lr: float) -> None:
    """Set the learning rate, and keep the velocity.

    scikit-learn's momentum is of steps, `v = momentum * v - lr * g`, ours of gradients: when lr changes, the steps
    that are under way go on only if the gradients are scaled.
    """
    before = optimizer.lr
    if lr == before:
        return
    optimizer.lr = lr
    if lr and math.isfinite(before / lr):
        for state in optimizer.state.values():
            if "momentum_buffer" in state:
                state["momentum_buffer"] *= before / lr
