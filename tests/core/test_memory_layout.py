"""Where arrays lie in memory, against the set of all their elements' addresses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normcore import _memory
from normcore._memory import memory_order, overlap, overlaps_itself, same_memory

MEMORY = np.zeros(1000)


def addresses(array):
    """Of the first byte of each element, in C order."""
    start = array.__array_interface__["data"][0]
    steps = (range(n) for n in array.shape)
    return [start + sum(i * s for i, s in zip(at, array.strides, strict=True)) for at in itertools.product(*steps)]


def view(shape, strides, start=0):
    """Strides in elements."""
    return np.lib.stride_tricks.as_strided(MEMORY[start:], shape, [8 * s for s in strides])


@st.composite
def views(draw):
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    return view(shape, [draw(st.integers(0, 9)) for _ in shape], draw(st.integers(0, 20)))


@given(views(), views())
def test_who_shares_memory(a, b):
    one, other = addresses(a), addresses(b)
    assert overlap(a, b) == bool(set(one) & set(other))
    if a.size and b.size:
        assert same_memory(a, b) == (a.shape == b.shape and one == other)
    assert same_memory(a, a)
    if len(set(one)) < len(one):
        assert overlaps_itself(a)


@pytest.mark.parametrize(
    ("shape", "strides", "itself"),
    [
        ((3, 4), (4, 1), False),
        ((3, 4), (1, 3), False),
        ((3, 4), (8, 2), False),
        ((3, 4), (5, 1), False),
        ((3, 4), (4, 0), True),
        ((1, 4), (0, 1), False),  # the stride of an axis of one element says nothing
        ((1, 4), (0, 2), False),
        ((3, 4), (3, 1), True),
        ((3, 4), (1, 1), True),
        ((0, 4), (0, 0), False),
        ((2, 2), (1, 2), False),
        ((3, 2), (2, 5), False),
        ((3, 2), (2, 4), True),
    ],
)
def test_an_array_that_overlaps_itself(shape, strides, itself):
    array = view(shape, strides)
    assert overlaps_itself(array) is itself
    assert overlaps_itself(array[::-1]) is itself
    assert (len(set(addresses(array))) < array.size) is itself


def test_overlap_that_is_too_hard_to_say_counts(monkeypatch):
    one, other = view((5, 5, 5), (27, 11, 27)), view((5, 5, 5), (85, 86, 31), 159)
    assert overlap(one, other) is False
    with pytest.raises(np.exceptions.TooHardError):
        np.shares_memory(one, other, max_work=1)
    monkeypatch.setattr(_memory, "_OVERLAP_WORK", 1)
    assert overlap(one, other) is True


@pytest.mark.parametrize(
    ("shape", "strides", "order"),
    [
        ((3, 4, 5), (20, 5, 1), (0, 1, 2)),
        ((3, 4, 5), (1, 3, 12), (2, 1, 0)),
        ((3, 4, 5), (5, 15, 1), (1, 0, 2)),
        ((3, 4, 5), (40, 10, 2), None),
        ((3, 4, 5), (21, 5, 1), None),
        ((3, 4, 5), (-20, 5, 1), None),
        ((), (), ()),
        ((7,), (1,), (0,)),
        ((7,), (2,), None),
    ],
)
def test_the_order_of_axes(shape, strides, order):
    array = view(shape, strides, 100)
    assert memory_order(array) == order
    if order is not None:
        assert np.diff(addresses(array.transpose(order))).tolist() == [8] * (array.size - 1)


def test_arrays_of_every_rank_have_an_order():
    for rank in range(65 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 33):
        assert memory_order(np.ones((1,) * rank)) == tuple(range(rank))


def test_what_is_not_aligned_has_no_order():
    odd = np.zeros(41, np.uint8)[1:].view(np.float64)
    assert not odd.flags.aligned
    assert memory_order(odd) is None


def test_the_same_memory_is_element_for_element():
    a = view((3, 4), (4, 1))
    assert same_memory(a, view((3, 4), (4, 1)))
    assert same_memory(view((1, 4), (99, 1)), view((1, 4), (4, 1)))
    assert not same_memory(a, view((3, 4), (4, 1), 1))
    assert not same_memory(a, view((4, 3), (3, 1)))
    assert not same_memory(a, view((3, 4), (1, 3)))
    assert not same_memory(a, view((12,), (1,)))
