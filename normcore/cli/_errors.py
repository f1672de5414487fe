"""What can go wrong before a command does its work, and how it is said."""

from __future__ import annotations

import os
import sys
from pathlib import Path


class UserError(Exception):
    """A mistake of the user's, in one sentence."""


def complain(line: str) -> None:
    """Print a line on stderr, if there is one."""
    if sys.stderr is not None:  # print would take stdout
        print(line, file=sys.stderr, flush=True)


def check_backend() -> None:
    """The backend that NORMCORE_BACKEND names must be there before anything is made."""
    from normcore._dispatch import asked_for

    try:
        asked_for()
    except ValueError as error:
        raise UserError(str(error)) from None
    except ImportError as error:
        raise UserError(f"NORMCORE_BACKEND must be a backend that can be loaded here: {error}") from None


def writable_folder(out: str) -> Path:
    """Make the folder that --out names."""
    if not out:
        raise UserError("--out must be a folder to write to, got ''; write . for this one, or leave it out")
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out must be a folder to write to, and {folder} cannot be made: {error.strerror or error}"
        ) from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"--out must be a folder to write to, and {folder} is read-only; choose another")
    return folder
