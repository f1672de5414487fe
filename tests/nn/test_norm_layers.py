"""The norm layers besides batch norm against the oracle by labels, and their options, errors and state."""

from __future__ import annotations

import copy
import re

import numpy as np
import oracle
import pytest
from differences import check_gradients
from norms import Norm
from tolerances import tol

from normcore.nn import (
    BatchNorm3d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
    RMSNorm,
)

CASES = {
    "BatchNorm3d": (lambda **o: BatchNorm3d(3, **o), Norm("batch", (3, 3, 2, 3, 2))),
    "LayerNorm": (lambda **o: LayerNorm(5, **o), Norm("layer", (3, 4, 5), (5,))),
    "LayerNorm of two axes": (lambda **o: LayerNorm((4, 5), **o), Norm("layer", (3, 4, 5), ((4, 5),))),
    "RMSNorm": (lambda **o: RMSNorm(5, **o), Norm("rms", (3, 4, 5), (5,))),
    "RMSNorm of two axes": (lambda **o: RMSNorm([4, 5], **o), Norm("rms", (3, 4, 5), ((4, 5),))),
    "GroupNorm": (lambda **o: GroupNorm(3, 6, **o), Norm("group", (3, 6, 4, 2), (3,))),
    "GroupNorm of rows": (lambda **o: GroupNorm(2, 6, **o), Norm("group", (5, 6), (2,))),
    "InstanceNorm1d": (lambda **o: InstanceNorm1d(3, affine=True, **o), Norm("instance", (2, 3, 4))),
    "InstanceNorm2d": (lambda **o: InstanceNorm2d(3, affine=True, **o), Norm("instance", (2, 3, 4, 2))),
    "InstanceNorm3d": (lambda **o: InstanceNorm3d(3, affine=True, **o), Norm("instance", (2, 3, 2, 2, 3))),
}
EVERY_LAYER = pytest.mark.parametrize(("build", "norm"), CASES.values(), ids=CASES)


def with_parameters(layer, weight, bias):
    layer.weight.data[...] = weight
    if bias is not None:
        layer.bias.data[...] = bias
    return layer


@pytest.mark.usefixtures("backend")
@EVERY_LAYER
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_the_oracle(rng, build, norm, dtype):
    x, dy, weight, bias = norm.arrays(rng, dtype)
    layer = with_parameters(build(eps=1e-3, dtype=dtype), weight, bias)
    y, expected = layer(x), norm.expected(x, weight, bias, eps=1e-3).y
    assert (y.shape, y.dtype) == (x.shape, dtype)
    np.testing.assert_allclose(y, expected, **tol(dtype, norm.group_size, scale=8))
    dx, dweight, dbias = norm.expected_backward(dy, x, weight, bias, eps=1e-3)
    np.testing.assert_allclose(layer.backward(dy), dx, **tol(dtype, norm.group_size, "dx", scale=4))
    np.testing.assert_allclose(layer.weight.grad, dweight, **tol(dtype, x.size, "dparam", scale=20))
    if bias is not None:
        np.testing.assert_allclose(layer.bias.grad, dbias, **tol(dtype, x.size, "dparam", scale=20))


@EVERY_LAYER
def test_starts_as_ones_and_zeros_of_the_right_shape(build, norm):
    layer = build()
    names = ["weight", "bias"] if norm.has_bias else ["weight"]
    assert [name for name, _ in layer.named_parameters()] == names
    for name, p in layer.named_parameters():
        assert (p.shape, p.dtype) == (norm.parameter_shape, np.float32)
        np.testing.assert_array_equal(p.data, name == "weight")


@EVERY_LAYER
def test_gradients_by_differences(rng, build, norm):
    x, dy, weight, bias = norm.arrays(rng)
    check_gradients(with_parameters(build(dtype=np.float64), weight, bias), x, dy)


@pytest.mark.parametrize(
    "layer",
    [
        LayerNorm(5, elementwise_affine=False),
        RMSNorm(5, elementwise_affine=False),
        GroupNorm(2, 4, affine=False),
        InstanceNorm1d(4),
        LayerNorm(5, bias=False),
        GroupNorm(2, 4, bias=False),
        InstanceNorm1d(4, affine=True, bias=False),
    ],
    ids=repr,
)
def test_without_parameters(rng, layer):
    x = rng.normal(size=(3, 4, 5))
    expected = {LayerNorm: (2, 1e-5), RMSNorm: (None, 0), GroupNorm: ("g", 1e-5), InstanceNorm1d: (2, 1e-5)}[
        type(layer)
    ]
    values = x.reshape(3, 2, 10) if expected[0] == "g" else x
    mean = 0 if isinstance(layer, RMSNorm) else values.mean(axis=2, keepdims=True)
    var = np.square(values - mean).mean(axis=2, keepdims=True)
    np.testing.assert_allclose(layer(x), ((values - mean) / np.sqrt(var + expected[1])).reshape(x.shape), rtol=1e-12)
    dx = layer.backward(x)
    assert dx.shape == x.shape
    assert layer.bias is None
    assert len(list(layer.parameters())) == ("bias=False" in repr(layer) and "ffine=True" in repr(layer))


