"""RMS norm: layer norm without the mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from normcore import _dispatch, _lane, _planners

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from normcore._context import NormContext

    Array = NDArray[Any]


def rms_norm(
    x: Array,
    normalized_shape: int | Sequence[int],
    weight: Array | None = None,
    eps: float | None = None,
    *,
    out: Array | None = None,
) -> Array:
    r"""Root mean square normalisation: each sample's features to mean square 1, then scaled.

    .. math:: y = \frac{x}{\sqrt{\mathrm{E}[x^2] + \epsilon}} \cdot weight

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32 or float64
        Of any rank from 1, any strides. Copied once where the normalised axes are not the fastest in memory.
    normalized_shape : int or sequence of int
        The trailing shape of `x`: what is normalised together. An int for the last axis.
    weight : ndarray of shape `normalized_shape`, optional
        Scale; 1 when not given. Any float dtype.
    eps : float, optional
        Added to the mean square; positive. By default the machine epsilon of the dtype of `x`, as in PyTorch: 2**-23
        for float32, 2**-52 for float64, 2**-10 for float16, 2**-7 for bfloat16.
    out : ndarray, optional
        Where to write the result: shape and dtype of `x`; may be `x` itself.

    Returns
    -------
    y : ndarray
        Shape and dtype of `x`; its memory layout too, or C order where `x` was copied. Or `out`.

    Raises
    ------
    ValueError
        For a wrong shape, length or value. Nothing has been written then.
    TypeError
        For a wrong type or dtype.

    Notes
    -----
    Zhang & Sennrich, "Root Mean Square Layer Normalization", 2019, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> nc.rms_norm(np.array([[3.0, 4.0], [30.0, 40.0]]), 2).round(3)
    array([[0.849, 1.131],
           [0.849, 1.131]])
    """
    options = (normalized_shape, eps, None)
    done = _lane.forward("rms_norm", options, x, weight, None, None, None, out)
    if done is None:
        plan, operands = _planners.rms_norm(x, normalized_shape, weight, eps, out=out)
        done = _dispatch.forward(plan, operands)
        _lane.learn(plan, options)
    return done[0]


def rms_norm_forward(
    x: Array,
    normalized_shape: int | Sequence[int],
    weight: Array | None = None,
    eps: float | None = None,
    *,
    activation: str | None = None,
    out: Array | None = None,
) -> tuple[Array, NormContext]:
    """RMS normalisation that also returns what its backward needs.

    Parameters
    ----------
    x, normalized_shape, weight, eps, out
        As in `rms_norm`. With ``out=x`` the input is lost and backward refuses.
    activation : {None, "relu", "leaky_relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu"}
        Applied to the result as it is written, and its derivative in backward.

    Returns
    -------
    y : ndarray
        As from `rms_norm`.
    ctx : NormContext
        For `rms_norm_backward`: refers to `x` and `weight`, holds ``ctx.rstd`` (float64, one per row, the rows in C
        order; 1 / RMS) and ``ctx.mean``, which is 0. Leave what it refers to unchanged until then.

    Raises
    ------
    ValueError, TypeError
        As `rms_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> y, ctx = nc.rms_norm_forward(np.array([[1.0, 7.0], [10.0, 70.0]]), 2, eps=1e-12)
    >>> (1 / ctx.rstd).round(6)
    array([ 5., 50.])
    """
    options = (normalized_shape, eps, activation)
    done = _lane.forward("rms_norm", options, x, weight, None, None, None, out)
    if done is None:
        plan, operands = _planners.rms_norm_forward(x, normalized_shape, weight, eps, activation=activation, out=out)
        done = _dispatch.forward(plan, operands)
        _lane.learn(plan, options)
    return done


def rms_norm_backward(
    dy: Array, ctx: NormContext, *, out: Array | None = None
) -> tuple[Array, Array | None, Array | None]:
    r"""Gradients of RMS normalisation.

    With :math:`\hat x = x \cdot rstd`, :math:`d\hat x = dy \cdot weight` and E over a row,

    .. math::
        dweight = \sum dy \, \hat x, \quad
        dx = rstd \cdot \left(d\hat x - \hat x \, \mathrm{E}[d\hat x \, \hat x]\right)

    where dweight is summed over the rows.
    With an activation dy is first multiplied by its derivative at ``xhat * weight + bias``.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss for y: shape and dtype of `x`; any strides.
    ctx : NormContext
        From `rms_norm_forward`. May be used any number of times, with the same result.
    out : ndarray, optional
        Where to write dx: shape and dtype of `dy`; may be `dy` itself.

    Returns
    -------
    dx : ndarray
        Gradient for `x`, or `out`.
    dweight, dbias : ndarray of shape `normalized_shape` or None
        Gradients for weight and bias in their dtypes; dbias is always None, dweight where forward had no weight.

    Raises
    ------
    TypeError
        If `ctx` is no context, or `dy` has another dtype than `x`.
    ValueError
        If `ctx` belongs to another operation, was left without its `x` by ``out=x``, or `dy` has another shape.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> x = np.array([[3.0, 4.0]])
    >>> y, ctx = nc.rms_norm_forward(x, 2, eps=1e-12)
    >>> dx, _, _ = nc.rms_norm_backward(x, ctx)  # along x nothing changes but the length, which is normalised away
    >>> bool(abs(dx).max() < 1e-12)
    True
    """
    done = _lane.backward("rms_norm", dy, ctx, out)
    if done is None:
        plan, operands = _planners.rms_norm_backward(dy, ctx, out=out)
        done = _dispatch.backward(plan, operands, ctx)
    return done
