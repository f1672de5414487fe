"""Every norm against the oracle: sizes, dtypes, activations, layouts, `out`, optional parameters, every backend."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from norms import BFLOAT16, DTYPES, EVERY_ACTIVATION, EVERY_DTYPE, EVERY_NORM, EVERY_ROW_NORM, SMALL, Norm, every_norm
from strategies import LAYOUTS, laid_out
from tolerances import EPS, ulps

pytestmark = pytest.mark.usefixtures("backend")


def check_forward(norm, y, ctx, x, weight, bias, eps=None, activation=None):
    """y, mean and rstd against the oracle, within DESIGN.md's 4 ulp of |xhat * weight| + |bias|."""
    expected = norm.expected(x, weight, bias, eps, activation)
    assert y.dtype == x.dtype
    assert y.shape == x.shape
    scale = max(1.0, float(np.abs(x.astype(np.float64)).max(initial=0.0)))
    np.testing.assert_allclose(ctx.mean, expected.mean, rtol=1e-13, atol=1e-14 * scale)
    np.testing.assert_allclose(ctx.rstd, expected.rstd, rtol=1e-9)
    weighted = norm.expected(x, weight, None, eps).y
    magnitude = np.abs(weighted) + np.abs(expected.y)
    if bias is not None:
        magnitude = magnitude + np.abs(bias.astype(np.float64).ravel()[norm.parameters])
    limit = 4.0 if activation is None else 5.0  # a slope of up to 1.13, and one more rounding
    if x.dtype == np.float64:  # has no wider type to sum in: the rounding of the mean shows in y, and grows with n
        magnitude = magnitude + scale * float(expected.rstd.max(initial=0.0)) * 2
        limit += np.sqrt(norm.group_size)
    assert ulps(y, expected.y, magnitude) <= limit


def check_backward(norm, gradients, dy, x, weight, bias, eps=None, activation=None):
    expected = norm.expected_backward(dy, x, weight, bias, eps, activation)
    assert gradients[0].dtype == x.dtype
    rstd = float(norm.expected(x, eps=eps).rstd.max(initial=0.0))
    # dx is a difference of terms of about rstd * dy * weight; float64 has no wider type to centre x in
    terms = max(1.0, rstd) * float(np.abs(dy.astype(np.float64)).max(initial=0.0)) * 2
    terms *= max(1.0, rstd * float(np.abs(x).max(initial=0.0))) if x.dtype == np.float64 else 1.0
    for got, want, like in zip(gradients, expected, (x, weight, bias), strict=True):
        if like is None:
            assert got is None
            continue
        assert (got.shape, got.dtype) == (like.shape, like.dtype)
        scale = max(terms, float(np.abs(want).max(initial=0.0))) * (1.0 if like is x else np.sqrt(x.size))
        kinds = EPS[like.dtype.name], EPS["float32"] if x.dtype != np.float64 else EPS["float64"]
        limit = 16 * (kinds[0] + kinds[1])
        np.testing.assert_allclose(got.astype(np.float64), want, rtol=limit, atol=limit * scale)


@EVERY_DTYPE
@EVERY_ACTIVATION
@EVERY_NORM
def test_forward_and_backward_against_the_oracle(rng, norm, activation, dtype):
    x, dy, weight, bias = norm.arrays(rng, dtype)
    y, ctx = norm.forward(x, weight, bias, activation=activation)
    check_forward(norm, y, ctx, x, weight, bias, activation=activation)
    check_backward(norm, norm.backward(dy, ctx), dy, x, weight, bias, activation=activation)


