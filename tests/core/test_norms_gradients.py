"""backward is the derivative of forward, activations included: fourth-order central differences of forward itself."""

from __future__ import annotations

import numpy as np
import pytest
from norms import EVERY_ACTIVATION, Norm, every_norm
from oracle import fourth_order_gradient
from tolerances import tol

import normcore as nc

pytestmark = pytest.mark.usefixtures("backend")
TINY = every_norm(
    Norm("batch", (4, 2, 2)),
    Norm("layer", (3, 4), (4,)),
    Norm("layer", (2, 3, 2), ((3, 2),)),
    Norm("rms", (3, 4), (4,)),
    Norm("rms", (6,), (6,)),
    Norm("group", (2, 4, 3), (2,)),
    Norm("group", (2, 4), (2,)),
    Norm("instance", (2, 2, 3)),
)


def away_from_the_kink(norm, rng, activation, eps):
    """x, dy, weight, bias such that no z is near 0, where relu has no derivative to compare with."""
    while True:
        x, dy, weight, bias = norm.arrays(rng)
        if activation not in ("relu", "leaky_relu") or np.abs(norm.expected(x, weight, bias, eps).y).min() > 0.03:
            return x, dy, weight, bias


@EVERY_ACTIVATION
@pytest.mark.parametrize("eps", [1e-5, 0.3])
@TINY
def test_gradients_against_central_differences(rng, norm, eps, activation):
    x, dy, weight, bias = away_from_the_kink(norm, rng, activation, eps)

    def loss(x=x, weight=weight, bias=bias):
        return float((norm.forward(x, weight, bias, eps=eps, activation=activation)[0] * dy).sum())

    _, ctx = norm.forward(x, weight, bias, eps=eps, activation=activation)
    dx, dweight, dbias = norm.backward(dy, ctx)
    near = {"rtol": 1e-6, "atol": 1e-7}  # five derivatives of rstd, of gelu and of their chain
    np.testing.assert_allclose(dx, fourth_order_gradient(lambda x: loss(x=x), x), **near)
    np.testing.assert_allclose(dweight, fourth_order_gradient(lambda w: loss(weight=w), weight), **near)
    if bias is not None:
        np.testing.assert_allclose(dbias, fourth_order_gradient(lambda b: loss(bias=b), bias), **near)


@EVERY_ACTIVATION
@pytest.mark.walk("channels")
@pytest.mark.parametrize("op", ["batch", "instance"])
def test_gradients_with_running_statistics(rng, op, activation):
    x, dy = rng.standard_normal((2, 3, 2, 4))
    weight, bias = rng.uniform(0.5, 2, (2, 2))
    given = {"running_mean": rng.standard_normal(2), "running_var": rng.uniform(0.5, 2, 2), "activation": activation}
    given |= {"training": False} if op == "batch" else {"use_input_stats": False}
    forward = getattr(nc, f"{op}_norm_forward")
    z = (x - given["running_mean"][:, None]) / np.sqrt(given["running_var"][:, None] + 1e-5)
    bias = bias + (np.abs(z * weight[:, None] + bias[:, None]).min() < 0.03) * 0.1

    def loss(x=x, weight=weight, bias=bias):
        return float((forward(x, weight, bias, **given)[0] * dy).sum())

    dx, dweight, dbias = getattr(nc, f"{op}_norm_backward")(dy, forward(x, weight, bias, **given)[1])
    near = tol("float64", kind="fd", scale=10)
    np.testing.assert_allclose(dx, fourth_order_gradient(lambda x: loss(x=x), x), **near)
    np.testing.assert_allclose(dweight, fourth_order_gradient(lambda w: loss(weight=w), weight), **near)
    np.testing.assert_allclose(dbias, fourth_order_gradient(lambda b: loss(bias=b), bias), **near)
