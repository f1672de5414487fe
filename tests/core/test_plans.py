"""Plans as data: sizes, order, and who is refused, where the result alone would not tell one way from another."""

from __future__ import annotations

import numpy as np
import pytest
from norms import EVERY_DTYPE, SMALL, every_norm
from tolerances import EPS

import normcore as nc
from normcore import _dispatch, _plan
from normcore._memory import memory_order


def plan_of(name, x, *told, **options):
    return nc.explain(name, x, *told, **options).plan


@pytest.mark.parametrize(
    ("shape", "axis", "sizes"),
    [
        ((6, 4), 1, (6, 4, 1)),
        ((6, 4, 5, 3), 1, (6, 4, 15)),
        ((6, 4, 5, 3), -1, (120, 3, 1)),
        ((6, 4, 5, 3), 0, (1, 6, 60)),
        ((6, 1, 5), 1, (1, 1, 30)),  # one channel is one run
        ((6, 5, 1), -1, (1, 1, 30)),
    ],
)
def test_sizes_of_the_channels_walk(shape, axis, sizes):
    plan = plan_of("batch_norm", np.ones(shape), training=True, axis=axis)
    assert plan.sizes == sizes
    assert (plan.groups, plan.group_size, plan.size) == (sizes[1], sizes[0] * sizes[2], np.prod(shape))
    assert plan.parameter_shape == (sizes[1],)
    assert (plan.op, plan.walk, plan.direction, plan.training) == ("batch_norm", "channels", "forward", True)


def test_a_plan_of_statistics():
    plan = plan_of("batch_stats", np.ones((3, 4), np.float32))
    assert (plan.op, plan.direction, plan.dtype, plan.copies) == ("batch_stats", "stats", np.float32, False)
    # what it takes no notice of is as in a batch norm of the same x without options
    assert (plan.training, plan.momentum, plan.eps, plan.activation) == (True, 0.1, 1e-5, 0)
    assert plan._replace(op="batch_norm", direction="forward") == plan_of("batch_norm_forward", np.ones((3, 4), "f4"))


def test_a_plan_is_made_once_and_a_thousand_are_kept():
    x = np.ones((3, 4, 5))
    for name, told in (("batch_norm_forward", ()), ("layer_norm", (5,))):
        assert plan_of(name, x, *told) is plan_of(name, x.copy(), *told)
    _, ctx = nc.layer_norm_forward(x, 5)
    assert plan_of("layer_norm_backward", x, ctx) is plan_of("layer_norm_backward", x, ctx)
    for made in (_plan.channels_walk, _plan.rows_walk, _plan.backward_of):
        assert made.cache_info().maxsize == 1024


def test_orders_and_copies():
    x = np.ones((4, 6, 5))
    for array, in_c_order, copies in (
        (x, True, False),
        (np.asfortranarray(x), False, False),
        (x.transpose(1, 0, 2), False, False),
        (x[:, ::2], True, True),  # contiguous in no order: as a C-contiguous copy
    ):
        plan = plan_of("batch_norm", array, training=True)
        assert (plan.in_c_order, plan.copies) == (in_c_order, copies)
        assert memory_order(array) == (None if copies else plan.order)
    # rows must stay together: only leading axes, among themselves, or those behind the channels may be turned
    assert not plan_of("layer_norm", x.transpose(1, 0, 2), 5).copies
    assert plan_of("layer_norm", x.transpose(0, 2, 1), 6).copies
    images = np.ones((2, 6, 3, 4))
    assert not plan_of("group_norm", images.transpose(0, 1, 3, 2), 3).copies
    assert plan_of("group_norm", images.transpose(1, 0, 2, 3), 2).copies
    assert not plan_of("instance_norm", images.transpose(0, 1, 3, 2)).copies
    assert plan_of("instance_norm", images.transpose(1, 0, 2, 3)).copies