@DTYPES
@every_norm(
    Norm("batch", (20_000, 3)),
    Norm("layer", (64, 10), (10,)),
    Norm("layer", (3, 5120), (5120,)),
    Norm("layer", (2, 3, 33, 47), ((3, 33, 47),)),
    Norm("layer", (1, 40_000), (40_000,)),
    Norm("layer", (5, 1), (1,)),
    Norm("layer", (7,), (7,)),
    Norm("layer", (2, 1, 3, 1, 2, 2, 2), ((2, 2),)),
    Norm("rms", (3000, 17), (17,)),
    Norm("rms", (2, 3, 769), (769,)),
    Norm("group", (2, 32, 7, 7), (32,)),
    Norm("group", (2, 12, 33, 47), (4,)),
    Norm("group", (1, 4, 3, 40, 41), (1,)),
    Norm("group", (2, 4), (4,)),
    Norm("group", (40, 30, 3), (5,)),
    Norm("instance", (1, 1, 100_000)),
    Norm("instance", (20, 30, 2)),
    Norm("instance", (2, 3, 33, 47)),
    Norm("instance", (2, 2, 3, 4, 5)),
)
def test_sizes_that_reach_every_loop(rng, norm, dtype):
    x, dy, weight, bias = norm.arrays(rng, dtype)
    y, ctx = norm.forward(x, weight, bias)
    check_forward(norm, y, ctx, x, weight, bias)
    check_backward(norm, norm.backward(dy, ctx), dy, x, weight, bias)
    assert ctx.mean.shape == ctx.rstd.shape == (int(norm.groups.max()) + 1,)


@DTYPES
@EVERY_NORM
@pytest.mark.parametrize("given_weight, given_bias", [(True, False), (False, True), (False, False)])
def test_parameters_are_optional(rng, norm, given_weight, given_bias, dtype):
    x, dy, weight, bias = norm.arrays(rng, dtype)
    weight, bias = weight if given_weight else None, bias if given_bias else None
    y, ctx = norm.forward(x, weight, bias)
    check_forward(norm, y, ctx, x, weight, bias)
    check_backward(norm, norm.backward(dy, ctx), dy, x, weight, bias)


@EVERY_DTYPE
@EVERY_NORM
def test_both_spellings_are_one_function(rng, norm, dtype):
    x, _, weight, bias = norm.arrays(rng, dtype)
    np.testing.assert_array_equal(norm(x, weight, bias), norm.forward(x, weight, bias)[0])


# --- layouts and buffers ----------------------------------------------------------------------------------------------


@EVERY_DTYPE
@EVERY_NORM
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_changes_the_last_place_at_most(rng, norm, layout, dtype):
    values, dy, weight, bias = norm.arrays(rng, dtype)
    if layout == "broadcast":
        values = np.broadcast_to(values.take([0], axis=0), norm.shape).copy()
    x = laid_out(values, layout, rng)
    y0, ctx0 = norm.forward(values, weight, bias)
    y, ctx = norm.forward(x, weight, bias)
    magnitude = np.abs(y0.astype(np.float64)) + 3 * float(weight.astype(np.float64).max())
    assert ulps(y, y0.astype(np.float64), magnitude) <= (4 if dtype == "float64" else 2)
    np.testing.assert_allclose(ctx.mean, ctx0.mean, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(ctx.rstd, ctx0.rstd, rtol=1e-12)
    dx0 = norm.backward(dy, ctx0)[0]
    dx = norm.backward(laid_out(dy, layout if layout != "broadcast" else "F", rng), ctx)[0]
    limit = 16 * EPS[np.dtype(dtype).name]
    np.testing.assert_allclose(dx.astype(np.float64), dx0.astype(np.float64), rtol=limit, atol=8 * limit)


@pytest.mark.walk("rows")
def test_rows_in_another_order_are_not_copied(rng):
    """(T, N, D) in memory, (N, T, D) in shape: whole rows, whose statistics come in the shape's order."""
    norm = Norm("layer", (4, 5, 6), (6,))
    x, dy, weight, bias = norm.arrays(rng)
    swapped = np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2)
    y, ctx = norm.forward(swapped, weight, bias)
    assert not ctx.plan.copies
    assert y.strides == swapped.strides
    expected, expected_ctx = norm.forward(x, weight, bias)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(ctx.mean, expected_ctx.mean)
    np.testing.assert_array_equal(ctx.rstd, expected_ctx.rstd)
    np.testing.assert_array_equal(norm.backward(dy, ctx)[0], norm.backward(dy, expected_ctx)[0])
    deep = Norm("rms", (2, 3, 4, 5), (5,))  # three leading axes: a permutation that is not its own inverse
    x, dy, weight, _ = deep.arrays(rng)
    turned = x.transpose(2, 0, 1, 3).copy().transpose(1, 2, 0, 3)
    (y, ctx), (expected, expected_ctx) = deep.forward(turned, weight), deep.forward(x, weight)
    assert not ctx.plan.copies
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(ctx.rstd, expected_ctx.rstd)
    np.testing.assert_array_equal(deep.backward(dy, ctx)[0], deep.backward(dy, expected_ctx)[0])
    x = norm.arrays(rng)[0]
    assert norm.forward(x.transpose(2, 1, 0).copy().transpose(2, 1, 0))[1].plan.copies  # torn rows are copied
    group = Norm("group", (2, 4, 5, 3), (2,))
    x = group.arrays(rng)[0]
    assert not group.forward(x.transpose(0, 1, 3, 2).copy().transpose(0, 1, 3, 2))[1].plan.copies
    channels_last = x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    y, ctx = group.forward(channels_last)
    assert ctx.plan.copies
    assert y.flags.c_contiguous


