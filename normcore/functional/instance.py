"""Instance norm: the statistics of one channel of one sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from normcore import _dispatch, _lane, _planners

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from normcore._context import NormContext

    Array = NDArray[Any]


def instance_norm(
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
) -> Array:
    r"""Instance normalisation: each channel of each sample to mean 0 and variance 1, then scaled and shifted.

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} \cdot weight + bias

    With `use_input_stats` the statistics are those of `x`, one pair for each sample and channel over space, and the
    running statistics, where given, are updated in place with their averages over the batch. Otherwise the running
    statistics are used, as in batch norm's inference, and left alone.

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32 or float64
        (N, C, L), (N, C, H, W) or (N, C, D, H, W). Any strides; copied once where N and C
        are not the slowest in memory, as in channels-last.
    running_mean, running_var : ndarray of shape (C,), optional
        Both or neither; needed when `use_input_stats` is False. Any float dtype.
    weight, bias : ndarray of shape (C,), optional
        Scale and shift of each channel; 1 and 0 when not given. Any float dtype.
    use_input_stats : bool, default True
        Whether to use the statistics of `x`.
    momentum : float, default 0.1
        Weight of this batch in the running statistics, from 0 to 1.
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
        For a wrong shape, length or value, and if there are fewer than two spatial elements to take
        statistics of. Nothing has been written then.
    TypeError
        For a wrong type or dtype.

    Notes
    -----
    Normalises with the population variance; the running variance takes in the average of the unbiased ones. A constant
    channel gives exactly `bias`. Ulyanov, Vedaldi & Lempitsky, "Instance Normalization", 2016, equation 2.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> x = np.array([[[1.0, 3.0], [10.0, 30.0]]])
    >>> nc.instance_norm(x).round(3)
    array([[[-1.,  1.],
            [-1.,  1.]]])
    """
    options = (use_input_stats, momentum, eps, None)
    done = _lane.forward("instance_norm", options, x, weight, bias, running_mean, running_var, out)
    if done is None:
        plan, operands = _planners.instance_norm(
            x, running_mean, running_var, weight, bias, use_input_stats, momentum, eps, out=out
        )
        done = _dispatch.forward(plan, operands)
        _lane.learn(plan, options)
    return done[0]


def instance_norm_forward(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str | None = None,
    out: Array | None = None,
) -> tuple[Array, NormContext]:
    """Instance normalisation that also returns what its backward needs.

    Parameters
    ----------
    x, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, out
        As in `instance_norm`. With ``out=x`` the input is lost and backward refuses.
    activation : {None, "relu", "leaky_relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu"}
        Applied to the result as it is written, and its derivative in backward.

    Returns
    -------
    y : ndarray
        As from `instance_norm`.
    ctx : NormContext
        For `instance_norm_backward`: refers to `x` and `weight` (with an activation to `bias` too), holds ``ctx.mean``
        and ``ctx.rstd`` (float64, N * C of them, or C running ones). Leave what it refers to unchanged until then.

    Raises
    ------
    ValueError, TypeError
        As `instance_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> y, ctx = nc.instance_norm_forward(np.array([[[1.0, 3.0], [10.0, 30.0]]]))
    >>> ctx.mean
    array([ 2., 20.])
    """
    options = (use_input_stats, momentum, eps, activation)
    done = _lane.forward("instance_norm", options, x, weight, bias, running_mean, running_var, out)
    if done is None:
        plan, operands = _planners.instance_norm_forward(
            x, weight, bias, running_mean=running_mean, running_var=running_var, use_input_stats=use_input_stats,
            momentum=momentum, eps=eps, activation=activation, out=out,
        )  # fmt: skip
        done = _dispatch.forward(plan, operands)
        _lane.learn(plan, options)
    return done


def instance_norm_backward(
    dy: Array, ctx: NormContext, *, out: Array | None = None
) -> tuple[Array, Array | None, Array | None]:
    r"""Gradients of instance normalisation.

    With :math:`\hat x = (x - mean) \cdot rstd`, :math:`d\hat x = dy \cdot weight` and E over space,

    .. math::
        dbias = \sum dy, \quad dweight = \sum dy \, \hat x, \quad
        dx = rstd \cdot \left(d\hat x - \mathrm{E}[d\hat x] - \hat x \, \mathrm{E}[d\hat x \, \hat x]\right)

    where dbias and dweight are summed over the batch and over space. With ``use_input_stats=False`` mean and rstd do
    not depend on `x`, and ``dx = rstd * weight * dy``.
    With an activation dy is first multiplied by its derivative at ``xhat * weight + bias``.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss for y: shape and dtype of `x`; any strides.
    ctx : NormContext
        From `instance_norm_forward`. May be used any number of times, with the same result.
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
    >>> x = np.array([[[1.0, 3.0], [10.0, 30.0]]])
    >>> _, ctx = nc.instance_norm_forward(x, bias=np.zeros(2))
    >>> dx, dweight, dbias = nc.instance_norm_backward(np.ones((1, 2, 2)), ctx)
    >>> dx.tolist(), dweight, dbias.tolist()
    ([[[0.0, 0.0], [0.0, 0.0]]], None, [2.0, 2.0])
    """
    done = _lane.backward("instance_norm", dy, ctx, out)
    if done is None:
        plan, operands = _planners.instance_norm_backward(dy, ctx, out=out)
        done = _dispatch.backward(plan, operands, ctx)
    return done
