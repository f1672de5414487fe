"""What a forward call leaves behind for its backward call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from normcore._plan import Plan


class NormContext:
    """The second result of every ``*_forward`` function.

    It refers to ``x`` and ``weight`` without copying them (with an activation to ``bias`` too), and holds one mean and
    one rstd for each statistics group; nothing else of the size of ``x`` is kept, because backward recomputes the
    normalised values. Leave what it refers to unchanged until the backward call. A context may be used any number of
    times.

    Attributes
    ----------
    x : ndarray
        The input of the forward call.
    weight : ndarray or None
        The scale of the forward call.
    bias : ndarray or None
        The shift of the forward call if it had an activation, whose derivative needs it; otherwise None.
    mean : ndarray of float64
        The mean the input was centred on, one per statistics group, in the order of the groups in ``x``: one per
        channel for batch norm, per place on the leading axes for layer and RMS norm (there 0), per sample and group or
        channel for group and instance norm.
    rstd : ndarray of float64
        ``1 / sqrt(var + eps)``, one per statistics group; `var` is the population variance where the statistics are
        those of ``x`` (for RMS norm the mean square), the running variance where that is used.
    """

    __slots__ = ("bias", "bias_dtype", "mean", "overwritten", "plan", "rstd", "weight", "x")

    def __init__(
        self,
        plan: Plan,
        x: NDArray[Any],
        weight: NDArray[Any] | None,
        bias: NDArray[Any] | None,
        bias_dtype: np.dtype[Any] | None,
        mean: NDArray[np.float64],
        rstd: NDArray[np.float64],
        overwritten: bool,
    ) -> None:
        self.plan = plan
        self.x = x
        self.weight = weight
        self.bias = bias
        self.bias_dtype = bias_dtype
        self.mean = mean
        self.rstd = rstd
        self.overwritten = overwritten  # the result was written over x: backward has nothing to recompute from

    def __repr__(self) -> str:
        mode = "training" if self.plan.training else "inference"
        return f"<NormContext of {self.plan.op} in {mode}, x {self.plan.shape} {self.plan.dtype}>"
