"""Devices that some machines have, as marks of the tests that need them."""

from __future__ import annotations

import os
import stat

import pytest


def _is_device(path):
    """A file in its place would be filled, or tell nothing."""
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)
    except OSError:
        return False


needs_full_disk = pytest.mark.skipif(
    not _is_device("/dev/full"), reason="/dev/full, a device that is always full, is Linux's, and is not there"
)
