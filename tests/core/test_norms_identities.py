"""Norms that are one another by definition, and laws that hold whatever the numbers."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from norms import DTYPES, EVERY_ACTIVATION, EVERY_ROW_NORM, Norm
from tolerances import EPS

import normcore as nc

pytestmark = [pytest.mark.usefixtures("backend"), pytest.mark.walk("rows")]


def same(a, b, dtype):
    limit = 16 * EPS[np.dtype(dtype).name]
    np.testing.assert_allclose(a, b, rtol=limit, atol=limit * max(1.0, float(np.abs(b).max(initial=0.0))))


@pytest.fixture
def arrays(rng, request):
    dtype = request.node.callspec.params["dtype"]
    return rng.standard_normal((2, 3, 6, 4, 5)).astype(dtype)


@DTYPES
def test_group_norm_with_one_group_is_layer_norm_over_c_h_w(arrays, rng, dtype):
    x, dy = arrays
    weight, bias = rng.standard_normal((2, 6)).astype(dtype)
    over = np.broadcast_to(weight[:, None, None], (6, 4, 5)), np.broadcast_to(bias[:, None, None], (6, 4, 5))
    y, ctx = nc.group_norm_forward(x, 1, weight, bias)
    y_layer, ctx_layer = nc.layer_norm_forward(x, (6, 4, 5), *over)
    same(y, y_layer, dtype)
    same(ctx.rstd, ctx_layer.rstd, "float64")
    gradients, layer = nc.group_norm_backward(dy, ctx), nc.layer_norm_backward(dy, ctx_layer)
    same(gradients[0], layer[0], dtype)
    for ours, theirs in zip(gradients[1:], layer[1:], strict=True):
        np.testing.assert_allclose(ours, theirs.sum((1, 2)), rtol=1e-4, atol=1e-4 if dtype == "float32" else 1e-12)


@DTYPES
@EVERY_ACTIVATION
def test_group_norm_with_c_groups_is_instance_norm(arrays, rng, activation, dtype):
    x, dy = arrays
    weight, bias = rng.standard_normal((2, 6)).astype(dtype)
    y, ctx = nc.group_norm_forward(x, 6, weight, bias, activation=activation)
    y_instance, ctx_instance = nc.instance_norm_forward(x, weight, bias, activation=activation)
    np.testing.assert_array_equal(y, y_instance)
    np.testing.assert_array_equal(ctx.mean, ctx_instance.mean)
    pairs = zip(nc.group_norm_backward(dy, ctx), nc.instance_norm_backward(dy, ctx_instance), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours, theirs)


@DTYPES
def test_instance_norm_is_batch_norm_of_one_sample_with_n_times_c_channels(arrays, dtype):
    x, dy = arrays
    y, ctx = nc.instance_norm_forward(x)
    y_batch, ctx_batch = nc.batch_norm_forward(x.reshape(1, 18, 4, 5))
    same(y, y_batch.reshape(x.shape), dtype)
    dx = nc.batch_norm_backward(dy.reshape(1, 18, 4, 5), ctx_batch)[0]
    same(nc.instance_norm_backward(dy, ctx)[0], dx.reshape(x.shape), dtype)


@DTYPES
def test_layer_norm_is_batch_norm_of_the_transpose(rng, dtype):
    x = rng.standard_normal((20, 30)).astype(dtype)
    same(nc.layer_norm(x, 30), nc.batch_norm(x.T, training=True).T, dtype)


@DTYPES
def test_layer_norm_is_rms_norm_of_centred_rows(rng, dtype):
    x = rng.standard_normal((20, 30)).astype(dtype)
    weight = rng.standard_normal(30).astype(dtype)
    centred = (x - x.mean(1, keepdims=True, dtype=np.float64)).astype(dtype)
    same(nc.layer_norm(x, 30, weight, eps=1e-5), nc.rms_norm(centred, 30, weight, eps=1e-5), dtype)


def test_layer_norm_of_several_axes_is_that_of_one(rng):
    x, dy = rng.standard_normal((2, 4, 5, 6))
    weight, bias = rng.standard_normal((2, 5, 6))
    y, ctx = nc.layer_norm_forward(x, (5, 6), weight, bias)
    flat, flat_ctx = nc.layer_norm_forward(x.reshape(4, 30), 30, weight.ravel(), bias.ravel())
    np.testing.assert_array_equal(y.reshape(4, 30), flat)
    pairs = zip(nc.layer_norm_backward(dy, ctx), nc.layer_norm_backward(dy.reshape(4, 30), flat_ctx), strict=True)
    for a, b in pairs:
        np.testing.assert_array_equal(a.reshape(b.shape), b)


@DTYPES
@EVERY_ACTIVATION
@EVERY_ROW_NORM
def test_a_fused_activation_is_the_activation_of_the_norm(rng, norm, activation, dtype):
    x, _, weight, bias = norm.arrays(rng, dtype)
    y, _ = norm.forward(x, weight, bias, activation=activation)
    z = norm(x.astype(np.float64), weight, bias, **({"eps": norm.default_eps(x)} if norm.name == "rms" else {}))
    same(y, oracle.each(oracle.ACTIVATIONS[activation][0], z), dtype)


def test_the_running_statistics_of_one_sample_are_those_of_batch_norm(rng):
    x = rng.standard_normal((1, 3, 50))
    ours, theirs = (np.zeros(3), np.ones(3)), (np.zeros(3), np.ones(3))
    nc.instance_norm(x, *ours, momentum=0.3)
    nc.batch_norm(x, *theirs, training=True, momentum=0.3)
    np.testing.assert_allclose(ours, theirs, rtol=1e-13)
    before = [a.copy() for a in ours]
    nc.instance_norm(x, *ours, use_input_stats=False)
    nc.instance_norm(x, *ours, momentum=0.0)
    np.testing.assert_array_equal(ours, before)
    nc.instance_norm(np.empty((0, 3, 50)), *ours)  # no samples, nothing to average
    np.testing.assert_array_equal(ours, before)


@pytest.mark.walk("channels")
def test_instance_norm_with_given_statistics_is_batch_norms_inference(rng):
    x, dy = rng.standard_normal((2, 4, 3, 5))
    weight, bias, mean = rng.standard_normal((3, 3))
    var = rng.uniform(0.5, 2, 3)
    y, ctx = nc.instance_norm_forward(x, weight, bias, running_mean=mean, running_var=var, use_input_stats=False)
    y_batch, ctx_batch = nc.batch_norm_forward(x, weight, bias, running_mean=mean, running_var=var, training=False)
    np.testing.assert_array_equal(y, y_batch)
    pairs = zip(nc.instance_norm_backward(dy, ctx), nc.batch_norm_backward(dy, ctx_batch), strict=True)
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)


# --- laws -------------------------------------------------------------------------------------------------------------

on_any_numbers = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
seeds = given(seed=st.integers(0, 2**32 - 1))


@EVERY_ROW_NORM
@on_any_numbers
@seeds
def test_output_has_mean_zero_and_mean_square_below_one(norm, seed):
    x = norm.arrays(np.random.default_rng(seed))[0]
    y = norm(x, eps=0.1)
    var = norm.expected(x).var
    count = np.bincount(norm.groups.ravel())
    if norm.centred:
        np.testing.assert_allclose(np.bincount(norm.groups.ravel(), y.ravel()) / count, 0, atol=1e-12)
    squares = np.bincount(norm.groups.ravel(), np.square(y).ravel()) / count
    np.testing.assert_allclose(squares, var / (var + 0.1), rtol=1e-11)


@EVERY_ROW_NORM
@on_any_numbers
@seeds
def test_scale_and_shift_do_not_matter(norm, seed):
    x, dy, weight, bias = norm.arrays(np.random.default_rng(seed))
    y, ctx = norm.forward(x, weight, bias, eps=0.25)
    scaled, scaled_ctx = norm.forward(x * 8, weight, bias, eps=16.0)
    np.testing.assert_array_equal(scaled, y)  # a power of two changes no digit
    np.testing.assert_array_equal(norm.backward(dy, scaled_ctx)[0] * 8, norm.backward(dy, ctx)[0])
    if norm.centred:
        shift = np.random.default_rng(seed).standard_normal(norm.groups.max() + 1)[norm.groups]
        np.testing.assert_allclose(norm(x + shift, weight, bias, eps=0.25), y, rtol=1e-9, atol=1e-11)


@EVERY_ROW_NORM
@on_any_numbers
@seeds
def test_dx_does_not_move_what_does_not_matter(norm, seed):
    """A shift of a group changes nothing, so dx sums to zero; a stretch changes it through eps alone."""
    x, dy, weight, _ = norm.arrays(np.random.default_rng(seed))
    _, ctx = norm.forward(x, weight, eps=1e-12)
    dx = norm.backward(dy, ctx)[0]
    size = np.bincount(norm.groups.ravel(), np.abs(dx).ravel()) + np.abs(dy).sum() * ctx.rstd
    if norm.centred:
        assert (np.abs(np.bincount(norm.groups.ravel(), dx.ravel())) <= 1e-11 * size).all()
    along = np.bincount(norm.groups.ravel(), (dx * x).ravel())
    assert (np.abs(along) <= 1e-9 * size * (np.abs(x).max() + 1)).all()


@EVERY_ROW_NORM
@on_any_numbers
@seeds
def test_gradients_are_linear_in_dy(norm, seed):
    x, dy, weight, bias = norm.arrays(np.random.default_rng(seed))
    _, ctx = norm.forward(x, weight, bias, activation="tanh")
    for once, twice in zip(norm.backward(dy, ctx), norm.backward(dy * 2, ctx), strict=True):
        if once is not None:
            np.testing.assert_array_equal(once * 2, twice)


@EVERY_ROW_NORM
@on_any_numbers
@seeds
def test_samples_do_not_know_of_one_another(norm, seed):
    if len(norm.shape) == len(norm.parameter_shape):
        return
    x, _, weight, bias = norm.arrays(np.random.default_rng(seed))
    first = Norm(norm.name, (1, *norm.shape[1:]), norm.told)
    np.testing.assert_array_equal(norm(x, weight, bias)[:1], first(x[:1], weight, bias))
