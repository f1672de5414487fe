"""What stands where a file should: pipes, devices, links, files that are cut short in the middle of a header."""

from __future__ import annotations

import os

import numpy as np
import pytest
from small_data import idx_bytes, small_cifar10, tar_bytes

from normcore.data import DataError, digits, load_digits, load_mnist, read_cifar10, read_idx
from normcore.data.download import _own_part

READERS = pytest.mark.parametrize("read", [read_idx, read_cifar10])
posix = pytest.mark.skipif(os.name != "posix", reason="pipes, devices and links as POSIX has them")


@posix
@READERS
def test_a_pipe_and_a_device_are_refused_and_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero"):
        with pytest.raises(OSError, match="It is a pipe or a device; copy it to a file first") as caught:
            read(path)
        assert caught.value.filename == path


@posix
def test_a_pipe_in_a_data_set(tmp_path):
    for name in ("train-images", "t10k-images"):
        (tmp_path / f"{name}-idx3-ubyte").write_bytes(idx_bytes(np.zeros((1, 28, 28), np.uint8)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(1, np.uint8)))
    os.mkfifo(tmp_path / "train-labels-idx1-ubyte")
    with pytest.raises(OSError, match="It is a pipe or a device"):
        load_mnist(data_dir=tmp_path, verify=False, download=False)


@pytest.mark.parametrize("end", [1, 156, 257, 262, 265, 300, 344, 345, 346, 511])
def test_an_archive_that_ends_in_a_header(tmp_path, end):
    """Where the header says that it is of the newer kind, and has no place for what that kind has."""
    path = tmp_path / "a.tar"
    whole = tar_bytes(small_cifar10().files, folder="", mode="w")
    path.write_bytes(whole[:end])
    with pytest.raises(DataError, match=r"a\.tar is no tar archive, or a damaged one: a header is wrong"):
        read_cifar10(path)


@pytest.mark.parametrize("change", ["bit", "cut", "empty"])
def test_the_packages_own_digits(tmp_path, monkeypatch, change):
    content = bytearray((digits.resources.files("normcore.data") / "digits.npz").read_bytes())
    content[5000] ^= 1
    damaged = {"bit": bytes(content), "cut": bytes(content[:-1]), "empty": b""}[change]
    (tmp_path / "digits.npz").write_bytes(damaged)
    monkeypatch.setattr(digits.resources, "files", lambda _: tmp_path)
    with pytest.raises(DataError, match=r"^digits\.npz, which comes with normcore-cpu, is damaged; install it again$"):
        load_digits()


@posix
def test_a_link_in_the_place_of_remains_is_not_written_through(tmp_path):
    """In a folder that others write to, it may lead to any file of ours."""
    ours = tmp_path / "ours"
    ours.write_bytes(b"precious")
    target = tmp_path / "a.gz"
    (tmp_path / ".a.gz.part").symlink_to(ours)
    part = _own_part(target)
    assert not part.exists()
    assert ours.read_bytes() == b"precious"
    (tmp_path / ".a.gz.part").unlink()
    (tmp_path / ".a.gz.part").write_bytes(b"begun")
    assert _own_part(target).read_bytes() == b"begun"
