"""What must hold for any batch, whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from strategies import cases
from tolerances import tol

import normcore as nc

pytestmark = pytest.mark.usefixtures("backend")
on_any_case = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
float64_cases = cases(dtypes=("float64",), training=True).filter(lambda case: abs(case.x.mean()) <= 1e3 * case.x.std())


def others(case):
    return tuple(a for a in range(case.x.ndim) if a != case.axis % case.x.ndim)


def per_channel(v, case):
    shape = [1] * case.x.ndim
    shape[case.axis] = -1
    return np.reshape(v, shape)


@on_any_case
@given(case=float64_cases)
def test_output_has_mean_zero_and_variance_just_below_one(case):
    y = nc.batch_norm(case.x, training=True, eps=case.eps, axis=case.axis)
    var = nc.batch_stats(case.x, axis=case.axis)[1]
    np.testing.assert_allclose(y.mean(others(case)), 0, atol=1e-9)
    np.testing.assert_allclose(y.var(others(case)), var / (var + case.eps), rtol=1e-9, atol=1e-12)


@on_any_case
@given(case=float64_cases)
def test_shift_does_not_matter(case):
    y = nc.batch_norm(case.x, training=True, eps=case.eps, axis=case.axis)
    shift = np.arange(case.x.shape[case.axis]) * case.x.std()
    moved = nc.batch_norm(case.x + per_channel(shift, case), training=True, eps=case.eps, axis=case.axis)
    np.testing.assert_allclose(moved, y, rtol=1e-7, atol=1e-9)


@on_any_case
@given(case=float64_cases)
def test_scale_does_not_matter_when_eps_scales_along(case):
    y = nc.batch_norm(case.x, training=True, eps=case.eps, axis=case.axis)
    scaled = nc.batch_norm(case.x * 8, training=True, eps=case.eps * 64, axis=case.axis)
    np.testing.assert_array_equal(scaled, y)  # a power of two changes no digit
    mirrored = nc.batch_norm(-case.x, training=True, eps=case.eps, axis=case.axis)
    np.testing.assert_array_equal(mirrored, -y)


@on_any_case
@given(case=float64_cases)
def test_dx_sums_to_zero_and_is_orthogonal_to_xhat(case):
    """The output does not change when a channel is shifted, nor (but for eps) when it is scaled."""
    xhat, ctx = nc.batch_norm_forward(case.x, case.weight, eps=case.eps, axis=case.axis)
    dx, _, _ = nc.batch_norm_backward(case.dy, ctx)
    size = np.abs(dx).sum(others(case)) + np.abs(case.dy).sum(others(case)) * ctx.rstd
    weights = 1.0 if case.weight is None else np.abs(case.weight)
    np.testing.assert_allclose(dx.sum(others(case)) / (size * weights + size), 0, atol=1e-9)
    centred = case.x - per_channel(ctx.mean, case)
    dweight = nc.batch_norm_backward(
        case.dy, nc.batch_norm_forward(case.x, np.ones(xhat.shape[case.axis]), eps=case.eps, axis=case.axis)[1]
    )[1]
    # sum(dx * xhat) = weight * rstd * dweight * eps / (var + eps)
    expected = (1.0 if case.weight is None else case.weight) * ctx.rstd * dweight * case.eps * ctx.rstd**2
    got = (dx * centred).sum(others(case)) * ctx.rstd
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7 * float((size * (1 + weights)).max(initial=0)))


@on_any_case
@given(case=cases(training=True))
def test_order_of_the_batch_does_not_matter(case):
    if case.axis % case.x.ndim == 0:
        return
    order = np.random.default_rng(0).permutation(len(case.x))
    y = nc.batch_norm(case.x, training=True, eps=case.eps, axis=case.axis)
    permuted = nc.batch_norm(case.x[order], training=True, eps=case.eps, axis=case.axis)
    scale = float(np.abs(case.x).max()) / max(float(case.x.std()), 1e-30)
    np.testing.assert_allclose(permuted, y[order], **tol(case.x.dtype, case.count, "y", max(1.0, scale)))


@on_any_case
@given(case=cases(training=True))
def test_channels_do_not_know_of_one_another(case):
    y = nc.batch_norm(case.x, training=True, eps=case.eps, axis=case.axis)
    alone = np.moveaxis(case.x, case.axis, 0)[:1]
    y_alone = nc.batch_norm(alone, training=True, eps=case.eps, axis=0)
    scale = float(np.abs(alone).max()) / max(float(alone.std()), 1e-30)
    np.testing.assert_allclose(
        y_alone, np.moveaxis(y, case.axis, 0)[:1], **tol(case.x.dtype, case.count, "y", max(1.0, scale))
    )


@on_any_case
@given(case=cases(training=True))
def test_gradients_are_linear_in_dy(case):
    _, ctx = nc.batch_norm_forward(
        case.x, np.ones(case.x.shape[case.axis]), np.zeros(case.x.shape[case.axis]), eps=case.eps, axis=case.axis
    )
    once, twice = nc.batch_norm_backward(case.dy, ctx), nc.batch_norm_backward(case.dy * 2, ctx)
    for a, b in zip(once, twice, strict=True):
        np.testing.assert_array_equal(a * 2, b)


@on_any_case
@given(case=cases(training=True))
def test_inference_with_the_batchs_own_statistics_is_training(case):
    mean, var = nc.batch_stats(case.x, axis=case.axis)
    y = nc.batch_norm(case.x, mean, var, case.weight, case.bias, training=False, eps=case.eps, axis=case.axis)
    np.testing.assert_array_equal(
        y, nc.batch_norm(case.x, None, None, case.weight, case.bias, training=True, eps=case.eps, axis=case.axis)
    )


@on_any_case
@given(case=cases(training=True))
def test_momentum_ends(case):
    """0 leaves the running statistics alone, 1 replaces them."""
    for momentum in (0.0, 1.0):
        mean, var = case.running_mean.copy(), case.running_var.copy()
        nc.batch_norm(case.x, mean, var, training=True, momentum=momentum, axis=case.axis)
        if momentum == 0.0:
            np.testing.assert_array_equal(mean, case.running_mean)
            np.testing.assert_array_equal(var, case.running_var)
        else:
            batch_mean, batch_var = nc.batch_stats(case.x, axis=case.axis)
            np.testing.assert_array_equal(mean, batch_mean.astype(mean.dtype))
            np.testing.assert_allclose(var, batch_var * case.count / (case.count - 1), rtol=2 * np.finfo(var.dtype).eps)
