"""backward is the derivative of forward: fourth-order central differences of the library's own forward."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import fourth_order_gradient
from tolerances import tol

import normcore as nc

pytestmark = pytest.mark.usefixtures("backend")
SHAPES = [((5, 3), 1), ((2, 3, 4), 1), ((2, 2, 3, 2), -1), ((2, 2, 2, 1, 3), 2), ((4, 2, 3), 0)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 0.3])
@pytest.mark.parametrize("shape, axis", SHAPES, ids=str)
def test_gradients_against_central_differences(rng, shape, axis, eps, training):
    channels = shape[axis]
    x, dy = rng.standard_normal((2, *shape))
    weight, bias = rng.uniform(0.5, 2, (2, channels))
    given = {"training": training, "eps": eps, "axis": axis}
    if not training:
        given |= {"running_mean": rng.standard_normal(channels), "running_var": rng.uniform(0.5, 2, channels)}

    def loss(x=x, weight=weight, bias=bias):
        return float((nc.batch_norm(x, weight=weight, bias=bias, **given) * dy).sum())

    _, ctx = nc.batch_norm_forward(x, weight, bias, **given)
    dx, dweight, dbias = nc.batch_norm_backward(dy, ctx)
    np.testing.assert_allclose(dx, fourth_order_gradient(lambda x: loss(x=x), x), **tol("float64", kind="fd"))
    np.testing.assert_allclose(
        dweight, fourth_order_gradient(lambda w: loss(weight=w), weight), **tol("float64", kind="fd")
    )
    np.testing.assert_allclose(dbias, fourth_order_gradient(lambda b: loss(bias=b), bias), **tol("float64", kind="fd"))


def test_a_constant_channel_has_a_finite_gradient():
    x = np.full((4, 1), 3.0, np.float32)
    _, ctx = nc.batch_norm_forward(x, np.ones(1, np.float32))
    dx, dweight, _ = nc.batch_norm_backward(np.array([[1.0], [0], [0], [0]], np.float32), ctx)
    # xhat is 0, so dx = (dy - mean(dy)) / sqrt(eps)
    np.testing.assert_allclose(dx.ravel(), np.array([0.75, -0.25, -0.25, -0.25]) / np.sqrt(1e-5), rtol=1e-6)
    assert dweight.tolist() == [0.0]
