"""Damaging files, and measuring what reading them takes."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import strategies as st

from normcore.data import DataError

MEGABYTE = 1 << 20
FLIPS = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 7)), max_size=3)
CUTS = st.sampled_from([0, 0, 1, 7, 30])


def flipped(content, flips, cut):
    """The bytes with some bits flipped, and so many missing at the end."""
    changed = bytearray(content)
    for place, bit in flips:
        changed[place % len(changed)] ^= 1 << bit
    return bytes(changed[: max(0, len(changed) - cut)])


def peak(call, *arguments):
    """How many bytes a call held at the same time, and the message of the DataError that it ended with."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            call(*arguments)
        return tracemalloc.get_traced_memory()[1], str(caught.value)
    finally:
        tracemalloc.stop()
