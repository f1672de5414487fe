"""Reading JSON that nobody vouches for."""

from __future__ import annotations

import json
from typing import Any


def parse(text: str) -> Any:
    """What `text` says; ValueError if it is no JSON, is nested deeper than Python can go, or has a key twice."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):  # the last one would win, and readers differ in that
        raise ValueError("a key is there twice")
    return found
