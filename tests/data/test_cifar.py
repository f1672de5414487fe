"""The reader of CIFAR-10's binary version: right data or a DataError, whatever the archive holds."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile

import numpy as np
import pytest
from damage import CUTS, FLIPS, MEGABYTE, flipped, peak
from hypothesis import given
from small_data import ARCHIVE, CIFAR_FILES, small_cifar10, tar_bytes, write

from normcore.data import DataError, read_cifar10

SMALL = small_cifar10()
FOLDER = "cifar-10-batches-bin"


def check(path, small=SMALL):
    """What is read is what was written."""
    for part, (images, labels) in zip(read_cifar10(path), (small.train, small.test), strict=True):
        assert part.X.dtype == part.y.dtype == np.uint8
        np.testing.assert_array_equal(part.X, images)
        np.testing.assert_array_equal(part.y, labels)


def test_a_record_is_label_and_then_red_green_blue(tmp_path):
    red_corner, blue_corner = bytes([200]) + bytes(3071), bytes(3071) + bytes([100])
    files = dict.fromkeys(CIFAR_FILES, bytes([3]) + red_corner)
    files["test_batch.bin"] = bytes([9]) + blue_corner
    train, test = read_cifar10(write(tmp_path, files))
    assert train.y.tolist() == [3] * 5
    assert test.y.tolist() == [9]
    images = train.X.reshape(-1, 3, 32, 32)
    assert images[0, 0, 0, 0] == 200
    assert images.sum() == 5 * 200
    assert test.X.reshape(-1, 3, 32, 32)[0, 2, 31, 31] == 100


@pytest.mark.parametrize(
    "content",
    [
        tar_bytes(SMALL.files),
        tar_bytes(SMALL.files, mode="w"),
        tar_bytes(SMALL.files, folder=""),
        tar_bytes(SMALL.files, folder="./a/b"),
        tar_bytes(SMALL.files, folder="long/" * 30 + "path", format=tarfile.USTAR_FORMAT),
        tar_bytes(SMALL.files, format=tarfile.PAX_FORMAT, pax_headers={"comment": "as some programs write"}),
        tar_bytes(SMALL.files, format=tarfile.GNU_FORMAT),
        tar_bytes(dict(reversed(SMALL.files.items()))),
        gzip.compress(tar_bytes(SMALL.files, mode="w").rstrip(b"\0") + bytes(512)),
    ],
    ids=["gz", "plain", "flat", "deeper", "ustar", "pax", "gnu", "other-order", "no-end"],
)
def test_every_kind_of_archive_is_read(tmp_path, content):
    path = tmp_path / ARCHIVE
    path.write_bytes(content)
    check(path)


def test_a_folder_is_read_with_or_without_the_one_around_it(tmp_path):
    inner = write(tmp_path / FOLDER, SMALL.files)
    check(inner)
    check(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(b"not this one")
    check(tmp_path)


def tar_with(name=b"x/data_batch_1.bin", size=b"00000006001", kind=b"0", body=b"", link=b"", prefix=b""):
    """An archive of one member whose header says what it is told to."""
    header = bytearray(512)
    header[0 : len(name)] = name
    header[124 : 124 + len(size)] = size
    header[156:157] = kind
    header[157 : 157 + len(link)] = link
    header[257:265] = b"ustar\x0000"
    header[345 : 345 + len(prefix)] = prefix
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + body + bytes(-len(body) % 512) + bytes(1024)


RECORD = bytes(3073)
WRONG_SUM = bytearray(tar_bytes(SMALL.files, mode="w"))
WRONG_SUM[140] ^= 1  # in the time of the folder, which nobody asks for
BROKEN = [
    (bytes(WRONG_SUM), "a header is wrong"),
    (b"", r"holds no data_batch_1\.bin, data_batch_2\.bin"),
    (b"<html>", "ends after 6 bytes, 506 bytes too early|is no tar archive"),
    (b"x" * 2000, "is no tar archive, or a damaged one"),
    (tar_bytes(SMALL.files)[:-20], "is damaged or cut short"),
    (tar_bytes(SMALL.files, mode="w")[:20_000], "ends after 20000 bytes"),
    (tar_bytes({n: c for n, c in SMALL.files.items() if "4" not in n}), r"holds no data_batch_4\.bin; it must be"),
    (tar_bytes({**SMALL.files, "data_batch_2.bin": b""}), r"data_batch_2\.bin in .* 1 to 10000 records .* got 0 bytes"),
    (tar_bytes({**SMALL.files, "data_batch_2.bin": RECORD[1:]}), "1 to 10000 records of 3073 bytes, got 3072 bytes"),
    (
        tar_bytes({**SMALL.files, "test_batch.bin": RECORD + b"\x0a" + RECORD[1:]}),
        r"test_batch\.bin in .* must hold labels from 0 to 9, got 10 in record 1",
    ),
    (
        tar_bytes({**SMALL.files, "more.txt": bytes(2 * MEGABYTE)}),
        r"holds '.*more\.txt' of 2097152 bytes, which does not belong",
    ),
    (tar_bytes({**SMALL.files, **{str(i): b"" for i in range(100)}}), "holds more than 100 members"),
    (tar_bytes(SMALL.files, mode="w") + bytes(4 * MEGABYTE), "goes on behind its end"),
    (tar_bytes(SMALL.files, mode="w") + b"x" * 512, "goes on behind its end"),
    (tar_bytes({**SMALL.files, "again/data_batch_1.bin": RECORD}), r"holds data_batch_1\.bin twice"),
    (tar_with(b"/etc/data_batch_1.bin", body=RECORD), r"holds '/etc/data_batch_1\.bin', a path that leads out"),
    (tar_with(b"a/../../data_batch_1.bin", body=RECORD), "a path that leads out"),
    (tar_with(prefix=b"..", body=RECORD), r"holds '\.\./x/data_batch_1\.bin', a path that leads out"),
    (tar_with(kind=b"2", link=b"/etc/passwd", size=b"0"), r"holds 'x/data_batch_1\.bin' as a link, not as a file"),
    (tar_with(kind=b"1", link=b"y", size=b"0"), "as a link, not as a file"),
    (tar_with(size=b"77777777777"), "of 8589934591 bytes, too many"),
    (tar_with(size=b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"), "a header is wrong"),
    (tar_with(size=b"\xff" * 12), "a header is wrong"),
    (tar_with(size=b"-7"), "a header is wrong"),
    (tar_with(b"PaxHeader", kind=b"x", size=b"77777777777"), "of 8589934591 bytes, which does not belong"),
]


@pytest.mark.parametrize("content, message", BROKEN, ids=[message for _, message in BROKEN])
def test_a_broken_or_hostile_archive_is_refused_by_its_name(tmp_path, content, message):
    path = tmp_path / ARCHIVE
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_cifar10(path)
    assert str(path) in str(caught.value)
    assert sorted(tmp_path.iterdir()) == [path]  # nothing was unpacked


@pytest.mark.parametrize("content, message", [(RECORD[:-1], "got 3072 bytes"), (b"\x0b" + RECORD[1:], "got 11")])
def test_a_broken_file_in_a_folder_is_refused_by_its_name(tmp_path, content, message):
    folder = write(tmp_path, {**SMALL.files, "data_batch_3.bin": content})
    with pytest.raises(DataError, match=message) as caught:
        read_cifar10(folder)
    assert str(folder / "data_batch_3.bin") in str(caught.value)


def test_a_folder_without_a_batch_is_refused(tmp_path):
    folder = write(tmp_path, {"test_batch.bin": RECORD})
    with pytest.raises(DataError, match=r"holds no data_batch_1\.bin, .*data_batch_5\.bin; it must be the binary"):
        read_cifar10(folder)


def test_a_missing_file_is_the_systems_own_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_cifar10(tmp_path / ARCHIVE)


def bomb(name, kind=tarfile.REGTYPE):
    """A small archive with a member of 60 MB."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as packed:
        entry = tarfile.TarInfo(name)
        entry.size = 60 * MEGABYTE
        entry.type = kind
        packed.write(entry.tobuf(tarfile.USTAR_FORMAT))
        packed.write(bytes(60 * MEGABYTE))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name, kind",
    [("data_batch_1.bin", b"0"), ("readme", b"0"), ("PaxHeader", b"x"), ("PaxHeader", b"g"), ("@LongLink", b"L")],
)
def test_what_a_bomb_unpacks_to_is_not_held(tmp_path, name, kind):
    path = tmp_path / ARCHIVE
    path.write_bytes(bomb(name, kind))
    held, message = peak(read_cifar10, path)
    assert "of 62914560 bytes" in message
    assert held < MEGABYTE


