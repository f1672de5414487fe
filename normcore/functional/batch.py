"""Batch norm: the statistics of a channel across the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from normcore import _dispatch, _lane, _planners

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from normcore._context import NormContext

    Array = NDArray[Any]
    Float64 = NDArray[np.float64]


def batch_norm(
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    axis: int = 1,
    out: Array | None = None,
) -> Array:
    r"""Batch normalisation: each channel to mean 0 and variance 1, then scaled and shifted.

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} \cdot weight + bias

    In training the statistics are those of the batch, one pair per channel over all other axes, and the running
    statistics are updated in place. Otherwise the running statistics are used and left alone.

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32 or float64
        (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W), or the same with the channels on another axis. Any strides.
    running_mean, running_var : ndarray of shape (C,), optional
        Both or neither; needed when `training` is False. Any float dtype.
    weight, bias : ndarray of shape (C,), optional
        Scale and shift; 1 and 0 when not given. Any float dtype.
    training : bool, default False
        Whether to use the statistics of the batch.
    momentum : float, default 0.1
        Weight of this batch in the running statistics, from 0 to 1.
    eps : float, default 1e-5
        Added to the variance; positive.
    axis : int, default 1
        The channel axis of `x`; -1 for channels-last.
    out : ndarray, optional
        Where to write the result: shape and dtype of `x`; may be `x` itself.

    Returns
    -------
    y : ndarray
        Shape, dtype and memory layout of `x`; or `out`.

    Raises
    ------
    ValueError
        For a wrong shape, length or value; in training also when a channel has fewer than two values. Nothing has been
        written then.
    TypeError
        For a wrong type or dtype.

    Notes
    -----
    Normalises with the population variance; the running variance takes in the unbiased one. A constant channel gives
    exactly `bias`. Ioffe & Szegedy, "Batch Normalization", 2015, algorithms 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> nc.batch_norm(x, training=True).round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    """
    options = (training, momentum, eps, axis, None)
    done = _lane.forward("batch_norm", options, x, weight, bias, running_mean, running_var, out)
    if done is None:
        plan, operands = _planners.batch_norm(
            x, running_mean, running_var, weight, bias, training, momentum, eps, axis=axis, out=out
        )
        done = _dispatch.forward(plan, operands)
        _lane.learn(plan, options)
    return done[0]


def batch_norm_forward(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    axis: int = 1,
    activation: str | None = None,
    out: Array | None = None,
) -> tuple[Array, NormContext]:
    """Batch normalisation that also returns what its backward needs.

    Parameters
    ----------
    x, weight, bias, running_mean, running_var, training, momentum, eps, axis, out
        As in `batch_norm`; `training` is True by default. With ``out=x`` the input is lost and backward refuses.
    activation : {None, "relu", "leaky_relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu"}
        Applied to the result as it is written, and its derivative in backward, without another pass over memory.
        PyTorch's definitions: the slope of leaky_relu is 0.01, "gelu" is exact, "gelu_tanh" the tanh form.

    Returns
    -------
    y : ndarray
        As from `batch_norm`.
    ctx : NormContext
        For `batch_norm_backward`: refers to `x` and `weight` (with an activation to `bias` too), holds ``ctx.mean`` and
        ``ctx.rstd`` (float64, one per channel). Leave what it refers to unchanged until then.

    Raises
    ------
    ValueError, TypeError
        As `batch_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> y, ctx = nc.batch_norm_forward(x)
    >>> ctx.mean
    array([ 2., 20.])
    """
    options = (training, momentum, eps, axis, activation)
    done = _lane.forward("batch_norm", options, x, weight, bias, running_mean, running_var, out)
    if done is None:
        plan, operands = _planners.batch_norm_forward(
            x, weight, bias, running_mean=running_mean, running_var=running_var, training=training, momentum=momentum,
            eps=eps, axis=axis, activation=activation, out=out,
        )  # fmt: skip
        done = _dispatch.forward(plan, operands)
        _lane.learn(plan, options)
    return done


def batch_norm_backward(
    dy: Array, ctx: NormContext, *, out: Array | None = None
) -> tuple[Array, Array | None, Array | None]:
    r"""Gradients of batch normalisation.

    With :math:`\hat x = (x - mean) \cdot rstd` and sums over a channel's n values,

    .. math::
        dbias = \sum dy, \quad dweight = \sum dy \, \hat x, \quad
        dx = rstd \cdot weight \cdot \left(dy - \frac{dbias}{n} - \hat x \, \frac{dweight}{n}\right)

    in training. In inference mean and rstd do not depend on `x`, and ``dx = rstd * weight * dy``. With an activation dy
    is first multiplied by its derivative at ``xhat * weight + bias``.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss for y: shape and dtype of `x`; any strides.
    ctx : NormContext
        From `batch_norm_forward`. May be used any number of times, with the same result.
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

    Notes
    -----
    Ioffe & Szegedy 2015, section 3, with the terms gathered.
    """
    done = _lane.backward("batch_norm", dy, ctx, out)
    if done is None:
        plan, operands = _planners.batch_norm_backward(dy, ctx, out=out)
        done = _dispatch.backward(plan, operands, ctx)
    return done


def batch_stats(x: Array, *, axis: int = 1) -> tuple[Float64, Float64]:
    """Mean and population variance of each channel.

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32 or float64
        2 to 5 dimensions. Any strides.
    axis : int, default 1
        The channel axis.

    Returns
    -------
    mean, var : ndarray of float64, shape (C,)
        ``var`` is divided by n, not n - 1. By two passes in float64, so it is right at any offset and never negative.

    Raises
    ------
    ValueError
        If the channels hold no values, or the rank is not 2 to 5.
    TypeError
        If `x` is not a float array.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> nc.batch_stats(np.array([[1e6], [1e6 + 2]], dtype=np.float32))
    (array([1000001.]), array([1.]))
    """
    plan, operands = _planners.batch_stats(x, axis=axis)
    return _dispatch.stats(plan, operands)
