"""Running statistics: updated in place, as PyTorch does, after everything that may fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from normcore._plan import Operands, Plan

    Array = NDArray[Any]


class RunningUpdate(NamedTuple):
    """new = (1 - momentum) * old + momentum * batch, the variance unbiased; with all the memory that it takes."""

    plan: Plan
    running_mean: Array
    running_var: Array
    new_mean: Array  # (1 - momentum) * old, so far
    new_var: Array
    batch: Array

    def apply(self, mean: Array, var: Array) -> None:
        """Write new running statistics; `var`, one a group as `mean`, is not needed afterwards."""
        plan = self.plan
        var *= plan.group_size / (plan.group_size - 1)
        # A variance beyond float32 becomes inf there, as it should; and nobody's np.seterr may stop between the two.
        with np.errstate(all="ignore"):
            for groups, new in ((mean, self.new_mean), (var, self.new_var)):
                np.multiply(self._per_channel(groups), plan.momentum, out=self.batch)
                new += self.batch
            # No call between these, so that Ctrl-C does not come there.
            self.running_mean[...] = self.new_mean
            self.running_var[...] = self.new_var

    def _per_channel(self, groups: Array) -> Array:
        # Instance norm has a pair for each sample and channel, averaged over the samples; batch norm one for a channel.
        samples = len(groups) // len(self.batch)
        np.add.reduce(groups.reshape(samples, -1), axis=0, out=self.batch)
        np.divide(self.batch, samples, out=self.batch)
        return self.batch


def running_update(plan: Plan, ops: Operands) -> RunningUpdate | None:
    """What a call in training will do to running statistics; None where there are none, or nothing to learn from."""
    running_mean, running_var = ops.running_mean, ops.running_var
    if not plan.training or not plan.size or running_mean is None or running_var is None:
        return None
    with np.errstate(all="ignore"):
        new_mean, new_var = (running.astype(np.float64) for running in (running_mean, running_var))
        new_mean *= 1.0 - plan.momentum
        new_var *= 1.0 - plan.momentum
    return RunningUpdate(plan, running_mean, running_var, new_mean, new_var, np.empty(len(new_mean)))
