"""What can be wrong with the files of a data set."""

from __future__ import annotations


class DataError(ValueError):
    """A file of a data set is damaged, incomplete, or not what its name says; the message names it."""


class DataNotFoundError(FileNotFoundError):
    """A data set is neither on this machine nor could it be downloaded; the message says which file to put where."""
