"""Linear, activations, BatchNorm, Flatten, Sequential against plain float64 formulas and finite differences."""

from __future__ import annotations

import copy
import math
import re
import warnings

import numpy as np
import oracle
import pytest
from differences import check_gradients
from hypothesis import given
from hypothesis import strategies as st
from tolerances import tol

from normcore.nn import (
    GELU,
    BatchNorm1d,
    BatchNorm2d,
    Dropout,
    Flatten,
    Identity,
    LeakyReLU,
    Linear,
    ReLU,
    Sequential,
    Sigmoid,
    SiLU,
    Tanh,
)


class TestLinear:
    @pytest.mark.parametrize(("name", "shape"), [("weight", (4, 3)), ("weight", (3,)), ("bias", (1,))])
    def test_replaced_data_of_another_shape(self, name, shape):
        layer = Linear(4, 3, rng=0)
        getattr(layer, name).data = np.ones(shape, np.float32)
        sentence = rf"Linear: {name}.data has shape {re.escape(str(shape))}, but the layer is Linear\(in_features=4"
        with pytest.raises(ValueError, match=sentence):
            layer(np.ones((2, 4), np.float32))

    def test_by_hand(self):
        layer = Linear(2, 3, dtype=np.float64)
        layer.weight.data[...] = [[1, 2], [3, 4], [5, 6]]
        layer.bias.data[...] = [10, 20, 30]
        np.testing.assert_array_equal(layer(np.array([[1.0, -1.0], [2.0, 0.5]])), [[9, 19, 29], [13, 28, 43]])
        dx = layer.backward(np.array([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]))
        np.testing.assert_array_equal(dx, [[11, 14], [-2, -2]])
        np.testing.assert_array_equal(layer.weight.grad, [[1, -1], [2, 0.5], [0, -2.5]])
        np.testing.assert_array_equal(layer.bias.grad, [1, 1, 1])

    @pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5), (0, 5), (2, 0, 5)])
    @pytest.mark.parametrize("bias", [True, False])
    def test_leading_dimensions_are_rows(self, rng, shape, bias):
        layer = Linear(5, 3, bias=bias, dtype=np.float64, rng=rng)
        x, dy = rng.normal(size=shape), rng.normal(size=(*shape[:-1], 3))
        expected = np.einsum("...i,oi->...o", x, layer.weight.data) + (layer.bias.data if bias else 0)
        np.testing.assert_allclose(layer(x), expected, rtol=1e-14, atol=1e-14)
        dx = layer.backward(dy)
        np.testing.assert_allclose(dx, np.einsum("...o,oi->...i", dy, layer.weight.data), rtol=1e-14, atol=1e-14)
        expected = np.einsum("no,ni->oi", dy.reshape(-1, 3), x.reshape(-1, 5))
        np.testing.assert_allclose(layer.weight.grad, expected, rtol=1e-14, atol=1e-14)
        if bias:
            np.testing.assert_allclose(layer.bias.grad, dy.reshape(-1, 3).sum(0), rtol=1e-14, atol=1e-14)
        else:
            assert layer.bias is None

    def test_gradients(self, rng):
        check_gradients(Linear(3, 2, dtype=np.float64, rng=rng), rng.normal(size=(4, 3)), rng.normal(size=(4, 2)))

    def test_any_strides(self, rng):
        layer = Linear(3, 2, rng=rng)
        x = rng.normal(size=(3, 8)).astype(np.float32).T[::2]
        dy = np.broadcast_to(np.float32(1), (4, 2))
        y = layer(x.copy())
        dx = layer.backward(dy.copy())
        grad = layer.weight.grad.copy()
        np.testing.assert_allclose(layer(x), y, **tol(np.float32))
        np.testing.assert_allclose(layer.backward(dy), dx, **tol(np.float32))
        np.testing.assert_allclose(layer.weight.grad, grad, **tol(np.float32, kind="dparam"))

    def test_starting_values_are_uniform_within_the_bound(self):
        layer = Linear(64, 400, rng=0)
        for array, n in ((layer.weight.data, 64 * 400), (layer.bias.data, 400)):
            assert array.dtype == np.float32
            assert np.abs(array).max() <= 1 / 8
            # Kolmogorov-Smirnov: the distance exceeds 1.95 / sqrt(n) once in a thousand seeds; this seed is fixed
            ranks = np.sort(array.ravel().astype(np.float64) * 8 + 1) / 2
            distance = np.abs(ranks - (np.arange(n) + 0.5) / n).max()
            assert distance < 1.95 / math.sqrt(n)

    def test_a_seed_decides_for_every_dtype(self):
        wide, narrow, other = Linear(3, 4, dtype=np.float64, rng=3), Linear(3, 4, rng=3), Linear(3, 4, rng=4)
        np.testing.assert_array_equal(wide.weight.data.astype(np.float32), narrow.weight.data)
        assert (narrow.weight.data != other.weight.data).any()
        assert (Linear(3, 4).weight.data != Linear(3, 4).weight.data).any()

    def test_numpys_global_generator_is_left_alone(self):
        before = np.random.get_state()[1].copy()  # noqa: NPY002 - the legacy state is what is watched
        Linear(3, 4)
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002 - the legacy state is what is watched

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"in_features": 0}, ValueError, "Linear: in_features must be a positive int, got 0."),
            ({"in_features": True}, ValueError, "Linear: in_features must be a positive int, got True."),
            ({"out_features": 2.0}, TypeError, "Linear: out_features must be a positive int, got 2.0."),
            (
                {"dtype": np.int32},
                TypeError,
                "Linear: dtype must be float32, float64 or float16, got <class 'numpy.int32'>.",
            ),
            ({"dtype": None}, TypeError, "Linear: dtype must be float32, float64 or float16, got None."),
            ({"dtype": "nonsense"}, TypeError, "Linear: dtype must be float32, float64 or float16, got 'nonsense'."),
            (
                {"in_features": 10**30},
                ValueError,
                "Linear: in_features=1000000000000000000000000000000, out_features=2 makes an array that no memory can "
                "hold; choose a smaller layer.",
            ),
            (
                {"out_features": 10**5000},
                ValueError,
                "Linear: in_features=3, out_features=an int of 16610 bits makes an array that no memory can "
                "hold; choose a smaller layer.",
            ),
            (
                {"in_features": -(10**5000)},
                ValueError,
                "Linear: in_features must be a positive int, got an int of 16610 bits.",
            ),
            ({"rng": "x"}, TypeError, "rng must be None, an int or a numpy.random.Generator, got str."),
            ({"rng": True}, TypeError, "rng must be None, an int or a numpy.random.Generator, got bool."),
            ({"rng": -1}, ValueError, "rng must not be negative, got -1."),
            ({"rng": -(10**5000)}, ValueError, "rng must not be negative, got an int of 16610 bits."),
        ],
    )
    def test_wrong_arguments(self, arguments, error, message):
        with pytest.raises(error) as caught:
            Linear(**{"in_features": 3, "out_features": 2, **arguments})
        assert str(caught.value) == message

    @pytest.mark.parametrize(
        ("x", "error", "message"),
        [
            ([[1.0]], TypeError, "x must be a NumPy array, got list; convert it with np.asarray"),
            (np.ones((2, 3), int), TypeError, "got int64; convert it with x.astype"),
            (np.ones((2, 3)), TypeError, "x is float64 but the layer is float32; pass x.astype"),
            (np.ones((2, 3), ">f4"), TypeError, "must be float32, float64 or float16, got >f4"),
            (
                np.ma.ones((2, 3), np.float32),
                TypeError,
                "is a masked array, whose mask would be ignored; pass x.filled",
            ),
            (np.ones((2, 4), np.float32), ValueError, r"shape \(2, 4\), but its last dimension must be in_features=3"),
            (np.array(1, np.float32), ValueError, r"shape \(\), but its last dimension must be in_features=3"),
        ],
    )
    def test_wrong_input(self, x, error, message):
        with pytest.raises(error, match="^Linear: .*" + message):
            Linear(3, 2)(x)

    @pytest.mark.parametrize(
        ("dy", "error", "message"),
        [
            ([1.0], TypeError, "dy must be a NumPy array, got list."),
            (np.ma.ones((4, 2)), TypeError, "dy must be a NumPy array, got MaskedArray."),
            (
                np.ones((4, 2)),
                TypeError,
                "dy is float64, but the last forward returned float32; pass dy.astype(np.float32).",
            ),
            (
                np.ones((3, 2), np.float32),
                ValueError,
                "dy has shape (3, 2), but the last forward returned (4, 2); "
                "pass the gradient with respect to that output.",
            ),
        ],
    )
    @pytest.mark.parametrize(
        "layer",
        [Linear(2, 2), ReLU(), Sigmoid(), Tanh(), Flatten(), GELU(), SiLU(), LeakyReLU(), Dropout(), Identity()],
        ids=lambda m: type(m).__name__,
    )
    def test_wrong_gradient_writes_nothing(self, layer, dy, error, message):
        layer(np.ones((4, 2), np.float32))
        with pytest.raises(error) as caught:
            layer.backward(dy)
        assert str(caught.value) == f"{type(layer).__name__}.backward: {message}"
        assert all(p.grad is None for p in layer.parameters())


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


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: GELU("erf"), ValueError, "GELU: approximate must be one of 'none', 'tanh', got 'erf'."),
        (lambda: LeakyReLU(-1), ValueError, "LeakyReLU: negative_slope must be in [0, inf), got -1."),
        (lambda: Dropout(1.5), ValueError, "Dropout: p must be in [0, 1], got 1.5."),
        (lambda: Dropout("x"), TypeError, "Dropout: p must be a number, got 'x'."),
        (lambda: Dropout(rng="x"), TypeError, "rng must be None, an int or a numpy.random.Generator, got str."),
    ],
)
def test_wrong_arguments_of_small_layers(build, error, message):
    with pytest.raises(error) as caught:
        build()
    assert str(caught.value) == message


