"""Devices to write to: the one that forgets everything, and the one that is always full."""

from __future__ import annotations

import os
import stat

import pytest


def device(name, folder):
    """The path of /dev/`name`; for root, of a node of our own in `folder`.

    A fault in the code could put a file in the place of the machine's. Skips where there is none.
    """
    path = f"/dev/{name}"
    if not os.path.exists(path):
        pytest.skip(f"there is no {path} here")
    found = os.stat(path)
    if not stat.S_ISCHR(found.st_mode):
        pytest.skip(f"{path} is no device any more")
    if os.access("/dev", os.W_OK):
        path = os.path.join(folder, name)
        try:
            os.mknod(path, 0o666 | stat.S_IFCHR, found.st_rdev)
            open(path, "wb").close()
        except OSError:
            pytest.skip("who may write in /dev, but make no device, could break the machine's")
    return path