def test_a_plan_of_row_norms():
    x = np.ones((2, 6, 3, 4), np.float32)
    plan = plan_of("layer_norm", x, (3, 4))
    assert (plan.sizes, plan.groups, plan.group_size, plan.row_axes) == ((12, 12, 1), 12, 12, 2)
    assert (plan.parameter_shape, plan.eps, plan.centred) == ((3, 4), 1e-5, True)
    plan = plan_of("rms_norm", x, 4)
    assert (plan.sizes, plan.row_axes, plan.eps, plan.centred) == (
        (36, 4, 1),
        3,
        float(np.finfo(np.float32).eps),
        False,
    )
    plan = plan_of("group_norm", x, 3)
    assert (plan.sizes, plan.groups, plan.group_size) == ((6, 2, 12), 6, 24)
    plan = plan_of("instance_norm", x)
    assert (plan.sizes, plan.groups, plan.group_size, plan.walk) == ((12, 1, 12), 12, 12, "rows")
    plan = plan_of("instance_norm", x, np.zeros(6), np.ones(6), use_input_stats=False)
    assert (plan.sizes, plan.groups, plan.walk, plan.training) == ((2, 6, 12), 6, "channels", False)


@EVERY_DTYPE
def test_the_machine_epsilon_of_a_dtype(dtype):
    assert plan_of("rms_norm", np.ones((2, 3), dtype), 3).eps == EPS[np.dtype(dtype).name]


@pytest.mark.parametrize("shape", [(1, 0), (5, 0), (0, 0), (1, 0, 3), (2, 0, 0)])
def test_no_channels_are_no_mistake(shape):
    assert nc.batch_norm(np.ones(shape), training=True).shape == shape
    assert nc.batch_stats(np.ones(shape))[0].shape == (0,)
    if len(shape) == 3:
        assert nc.instance_norm(np.ones(shape)).shape == shape


@pytest.mark.parametrize("channels", [1, 2])
def test_one_value_a_channel_is_refused_of_one_channel_too(channels):
    with pytest.raises(ValueError, match="one value per channel, and batch norm in training needs more than one"):
        nc.batch_norm(np.ones((1, channels)), training=True)
    with pytest.raises(ValueError, match=f"its {channels} channels hold no values, and statistics over nothing"):
        nc.batch_stats(np.ones((0, channels)))
    np.testing.assert_array_equal(nc.batch_stats(np.full((1, channels), 3.0)), ([3.0] * channels, [0.0] * channels))


@every_norm(*SMALL)
def test_every_norm_checks_every_array(norm, rng):
    x, dy, weight, bias = norm.arrays(rng)
    for call in (norm, norm.forward):
        with pytest.raises(TypeError, match=r"^x must be float16, .*, got int64; convert it with x\.astype"):
            call(np.ones(norm.shape, np.int64))
        with pytest.raises(TypeError, match=r"^weight must be float16, .*, got int64; convert it with weight"):
            call(x, np.ones(norm.parameter_shape, np.int64), bias)
        with pytest.raises(ValueError, match=r"^weight must have shape"):
            call(x, np.ones((*norm.parameter_shape, 1)), bias)
        if norm.has_bias:
            with pytest.raises(TypeError, match=r"^bias must be float16, .*, got int64; convert it with bias"):
                call(x, weight, np.ones(norm.parameter_shape, np.int64))
            with pytest.raises(ValueError, match=r"^bias must have shape"):
                call(x, weight, np.ones((*norm.parameter_shape, 1)))
        for name in ("out", "eps"):
            with pytest.raises((TypeError, ValueError), match=f"^{name} must"):
                call(x, weight, bias, **{name: "no"})
    # lists are arrays, nested as they are
    _, ctx = norm.forward(x.tolist(), weight.tolist(), None if bias is None else bias.tolist())
    _, known = norm.forward(x, weight, bias)
    np.testing.assert_array_equal(ctx.rstd, known.rstd)
    for got, want in zip(norm.backward(dy, ctx), norm.backward(dy, known), strict=True):
        assert (got is None) == (want is None)
        if want is not None:
            np.testing.assert_array_equal(got, want)


STARTS = {"x": 0, "out": 40, "weight": 100, "bias": 130, "running_mean": 160, "running_var": 190}