@pytest.mark.parametrize("kind", [ReLU, SiLU, LeakyReLU, Dropout])
def test_inplace_is_taken_and_leaves_x_alone(kind):
    layer, x = kind(inplace=True), np.array([-1.0, 2.0])
    y = layer(x)
    np.testing.assert_array_equal(x, [-1, 2])
    assert not np.shares_memory(x, y)
    assert "inplace=True" in repr(layer)


class TestDropout:
    def test_zeros_and_scaled_values(self, rng):
        x, dy = rng.normal(size=(2, 200, 100)) + 9
        layer = Dropout(0.25, rng=1)
        y, dx = layer(x), layer.backward(dy)
        kept = y != 0
        np.testing.assert_allclose(y, np.where(kept, x / 0.75, 0), rtol=1e-15)
        np.testing.assert_allclose(dx, np.where(kept, dy / 0.75, 0), rtol=1e-15)
        # 20000 coins: four standard deviations
        assert abs(kept.mean() - 0.75) < 4 * math.sqrt(0.25 * 0.75 / 20000)
        assert (layer(x) != y).any()

    def test_evaluation_is_the_identity_and_draws_nothing(self, rng):
        layer, x = Dropout(0.5, rng=1), rng.normal(size=(4, 5))
        state = layer.rng.bit_generator.state
        assert layer.eval()(x) is x
        assert layer.backward(x) is x
        assert layer.rng.bit_generator.state == state
        assert Dropout(0.0)(x) is x

    def test_all_of_it(self):
        layer = Dropout(1.0)
        np.testing.assert_array_equal(layer(np.ones(5)), np.zeros(5))
        np.testing.assert_array_equal(layer.backward(np.ones(5)), np.zeros(5))

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_one_seed_is_one_mask_for_every_dtype(self, dtype):
        y = Dropout(0.5, rng=7)(np.ones((6, 7), dtype))
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, Dropout(0.5, rng=7)(np.ones((6, 7))))

    def test_its_state_brings_the_mask_back(self):
        layer, x = Dropout(rng=3), np.ones(100)
        layer(x)
        state = layer.rng.bit_generator.state
        y = layer(x)
        layer.rng.bit_generator.state = state
        np.testing.assert_array_equal(layer(x), y)
        assert isinstance(layer.rng, np.random.Generator)

    def test_gradient(self, rng):
        layer, x = Dropout(0.4, rng=5), rng.normal(size=(4, 5))
        state = layer.rng.bit_generator.state

        def loss(values):
            layer.rng.bit_generator.state = state
            return float(layer(values).sum())

        loss(x)
        np.testing.assert_allclose(
            layer.backward(np.ones((4, 5))), oracle.fourth_order_gradient(loss, x), **tol(np.float64, kind="fd")
        )


