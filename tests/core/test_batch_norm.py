"""Batch norm against the oracle: shapes, layouts, dtypes, optional arguments, `out`, both modes, every backend."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from hypothesis import HealthCheck, given, settings
from strategies import LAYOUTS, cases, laid_out
from tolerances import tol, ulps

import normcore as nc

pytestmark = pytest.mark.usefixtures("backend")
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def check_forward(y, ctx, case):
    """y, mean, rstd of a call against the oracle, within DESIGN.md's ulps of |xhat * weight| + |bias|."""
    given = {} if case.training else {"mean": case.running_mean, "var": case.running_var}
    expected = oracle.forward(case.x, eps=case.eps, axis=case.axis, **given)
    scale = float(np.abs(case.x.astype(np.float64)).max(initial=1.0))
    np.testing.assert_allclose(ctx.mean, expected.mean, **tol(case.x.dtype, case.count, "stats", scale))
    np.testing.assert_allclose(ctx.rstd, expected.rstd, rtol=1e-9)  # 1e4 std of offset cost four digits in float64
    weighted = oracle.forward(case.x, case.weight, case.bias, eps=case.eps, axis=case.axis, **given).y
    unshifted = oracle.forward(case.x, case.weight, None, eps=case.eps, axis=case.axis, **given).y
    magnitude = np.abs(unshifted) + np.abs(weighted - unshifted)
    limit = 4.0
    if case.x.dtype == np.float64:  # has no wider type to sum in: the rounding of the mean shows in y, and grows with n
        magnitude = magnitude + scale * float(expected.rstd.max(initial=0.0)) * (2 if case.weight is not None else 1)
        limit += np.sqrt(case.count)
    assert ulps(y, weighted, magnitude) <= limit
    assert y.dtype == case.x.dtype


def check_backward(gradients, case):
    given = {} if case.training else {"mean": case.running_mean, "var": case.running_var}
    expected = oracle.backward(case.dy, case.x, case.weight, eps=case.eps, axis=case.axis, **given)
    dx, dweight, dbias = gradients
    precise = case.x.dtype == np.float32
    slack = 1.0 if precise else 1e6  # as above
    limit = tol(case.x.dtype, case.count, "dx", slack * max(1.0, float(np.abs(expected.dx).max(initial=0.0))))
    np.testing.assert_allclose(dx, expected.dx, rtol=limit["rtol"] * slack, atol=limit["atol"])
    for got, want, parameter in ((dweight, expected.dweight, case.weight), (dbias, expected.dbias, case.bias)):
        if parameter is None:
            assert got is None
            continue
        assert got.dtype == parameter.dtype
        magnitude = np.sqrt(case.count) * max(1.0, float(np.abs(want).max(initial=0.0)))
        kind = "float32" if "float32" in (parameter.dtype.name, case.x.dtype.name) else "float64"
        limit = tol(kind, case.count, "dparam", magnitude * (1.0 if kind == "float32" else 1e6))
        np.testing.assert_allclose(got, want, **limit)
    assert dx.dtype == case.x.dtype


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the backend may stay on between examples
@given(case=cases())
def test_any_call_agrees_with_the_oracle(case):
    running = case.running_mean.copy(), case.running_var.copy()
    inputs = [a.copy() for a in (case.x, case.dy)]
    y, ctx = nc.batch_norm_forward(
        case.x, case.weight, case.bias, running_mean=running[0], running_var=running[1], **case.options
    )
    check_forward(y, ctx, case)
    if case.training:
        mean, var = oracle.stats(case.x, case.axis)
        expected = oracle.running(case.running_mean, case.running_var, mean, var, case.count, case.momentum)
        for got, want in zip(running, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=4 * np.finfo(got.dtype).eps, atol=1e-7 * np.abs(want).max())
    else:
        for got, before in zip(running, (case.running_mean, case.running_var), strict=True):
            np.testing.assert_array_equal(got, before)
    check_backward(nc.batch_norm_backward(case.dy, ctx), case)
    for got, before in zip((case.x, case.dy), inputs, strict=True):
        np.testing.assert_array_equal(got, before)  # inputs are only read


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_both_spellings_are_one_function(case):
    args = {"weight": case.weight, "bias": case.bias, **case.options}
    running = case.running_mean.copy(), case.running_var.copy()
    again = case.running_mean.copy(), case.running_var.copy()
    y = nc.batch_norm(case.x, *running, **args)
    y_forward, _ = nc.batch_norm_forward(case.x, running_mean=again[0], running_var=again[1], **args)
    np.testing.assert_array_equal(y, y_forward)
    np.testing.assert_array_equal(running[0], again[0])
    np.testing.assert_array_equal(running[1], again[1])


