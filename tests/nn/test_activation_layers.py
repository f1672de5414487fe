"""The layers of activations against plain float64 formulas and finite differences."""

from __future__ import annotations

import math
import warnings

import numpy as np
import oracle
import pytest
from differences import check_gradients
from tolerances import tol

from normcore.nn import (
    GELU,
    Dropout,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Tanh,
)


def logistic(x):
    return np.where(x > 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


ACTIVATIONS = {
    ReLU: (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    Sigmoid: (
        lambda x: np.where(x > 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x)))),
        lambda x: np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))) ** 2,
    ),
    Tanh: (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    LeakyReLU: (lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1, 0.01)),
    GELU: (
        np.vectorize(lambda x: x * math.erfc(-x / math.sqrt(2)) / 2),
        np.vectorize(lambda x: math.erfc(-x / math.sqrt(2)) / 2 + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)),
    ),
    SiLU: (lambda x: x * logistic(x), lambda x: logistic(x) * (1 + x * logistic(-x))),
}


@pytest.mark.parametrize("kind", ACTIVATIONS, ids=lambda kind: kind.__name__)
class TestActivations:
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("shape", [(), (7,), (3, 4), (2, 3, 4, 5), (60, 50)])
    def test_formula(self, rng, kind, dtype, shape):
        x = (4 * rng.normal(size=shape)).astype(dtype) if shape else np.asarray(dtype(-1.5))
        dy = rng.normal(size=shape).astype(dtype) if shape else np.asarray(dtype(2))
        function, derivative = ACTIVATIONS[kind]
        layer = kind()
        y = layer(x)
        dx = layer.backward(dy)
        assert (y.shape, y.dtype, dx.shape, dx.dtype) == (shape, dtype, shape, dtype)
        wide = x.astype(np.float64)
        # the tail of the normal distribution turns an ulp of x into x**2 of its own
        np.testing.assert_allclose(y, function(wide), **tol(dtype, scale=1 if kind is GELU else 1e-3))
        # the derivative comes from the rounded y: off by an ulp of 1, not of itself
        np.testing.assert_allclose(dx, dy * derivative(wide), **tol(dtype, kind="dx"))

    def test_extreme_values(self, kind):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for dtype in (np.float16, np.float32, np.float64):
                x = np.array([-np.inf, -np.finfo(dtype).max, np.finfo(dtype).max, np.inf, np.nan], dtype)
                y = kind()(x)
                most = np.finfo(dtype).max
                ends = {
                    ReLU: [0, 0, most, np.inf],
                    Sigmoid: [0, 0, 1, 1],
                    Tanh: [-1, -1, 1, 1],
                    LeakyReLU: [-np.inf, np.multiply(-most, 0.01, dtype=dtype), most, np.inf],
                    GELU: [np.nan, 0, most, np.inf],  # -inf * 0, as in PyTorch
                    SiLU: [np.nan, 0, most, np.inf],
                }[kind]
                np.testing.assert_array_equal(y, [*ends, np.nan])

    def test_gradients(self, rng, kind):
        x = rng.normal(size=(4, 5))
        x[np.abs(x) < 0.01] = 0.5  # away from the kink of ReLU
        check_gradients(kind(), x, rng.normal(size=(4, 5)))

    def test_neither_x_nor_dy_is_written_to(self, rng, kind):
        x, dy = rng.normal(size=(4, 5)), rng.normal(size=(4, 5))
        x.flags.writeable = dy.flags.writeable = False
        layer = kind()
        y = layer(x)
        assert not np.shares_memory(x, y)
        first = layer.backward(dy)
        np.testing.assert_array_equal(layer.backward(dy), first)
        assert not np.shares_memory(first, dy)

    def test_views(self, rng, kind):
        x = rng.normal(size=(6, 8))[::2, ::-1].T
        np.testing.assert_array_equal(kind()(x), kind()(x.copy()))

    def test_integers_are_refused(self, kind):
        with pytest.raises(TypeError, match=f"^{kind.__name__}: x must be float32, float64 or float16, got int64"):
            kind()(np.arange(3))


def test_relu_cuts_off_whatever_arrives_behind_a_zero():
    layer = ReLU()
    layer(np.array([-1.0, 0.0, 2.0, np.nan]))
    np.testing.assert_array_equal(layer.backward(np.array([np.inf, np.nan, 3.0, 4.0])), [0, 0, 3, 4])


@pytest.mark.parametrize("size", [4, 4096])  # the two ways of ReLU
def test_relu_is_the_same_for_few_and_many_values(size):
    layer, x = ReLU(), np.resize(np.array([-1.0, 0.0, 2.0, np.nan]), size)
    layer(x)
    for dtype in (np.float16, np.float32, np.float64):
        layer(x.astype(dtype))
        dx = layer.backward(np.resize(np.array([np.inf, np.nan, 3.0, 4.0], dtype), size))
        assert dx.dtype == dtype
        np.testing.assert_array_equal(dx, np.resize([0, 0, 3, 4], size))


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.3, 1.0, 2.5])
def test_any_slope_of_leaky_relu(slope):
    layer = LeakyReLU(slope)
    np.testing.assert_allclose(layer(np.array([-2.0, 0.0, 3.0])), [-2 * slope, 0, 3], rtol=1e-15)
    np.testing.assert_array_equal(layer.backward(np.array([1.0, 1.0, 1.0])), [slope, slope, 1])
    assert repr(layer) == f"LeakyReLU(negative_slope={slope})"


def test_gelu_by_tanh():
    x = np.linspace(-4, 4, 41)
    layer = GELU("tanh")
    function, derivative = oracle.ACTIVATIONS["gelu_tanh"]
    np.testing.assert_allclose(layer(x), [function(v) for v in x], rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(layer.backward(np.ones(41)), [derivative(v) for v in x], rtol=1e-13, atol=1e-15)
    layer.approximate = "none"  # takes effect
    np.testing.assert_array_equal(layer(x), GELU()(x))


@pytest.mark.parametrize("kind", [ReLU, SiLU, LeakyReLU, Dropout])
def test_inplace_is_taken_and_leaves_x_alone(kind):
    layer, x = kind(inplace=True), np.array([-1.0, 2.0])
    y = layer(x)
    np.testing.assert_array_equal(x, [-1, 2])
    assert not np.shares_memory(x, y)
    assert "inplace=True" in repr(layer)


def test_sigmoid_in_float16_keeps_its_small_values():
    # exp(12) is beyond float16, sigmoid(-12) is not
    np.testing.assert_allclose(Sigmoid()(np.array([-12.0], np.float16)), [6.144e-06], rtol=0.01)