def test_identity(rng):
    layer, x = Identity(54, unused=True), rng.normal(size=(2, 3))
    assert layer(x) is x
    assert layer.backward(x) is x
    assert repr(layer) == "Identity()"
    with pytest.raises(ValueError, match=r"Identity\.backward: dy has shape \(3,\)"):
        layer.backward(np.ones(3))


def test_sigmoid_in_float16_keeps_its_small_values():
    # exp(12) is beyond float16, sigmoid(-12) is not
    np.testing.assert_allclose(Sigmoid()(np.array([-12.0], np.float16)), [6.144e-06], rtol=0.01)


@pytest.mark.usefixtures("backend")
class TestBatchNorm:
    @pytest.mark.parametrize(
        ("kind", "shape"), [(BatchNorm1d, (6, 3)), (BatchNorm1d, (4, 3, 5)), (BatchNorm2d, (4, 3, 2, 5))]
    )
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_against_the_oracle_over_several_batches(self, rng, kind, shape, dtype):
        layer = kind(3, eps=1e-3, momentum=0.3, dtype=dtype)
        layer.weight.data[...], layer.bias.data[...] = rng.normal(size=(2, 3))
        weight, bias = layer.weight.data, layer.bias.data
        mean, var = np.zeros(3), np.ones(3)
        count = math.prod(shape) // 3
        for step in range(4):
            x = (rng.normal(size=shape) * 3 + 5).astype(dtype)
            dy = rng.normal(size=shape).astype(dtype)
            expected = oracle.forward(x, weight, bias, eps=1e-3)
            np.testing.assert_allclose(layer(x), expected.y, **tol(dtype, count, scale=8))
            mean, var = oracle.running(mean, var, expected.mean, expected.var, count, momentum=0.3)
            # stored rounded to the dtype after every step
            np.testing.assert_allclose(layer.running_mean, mean, rtol=2 * np.finfo(dtype).eps)
            # float64 has no wider type to sum in, so there the sums' own rounding shows
            rtol = max(2 * np.finfo(dtype).eps, tol("float64", count, "stats")["rtol"])
            np.testing.assert_allclose(layer.running_var, var, rtol=rtol)
            assert layer.num_batches_tracked == step + 1
            self.check_backward(layer, dy, oracle.backward(dy, x, weight, eps=1e-3), dtype)
        frozen = {"mean": layer.running_mean.copy(), "var": layer.running_var.copy(), "eps": 1e-3}
        layer.eval()
        np.testing.assert_allclose(layer(x), oracle.forward(x, weight, bias, **frozen).y, **tol(dtype, scale=8))
        self.check_backward(layer, dy, oracle.backward(dy, x, weight, **frozen), dtype)
        np.testing.assert_array_equal(layer.running_mean, frozen["mean"])
        np.testing.assert_array_equal(layer.running_var, frozen["var"])
        assert layer.num_batches_tracked == 4

    @staticmethod
    def check_backward(layer, dy, expected, dtype):
        count = dy.size // 3
        np.testing.assert_allclose(layer.backward(dy), expected.dx, **tol(dtype, count, "dx", scale=2))
        np.testing.assert_allclose(layer.weight.grad, expected.dweight, **tol(dtype, count, "dparam", scale=10))
        np.testing.assert_allclose(layer.bias.grad, expected.dbias, **tol(dtype, count, "dparam", scale=10))
        assert layer.weight.grad.dtype == layer.bias.grad.dtype == dtype

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize(("kind", "shape"), [(BatchNorm1d, (5, 3)), (BatchNorm2d, (2, 3, 2, 2))])
    def test_gradients(self, rng, kind, shape, training):
        layer = kind(3, dtype=np.float64)
        layer.weight.data[...], layer.bias.data[...] = rng.normal(size=(2, 3))
        layer.running_mean[...], layer.running_var[...] = rng.normal(size=3), rng.uniform(0.5, 2, size=3)
        check_gradients(layer.train(training), rng.normal(size=shape), rng.normal(size=shape))

    def test_by_hand(self):
        layer = BatchNorm1d(1, eps=9.0, momentum=0.5, dtype=np.float64)
        # mean 4, population variance 16, so rstd = 1 / sqrt(16 + 9) = 1/5; unbiased variance 32
        np.testing.assert_allclose(layer(np.array([[0.0], [8.0]])), [[-4 / 5], [4 / 5]], rtol=1e-15)
        np.testing.assert_allclose(layer.running_mean, [0.5 * 0 + 0.5 * 4], rtol=1e-15)
        np.testing.assert_allclose(layer.running_var, [0.5 * 1 + 0.5 * 32], rtol=1e-15)
        # dy = (1, 0): its mean is 1/2, that of dy xhat -2/5; dx = (dy - 1/2 + xhat 2/5) / 5
        np.testing.assert_allclose(layer.backward(np.array([[1.0], [0.0]])), [[9 / 250], [-9 / 250]], rtol=1e-14)
        np.testing.assert_allclose(layer.weight.grad, [-4 / 5], rtol=1e-15)
        np.testing.assert_array_equal(layer.bias.grad, [1])

    def test_momentum_none_averages_all_batches(self, rng):
        layer = BatchNorm1d(3, momentum=None, dtype=np.float64)
        batches = rng.normal(size=(5, 8, 3))
        for batch in batches:
            layer(batch)
        np.testing.assert_allclose(layer.running_mean, batches.mean(axis=(0, 1)), rtol=1e-13)
        np.testing.assert_allclose(layer.running_var, batches.var(axis=1, ddof=1).mean(axis=0), rtol=1e-13)
        before = layer.running_mean.copy()
        layer.eval()(batches[0])
        np.testing.assert_array_equal(layer.running_mean, before)
        assert layer.num_batches_tracked == 5

    def test_without_running_statistics_the_batch_counts_in_both_modes(self, rng):
        layer = BatchNorm1d(3, track_running_stats=False, dtype=np.float64)
        assert layer.running_mean is layer.running_var is layer.num_batches_tracked is None
        assert list(layer.state_dict()) == ["weight", "bias"]
        x = rng.normal(size=(6, 3)) + 4
        expected = oracle.forward(x).y
        np.testing.assert_allclose(layer(x), expected, **tol(np.float64, 6))
        np.testing.assert_allclose(layer.eval()(x), expected, **tol(np.float64, 6))
        dy = rng.normal(size=(6, 3))
        np.testing.assert_allclose(layer.backward(dy), oracle.backward(dy, x).dx, **tol(np.float64, 6, "dx"))

    def test_without_parameters(self, rng):
        layer = BatchNorm1d(3, affine=False, dtype=np.float64)
        assert list(layer.parameters()) == []
        assert list(layer.state_dict()) == ["running_mean", "running_var", "num_batches_tracked"]
        x, dy = rng.normal(size=(2, 6, 3))
        np.testing.assert_allclose(layer(x), oracle.forward(x).y, **tol(np.float64, 6))
        np.testing.assert_allclose(layer.backward(dy), oracle.backward(dy, x).dx, **tol(np.float64, 6, "dx"))

    def test_without_bias(self, rng):
        layer = BatchNorm1d(3, bias=False, dtype=np.float64)
        assert [name for name, _ in layer.named_parameters()] == ["weight"]
        assert "bias=False" in repr(layer)
        x, dy = rng.normal(size=(2, 6, 3))
        np.testing.assert_allclose(layer(x), oracle.forward(x).y, **tol(np.float64, 6))
        layer.backward(dy)
        np.testing.assert_allclose(layer.weight.grad, oracle.backward(dy, x).dweight, **tol(np.float64, 6, "dparam"))

    @pytest.mark.parametrize("momentum", [0.1, None])
    @pytest.mark.parametrize(
        ("x", "error", "message"),
        [
            (np.ones((1, 3)), ValueError, "one value per channel"),
            (np.ones((0, 3)), ValueError, "hold no values"),
            (
                np.ones((4, 2)),
                ValueError,
                r"BatchNorm1d\(3\): x has shape \(4, 2\), but must be \(N, C\) or \(N, C, L\)",
            ),
            (np.ones((4, 3, 2, 2)), ValueError, r"with C=3; reshape x or change num_features"),
            (np.ones((4, 3), int), TypeError, "BatchNorm1d: x must be float32, float64 or float16, got int64"),
            (np.ones((4, 3), ">f8"), TypeError, "got >f8"),
            ([[1.0, 2.0, 3.0]] * 2, TypeError, "must be a NumPy array, got list"),
        ],
    )
    def test_a_refused_batch_leaves_no_trace(self, rng, x, error, message, momentum):
        layer = BatchNorm1d(3, momentum=momentum)
        layer(rng.normal(size=(5, 3)).astype(np.float32))
        before = layer.state_dict()
        with pytest.raises(error, match=message):
            layer(x)
        for name, value in layer.state_dict().items():
            np.testing.assert_array_equal(value, before[name])

    def test_ranks_of_2d(self):
        with pytest.raises(ValueError, match=r"BatchNorm2d\(3\): x has shape \(4, 3\), but must be \(N, C, H, W\)"):
            BatchNorm2d(3)(np.ones((4, 3)))

    def test_a_wrong_gradient_is_refused(self, rng):
        layer = BatchNorm1d(3)
        layer(rng.normal(size=(5, 3)).astype(np.float32))
        with pytest.raises(TypeError, match="dy must have the dtype of x"):
            layer.backward(np.ones((5, 3)))
        with pytest.raises(ValueError, match="dy must have the shape of x"):
            layer.backward(np.ones((4, 3), np.float32))
        assert layer.weight.grad is layer.bias.grad is None

    def test_one_row_is_fine_in_evaluation(self):
        y = BatchNorm1d(3).eval()(np.ones((1, 3), np.float32))
        np.testing.assert_allclose(y, np.full((1, 3), 1 / math.sqrt(1 + 1e-5)), **tol(np.float32))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_features": 0}, ValueError, "BatchNorm1d: num_features must be a positive int, got 0."),
        ({"num_features": 1.5}, TypeError, "BatchNorm1d: num_features must be a positive int, got 1.5."),
        (
            {"num_features": 2**62},
            ValueError,
            "BatchNorm1d: num_features=4611686018427387904 makes an array that no memory can hold; choose a smaller "
            "layer.",
        ),
        ({"eps": 10**400}, ValueError, "BatchNorm1d: eps must be in (0, inf), got an int of 1329 bits."),
        ({"eps": 0}, ValueError, "BatchNorm1d: eps must be in (0, inf), got 0."),
        ({"eps": math.nan}, ValueError, "BatchNorm1d: eps must be in (0, inf), got nan."),
        ({"eps": math.inf}, ValueError, "BatchNorm1d: eps must be in (0, inf), got inf."),
        ({"eps": "small"}, TypeError, "BatchNorm1d: eps must be a number, got 'small'."),
        ({"momentum": 1.1}, ValueError, "BatchNorm1d: momentum must be in [0, 1], got 1.1."),
        ({"momentum": True}, TypeError, "BatchNorm1d: momentum must be a number, got True."),
        ({"dtype": "int8"}, TypeError, "BatchNorm1d: dtype must be float32, float64 or float16, got 'int8'."),
    ],
)
def test_wrong_batchnorm_arguments(arguments, error, message):
    with pytest.raises(error) as caught:
        BatchNorm1d(**{"num_features": 3, **arguments})
    assert str(caught.value) == message


