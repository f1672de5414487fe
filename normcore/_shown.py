"""What a message says of a value: one line, however long or hostile the value."""

from __future__ import annotations

from typing import Any

_LONGEST = 80  # characters; what a user typed is shorter


def shown(value: Any) -> str:
    """`value` in a message.

    Arrays are told by their shape, and what is long or cannot be printed by its kind: a sentence stays a sentence.
    """
    if isinstance(value, int) and value.bit_length() > 128:  # Python refuses to print the digits of a very large one
        return f"an int of {value.bit_length()} bits"
    shape = getattr(value, "shape", ())
    if isinstance(shape, tuple) and shape:
        return f"{_kind(value)} of shape {shape}"
    try:
        text = repr(value)
    except Exception:  # not ours to tell of while telling of something else
        return _kind(value)
    return _kind(value) if len(text) > _LONGEST or "\n" in text else text


def one_line(error: BaseException) -> str:
    """The first line of what an error says, without a full stop."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' or name == 'ndarray' else 'a'} {name}"
