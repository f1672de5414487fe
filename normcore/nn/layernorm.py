"""Layer norm and RMS norm: each sample by its own features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from normcore.functional import layer_norm_backward, layer_norm_forward, rms_norm_backward, rms_norm_forward

from ._checks import Array, as_bool, as_float_dtype, as_input, as_number, as_size, check_fits_memory
from ._norm import Context, Norm


class _TrailingNorm(Norm):
    """What the norms over the trailing axes share."""

    normalized_shape: tuple[int, ...]

    def _set_shape(self, normalized_shape: Any) -> None:
        name = type(self).__name__
        if isinstance(normalized_shape, (list, tuple)) and normalized_shape:
            self.normalized_shape = tuple(as_size(n, "each of normalized_shape", name) for n in normalized_shape)
        else:
            self.normalized_shape = (as_size(normalized_shape, "normalized_shape", name),)
        check_fits_memory(name, normalized_shape=math.prod(self.normalized_shape))

    def check(self, x: Array) -> Array:
        """Return x as a plain array that ends in the normalised shape, or raise."""
        x = as_input(x, type(self).__name__)
        shape = self.normalized_shape
        if x.shape[-len(shape) :] != shape:
            raise ValueError(
                f"{type(self).__name__}({shape}): x has shape {x.shape}, but must end in {shape}; "
                "reshape x or change normalized_shape."
            )
        return x


class LayerNorm(_TrailingNorm):
    """Layer normalisation, `y = (x - mean) / sqrt(var + eps) * weight + bias`, over the trailing axes of x.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The trailing shape of x, which is normalised together; an int for the last axis.
    eps : float
        Added to the variance (the population variance). Positive.
    elementwise_affine : bool
        Whether there are a trainable weight and bias, ones and zeros to begin with.
    bias : bool
        With `elementwise_affine`: False leaves out the bias.
    dtype : dtype
        Of the parameters.

    Attributes
    ----------
    weight, bias : Parameter of shape `normalized_shape`, or None

    Raises
    ------
    ValueError
        If x does not end in `normalized_shape`.
    TypeError
        If x is not floating point.

    See Also
    --------
    normcore.functional.layer_norm_forward
    """

    _function = staticmethod(layer_norm_backward)

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self._set_shape(normalized_shape)
        self.eps = as_number(eps, "eps", "LayerNorm", "(0, inf)")
        self.elementwise_affine = as_bool(elementwise_affine, "elementwise_affine", "LayerNorm")
        dtype = as_float_dtype(dtype, "LayerNorm")
        self._make_parameters(self.normalized_shape, dtype, self.elementwise_affine, as_bool(bias, "bias", "LayerNorm"))

    def run(self, x: Array, activation: str | None) -> tuple[Array, Context]:
        """Normalise x, which is checked."""
        weight, bias = self._parameters()
        return layer_norm_forward(x, self.normalized_shape, weight, bias, self.eps, activation=activation)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(_TrailingNorm):
    """Root mean square normalisation, `y = x / sqrt(mean(x**2) + eps) * weight`, over the trailing axes of x.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The trailing shape of x, which is normalised together; an int for the last axis.
    eps : float or None
        Added to the mean square. Positive; None for the machine epsilon of x's dtype.
    elementwise_affine : bool
        Whether there is a trainable weight, ones to begin with.
    dtype : dtype
        Of the weight.

    Attributes
    ----------
    weight : Parameter of shape `normalized_shape`, or None

    Raises
    ------
    ValueError
        If x does not end in `normalized_shape`.
    TypeError
        If x is not floating point.

    See Also
    --------
    normcore.functional.rms_norm_forward
    """

    _function = staticmethod(rms_norm_backward)

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self._set_shape(normalized_shape)
        self.eps = None if eps is None else as_number(eps, "eps", "RMSNorm", "(0, inf)")
        self.elementwise_affine = as_bool(elementwise_affine, "elementwise_affine", "RMSNorm")
        dtype = as_float_dtype(dtype, "RMSNorm")
        self._make_parameters(self.normalized_shape, dtype, self.elementwise_affine, bias=False)

    def run(self, x: Array, activation: str | None) -> tuple[Array, Context]:
        """Normalise x, which is checked."""
        weight, _ = self._parameters()
        return rms_norm_forward(x, self.normalized_shape, weight, self.eps, activation=activation)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