@pytest.mark.parametrize("written", ["out", "running_mean", "running_var"])
@pytest.mark.parametrize("other", STARTS)
@pytest.mark.parametrize("call", [nc.batch_norm, nc.instance_norm], ids=lambda f: f.__name__)
@pytest.mark.parametrize("updates", [True, False])
def test_what_is_written_shares_no_memory_and_is_named(call, written, other, updates):
    """In one block of memory each array has its place; then one of them begins where another does."""
    if other == written:
        pytest.skip("nothing is shared")
    memory = np.ones(400)
    starts = STARTS | {written: STARTS[other] + (written == "out" and other == "x")}
    arrays = {
        name: memory[start : start + 24].reshape(2, 3, 4) if name in ("x", "out") else memory[start : start + 3]
        for name, start in starts.items()
    }
    options = {"training" if call is nc.batch_norm else "use_input_stats": updates}
    alone = {name: array.copy() for name, array in arrays.items()}
    call(alone.pop("x"), **alone, **options)  # what was right once goes straight to the kernels the next time
    arrays |= options
    before = memory.copy()
    if written == "out" and other == "x":
        expected = "out overlaps x without being the same array; pass x itself"
    elif {written, other} <= {"running_mean", "running_var"}:
        expected = "running_mean shares memory with running_var; pass an array of its own"
    elif updates and "running" in other:
        expected = f"{other} shares memory with {written}; pass an array of its own"
    elif updates or written == "out":
        expected = f"{written} shares memory with {other}; pass an array of its own"
    elif other == "out":
        expected = f"out shares memory with {written}; pass an array of its own"
    else:
        expected = ""
    if not expected or (not updates and written != "out" and other != "out"):
        call(arrays.pop("x"), **arrays)  # what is only read may be shared
        return
    with pytest.raises(ValueError, match=f"^{expected}"):
        call(arrays.pop("x"), **arrays)
    np.testing.assert_array_equal(memory, before)


@pytest.mark.parametrize("kind", ["bool", "int8", "uint16", "longdouble", "int4", "float8_e4m3fn", "uint4"])
def test_numbers_of_other_dtypes_can_be_converted(kind):
    if kind in ("int4", "float8_e4m3fn", "uint4"):
        dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, whose dtypes these are, is not installed")
        dtype = np.dtype(getattr(dtypes, kind))
    else:
        dtype = np.dtype(kind)
    with pytest.raises(TypeError, match=rf"got {dtype}; convert it with x\.astype\(numpy\.float32\)$"):
        nc.batch_norm(np.zeros((3, 2), dtype), training=True)


@pytest.mark.parametrize("kind", ["U3", "M8[s]", "complex64", "V2"])
def test_what_is_no_number_has_no_mean(kind):
    with pytest.raises(TypeError, match=r"; other kinds of data have no mean and variance here$"):
        nc.batch_norm(np.zeros((3, 2), kind), training=True)


class Weird:
    """A number that is none."""

    def __float__(self):
        raise ValueError("no")

    def __repr__(self):
        return "Weird()"


class Column(Weird):
    """An array of another library, which makes a number of its one value, as NumPy did before 2.4."""

    ndim = 1

    def __float__(self):
        return 0.5


def test_the_ends_of_every_range_are_taken(rng):
    x = rng.standard_normal((2, 6, 4))
    mean, var = np.full(6, 5.0), np.full(6, 7.0)
    nc.batch_norm(x, mean, var, training=True, momentum=0.0)
    np.testing.assert_array_equal((mean, var), (np.full(6, 5.0), np.full(6, 7.0)))
    nc.batch_norm(x, mean, var, training=np.True_, momentum=1)
    np.testing.assert_allclose(mean, x.mean(axis=(0, 2)), rtol=1e-14)
    np.testing.assert_allclose(var, x.var(axis=(0, 2), ddof=1), rtol=1e-14)
    for axis in (-3, np.int64(0)):
        np.testing.assert_array_equal(
            nc.batch_norm(x, training=True, axis=axis), nc.batch_norm(x, training=True, axis=0)
        )
    for groups in (1, np.int64(1), 6):
        size = 6 // groups
        want = x.reshape(2, groups, size * 4)
        want = (want - want.mean(-1, keepdims=True)) / np.sqrt(want.var(-1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(nc.group_norm(x, groups), want.reshape(x.shape), rtol=1e-12, atol=1e-14)
    want = nc.layer_norm(x, 4)
    for shape in (np.int64(4), [4], (np.int32(4),), np.array([4]), np.array(4), range(4, 5)):
        np.testing.assert_array_equal(nc.layer_norm(x, shape), want)


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan, np.inf, -np.inf])
def test_what_lies_beyond_is_not(value):
    with pytest.raises(ValueError, match=r"^momentum must be a number from 0 to 1"):
        nc.batch_norm(np.ones((3, 2)), training=True, momentum=value)


