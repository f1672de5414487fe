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


# --- the oracle of any norm, by labels --------------------------------------------------------------------------------


def test_labels_of_channels_give_batch_norm(rng):
    x, dy = rng.standard_normal((2, 4, 3, 5))
    weight, bias = rng.standard_normal((2, 3))
    labels = np.indices(x.shape)[1]
    ours = oracle.norm(x, labels, labels, weight, bias)
    for a, b in zip(ours, oracle.forward(x, weight, bias), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-15)
    pairs = zip(oracle.norm_backward(dy, x, labels, labels, weight, bias), oracle.backward(dy, x, weight), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_labels_group_what_they_name():
    labels = np.array([[0, 1], [1, 0]])
    parts = oracle.gathered(np.array([[1.0, 2.0], [3.0, 4.0]]), labels)
    assert [p.tolist() for p in parts] == [[1.0, 4.0], [2.0, 3.0]]
    rms = oracle.norm(np.array([[3.0, 4.0]]), np.zeros((1, 2), int), np.array([[0, 1]]), eps=0.0, centred=False)
    assert (rms.mean.tolist(), rms.var.tolist()) == ([0.0], [12.5])


@pytest.mark.parametrize("activation", oracle.ACTIVATIONS)
def test_derivatives_of_activations_are_derivatives(activation):
    function, derivative = oracle.ACTIVATIONS[activation]
    at = np.array([-6.0, -2.5, -1.0, -0.25, 0.25, 1.0, 2.5, 6.0])
    got = np.array([derivative(z) for z in at])
    want = oracle.fourth_order_gradient(lambda z: sum(function(v) for v in z), at)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)


def test_activations_at_points_that_are_known():
    known = {
        "relu": {-2.0: 0.0, 3.0: 3.0},
        "leaky_relu": {-2.0: -0.02, 3.0: 3.0},
        "sigmoid": {0.0: 0.5, 800.0: 1.0, -800.0: 0.0},
        "tanh": {0.0: 0.0, 50.0: 1.0},
        "gelu": {0.0: 0.0, 40.0: 40.0, 1.0: 0.8413447460685429},  # Phi(1)
        "gelu_tanh": {0.0: 0.0, 40.0: 40.0},
        "silu": {0.0: 0.0, 800.0: 800.0},
    }
    for name, points in known.items():
        for z, value in points.items():
            assert oracle.ACTIVATIONS[name][0](z) == pytest.approx(value, rel=1e-15, abs=1e-300)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("activation", [None, "silu"])
def test_backward_by_labels_is_the_derivative(rng, activation, centred):
    x, dy = rng.standard_normal((2, 3, 4))
    weight, bias = rng.standard_normal((2, 4))
    rows, columns = np.indices(x.shape)
    options = {"eps": 0.1, "centred": centred, "activation": activation}

    def loss(x=x, weight=weight, bias=bias):
        return float((oracle.norm(x, rows, columns, weight, bias, **options).y * dy).sum())

    got = oracle.norm_backward(dy, x, rows, columns, weight, bias, **options)
    near = {"rtol": 1e-7, "atol": 1e-8}
    np.testing.assert_allclose(got.dx, oracle.fourth_order_gradient(lambda x: loss(x=x), x), **near)
    np.testing.assert_allclose(got.dweight, oracle.fourth_order_gradient(lambda w: loss(weight=w), weight), **near)
    np.testing.assert_allclose(got.dbias, oracle.fourth_order_gradient(lambda b: loss(bias=b), bias), **near)
