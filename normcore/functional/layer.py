"""Layer norm: the statistics of the last axes, one pair for each place on the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from normcore import _dispatch, _lane, _planners

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from normcore._context import NormContext

    Array = NDArray[Any]


def layer_norm(
    x: Array,
    normalized_shape: int | Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
) -> Array:
    r"""Layer normalisation: each sample's features to mean 0 and variance 1, then scaled and shifted.

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} \cdot weight + bias

    The statistics are those of the last axes, as many as `normalized_shape` has, one pair for each place on the others.

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32 or float64
        Of any rank from 1, any strides. Copied once where the normalised axes are not the fastest in memory.
    normalized_shape : int or sequence of int
        The trailing shape of `x`: what is normalised together. An int for the last axis.
    weight, bias : ndarray of shape `normalized_shape`, optional
        Scale and shift; 1 and 0 when not given. Any float dtype.
    eps : float, default 1e-5
        Added to the variance; positive.
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
    Normalises with the population variance, as PyTorch does. A row of one value or of equal ones gives exactly `bias`;
    a batch without rows an empty result. Ba, Kiros & Hinton, "Layer Normalization", 2016, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> x = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    >>> nc.layer_norm(x, 3).round(3)
    array([[-1.225,  0.   ,  1.225],
           [-1.225,  0.   ,  1.225]])
    """
    options = (normalized_shape, eps, None)
    done = _lane.forward("layer_norm", options, x, weight, bias, None, None, out)
    if done is None:
        plan, operands = _planners.layer_norm(x, normalized_shape, weight, bias, eps, out=out)
        done = _dispatch.forward(plan, operands)
        _lane.learn(plan, options)
    return done[0]


def layer_norm_forward(
    x: Array,
    normalized_shape: int | Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    *,
    activation: str | None = None,
    out: Array | None = None,
) -> tuple[Array, NormContext]:
    """Layer normalisation that also returns what its backward needs.

    Parameters
    ----------
    x, normalized_shape, weight, bias, eps, out
        As in `layer_norm`. With ``out=x`` the input is lost and backward refuses.
    activation : {None, "relu", "leaky_relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu"}
        Applied to the result as it is written, and its derivative in backward.

    Returns
    -------
    y : ndarray
        As from `layer_norm`.
    ctx : NormContext
        For `layer_norm_backward`: refers to `x` and `weight` (with an activation to `bias` too), holds ``ctx.mean`` and
        ``ctx.rstd`` (float64, one per row, the rows in C order). Leave what it refers to unchanged until then.

    Raises
    ------
    ValueError, TypeError
        As `layer_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> x = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    >>> y, ctx = nc.layer_norm_forward(x, 3)
    >>> ctx.mean
    array([ 2., 20.])
    """
    options = (normalized_shape, eps, activation)
    done = _lane.forward("layer_norm", options, x, weight, bias, None, None, out)
    if done is None:
        plan, operands = _planners.layer_norm_forward(
            x, normalized_shape, weight, bias, eps, activation=activation, out=out
        )
        done = _dispatch.forward(plan, operands)
        _lane.learn(plan, options)
    return done


def layer_norm_backward(
    dy: Array, ctx: NormContext, *, out: Array | None = None
) -> tuple[Array, Array | None, Array | None]:
    r"""Gradients of layer normalisation.

    With :math:`\hat x = (x - mean) \cdot rstd`, :math:`d\hat x = dy \cdot weight` and E over a row,

    .. math::
        dbias = \sum dy, \quad dweight = \sum dy \, \hat x, \quad
        dx = rstd \cdot \left(d\hat x - \mathrm{E}[d\hat x] - \hat x \, \mathrm{E}[d\hat x \, \hat x]\right)

    where dbias and dweight are summed over the rows.
    With an activation dy is first multiplied by its derivative at ``xhat * weight + bias``.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss for y: shape and dtype of `x`; any strides.
    ctx : NormContext
        From `layer_norm_forward`. May be used any number of times, with the same result.
    out : ndarray, optional
        Where to write dx: shape and dtype of `dy`; may be `dy` itself.

    Returns
    -------
    dx : ndarray
        Gradient for `x`, or `out`.
    dweight, dbias : ndarray of shape `normalized_shape` or None
        Gradients for weight and bias in their dtypes; None where forward had none.

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
    >>> x = np.array([[1.0, 3.0], [30.0, 10.0]])
    >>> _, ctx = nc.layer_norm_forward(x, 2, np.ones(2), np.zeros(2))
    >>> dx, dweight, dbias = nc.layer_norm_backward(np.array([[1.0, 1.0], [1.0, 1.0]]), ctx)
    >>> dx.tolist(), dbias.tolist()  # a shift of a row changes nothing
    ([[0.0, 0.0], [0.0, 0.0]], [2.0, 2.0])
    """
    done = _lane.backward("layer_norm", dy, ctx, out)
    if done is None:
        plan, operands = _planners.layer_norm_backward(dy, ctx, out=out)
        done = _dispatch.backward(plan, operands, ctx)
    return done
