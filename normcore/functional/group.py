"""Group norm: the statistics of a group of channels of one sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from normcore import _dispatch, _lane, _planners

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from normcore._context import NormContext

    Array = NDArray[Any]


def group_norm(
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
) -> Array:
    r"""Group normalisation: each group of channels of each sample to mean 0 and variance 1, then scaled and shifted.

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} \cdot weight + bias

    The channels are cut into `num_groups` groups of neighbours; the statistics of a group run over its channels and
    over space.

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32 or float64
        (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W). Any strides; copied once where N and C
        are not the slowest in memory, as in channels-last.
    num_groups : int
        How many groups; divides C. With 1 this is layer norm over all but the first axis, with C instance norm.
    weight, bias : ndarray of shape (C,), optional
        Scale and shift of each channel; 1 and 0 when not given. Any float dtype.
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
        For a wrong shape, length or value, and, as in PyTorch, if a single sample has one value
        per group. Nothing has been written then.
    TypeError
        For a wrong type or dtype.

    Notes
    -----
    Normalises with the population variance. A constant group gives exactly `bias`; so does, in a batch of several
    samples, a group of one value. A batch without samples gives an empty result. Wu & He, "Group Normalization", 2018,
    equations 1 to 6.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> x = np.array([[1.0, 3.0, 10.0, 30.0]])
    >>> nc.group_norm(x, 2).round(3)
    array([[-1.,  1., -1.,  1.]])
    """
    options = (num_groups, eps, None)
    done = _lane.forward("group_norm", options, x, weight, bias, None, None, out)
    if done is None:
        plan, operands = _planners.group_norm(x, num_groups, weight, bias, eps, out=out)
        done = _dispatch.forward(plan, operands)
        _lane.learn(plan, options)
    return done[0]


def group_norm_forward(
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    *,
    activation: str | None = None,
    out: Array | None = None,
) -> tuple[Array, NormContext]:
    """Group normalisation that also returns what its backward needs.

    Parameters
    ----------
    x, num_groups, weight, bias, eps, out
        As in `group_norm`. With ``out=x`` the input is lost and backward refuses.
    activation : {None, "relu", "leaky_relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu"}
        Applied to the result as it is written, and its derivative in backward.

    Returns
    -------
    y : ndarray
        As from `group_norm`.
    ctx : NormContext
        For `group_norm_backward`: refers to `x` and `weight` (with an activation to `bias` too), holds ``ctx.mean`` and
        ``ctx.rstd`` (float64, N * num_groups of them, those of a sample
        together). Leave what it refers to unchanged until then.

    Raises
    ------
    ValueError, TypeError
        As `group_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> y, ctx = nc.group_norm_forward(np.array([[1.0, 3.0, 10.0, 30.0]]), 2)
    >>> ctx.mean
    array([ 2., 20.])
    """
    options = (num_groups, eps, activation)
    done = _lane.forward("group_norm", options, x, weight, bias, None, None, out)
    if done is None:
        plan, operands = _planners.group_norm_forward(x, num_groups, weight, bias, eps, activation=activation, out=out)
        done = _dispatch.forward(plan, operands)
        _lane.learn(plan, options)
    return done


def group_norm_backward(
    dy: Array, ctx: NormContext, *, out: Array | None = None
) -> tuple[Array, Array | None, Array | None]:
    r"""Gradients of group normalisation.

    With :math:`\hat x = (x - mean) \cdot rstd`, :math:`d\hat x = dy \cdot weight` and E over a group of a sample,

    .. math::
        dbias = \sum dy, \quad dweight = \sum dy \, \hat x, \quad
        dx = rstd \cdot \left(d\hat x - \mathrm{E}[d\hat x] - \hat x \, \mathrm{E}[d\hat x \, \hat x]\right)

    where dbias and dweight are summed over the batch and over space.
    With an activation dy is first multiplied by its derivative at ``xhat * weight + bias``.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss for y: shape and dtype of `x`; any strides.
    ctx : NormContext
        From `group_norm_forward`. May be used any number of times, with the same result.
    out : ndarray, optional
        Where to write dx: shape and dtype of `dy`; may be `dy` itself.

    Returns
    -------
    dx : ndarray
        Gradient for `x`, or `out`.
    dweight, dbias : ndarray of shape (C,) or None
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
    >>> x = np.array([[1.0, 3.0, 10.0, 30.0]])
    >>> _, ctx = nc.group_norm_forward(x, 2, bias=np.zeros(4))
    >>> dx, dweight, dbias = nc.group_norm_backward(np.ones((1, 4)), ctx)
    >>> dx.tolist(), dweight, dbias.tolist()
    ([[0.0, 0.0, 0.0, 0.0]], None, [1.0, 1.0, 1.0, 1.0])
    """
    done = _lane.backward("group_norm", dy, ctx, out)
    if done is None:
        plan, operands = _planners.group_norm_backward(dy, ctx, out=out)
        done = _dispatch.backward(plan, operands, ctx)
    return done