@DTYPES
@pytest.mark.parametrize(
    "shape, axis",
    [
        ((64, 10), 1),
        ((20_000, 5), 1),  # several pieces of rows
        ((3, 5, 33, 47), 1),
        ((2, 3, 30_000), 1),  # several pieces in a run
        ((2, 1, 50_000), 1),
        ((4, 300, 15, 15), 1),  # several waves
        ((4, 15, 15, 30), -1),
        ((2, 6, 5, 4, 3), 2),
        ((16, 2048, 1, 1), 1),
        ((1, 7, 9), 1),
    ],
    ids=str,
)
def test_sizes_that_reach_every_loop(rng, shape, axis, dtype):
    from strategies import Case

    for training in (True, False):
        channels = shape[axis]
        case = Case(
            x=(3 * rng.standard_normal(shape) + 2).astype(dtype),
            dy=rng.standard_normal(shape).astype(dtype),
            weight=rng.standard_normal(channels).astype(dtype),
            bias=rng.standard_normal(channels).astype(dtype),
            running_mean=rng.standard_normal(channels),
            running_var=rng.uniform(0.5, 2, channels),
            training=training,
            momentum=0.1,
            eps=1e-5,
            axis=axis,
        )
        y, ctx = nc.batch_norm_forward(
            case.x, case.weight, case.bias,
            running_mean=case.running_mean.copy(), running_var=case.running_var.copy(), **case.options,
        )  # fmt: skip
        check_forward(y, ctx, case)
        check_backward(nc.batch_norm_backward(case.dy, ctx), case)


@DTYPES
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "shape, axis", [((12, 7), 1), ((3, 4, 5, 6), 1), ((3, 4, 5, 6), -1), ((3, 4, 5, 6), 0)], ids=str
)
def test_layout_changes_the_last_place_at_most(rng, shape, axis, layout, dtype):
    values = rng.standard_normal(shape).astype(dtype) + np.array(3, dtype)
    dy = rng.standard_normal(shape).astype(dtype)
    if layout == "broadcast":  # along an axis that is not the channels'
        values = np.broadcast_to(values.take([0], axis=int(axis == 0)), shape).copy()
    weight = rng.standard_normal(shape[axis]).astype(dtype)
    x = laid_out(values, layout, rng, int(axis == 0))
    y0, ctx0 = nc.batch_norm_forward(values, weight, axis=axis)
    y, ctx = nc.batch_norm_forward(x, weight, axis=axis)
    if dtype == "float32":
        assert ulps(y, y0, np.abs(y0)) <= 2
    else:  # float64 input has no wider type for its sums: each order rounds the mean in its own way
        assert ulps(y, y0, np.abs(y0) + 3 * np.abs(weight).max()) <= 4
    dx0 = nc.batch_norm_backward(dy, ctx0)[0]
    dx = nc.batch_norm_backward(laid_out(dy, layout if layout != "broadcast" else "F", rng), ctx)[0]
    np.testing.assert_allclose(dx, dx0, **tol(dtype, x.size, "dx", float(np.abs(dx0).max()) + 1))


def test_a_result_has_the_layout_of_its_input(rng):
    x = rng.standard_normal((4, 6, 5, 3)).transpose(0, 3, 1, 2)  # NCHW in shape, channels-last in memory
    y, ctx = nc.batch_norm_forward(x)
    assert y.strides == x.strides
    assert nc.batch_norm_backward(y, ctx)[0].strides == x.strides


