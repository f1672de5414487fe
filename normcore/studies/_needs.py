"""MissingPackageError: a study needs a package that is not installed."""

from __future__ import annotations


class MissingPackageError(ImportError):
    """What is missing, for what, and how to get it, in one sentence."""