@EVERY_DTYPE
@EVERY_NORM
@pytest.mark.parametrize("layout", ["C", "F", "permuted", "stepped", "reversed", "offset"])
def test_out_is_written_and_returned(rng, norm, layout, dtype):
    x, dy, weight, bias = norm.arrays(rng, dtype)
    expected, ctx = norm.forward(x, weight, bias)
    out = laid_out(np.full_like(x, np.nan), layout, rng)
    y, _ = norm.forward(x, weight, bias, out=out)
    assert y is out
    np.testing.assert_array_equal(out, expected)
    out[...] = np.nan
    assert norm(x, weight, bias, out=out) is out
    np.testing.assert_array_equal(out, expected)
    out[...] = np.nan
    dx = norm.backward(dy, ctx, out=out)[0]
    assert dx is out
    np.testing.assert_array_equal(dx, norm.backward(dy, ctx)[0])


@EVERY_DTYPE
@EVERY_NORM
@pytest.mark.parametrize("layout", ["C", "F", "stepped", "reversed", "offset"])
def test_in_place(rng, norm, layout, dtype):
    values, dy, weight, bias = norm.arrays(rng, dtype)
    expected, ctx = norm.forward(values, weight, bias)
    x = laid_out(values, layout, rng)
    y, lost = norm.forward(x, weight, bias, out=x)
    assert y is x
    magnitude = np.abs(expected.astype(np.float64)) + 3
    assert ulps(x, expected.astype(np.float64), magnitude) <= 2
    with pytest.raises(ValueError, match="wrote its result over it"):
        norm.backward(dy, lost)
    expected = norm.backward(dy, ctx)[0]
    dy = laid_out(dy, layout, rng)
    assert norm.backward(dy, ctx, out=dy)[0] is dy
    limit = 16 * EPS[np.dtype(dtype).name]
    np.testing.assert_allclose(dy.astype(np.float64), expected.astype(np.float64), rtol=limit, atol=limit)


# --- dtypes of parameters, contexts -----------------------------------------------------------------------------------


@EVERY_DTYPE
@EVERY_NORM
@pytest.mark.parametrize("parameter_dtype", ["float16", "bfloat16", "float32", "float64"])
def test_gradients_have_the_dtype_and_shape_of_what_they_belong_to(rng, norm, dtype, parameter_dtype):
    if parameter_dtype == "bfloat16":
        if BFLOAT16 is None:
            pytest.skip("ml_dtypes, whose bfloat16 this is, is not installed")
        parameter_dtype = BFLOAT16
    x, dy, weight, bias = norm.arrays(rng, dtype)
    weight = weight.astype(parameter_dtype)
    bias = None if bias is None else bias.astype(parameter_dtype)
    y, ctx = norm.forward(x, weight, bias)
    check_forward(norm, y, ctx, x, weight, bias)
    check_backward(norm, norm.backward(dy, ctx), dy, x, weight, bias)


@EVERY_NORM
def test_parameters_of_any_layout(rng, norm):
    x, dy, weight, bias = norm.arrays(rng)
    expected, ctx = norm.forward(x, weight, bias)
    gradients = norm.backward(dy, ctx)
    for layout in ("F", "stepped", "reversed", "offset"):
        moved = laid_out(weight, layout), None if bias is None else laid_out(bias, layout)
        y, ctx = norm.forward(x, *moved)
        np.testing.assert_array_equal(y, expected)
        for got, want in zip(norm.backward(dy, ctx), gradients, strict=True):
            np.testing.assert_array_equal(got, want)


