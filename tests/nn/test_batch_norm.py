"""BatchNorm1d and BatchNorm2d against the oracle over several batches and finite differences."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
from differences import check_gradients
from tolerances import tol

from normcore.nn import (
    BatchNorm1d,
    BatchNorm2d,
)


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