@DTYPES
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", ["C", "F", "permuted", "stepped", "reversed", "offset"])
def test_out_is_written_and_returned(rng, layout, training, dtype):
    x = rng.standard_normal((5, 4, 3)).astype(dtype)
    running = {"running_mean": np.zeros(4), "running_var": np.ones(4), "training": training}
    expected, ctx = nc.batch_norm_forward(x, **running)
    out = laid_out(np.full_like(x, np.nan), layout, rng)
    y, _ = nc.batch_norm_forward(x, **(running | {"running_mean": np.zeros(4), "running_var": np.ones(4)}), out=out)
    assert y is out
    assert ulps(out, expected, np.abs(expected) + (dtype == "float64")) <= 2
    dy = rng.standard_normal(x.shape).astype(dtype)
    out[...] = np.nan
    dx = nc.batch_norm_backward(dy, ctx, out=out)[0]
    assert dx is out
    np.testing.assert_array_equal(dx, nc.batch_norm_backward(dy, ctx)[0])


@pytest.mark.parametrize("layout", ["C", "F", "stepped", "reversed", "offset"])
def test_in_place(rng, layout):
    values = rng.standard_normal((6, 4, 5))
    expected = nc.batch_norm(values, training=True)
    x = laid_out(values, layout, rng)
    y, ctx = nc.batch_norm_forward(x, out=x)
    assert y is x
    assert (
        ulps(x, expected, np.abs(expected) + 1) <= 4
    )  # float64: each order of summation rounds the mean in its own way
    with pytest.raises(ValueError, match="wrote its result over it"):
        nc.batch_norm_backward(values, ctx)
    # the gradient too may be written over dy
    _, ctx = nc.batch_norm_forward(values)
    dy = laid_out(rng.standard_normal(values.shape), layout, rng)
    expected = nc.batch_norm_backward(dy.copy(), ctx)[0]
    assert nc.batch_norm_backward(dy, ctx, out=dy)[0] is dy
    np.testing.assert_allclose(dy, expected, **tol("float64", 30, "dx"))


def test_out_of_stepped_memory_leaves_the_gaps_alone(rng):
    wide = np.full((6, 8), 7.0)
    nc.batch_norm(rng.standard_normal((6, 4)), training=True, out=wide[:, ::2])
    assert (wide[:, 1::2] == 7.0).all()
    assert np.isfinite(wide).all()
    assert not (wide[:, ::2] == 7.0).any()


def test_a_context_may_be_used_again_with_the_same_result(rng):
    x, dy = rng.standard_normal((2, 8, 3, 4))
    _, ctx = nc.batch_norm_forward(x, np.ones(3), np.zeros(3))
    first, second = nc.batch_norm_backward(dy, ctx), nc.batch_norm_backward(dy, ctx)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_context_refers_to_its_input_and_holds_nothing_of_its_size(rng):
    x, weight = rng.standard_normal((50, 3)), np.ones(3)
    _, ctx = nc.batch_norm_forward(x, weight)
    assert ctx.x is x
    assert ctx.weight is weight
    assert ctx.mean.dtype == ctx.rstd.dtype == np.float64
    held = [getattr(ctx, name) for name in ctx.__slots__ if name != "x"]
    assert max(a.size for a in held if isinstance(a, np.ndarray)) == 3
    assert repr(ctx) == "<NormContext of batch_norm in training, x (50, 3) float64>"


@pytest.mark.parametrize("kind", ["list", "subclass", "read-only", "memmap"])
def test_other_kinds_of_array_are_taken(rng, kind, tmp_path):
    values = rng.standard_normal((8, 3))
    expected = nc.batch_norm(values, training=True)
    if kind == "list":
        x = values.tolist()
    elif kind == "subclass":
        x = values.view(type("Mine", (np.ndarray,), {}))
    elif kind == "read-only":
        x = values.copy()
        x.flags.writeable = False
    else:
        np.save(tmp_path / "x.npy", values)
        x = np.load(tmp_path / "x.npy", mmap_mode="r")
    y, ctx = nc.batch_norm_forward(x)
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, expected)
    assert nc.batch_norm_backward(values, ctx)[0].shape == values.shape


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4, 4), (2, 3, 0)])
def test_a_batch_without_rows_is_empty_in_inference(shape):
    x = np.empty(shape, np.float32)
    y, ctx = nc.batch_norm_forward(
        x,
        np.ones(3, np.float32),
        np.ones(3, np.float32),
        running_mean=np.zeros(3),
        running_var=np.ones(3),
        training=False,
    )
    assert (y.shape, y.dtype) == (shape, np.float32)
    dx, dweight, dbias = nc.batch_norm_backward(x, ctx)
    assert dx.shape == shape
    assert dweight.tolist() == dbias.tolist() == [0.0, 0.0, 0.0]