@EVERY_NORM
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_context_refers_to_its_input_and_holds_nothing_of_its_size(rng, norm, activation):
    x, dy, weight, bias = norm.arrays(rng)
    before = [None if a is None else a.copy() for a in (x, dy, weight, bias)]
    _, ctx = norm.forward(x, weight, bias, activation=activation)
    assert ctx.x is x
    assert ctx.weight is weight
    assert ctx.bias is (bias if activation else None)
    assert ctx.mean.dtype == ctx.rstd.dtype == np.float64
    held = [getattr(ctx, name) for name in ctx.__slots__ if name not in ("x", "weight", "bias")]
    assert all(a.size == norm.groups.max() + 1 for a in held if isinstance(a, np.ndarray))
    first, second = norm.backward(dy, ctx), norm.backward(dy, ctx)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip((x, dy, weight, bias), before, strict=True):
        np.testing.assert_array_equal(a, b)  # inputs are only read


@EVERY_ROW_NORM
def test_a_batch_without_rows_is_empty(norm):
    if norm.shape[0] == np.prod(norm.parameter_shape):
        return
    for dtype in (np.float32, np.float64):
        x = np.empty((0, *norm.shape[1:]), dtype)
        weight = np.ones(norm.parameter_shape, dtype)
        y, ctx = norm.forward(x, weight)
        assert (y.shape, y.dtype) == (x.shape, dtype)
        assert ctx.mean.shape == ctx.rstd.shape == (0,)
        dx, dweight, _ = norm.backward(x, ctx)
        assert dx.shape == x.shape
        assert not dweight.any()
        assert dweight.shape == norm.parameter_shape


# --- any call ---------------------------------------------------------------------------------------------------------


@st.composite
def row_norms(draw):
    """A row norm on a small array, now and then with an axis that passes the lanes of a kernel."""
    name = draw(st.sampled_from(["layer", "rms", "group", "instance"]))
    low, high = {"group": (2, 5), "instance": (3, 5)}.get(name, (1, 5))
    rank = draw(st.integers(low, high))
    sizes = st.integers(1, 70 if rank <= 2 else 6)
    shape = tuple(draw(st.lists(sizes, min_size=rank, max_size=rank)))
    if name in ("layer", "rms"):
        lead = draw(st.integers(0, rank - 1))
        return Norm(name, shape, (shape[lead:],))
    if np.prod(shape[2:]) < 2:
        shape = (*shape[:1], shape[1] + (name == "group"), *shape[2:-1], shape[-1] + 1)
    if name == "instance":
        return Norm(name, shape)
    groups = draw(st.sampled_from([g for g in range(1, shape[1] + 1) if shape[1] % g == 0]))
    if np.prod(shape) == groups:
        groups = 1
    return Norm(name, shape, (groups,))


@pytest.mark.walk("rows")
@EVERY_DTYPE
@EVERY_ACTIVATION
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12)
@given(data=st.data())
def test_any_call_agrees_with_the_oracle(data, activation, dtype):
    norm = data.draw(row_norms())
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x, dy, weight, bias = norm.arrays(rng, dtype, offset=data.draw(st.sampled_from([0.0, 1.0, -100.0])))
    eps = data.draw(st.sampled_from([1e-5, 1e-3, 1.0]))
    weight = weight if data.draw(st.booleans()) else None
    bias = bias if data.draw(st.booleans()) else None
    layouts = st.sampled_from(LAYOUTS[:-1])
    laid, laid_dy = laid_out(x, data.draw(layouts), rng), laid_out(dy, data.draw(layouts), rng)
    y, ctx = norm.forward(laid, weight, bias, eps=eps, activation=activation)
    check_forward(norm, y, ctx, x, weight, bias, eps, activation)
    check_backward(norm, norm.backward(laid_dy, ctx), dy, x, weight, bias, eps, activation)


def test_the_small_norms_are_all_there():
    assert {norm.name for norm in SMALL} == {"batch", "layer", "rms", "group", "instance"}
