"""The norms' formulas on cases small enough to do on paper, the working beside them.

The row 1, 2, 3, 6 has mean 12 / 4 = 3, deviations -2, -1, 0, 3 and var (4 + 1 + 0 + 9) / 4 = 3.5. With eps = 0.5,
var + eps = 4 and rstd = 1/2 exactly: xhat = -1, -0.5, 0, 1.5.

The row 1, 7, 5, 5 has mean square (1 + 49 + 25 + 25) / 4 = 25; with eps = 0 it would be divided by 5.
"""

from __future__ import annotations

import numpy as np
import pytest
from norms import DTYPES, EVERY_DTYPE, EVERY_NORM

import normcore as nc

ROW = [1.0, 2.0, 3.0, 6.0]
XHAT = [-1.0, -0.5, 0.0, 1.5]
pytestmark = [pytest.mark.usefixtures("backend"), pytest.mark.walk("rows")]


@EVERY_DTYPE
def test_layer_norm(dtype):
    x = np.array([ROW, ROW[::-1]], dtype)
    y, ctx = nc.layer_norm_forward(x, 4, eps=0.5)
    assert y.tolist() == [XHAT, XHAT[::-1]]
    assert (ctx.mean.tolist(), ctx.rstd.tolist()) == ([3.0, 3.0], [0.5, 0.5])
    weight, bias = np.array([1, 2, 3, 4], dtype), np.array([10, 0, 0, -1], dtype)
    assert nc.layer_norm(x, (4,), weight, bias, 0.5).tolist() == [[9, -1, 0, 5], [11.5, 0, -1.5, -5]]
    # the same four numbers as two axes
    assert nc.layer_norm(x.reshape(2, 2, 2), (2, 2), eps=0.5).tolist() == [
        [[-1, -0.5], [0, 1.5]],
        [[1.5, 0], [-0.5, -1]],
    ]


@EVERY_DTYPE
def test_layer_norm_backward(dtype):
    """dy = 1, 0, 0, 1 and weight = 2: dxhat = 2, 0, 0, 2, its mean 1, that of dxhat * xhat (-2 + 3) / 4 = 1/4.

    dx = (dxhat - 1 - xhat / 4) / 2 = (1.25, -0.875, -1, 0.625) / 2.
    dweight = dy * xhat and dbias = dy, summed over two rows.
    """
    weight, bias = np.full(4, 2, dtype), np.zeros(4, dtype)
    _, ctx = nc.layer_norm_forward(np.array([ROW, ROW], dtype), 4, weight, bias, eps=0.5)
    dx, dweight, dbias = nc.layer_norm_backward(np.array([[1, 0, 0, 1], [0, 0, 0, 0]], dtype), ctx)
    assert dx.tolist() == [[0.625, -0.4375, -0.5, 0.3125], [0, 0, 0, 0]]
    assert (dweight.tolist(), dbias.tolist()) == ([-1, 0, 0, 1.5], [1, 0, 0, 1])


@EVERY_DTYPE
def test_rms_norm(dtype):
    """eps = 39 makes the divisor sqrt(64) = 8. dy = 1, 0, 0, 0: E[dy * xhat] = 1/8 / 4 = 1/32.

    dx = (dy - xhat / 32) / 8, so dx[0] = (1 - 1/256) / 8 = 255/2048, dx[1] = -7/8 / 32 / 8 = -7/2048.
    """
    x = np.array([[1.0, 7.0, 5.0, 5.0]], dtype)
    y, ctx = nc.rms_norm_forward(x, 4, eps=39.0)
    assert y.tolist() == [[0.125, 0.875, 0.625, 0.625]]
    assert (ctx.mean.tolist(), ctx.rstd.tolist()) == ([0.0], [0.125])
    dx, dweight, dbias = nc.rms_norm_backward(np.array([[1, 0, 0, 0]], dtype), ctx)
    assert dx.tolist() == [[255 / 2048, -7 / 2048, -5 / 2048, -5 / 2048]]
    assert dweight is None
    assert dbias is None
    weight = np.array([8, 16, 24, 32], dtype)
    assert nc.rms_norm(x, 4, weight, 39.0).tolist() == [[1, 14, 15, 20]]


@pytest.mark.parametrize("dtype, eps", [("float16", 2.0**-10), ("float32", 2.0**-23), ("float64", 2.0**-52)])
def test_rms_norms_eps_is_the_dtypes_machine_epsilon(dtype, eps):
    assert eps == np.finfo(dtype).eps
    _, ctx = nc.rms_norm_forward(np.zeros((1, 3), dtype), 3)
    assert ctx.rstd.tolist() == [1 / np.sqrt(eps)]


def test_rms_norms_eps_for_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="brings bfloat16")
    from normcore._planners import rms_norm

    plan, _ = rms_norm(np.zeros((1, 3), ml_dtypes.bfloat16), 3)
    assert plan.eps == float(ml_dtypes.finfo(ml_dtypes.bfloat16).eps) == 2.0**-7