def test_a_member_that_promises_much_takes_no_memory(tmp_path):
    path = tmp_path / ARCHIVE
    path.write_bytes(tar_with(size=b"%011o" % 30_730_000, body=RECORD))
    held, message = peak(read_cifar10, path)
    assert "too early" in message
    assert held < MEGABYTE


def test_of_a_large_file_in_a_folder_no_more_is_read_than_a_batch_has(tmp_path):
    folder = write(tmp_path, SMALL.files)
    with open(folder / "data_batch_1.bin", "r+b") as file:
        file.truncate(1 << 32)  # a sparse file: nothing is on the disk
    held, message = peak(read_cifar10, folder)
    assert "must hold 1 to 10000 records of 3073 bytes, got 30730001 bytes" in message
    assert held < 40 * MEGABYTE  # a batch has 29, and while a bytearray grows some of it is there twice


ONE = small_cifar10(records=1)
PACKED, PLAIN = tar_bytes(ONE.files), tar_bytes(ONE.files, mode="w")


@given(flips=FLIPS, cut=CUTS)
def test_damage_to_a_packed_archive_is_always_seen(tmp_path_factory, flips, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.tar.gz"
    path.write_bytes(flipped(PACKED, flips, cut))
    with contextlib.suppress(DataError):
        check(path, ONE)


@given(flips=FLIPS, cut=CUTS)
def test_damage_to_a_plain_archive_is_refused_or_in_pixels_alone(tmp_path_factory, flips, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.tar"
    path.write_bytes(flipped(PLAIN, flips, cut))
    try:
        train, test = read_cifar10(path)
    except DataError:
        return
    assert (train.X.shape, test.X.shape) == ((5, 3072), (1, 3072))
    found = np.unpackbits(np.concatenate([*train, *test], axis=None))
    written = np.unpackbits(np.concatenate([ONE.train[0], ONE.train[1], ONE.test[0], ONE.test[1]], axis=None))
    assert np.count_nonzero(found != written) <= len(flips)