class TestFlatten:
    def test_merges_and_splits_again(self, rng):
        x = rng.normal(size=(2, 3, 4, 5))
        layer = Flatten()
        y = layer(x)
        assert y.shape == (2, 60)
        assert np.shares_memory(x, y)
        np.testing.assert_array_equal(layer.backward(y), x)

    @given(rank=st.integers(1, 5), data=st.data())
    def test_any_range_of_dimensions(self, rank, data):
        shape = tuple(range(2, 2 + rank))
        start = data.draw(st.integers(0, rank - 1))
        end = data.draw(st.integers(start, rank - 1))
        layer = Flatten(start - data.draw(st.sampled_from([0, rank])), end - data.draw(st.sampled_from([0, rank])))
        x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
        y = layer(x)
        assert y.shape == (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
        np.testing.assert_array_equal(y.ravel(), x.ravel())
        assert layer.backward(y).shape == shape

    def test_no_rows_and_no_columns(self):
        for shape in ((0, 3, 4), (2, 0, 4)):
            layer = Flatten()
            y = layer(np.ones(shape))
            assert y.shape == (shape[0], shape[1] * shape[2])
            assert layer.backward(y).shape == shape

    def test_errors(self):
        with pytest.raises(ValueError, match=r"^Flatten: x has shape \(3,\), which has no dimensions 1 to -1 to merge"):
            Flatten()(np.ones(3))
        with pytest.raises(ValueError, match="which has no dimensions 2 to 1 to merge"):
            Flatten(2, 1)(np.ones((2, 3, 4)))
        with pytest.raises(TypeError, match=r"^Flatten: start_dim must be an int, got 1.0\.$"):
            Flatten(1.0)
        with pytest.raises(TypeError, match=r"^Flatten: end_dim must be an int, got True\.$"):
            Flatten(1, True)


class TestSequential:
    def test_nested_is_the_same_as_flat(self, rng):
        layers = [Linear(3, 4, dtype=np.float64, rng=rng), Tanh(), Linear(4, 2, dtype=np.float64, rng=rng)]
        flat, nested = Sequential(*layers), Sequential(Sequential(*layers[:2]), Sequential(layers[2]))
        x, dy = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
        np.testing.assert_array_equal(flat(x), nested(x))
        dx = flat.backward(dy)
        grads = [p.grad.copy() for p in flat.parameters()]
        np.testing.assert_array_equal(nested.backward(dy), dx)
        for p, grad in zip(nested.parameters(), grads, strict=True):
            np.testing.assert_array_equal(p.grad, grad)

    def test_is_a_sequence(self):
        layers = ReLU(), Tanh(), Sigmoid()
        model = Sequential(*layers)
        assert len(model) == 3
        assert tuple(model) == layers
        assert model[-1] is layers[2]
        assert tuple(model[:2]) == layers[:2]
        assert isinstance(model[:2], Sequential)

    def test_empty_is_the_identity(self):
        x = np.ones(3)
        assert Sequential()(x) is x
        assert Sequential().backward(x) is x

    def test_errors(self):
        relu = ReLU()
        with pytest.raises(TypeError, match=r"^Sequential: layer 1 must be a Module, got the class ReLU; call it\.$"):
            Sequential(relu, ReLU)
        with pytest.raises(
            TypeError, match="layer 0 must be a Module, got list; pass each layer as an argument of its own"
        ):
            Sequential([relu])
        with pytest.raises(ValueError, match="the same ReLU object is in layers 0 and 2; make one for each place"):
            Sequential(relu, Tanh(), Sequential(relu))
        model = Sequential(relu)
        with pytest.raises(ValueError, match="layer 1 holds this very Sequential; make another one"):
            model.append(model)
        with pytest.raises(ValueError, match="the same ReLU object is in layers 0 and 1"):
            model.append(relu)
        assert tuple(model) == (relu,)
        for name in ("", "a.b", "forward", 3):
            with pytest.raises(ValueError, match=r"the name of a layer must be a word .*, got .*; choose another"):
                Sequential({name: ReLU()})

    def test_names(self):
        model = Sequential({"fc": Linear(3, 4, rng=0), "act": Tanh(), "out": Linear(4, 2, rng=1)})
        assert list(model.state_dict()) == ["fc.weight", "fc.bias", "out.weight", "out.bias"]
        assert model.fc is model[0]
        assert repr(model).startswith("Sequential(\n  (fc): Linear(")
        model.load_state_dict(model.state_dict())
        model[1] = Sigmoid()
        assert isinstance(model.act, Sigmoid)
        model.append(Tanh())
        assert [name for name, _ in model.named_children()] == ["fc", "act", "out", "3"]
        assert [name for name, _ in model[1:].named_children()] == ["act", "out", "2"]
        assert copy.deepcopy(model).out.in_features == 4
        with pytest.raises(AttributeError, match="Sequential has no attribute 'nothing'"):
            model.nothing  # noqa: B018 - the access is the test

    def test_layers_come_and_go(self, rng):
        a, b, c, d = layers = ReLU(), Tanh(), Sigmoid(), Linear(3, 3, dtype=np.float64, rng=rng)
        model = Sequential(a, b)
        assert model.append(c) is model
        assert model.insert(0, d) is model
        assert tuple(model) == (d, a, b, c)
        assert list(model.state_dict()) == ["0.weight", "0.bias"]
        model[1] = Tanh()
        del model[2:]
        assert model.extend([b, a]) is model
        assert [type(layer) for layer in model] == [Linear, Tanh, Tanh, ReLU]
        assert [name for name, _ in model.named_children()] == ["0", "1", "2", "3"]
        x, dy = rng.normal(size=(2, 5, 3))
        np.testing.assert_allclose(model(x), np.maximum(np.tanh(np.tanh(layers[3](x))), 0), rtol=1e-15)
        check_gradients(model, x, dy)
        with pytest.raises(TypeError, match="layer 4 must be a Module, got the class ReLU; call it"):
            model.append(ReLU)
        assert len(model) == 4