class TestInstanceNormRunningStatistics:
    def test_average_over_samples_with_the_unbiased_variance(self, rng):
        layer = InstanceNorm1d(3, track_running_stats=True, momentum=0.3, dtype=np.float64)
        assert list(layer.state_dict()) == ["running_mean", "running_var", "num_batches_tracked"]
        x = rng.normal(size=(4, 3, 7)) * 3 + 5
        layer(x)
        np.testing.assert_allclose(layer.running_mean, 0.3 * x.mean(axis=(0, 2)), rtol=1e-13)
        np.testing.assert_allclose(layer.running_var, 0.7 + 0.3 * x.var(axis=2, ddof=1).mean(axis=0), rtol=1e-13)
        assert layer.num_batches_tracked == 0  # as in PyTorch
        before = layer.state_dict()
        y = layer.eval()(x)
        expected = oracle.forward(x, mean=before["running_mean"], var=before["running_var"]).y
        np.testing.assert_allclose(y, expected, **tol(np.float64))
        for name, value in layer.state_dict().items():
            np.testing.assert_array_equal(value, before[name])

    def test_without_them_both_modes_are_the_same(self, rng):
        layer, x = InstanceNorm2d(3), rng.normal(size=(2, 3, 4, 5))
        np.testing.assert_array_equal(layer(x), layer.eval()(x))

    @pytest.mark.parametrize("training", [True, False])
    def test_a_single_sample_needs_no_axis_for_it(self, rng, training):
        layer = InstanceNorm1d(3, affine=True, track_running_stats=True, dtype=np.float64).train(training)
        x, dy = rng.normal(size=(2, 1, 3, 7))
        twin = copy.deepcopy(layer)
        y, dx = layer(x), layer.backward(dy)
        np.testing.assert_array_equal(twin(x[0]), y[0])
        np.testing.assert_array_equal(twin.backward(dy[0]), dx[0])
        for name, value in layer.state_dict().items():
            np.testing.assert_array_equal(twin.state_dict()[name], value)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: LayerNorm(0), ValueError, "LayerNorm: normalized_shape must be a positive int, got 0."),
        (lambda: LayerNorm(()), TypeError, "LayerNorm: normalized_shape must be a positive int, got ()."),
        (lambda: LayerNorm((3, 0)), ValueError, "LayerNorm: each of normalized_shape must be a positive int, got 0."),
        (lambda: LayerNorm(3, eps=0), ValueError, "LayerNorm: eps must be in (0, inf), got 0."),
        (lambda: RMSNorm("a"), TypeError, "RMSNorm: normalized_shape must be a positive int, got 'a'."),
        (lambda: RMSNorm(3, eps=-1), ValueError, "RMSNorm: eps must be in (0, inf), got -1."),
        (lambda: GroupNorm(4, 6), ValueError, "GroupNorm: num_groups=4 does not divide num_channels=6; choose a div"),
        (lambda: GroupNorm(0, 6), ValueError, "GroupNorm: num_groups must be a positive int, got 0."),
        (lambda: InstanceNorm1d(3, momentum=2), ValueError, "InstanceNorm1d: momentum must be in [0, 1], got 2."),
        (lambda: InstanceNorm2d(3, dtype=int), TypeError, "InstanceNorm2d: dtype must be float32, float64 or float1"),
        (
            lambda: LayerNorm(3)(np.ones((2, 4))),
            ValueError,
            "LayerNorm((3,)): x has shape (2, 4), but must end in (3,)",
        ),
        (lambda: LayerNorm((2, 3))(np.ones(3)), ValueError, "LayerNorm((2, 3)): x has shape (3,), but must end in (2,"),
        (lambda: RMSNorm(3)(np.ones((2, 3), int)), TypeError, "RMSNorm: x must be float32, float64 or float16, got in"),
        (lambda: GroupNorm(2, 4)(np.ones((3, 5))), ValueError, "GroupNorm(2, 4): x has shape (3, 5), but must be (N,"),
        (lambda: GroupNorm(2, 4)(np.ones(4)), ValueError, "GroupNorm(2, 4): x has shape (4,), but must be (N, C) or "),
        (
            lambda: InstanceNorm1d(3)(np.ones((2, 4, 5))),
            ValueError,
            "InstanceNorm1d(3): x has shape (2, 4, 5), but must be (N, C, L) or (C, L) with C=3; reshape x or change ",
        ),
        (lambda: InstanceNorm2d(3)(np.ones((3, 4))), ValueError, "InstanceNorm2d(3): x has shape (3, 4), but must be "),
        (lambda: BatchNorm3d(3)(np.ones((2, 3))), ValueError, "BatchNorm3d(3): x has shape (2, 3), but must be (N, C,"),
    ],
)
def test_errors(build, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        build()
