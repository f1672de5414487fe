"""Batch normalisation layers: parameters and running statistics around `normcore.functional`."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from normcore.functional import batch_norm_backward, batch_norm_forward

from ._checks import Array, as_float_dtype, as_input, as_number, as_size, check_fits_memory
from .module import Module, Parameter


class _BatchNorm(Module):
    """What all ranks share. A subclass says which ranks it takes."""

    buffer_names = ("running_mean", "running_var", "num_batches_tracked")
    _never_negative = ("running_var", "num_batches_tracked")
    _ranks: ClassVar[tuple[int, ...]]
    _layouts: ClassVar[str]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        name = type(self).__name__
        self.num_features = as_size(num_features, "num_features", name)
        check_fits_memory(name, num_features=self.num_features)
        self.eps = as_number(eps, "eps", name, "(0, inf)")
        self.momentum = None if momentum is None else as_number(momentum, "momentum", name, "[0, 1]")
        self.affine = bool(affine)
        self.track_running_stats = bool(track_running_stats)
        dtype = as_float_dtype(dtype, name)
        features = self.num_features
        self.weight = Parameter(np.ones(features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(features, dtype)) if affine and bias else None
        self.running_mean: Array | None = np.zeros(features, dtype) if track_running_stats else None
        self.running_var: Array | None = np.ones(features, dtype) if track_running_stats else None
        self.num_batches_tracked: Array | None = np.zeros((), np.int64) if track_running_stats else None

    def forward(self, x: Array) -> Array:
        """Return the normalised x. In training mode, also update the running statistics."""
        x = as_input(x, type(self).__name__)
        if x.ndim not in self._ranks or x.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}({self.num_features}): x has shape {x.shape}, but must be {self._layouts} with "
                f"C={self.num_features}; reshape x or change num_features."
            )
        count = self.num_batches_tracked
        momentum = self.momentum
        if momentum is None:
            momentum = 0.0 if count is None else 1.0 / (int(count) + 1)
        weight, bias = self.weight, self.bias
        y, self._saved = batch_norm_forward(
            x,
            None if weight is None else weight.data,
            None if bias is None else bias.data,
            running_mean=self.running_mean,
            running_var=self.running_var,
            training=self.training or count is None,
            momentum=momentum,
            eps=self.eps,
        )
        # After the call, so that a batch which was refused is not counted.
        if self.training and count is not None:
            count += 1
        return y

    def backward(self, dy: Array) -> Array:
        """Set the gradients of weight and bias and return dx; in evaluation mode the statistics are constants."""
        dx, dweight, dbias = batch_norm_backward(dy, self._recall())
        if self.weight is not None:
            self.weight.grad = dweight
        if self.bias is not None:
            self.bias.grad = dbias
        return dx

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


_DOC = """Batch normalisation of x with shape {layouts}, `y = (x - mean) / sqrt(var + eps) * weight + bias`.

    In training mode, mean and var are those of the batch, one per channel (var is the population variance), and the
    running statistics move by `new = (1 - momentum) * old + momentum * batch`, the running variance with the unbiased
    batch variance, as in PyTorch. In evaluation mode, mean and var are the running statistics.

    Parameters
    ----------
    num_features : int
        Number of channels C.
    eps : float
        Added to the variance. Positive.
    momentum : float or None
        Weight of the *new* value in the running statistics. None: the average over all batches so far.
    affine : bool
        Whether there are a trainable weight and bias, ones and zeros to begin with.
    track_running_stats : bool
        False: no running statistics; the batch's own are used in evaluation mode too.
    bias : bool
        With `affine`: False leaves out the bias.
    dtype : dtype
        Of parameters and running statistics.

    Attributes
    ----------
    weight, bias : Parameter of shape (C,), or None
    running_mean, running_var : ndarray of shape (C,), or None
    num_batches_tracked : 0-d int64 ndarray, or None
        Batches that went into the running statistics. A batch that was refused is not counted.

    Raises
    ------
    ValueError
        If x has another rank or channel count, or, in training mode, only one value per channel.
    TypeError
        If x is not floating point.

    See Also
    --------
    normcore.functional.batch_norm_forward, normcore.functional.batch_norm_backward
    """


class BatchNorm1d(_BatchNorm):
    __doc__ = _DOC.format(layouts="(N, C) or (N, C, L)")
    _ranks = (2, 3)
    _layouts = "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    __doc__ = _DOC.format(layouts="(N, C, H, W)")
    _ranks = (4,)
    _layouts = "(N, C, H, W)"