@pytest.mark.parametrize("name", ["momentum", "eps"])
@pytest.mark.parametrize(
    "value",
    ["0.5", b"1", True, np.True_, None, [1], Weird(), Column(), 1j, np.array([0.5]), np.ma.array(0.5, mask=True)],
    ids=repr,
)
def test_what_is_no_number_is_refused(name, value):
    with pytest.raises(TypeError, match=rf"^{name} must be a"):
        nc.batch_norm(np.ones((3, 2)), training=True, **{name: value})


@pytest.mark.parametrize(("name", "bad"), [("axis", 1.0), ("axis", True), ("axis", "1")])
def test_an_axis_is_an_int(name, bad):
    with pytest.raises(TypeError, match=rf"^{name} must be an int"):
        nc.batch_norm(np.ones((3, 2)), training=True, **{name: bad})


@pytest.mark.parametrize("axis", [-3, 2])
def test_an_axis_is_one_of_x(axis):
    with pytest.raises(ValueError, match=rf"^axis must be from -2 to 1 for an x of 2 dimensions, got {axis}$"):
        nc.batch_norm(np.ones((3, 2)), training=True, axis=axis)


def test_out_may_be_x_through_another_view_but_not_a_part_of_it(rng):
    memory = rng.standard_normal(100)
    x, kept = memory[:24].reshape(2, 3, 4), memory[:24].reshape(2, 3, 4).copy()
    want = nc.batch_norm(kept, training=True)
    for shift in (1, 4, 12):
        with pytest.raises(ValueError, match=r"^out overlaps x without being the same array"):
            nc.batch_norm(x, training=True, out=memory[shift : 24 + shift].reshape(2, 3, 4))
    np.testing.assert_array_equal(x, kept)
    between = memory[24:72].reshape(2, 3, 8)  # side by side, element for element: they share no memory
    between[..., ::2] = kept
    np.testing.assert_array_equal(nc.batch_norm(between[..., ::2], training=True, out=between[..., 1::2]), want)
    np.testing.assert_array_equal(nc.batch_norm(x, training=True, out=memory[:24].reshape(2, 3, 4)), want)
    np.testing.assert_array_equal(x, want)


@pytest.mark.parametrize(
    ("options", "wrong", "name"),
    [
        ({"training": True}, {"training": 1}, "training"),
        ({"training": True}, {"training": 1.0}, "training"),
        ({"training": True, "axis": 1}, {"axis": True}, "axis"),
        ({"training": True, "axis": 1}, {"axis": 1.0}, "axis"),
        ({"training": True, "momentum": 1}, {"momentum": True}, "momentum"),
        ({"training": True, "eps": 1.0}, {"eps": True}, "eps"),
    ],
)
def test_a_call_like_one_before_but_for_a_type_is_checked(options, wrong, name):
    """True is 1 and 1.0 to Python, and what was right once goes straight to the kernels the next time."""
    x = np.arange(12.0).reshape(4, 3)
    for _ in range(3):
        nc.batch_norm(x, **options)
    with pytest.raises(TypeError, match=f"^{name} must be "):
        nc.batch_norm(x, **(options | wrong))


def test_a_learned_call_goes_to_the_backend_that_was_chosen(monkeypatch):
    x, went = np.arange(12.0).reshape(4, 3), []
    for _ in range(3):
        _, ctx = nc.batch_norm_forward(x)
        nc.batch_norm_backward(x, ctx)
    load = _dispatch._kernels
    monkeypatch.setattr(_dispatch, "_kernels", lambda name, dtype: went.append(name) or load(name, dtype))
    with nc.use_backend("reference"):
        _, ctx = nc.batch_norm_forward(x)
        nc.batch_norm_backward(x, ctx)
    assert went == ["reference", "reference"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_learned_call_takes_in_the_unbiased_variance(dtype):
    x, zeros = np.array([[1.0, 8.0], [3.0, 8.0], [8.0, 5.0]]), np.zeros(2, dtype)
    for _ in range(3):
        mean, var = zeros.copy(), zeros.copy()
        nc.batch_norm(x, mean, var, training=True, momentum=0.5)
        np.testing.assert_array_equal(mean, [2.0, 3.5])
        np.testing.assert_array_equal(var, [6.5, 1.5])  # halves of (9 + 1 + 16) / 2 and (1 + 1 + 4) / 2


def test_a_learned_call_remembers_the_bias_of_an_activation():
    """Where ReLU gave zeros, because of the bias alone, nothing depends on x."""
    x, ones = np.arange(12.0).reshape(4, 3), np.ones(3)
    for _ in range(3):
        y, ctx = nc.batch_norm_forward(x, ones, -9 * ones, activation="relu")
        assert not y.any()
        for gradient in nc.batch_norm_backward(ones + x, ctx):
            assert not gradient.any()


def test_a_learned_call_in_place_leaves_no_backward():
    for _ in range(3):
        x = np.arange(12.0).reshape(4, 3)
        _, ctx = nc.batch_norm_forward(x, out=x)
        with pytest.raises(ValueError, match=r"out=x"):
            nc.batch_norm_backward(x, ctx)


@pytest.mark.parametrize("name", ["x", "mean", "rstd", "weight", "bias"])
def test_a_context_whose_arrays_were_replaced_is_refused(name):
    """The kernels check nothing: each way in which one array may have become another."""
    x, weight = np.arange(24.0).reshape(2, 3, 4), np.arange(1.0, 4.0)
    _, ctx = nc.batch_norm_forward(x, weight, weight, training=True, activation="relu")
    kept = getattr(ctx, name)
    want = nc.batch_norm_backward(x, ctx)
    others = [kept[:-1], np.concatenate([kept, kept])]
    others += [kept[None]] if name in ("x", "weight", "bias") else [kept[None], kept.view(np.matrix)]
    if name in ("x", "mean", "rstd"):
        others += [kept.astype(np.float32), kept.tolist(), None]
    else:  # of any float dtype, or not there
        others += [kept.astype(np.int64), kept.astype(complex), kept.astype(bool), kept.tolist()]
    for other in others:
        setattr(ctx, name, other)
        with pytest.raises(ValueError, match=r"^ctx does not hold what forward put there: arrays were replaced"):
            nc.batch_norm_backward(x, ctx)
    setattr(ctx, name, kept.copy())
    for got, expected in zip(nc.batch_norm_backward(x, ctx), want, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_context_whose_dtype_was_replaced_is_refused():
    x, weight = np.arange(24.0).reshape(2, 3, 4), np.arange(1.0, 4.0)
    _, ctx = nc.batch_norm_forward(x, weight, weight)
    for other in ("float32", np.float32, np.dtype(np.int64), np.dtype(bool), 3):
        ctx.bias_dtype = other
        with pytest.raises(ValueError, match=r"^ctx does not hold what forward put there: arrays were replaced"):
            nc.batch_norm_backward(x, ctx)
    ctx.bias_dtype = np.dtype(np.float16)
    assert nc.batch_norm_backward(x, ctx)[2].dtype == np.float16


class Tagged(np.ndarray):
    """An array of somebody else's."""


def test_the_out_that_was_given_is_returned():
    x = np.arange(12.0).reshape(4, 3)
    want, ctx = nc.batch_norm_forward(x, training=True)
    gradient = nc.batch_norm_backward(x, ctx)[0]
    for _ in range(3):
        out = np.empty_like(x).view(Tagged)
        assert nc.batch_norm(x, training=True, out=out) is out
        np.testing.assert_array_equal(np.asarray(out), want)
        assert nc.batch_norm_backward(x, ctx, out=out)[0] is out
        np.testing.assert_array_equal(np.asarray(out), gradient)


def test_a_normalised_shape_may_be_any_iterable_of_ints():
    x = np.arange(24.0).reshape(2, 3, 4)
    want = nc.layer_norm(x, (3, 4))
    for shape in ({3: "a", 4: "b"}.keys(), iter([3, 4]), (n for n in (3, 4))):
        np.testing.assert_array_equal(nc.layer_norm(x, shape), want)


def test_a_bfloat16_of_another_machine_is_refused():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="brings bfloat16")
    swapped = np.dtype(ml_dtypes.bfloat16).newbyteorder()
    if swapped.isnative or swapped.name != "bfloat16":
        pytest.skip("this ml_dtypes has bfloat16 in one byte order only")
    with pytest.raises(TypeError, match=r"^x must be float16, bfloat16, float32 or float64, got "):
        nc.batch_norm(np.zeros((4, 3), swapped), training=True)