@EVERY_DTYPE
def test_group_norm(dtype):
    """Channels 0, 1 hold the row, channels 2, 3 ten times it: two groups, each with its own statistics."""
    row = np.array(ROW).reshape(2, 2)
    x = np.concatenate([row, row + 5])[np.newaxis].astype(dtype)
    y, ctx = nc.group_norm_forward(x, 2, eps=0.5)
    assert y.tolist() == [[[-1, -0.5], [0, 1.5]] * 2]
    assert (ctx.mean.tolist(), ctx.rstd.tolist()) == ([3.0, 8.0], [0.5, 0.5])
    weight, bias = np.array([1, 2, 3, 4], dtype), np.array([0, 0, 0, 1], dtype)
    y = nc.group_norm(x, 2, weight, bias, 0.5)
    assert y.tolist() == [[[-1, -0.5], [0, 3], [-3, -1.5], [1, 7]]]


@EVERY_DTYPE
def test_instance_norm(dtype):
    x = np.array([[ROW, [v + 5 for v in ROW]], [ROW[::-1], ROW]], dtype)
    y, ctx = nc.instance_norm_forward(x, np.array([1, 2], dtype), np.array([0, 1], dtype), eps=0.5)
    assert y.tolist() == [[XHAT, [-1, 0, 1, 4]], [XHAT[::-1], [-1, 0, 1, 4]]]
    assert ctx.mean.tolist() == [3, 8, 3, 3]


@DTYPES
def test_instance_norms_running_statistics(dtype):
    """Momentum 0.25. Channel 0: means 3 and 5, averaged 4: 0.75 * 8 + 0.25 * 4 = 7.

    Unbiased variances 3.5 * 4/3 = 14/3 in both samples: 0.75 * 4 + 0.25 * 14/3 = 25/6.
    """
    x = np.array([[ROW], [[v + 2 for v in ROW]]], dtype)
    running_mean, running_var = np.array([8.0]), np.array([4.0])
    nc.instance_norm(x, running_mean, running_var, momentum=0.25)
    np.testing.assert_allclose(running_mean, [7.0], rtol=1e-15)
    np.testing.assert_allclose(running_var, [25 / 6], rtol=1e-15)


@pytest.mark.walk("channels")
@DTYPES
def test_instance_norm_with_running_statistics(dtype):
    """Running mean 1, running variance 15.75, eps 0.25: rstd = 1/4, y = 0, 0.25, 0.5, 1.25; dx = 2 / 4 * dy."""
    mean, var = np.array([1.0], dtype), np.array([15.75], dtype)
    given = {"running_mean": mean, "running_var": var, "use_input_stats": False, "eps": 0.25}
    x = np.array([[ROW]], dtype)
    y, ctx = nc.instance_norm_forward(x, np.array([2.0], dtype), **given)
    assert y.tolist() == [[[0.0, 0.5, 1.0, 2.5]]]
    assert (mean.tolist(), var.tolist()) == ([1.0], [15.75])
    dx, dweight, dbias = nc.instance_norm_backward(np.array([[[1, 0, 0, 1]]], dtype), ctx)
    assert dx.tolist() == [[[0.5, 0.0, 0.0, 0.5]]]
    assert dweight.tolist() == [1.25]
    assert dbias is None
    # one spatial element is enough when no statistics are taken of it
    assert nc.instance_norm(x[:, :, :1], mean, var, use_input_stats=False, eps=0.25).tolist() == [[[0.0]]]


@pytest.mark.parametrize(
    "activation, expected",
    [
        ("relu", [0, 0, 0, 1.5]),
        ("leaky_relu", [-0.01, -0.005, 0, 1.5]),
        ("sigmoid", [0.2689414213699951, 0.3775406687981454, 0.5, 0.8175744761936437]),
        ("tanh", [-0.7615941559557649, -0.46211715726000973, 0, 0.9051482536448665]),
        ("gelu", [-0.15865525393145707, -0.15426876936299344, 0, 1.399789198096713]),
        ("gelu_tanh", [-0.15880800939172324, -0.15428599017485609, 0, 1.3995715769802328]),
        ("silu", [-0.2689414213699951, -0.1887703343990727, 0, 1.2263617142904656]),
    ],
)
@DTYPES
def test_activations(activation, expected, dtype):
    """Of -1, -0.5, 0, 1.5, computed with 30 digits."""
    y, _ = nc.layer_norm_forward(np.array([ROW], dtype), 4, eps=0.5, activation=activation)
    np.testing.assert_allclose(y[0], expected, rtol=4 * np.finfo(dtype).eps, atol=1e-300)


@EVERY_NORM
@pytest.mark.parametrize("activation, slope", [("relu", 0.0), ("leaky_relu", 0.01), ("sigmoid", 0.25), ("tanh", 1.0),
                                               ("gelu", 0.5), ("gelu_tanh", 0.5), ("silu", 0.5)])  # fmt: skip
def test_derivatives_at_zero(norm, activation, slope):
    """A constant x gives z = 0 everywhere: dbias is the slope there times the sum of dy."""
    if not norm.has_bias:
        pytest.skip("RMS norm has no bias")
    _, ctx = norm.forward(np.ones(norm.shape), bias=np.zeros(norm.parameter_shape), activation=activation)
    _, _, dbias = norm.backward(np.ones(norm.shape), ctx)
    np.testing.assert_allclose(dbias, slope * dbias.size**-1 * np.prod(norm.shape), rtol=1e-15)
