"""Whose threads the norms run on."""

from __future__ import annotations

from normcore._dispatch import asked_for


def own_threads() -> bool:
    """Whether a norm called here and now would run on normcore's own threads, as the Cython kernels do."""
    return asked_for() in (None, "cython")
