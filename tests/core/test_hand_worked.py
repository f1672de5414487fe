"""The paper's algorithm on cases small enough to do on paper, the working beside them.

Channel 0 holds 1, 2, 3, 6: mean 12 / 4 = 3, deviations -2, -1, 0, 3, var (4 + 1 + 0 + 9) / 4 = 3.5.
With eps = 0.5, var + eps = 4 and rstd = 1/2 exactly. So xhat = -1, -0.5, 0, 1.5.

Channel 1 holds 0, 0, 0, 8: mean 2, deviations -2, -2, -2, 6, var (3 * 4 + 36) / 4 = 12.
With eps = 0.5 nothing is round; with eps = 4 var + eps = 16, rstd = 1/4, xhat = -0.5, -0.5, -0.5, 1.5.
"""

from __future__ import annotations

import numpy as np
import pytest

import normcore as nc

X = np.array([[1.0], [2.0], [3.0], [6.0]])
XHAT = np.array([[-1.0], [-0.5], [0.0], [1.5]])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
pytestmark = pytest.mark.usefixtures("backend")


@DTYPES
def test_statistics(dtype):
    x = np.hstack([X, [[0.0], [0.0], [0.0], [8.0]]]).astype(dtype)
    mean, var = nc.batch_stats(x)
    assert mean.tolist() == [3.0, 2.0]
    assert var.tolist() == [3.5, 12.0]
    assert mean.dtype == var.dtype == np.float64


@DTYPES
def test_training_forward(dtype):
    x = X.astype(dtype)
    y, ctx = nc.batch_norm_forward(x, eps=0.5)
    assert y.dtype == x.dtype
    assert y.tolist() == XHAT.tolist()
    assert (ctx.mean.tolist(), ctx.rstd.tolist()) == ([3.0], [0.5])
    # gamma = 2, beta = 10
    y = nc.batch_norm(x, weight=np.array([2.0], dtype), bias=np.array([10.0], dtype), training=True, eps=0.5)
    assert y.ravel().tolist() == [8.0, 9.0, 10.0, 13.0]


@DTYPES
def test_training_backward(dtype):
    """dy = 1, 0, 0, 1 and gamma = 2.

    dbias = 2; dweight = -1 + 1.5 = 0.5.
    dx = rstd * gamma * (dy - dbias / 4 - xhat * dweight / 4) = dy - 0.5 - xhat / 8
       = 1 - 0.5 + 0.125,  -0.5 + 0.0625,  -0.5,  1 - 0.5 - 0.1875
    """
    _, ctx = nc.batch_norm_forward(X.astype(dtype), np.array([2.0], dtype), np.array([10.0], dtype), eps=0.5)
    dy = np.array([[1.0], [0.0], [0.0], [1.0]], dtype)
    dx, dweight, dbias = nc.batch_norm_backward(dy, ctx)
    assert dx.ravel().tolist() == [0.625, -0.4375, -0.5, 0.3125]
    assert (dweight.tolist(), dbias.tolist()) == ([0.5], [2.0])
    assert dx.dtype == dweight.dtype == dbias.dtype == np.dtype(dtype)


@DTYPES
def test_running_statistics(dtype):
    """Momentum 0.25, channel 1: 0.75 * 8 + 0.25 * 2 = 6.5; unbiased var 12 * 4/3 = 16, 0.75 * 4 + 0.25 * 16 = 7."""
    running_mean, running_var = np.array([8.0], dtype), np.array([4.0], dtype)
    x = np.array([[0.0], [0.0], [0.0], [8.0]], dtype)
    nc.batch_norm(x, running_mean, running_var, training=True, momentum=0.25)
    assert (running_mean.tolist(), running_var.tolist()) == ([6.5], [7.0])


@DTYPES
def test_inference(dtype):
    """Running mean 1, running variance 15.75, eps 0.25: rstd = 1/4, y = 0, 0.25, 0.5, 1.25; dx = 2 / 4 * dy."""
    running_mean, running_var = np.array([1.0], dtype), np.array([15.75], dtype)
    weight = np.array([2.0], dtype)
    y, ctx = nc.batch_norm_forward(
        X.astype(dtype), weight, running_mean=running_mean, running_var=running_var, training=False, eps=0.25
    )
    assert y.ravel().tolist() == [0.0, 0.5, 1.0, 2.5]
    assert (running_mean.tolist(), running_var.tolist()) == ([1.0], [15.75])
    dx, dweight, dbias = nc.batch_norm_backward(np.array([[1.0], [0.0], [0.0], [1.0]], dtype), ctx)
    assert dx.ravel().tolist() == [0.5, 0.0, 0.0, 0.5]
    assert dweight.tolist() == [1.25]  # xhat at the first and last: 0 + 1.25
    assert dbias is None


@DTYPES
@pytest.mark.parametrize(
    "shape, axis", [((4, 1), 1), ((1, 4), 0), ((2, 1, 2), 1), ((1, 2, 2, 1), -1), ((2, 1, 1, 1, 2), 1), ((4, 1), -1)]
)
def test_shape_does_not_matter(dtype, shape, axis):
    y = nc.batch_norm(X.astype(dtype).reshape(shape), training=True, eps=0.5, axis=axis)
    assert y.shape == shape
    assert y.ravel().tolist() == XHAT.ravel().tolist()