def test_no_channels_give_no_statistics():
    x = np.empty((5, 0))
    assert nc.batch_norm(x, training=True).shape == (5, 0)
    assert [a.shape for a in nc.batch_stats(x)] == [(0,), (0,)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(40, 3), (4, 3, 5, 5)], ids=str)
@pytest.mark.parametrize("at", [0, -1])
def test_nan_and_inf_stay_in_their_channel(rng, shape, bad, at):
    x = rng.standard_normal(shape)
    clean = nc.batch_norm(x, training=True)
    x[(at, 1, *[at] * (len(shape) - 2))] = bad
    with np.errstate(invalid="ignore"):
        y, ctx = nc.batch_norm_forward(x)
    np.testing.assert_array_equal(y[:, [0, 2]], clean[:, [0, 2]])
    assert np.isnan(y[:, 1]).all()
    assert np.isnan(ctx.rstd[1])
    assert np.isnan(ctx.mean[1]) or ctx.mean[1] == bad


def test_subnormals_are_kept():
    tiny = np.float32(1e-42)
    x = np.array([[tiny], [-tiny]], np.float32)
    mean, var = nc.batch_stats(np.concatenate([x, x + tiny]))
    assert mean[0] != 0
    assert var[0] > 0
    y = nc.batch_norm(x, np.zeros(1), np.ones(1), training=False, eps=1e-300)
    np.testing.assert_array_equal(y, x)  # not flushed to zero


@DTYPES
@pytest.mark.parametrize("weight_dtype", ["float16", "float32", "float64"])
def test_gradients_have_the_dtype_of_their_parameter(rng, dtype, weight_dtype):
    x = rng.standard_normal((6, 3)).astype(dtype)
    _, ctx = nc.batch_norm_forward(x, np.ones(3, weight_dtype), np.ones(3, weight_dtype))
    dx, dweight, dbias = nc.batch_norm_backward(x, ctx)
    assert (dx.dtype, dweight.dtype, dbias.dtype) == (x.dtype, *[np.dtype(weight_dtype)] * 2)


def test_running_statistics_of_any_layout_are_updated_in_place(rng):
    x = rng.standard_normal((10, 3))
    wide = np.zeros((2, 6))
    wide[1] = 1
    nc.batch_norm(x, wide[0, ::2], wide[1, ::-2], training=True, momentum=1.0)
    np.testing.assert_allclose(wide[0, ::2], x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(wide[1, ::-2], x.var(0, ddof=1), rtol=1e-12)
    assert wide[0, 1::2].tolist() == [0, 0, 0]


def test_a_running_variance_beyond_float32_becomes_inf_without_a_warning():
    running_mean, running_var = np.zeros(1, np.float32), np.ones(1, np.float32)
    nc.batch_norm(np.array([[3e38], [-3e38]], np.float32), running_mean, running_var, training=True)
    assert np.isinf(running_var[0])


def test_numpys_error_state_stops_nothing_half_way():
    """Under np.errstate(all="raise") too, a call that passed its checks is carried out to the end."""
    x = np.array([[1e-25], [3e-25]], np.float32)
    running_mean, running_var = np.zeros(1, np.float32), np.zeros(1, np.float32)
    with np.errstate(all="raise"):
        nc.batch_norm(x, running_mean, running_var, training=True)
        assert running_mean[0] == np.float32(2e-26)
        assert running_var[0] == 0  # underflows
        running_mean[0] = np.inf
        nc.batch_norm(x, running_mean, running_var, training=True, momentum=1.0)
    assert np.isnan(running_mean[0])


def test_out_may_be_x_by_another_stride_of_a_single_element():
    x = np.arange(6.0).reshape(3, 1, 2)
    alias = np.lib.stride_tricks.as_strided(x, x.shape, (x.strides[0], 8, x.strides[2]))
    expected = nc.batch_norm(x, training=True)
    assert nc.batch_norm(x, training=True, out=alias) is alias
    np.testing.assert_array_equal(x, expected)


def test_what_only_looks_like_a_context_is_refused():
    class Pretender:
        plan = nc.batch_norm_forward(np.ones((3, 2)))[1].plan

    with pytest.raises(TypeError, match="ctx must be what batch_norm_forward returned, got Pretender"):
        nc.batch_norm_backward(np.ones((3, 2)), Pretender())
