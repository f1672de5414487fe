"""Group norm: each sample by groups of its channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from normcore._shown import shown
from normcore.functional import group_norm_backward, group_norm_forward

from ._checks import Array, as_bool, as_float_dtype, as_input, as_number, as_size, check_fits_memory
from ._norm import Context, Norm


class GroupNorm(Norm):
    """Group normalisation of x with shape (N, C, ...): mean and variance of each sample's groups of channels.

    `y = (x - mean) / sqrt(var + eps) * weight + bias`, with a weight and bias for each channel.

    Parameters
    ----------
    num_groups : int
        Groups that the channels are cut into; divides `num_channels`. 1 is layer norm over all of a sample,
        `num_channels` is instance norm.
    num_channels : int
        Number of channels C.
    eps : float
        Added to the variance (the population variance). Positive.
    affine : bool
        Whether there are a trainable weight and bias, ones and zeros to begin with.
    bias : bool
        With `affine`: False leaves out the bias.
    dtype : dtype
        Of the parameters.

    Attributes
    ----------
    weight, bias : Parameter of shape (C,), or None

    Raises
    ------
    ValueError
        If `num_groups` does not divide `num_channels`, or x has another channel count or rank than 2 to 5.
    TypeError
        If x is not floating point.

    See Also
    --------
    normcore.functional.group_norm_forward
    """

    _function = staticmethod(group_norm_backward)

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.num_groups = as_size(num_groups, "num_groups", "GroupNorm")
        self.num_channels = as_size(num_channels, "num_channels", "GroupNorm")
        check_fits_memory("GroupNorm", num_channels=self.num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"GroupNorm: num_groups={shown(self.num_groups)} does not divide "
                f"num_channels={shown(self.num_channels)}; choose a divisor."
            )
        self.eps = as_number(eps, "eps", "GroupNorm", "(0, inf)")
        self.affine = as_bool(affine, "affine", "GroupNorm")
        bias = as_bool(bias, "bias", "GroupNorm")
        self._make_parameters((self.num_channels,), as_float_dtype(dtype, "GroupNorm"), self.affine, bias)

    def check(self, x: Array) -> Array:
        """Return x as a plain array of the right rank and channel count, or raise."""
        x = as_input(x, "GroupNorm")
        if not 2 <= x.ndim <= 5 or x.shape[1] != self.num_channels:
            raise ValueError(
                f"GroupNorm({self.num_groups}, {self.num_channels}): x has shape {x.shape}, but must be (N, C) or "
                f"(N, C, ...) of 2 to 5 dimensions with C={self.num_channels}; reshape x or change num_channels."
            )
        return x

    def run(self, x: Array, activation: str | None) -> tuple[Array, Context]:
        """Normalise x, which is checked."""
        weight, bias = self._parameters()
        return group_norm_forward(x, self.num_groups, weight, bias, self.eps, activation=activation)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )
