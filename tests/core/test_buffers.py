"""What the kernels are handed: contiguous, aligned float64 or the array itself, and results where they belong."""

from __future__ import annotations

import numpy as np
import pytest

import normcore as nc
from normcore import _buffers
from normcore._plan import Operands


def plan_of(name, x, *told, **options):
    return nc.explain(name, x, *told, **options).plan


def unaligned(array):
    """The same values one byte off."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


@pytest.fixture
def by_channel():
    return plan_of("batch_norm", np.ones((5, 4)), training=True)


@pytest.fixture
def by_place():
    return plan_of("layer_norm", np.ones((5, 3, 4)), (3, 4))


def test_parameters_that_are_not_given(by_channel, by_place):
    np.testing.assert_array_equal(_buffers.float64_vector(by_channel, None, 1.0), np.ones(4))
    np.testing.assert_array_equal(_buffers.float64_vector(by_place, None, 0.0), np.zeros(12))


def test_a_parameter_that_fits_is_taken_as_it_is(by_channel):
    fits = np.arange(4.0)
    assert _buffers.float64_vector(by_channel, fits, 1.0) is fits


@pytest.mark.parametrize(
    "given",
    [
        np.arange(8.0)[::2],
        np.arange(8.0)[::-2],
        unaligned(np.arange(4.0)),
        np.arange(4, dtype=np.float32),
        np.arange(4, dtype=np.float16)[::-1],
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(12, dtype=np.float32).reshape(3, 4),
        unaligned(np.arange(12.0).reshape(3, 4)),
    ],
    ids=["step", "backwards", "unaligned", "float32", "float16 backwards", "fortran", "float32 2-d", "unaligned 2-d"],
)
def test_any_other_parameter_becomes_a_vector(by_channel, by_place, given):
    vector = _buffers.float64_vector(by_channel if given.ndim == 1 else by_place, given, 1.0)
    assert (vector.ndim, vector.dtype) == (1, np.float64)
    assert vector.flags.c_contiguous
    assert vector.flags.aligned
    assert not np.shares_memory(vector, given)
    np.testing.assert_array_equal(vector, [float(value) for value in given.flat])


def test_gradients_are_in_the_sums_or_beside_them(by_channel, by_place):
    sums = np.arange(12.0)
    assert _buffers.gradient_room(sums, np.dtype(np.float64)) is sums
    assert _buffers.gradient(by_channel, sums, sums) is sums
    shaped = _buffers.gradient(by_place, sums, sums)
    assert shaped.shape == (3, 4)
    assert np.shares_memory(shaped, sums)
    room = _buffers.gradient_room(sums, np.dtype(np.float32))
    assert (room.shape, room.dtype) == ((12,), np.float32)
    assert not np.shares_memory(room, sums)
    np.testing.assert_array_equal(_buffers.gradient(by_place, sums, room), sums.reshape(3, 4))


def test_a_gradient_beyond_its_dtype_is_infinite_whatever_seterr_says(by_channel):
    sums = np.array([1.0, 1e6, -1e6, 0.0])
    room = _buffers.gradient_room(sums, np.dtype(np.float16))
    with np.errstate(all="raise"):
        got = _buffers.gradient(by_channel, sums, room)
    np.testing.assert_array_equal(got, np.array([1.0, np.inf, -np.inf, 0.0], np.float16))


@pytest.mark.parametrize("turned", [False, True])
def test_an_array_is_walked_where_it_lies(turned):
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    array = x.transpose(0, 2, 3, 1) if turned else x  # channels last in memory, or first
    plan = plan_of("batch_norm", array, training=True, axis=1)
    assert plan.in_c_order == (not turned)
    view = _buffers.walked(plan, array)
    assert view.shape == plan.sizes
    assert view.flags.c_contiguous
    assert np.shares_memory(view, x)
    np.testing.assert_array_equal(view.reshape(-1), np.arange(120.0))


def test_an_input_that_is_in_no_order_is_copied():
    x = np.arange(48.0).reshape(4, 6, 2)
    plan = plan_of("batch_norm", x, training=True)
    assert _buffers.in_walk(plan, x) is x
    for view in (x[:, ::2], x[::-1]):
        plan = plan_of("batch_norm", view, training=True)
        copy = _buffers.in_walk(plan, view)
        assert copy.flags.c_contiguous
        assert not np.shares_memory(copy, x)
        np.testing.assert_array_equal(copy, view)


@pytest.mark.parametrize("turned", [False, True])
def test_input_and_result(turned):
    """Which memory a kernel reads and writes: nothing is copied that lies in the plan's order already."""
    rng = np.random.default_rng(0)

    def fresh(values=None):
        array = np.empty((4, 3), order="C").T if turned else np.empty((3, 4))
        array[...] = rng.standard_normal((3, 4)) if values is None else values
        return array

    x, out = fresh(), fresh()
    other = np.asarray(x, order="C" if turned else "F").copy(order="C" if turned else "F")  # the other order
    plan = plan_of("batch_norm", x, training=True)
    assert plan.in_c_order != turned

    source, result = _buffers.input_and_result(plan, x, None)
    assert source is x
    assert result is not x
    assert result.strides == x.strides
    assert not np.shares_memory(result, x)
    source, result = _buffers.input_and_result(plan, x, out)
    assert source is x
    assert result is out
    source, result = _buffers.input_and_result(plan, x, x)
    assert source is x
    assert result is x
    for unfit in (other, unaligned(out)):  # an out of another layout: a buffer first
        source, result = _buffers.input_and_result(plan, x, unfit)
        assert source is x
        assert result.strides == x.strides
        assert not np.shares_memory(result, unfit)
    for unfit in (other, unaligned(x)):  # a source of another layout: a copy of it in out, which is worked on in place
        source, result = _buffers.input_and_result(plan, unfit, out)
        assert source is result is out
        np.testing.assert_array_equal(out, x)
        for where in (None, unfit):
            source, result = _buffers.input_and_result(plan, unfit, where)
            assert source is result
            assert result.strides == x.strides
            assert not np.shares_memory(result, unfit)
            assert result.flags.aligned
            np.testing.assert_array_equal(result, x)


def test_statistics_of_turned_rows_go_there_and_back():
    x = np.empty((4, 2, 3, 5)).transpose(1, 2, 0, 3)  # (2, 3, 4, 5), the third axis slowest in memory
    plan = plan_of("layer_norm", x, 5)
    assert plan.order == (2, 0, 1, 3)
    assert plan.row_axes == 3
    rows = np.arange(24.0)  # in the order of memory
    want = [rows.reshape(4, 2, 3)[k, i, j] for i in range(2) for j in range(3) for k in range(4)]
    into = _buffers.room_in_c_order(plan, rows)
    assert into.shape == (24,)
    assert not np.shares_memory(into, rows)
    _buffers.to_c_order(plan, rows, into)
    np.testing.assert_array_equal(into, want)
    back = _buffers.to_walk_order(plan, into)
    assert back.shape == (24,)
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, rows)


def test_statistics_in_order_stay_where_they_are(by_place):
    turned = plan_of("batch_norm", np.asfortranarray(np.ones((3, 4))), training=True)  # one axis of groups: no rows
    for plan in (by_place, plan_of("layer_norm", np.ones((2, 3, 4)), 4), turned):
        rows = np.arange(float(plan.groups))
        assert _buffers.room_in_c_order(plan, rows) is rows
        _buffers.to_c_order(plan, rows, rows)
        np.testing.assert_array_equal(rows, np.arange(float(plan.groups)))
        assert _buffers.to_walk_order(plan, rows) is rows


def test_a_result_is_delivered_into_out():
    x = np.ones((3, 4))
    result = np.arange(12.0).reshape(3, 4)
    assert _buffers.delivered(result, Operands(x)) is result
    out, returned = np.zeros((3, 4)), np.zeros(2)
    assert _buffers.delivered(result, Operands(x, out=out, returned=returned)) is returned
    np.testing.assert_array_equal(out, result)
    assert _buffers.delivered(out, Operands(x, out=out, returned=returned)) is returned


def test_a_fresh_result_has_the_order_of_its_input():
    x = np.empty((4, 2, 3, 5)).transpose(1, 2, 0, 3)
    plan = plan_of("layer_norm", x, 5)
    fresh = _buffers._fresh(plan)
    assert (fresh.shape, fresh.strides) == (x.shape, x.strides)
    two = plan_of("layer_norm", np.empty((4, 2, 5)).transpose(1, 0, 2), 5)
    np.testing.assert_array_equal(_buffers.to_walk_order(two, np.arange(8.0)), [0, 4, 1, 5, 2, 6, 3, 7])
