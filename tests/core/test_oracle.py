"""The oracle is tested too, on numbers that need no library."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from tolerances import tol


def test_statistics_of_small_whole_numbers():
    mean, var = oracle.stats(np.array([[1.0, 10.0], [2.0, 10.0], [6.0, 10.0]]))
    assert mean.tolist() == [3.0, 10.0]
    assert var.tolist() == [14.0 / 3.0, 0.0]  # (4 + 1 + 9) / 3


def test_statistics_keep_their_digits_far_from_zero():
    x = 1e8 + np.array([[0.0], [1.0], [2.0], [3.0]])
    mean, var = oracle.stats(x)
    assert (mean[0], var[0]) == (1e8 + 1.5, 1.25)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_forward_is_numpys_formula(rng, axis):
    x = rng.standard_normal((6, 5, 4))
    others = tuple(a for a in range(3) if a != axis % 3)
    mean, var = x.mean(others, keepdims=True), x.var(others, keepdims=True)
    np.testing.assert_allclose(
        oracle.forward(x, axis=axis, eps=0.1).y, (x - mean) / np.sqrt(var + 0.1), **tol("float64", 30, scale=1)
    )


@pytest.mark.parametrize("training", [True, False])
def test_backward_is_the_derivative_of_forward(rng, training):
    x, dy = rng.standard_normal((2, 4, 3))
    weight, bias = rng.standard_normal((2, 3))
    given = {} if training else {"mean": np.array([0.1, 0.2, 0.3]), "var": np.array([1.0, 2.0, 3.0])}

    def loss(x=x, weight=weight, bias=bias):
        return float((oracle.forward(x, weight, bias, **given).y * dy).sum())

    got = oracle.backward(dy, x, weight, **given)
    np.testing.assert_allclose(
        got.dx, oracle.fourth_order_gradient(lambda x: loss(x=x), x), **tol("float64", kind="fd")
    )
    np.testing.assert_allclose(
        got.dweight, oracle.fourth_order_gradient(lambda w: loss(weight=w), weight), **tol("float64", kind="fd")
    )
    np.testing.assert_allclose(
        got.dbias, oracle.fourth_order_gradient(lambda b: loss(bias=b), bias), **tol("float64", kind="fd")
    )


def test_fourth_order_differences_are_exact_for_a_quartic():
    at = np.array([0.5, -1.5, 2.0])
    got = oracle.fourth_order_gradient(lambda x: float((x**4 - x**3 + 2 * x).sum()), at)
    np.testing.assert_allclose(got, 4 * at**3 - 3 * at**2 + 2, rtol=1e-11)


def test_running_statistics_take_in_the_unbiased_variance():
    mean, var = oracle.running([0.0], [1.0], np.array([10.0]), np.array([3.0]), count=4, momentum=0.25)
    assert (mean[0], var[0]) == (2.5, 0.75 + 0.25 * 4.0)
