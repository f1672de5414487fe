"""Linear against plain float64 formulas and finite differences."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from differences import check_gradients
from tolerances import tol

from normcore.nn import (
    GELU,
    Dropout,
    Flatten,
    Identity,
    LeakyReLU,
    Linear,
    ReLU,
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
