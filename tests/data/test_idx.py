"""The reader of IDX files: right data or a DataError, and never more memory than the file justifies."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from damage import CUTS, FLIPS, MEGABYTE, flipped, peak
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from small_data import IDX_CODES, idx_bytes

from normcore.data import DataError, read_idx


def test_a_file_written_by_hand(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes.fromhex("00000b02 00000002 00000003 0001 fffe 0100 7fff 8000 0000"))
    array = read_idx(path)
    assert array.dtype == np.int16
    assert array.tolist() == [[1, -2, 256], [32767, -32768, 0]]


@given(
    array=st.sampled_from(sorted(IDX_CODES)).flatmap(
        lambda dtype: arrays(dtype, array_shapes(min_dims=1, max_dims=4, max_side=5))
    ),
    packed=st.booleans(),
)
def test_what_was_written_is_read(tmp_path_factory, array, packed):
    path = tmp_path_factory.getbasetemp() / "array-idx"
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content) if packed else content)
    found = read_idx(path)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.dtype.isnative
    assert found.flags.writeable
    assert found.tobytes() == array.tobytes()


def test_the_contents_tell_whether_a_file_is_packed_and_not_its_name(tmp_path):
    content = idx_bytes(np.arange(5, dtype=np.uint8))
    for name, stored in [("plain.gz", content), ("packed", gzip.compress(content))]:
        (tmp_path / name).write_bytes(stored)
        assert read_idx(tmp_path / name).tolist() == [0, 1, 2, 3, 4]


IMAGES = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
# mtime=0: these bytes name tests, which must be the same in every worker, a second later too
PACKED = gzip.compress(IMAGES, mtime=0)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "ends after 0 bytes, 4 bytes too early"),
        (b"\0\0\x08", "ends after 3 bytes, 1 bytes too early"),
        (IMAGES[:10], "ends after 10 bytes, 6 bytes too early"),
        (IMAGES[:-1], "ends after 39 bytes, 1 bytes too early"),
        (IMAGES + b"\0", r"holds more than the 24 bytes of the shape \(2, 3, 4\) it names"),
        (b"<!DOCTYPE html><html>", "is no IDX file: it begins with 3c 21 44 4f; it looks like a web page"),
        (b"\x80\x04\x95\x0b", "is no IDX file: it begins with 80 04 95 0b; put a complete copy"),
        (b"\0\0\x07\x01", "is no IDX file: it begins with 00 00 07 01"),
        (b"\0\0\x08\x00", "is no IDX file"),
        (b"\0\0\x08\x21" + 33 * b"\0\0\0\x01", "is no IDX file"),
        (b"\0\0\x08\x02" + bytes(4) + b"\xff\xff\xff\xff", r"an empty array of shape \(0, 4294967295\)"),
        (b"\0\0\x08\x01\x40\0\0\x01", r"shape \(1073741825,\), which is 1073741825 bytes and more than max_bytes="),
        (PACKED[:5], "is damaged or cut short"),
        (PACKED[:-1], "is damaged or cut short"),
        (PACKED[:-8] + bytes(8), r"is damaged or cut short \(CRC check failed"),
        (PACKED + b"junk", "is damaged or cut short"),
        (gzip.compress(IMAGES + b"\0", mtime=0), "holds more than the 24 bytes"),
        (gzip.compress(IMAGES[:-1], mtime=0), "ends after 39 bytes, 1 bytes too early"),
        (b"\x1f\x8bjunk and more of it", "is damaged or cut short"),
    ],
)
def test_a_damaged_file_is_refused_by_its_name(tmp_path, content, message):
    path = tmp_path / "train-images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_is_the_systems_own_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "nothing")
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
        read_idx(tmp_path)


def test_the_limit_can_be_moved(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(IMAGES)
    assert read_idx(path, max_bytes=24).shape == (2, 3, 4)
    with pytest.raises(DataError, match="24 bytes and more than max_bytes=23; if that is right, pass a larger"):
        read_idx(path, max_bytes=23)


@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_promises_much_takes_no_memory(tmp_path, packed):
    path = tmp_path / "x"
    content = struct.pack(">BBBB3I", 0, 0, 8, 3, 1_000_000, 28, 28) + bytes(100)
    path.write_bytes(gzip.compress(content) if packed else content)
    held, message = peak(read_idx, path)
    assert "ends after 116 bytes, 783999900 bytes too early" in message
    assert held < MEGABYTE


def test_what_a_bomb_unpacks_to_is_not_held(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 10) + bytes(60 * MEGABYTE), 1))
    held, message = peak(read_idx, path)
    assert "holds more than the 10 bytes" in message
    assert held < MEGABYTE


def oracle(content):
    """An IDX file of bytes read a second way, or None."""
    if len(content) < 4 or content[:3] != b"\0\0\x08" or content[3] == 0 or len(content) < 4 + 4 * content[3]:
        return None
    end = 4 + 4 * content[3]
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, end, 4)]
    size = 1
    for n in shape:
        size *= n
    return np.array(list(content[end:]), np.uint8).reshape(shape) if size == len(content) - end > 0 else None


def reads_as(path, content, expected):
    path.write_bytes(content)
    if expected is None:
        with pytest.raises(DataError):
            read_idx(path)
    else:
        np.testing.assert_array_equal(read_idx(path), expected)


@given(content=st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: b"\0\0\x08\x01\0\0\0" + tail))
def test_any_bytes_are_read_rightly_or_refused(tmp_path_factory, content):
    if content[:2] == b"\x1f\x8b":
        return  # the next test's
    reads_as(tmp_path_factory.getbasetemp() / "bytes-idx", content, oracle(content))


@given(flips=FLIPS, cut=CUTS)
def test_damage_to_a_plain_file_is_seen_wherever_it_can_be(tmp_path_factory, flips, cut):
    content = flipped(IMAGES, flips, cut)
    if content[:2] == b"\0\0" and content[2:3] not in (b"\x08", b""):
        return  # another type of number, which the oracle does not read
    reads_as(tmp_path_factory.getbasetemp() / "damaged-idx", content, oracle(content))


@given(flips=FLIPS, cut=CUTS)
def test_damage_to_a_packed_file_is_always_seen(tmp_path_factory, flips, cut):
    path = tmp_path_factory.getbasetemp() / "damaged-idx.gz"
    path.write_bytes(flipped(PACKED, flips, cut))
    try:
        found = read_idx(path)
    except DataError:
        return
    np.testing.assert_array_equal(found, read_whole())  # the flips undid each other, or hit what does not count


def read_whole():
    return np.frombuffer(IMAGES[16:], np.uint8).reshape(2, 3, 4)
