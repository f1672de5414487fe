"""Instance norm: each channel of each sample by itself."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from normcore.functional import instance_norm_backward, instance_norm_forward

from ._checks import Array, as_bool, as_float_dtype, as_input, as_number, as_size, check_fits_memory, wrong_channels
from ._norm import Context, Norm


class _InstanceNorm(Norm):
    """What all ranks share. A subclass says which rank it takes."""

    buffer_names = ("running_mean", "running_var", "num_batches_tracked")
    _never_negative = ("running_var", "num_batches_tracked")
    _function = staticmethod(instance_norm_backward)
    _rank: ClassVar[int]
    _layouts: ClassVar[str]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        name = type(self).__name__
        self.num_features = as_size(num_features, "num_features", name)
        check_fits_memory(name, num_features=self.num_features)
        self.eps = as_number(eps, "eps", name, "(0, inf)")
        self.momentum = as_number(momentum, "momentum", name, "[0, 1]")
        self.affine = as_bool(affine, "affine", name)
        self.track_running_stats = as_bool(track_running_stats, "track_running_stats", name)
        dtype = as_float_dtype(dtype, name)
        features = self.num_features
        self._make_parameters((features,), dtype, self.affine, as_bool(bias, "bias", name))
        self.running_mean: Array | None = np.zeros(features, dtype) if track_running_stats else None
        self.running_var: Array | None = np.ones(features, dtype) if track_running_stats else None
        # PyTorch has it in the state dict and never counts it up.
        self.num_batches_tracked: Array | None = np.zeros((), np.int64) if track_running_stats else None

    def check(self, x: Array) -> Array:
        """Return x as a plain array of the right rank and channel count, or raise."""
        x = as_input(x, type(self).__name__)
        if x.ndim not in (self._rank, self._rank - 1) or x.shape[1 - self._rank] != self.num_features:
            raise wrong_channels(type(self).__name__, self.num_features, self._layouts, x.shape)
        return x

    def run(self, x: Array, activation: str | None) -> tuple[Array, Context]:
        """Normalise x, which is checked, and in training mode update the running statistics, if there are any."""
        weight, bias = self._parameters()
        y, ctx = instance_norm_forward(
            x if x.ndim == self._rank else x[None], weight, bias, running_mean=self.running_mean,
            running_var=self.running_var, use_input_stats=self.training or self.running_mean is None,
            momentum=self.momentum, eps=self.eps, activation=activation,
        )  # fmt: skip
        return y.reshape(x.shape), ctx

    def repeat(self, ctx: Context) -> tuple[Array, Context]:
        """Run the forward of a context again without its activation and without touching any statistics."""
        weight, bias = self._parameters()
        if ctx.plan.training:
            return instance_norm_forward(ctx.x, weight, bias, eps=self.eps)
        # The running statistics may have moved since; the context has what they were.
        with np.errstate(all="ignore"):
            var = np.maximum(1.0 / np.square(ctx.rstd) - self.eps, 0.0)
        return instance_norm_forward(
            ctx.x, weight, bias, running_mean=ctx.mean, running_var=var, use_input_stats=False, eps=self.eps
        )

    def _gradients(self, dy: Array, ctx: Context) -> Array:
        if isinstance(dy, np.ndarray) and dy.ndim == self._rank - 1:
            dx: Array = super()._gradients(dy[None], ctx)[0]
            return dx
        return super()._gradients(dy, ctx)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


_DOC = """Instance normalisation of x with shape {layouts}: each channel of each sample by its own statistics.

    `y = (x - mean) / sqrt(var + eps) * weight + bias`, with the population variance.

    Parameters
    ----------
    num_features : int
        Number of channels C.
    eps : float
        Added to the variance. Positive.
    momentum : float
        Weight of the *new* value in the running statistics.
    affine : bool
        Whether there are a trainable weight and bias, ones and zeros to begin with.
    track_running_stats : bool
        True: training mode also updates running statistics, by the batch's means and unbiased variances averaged over
        the samples, and evaluation mode normalises with them.
    bias : bool
        With `affine`: False leaves out the bias.
    dtype : dtype
        Of parameters and running statistics.

    Attributes
    ----------
    weight, bias : Parameter of shape (C,), or None
    running_mean, running_var : ndarray of shape (C,), or None
    num_batches_tracked : 0-d int64 ndarray, or None
        Part of the state dict, as in PyTorch, where it stays 0 too.

    Raises
    ------
    ValueError
        If x has another rank or channel count, or only one value per channel and sample.
    TypeError
        If x is not floating point.

    See Also
    --------
    normcore.functional.instance_norm_forward
    """


class InstanceNorm1d(_InstanceNorm):
    __doc__ = _DOC.format(layouts="(N, C, L) or (C, L)")
    _rank = 3
    _layouts = "(N, C, L) or (C, L)"


class InstanceNorm2d(_InstanceNorm):
    __doc__ = _DOC.format(layouts="(N, C, H, W) or (C, H, W)")
    _rank = 4
    _layouts = "(N, C, H, W) or (C, H, W)"


class InstanceNorm3d(_InstanceNorm):
    __doc__ = _DOC.format(layouts="(N, C, D, H, W) or (C, D, H, W)")
    _rank = 5
    _layouts = "(N, C, D, H, W) or (C, D, H, W)"
