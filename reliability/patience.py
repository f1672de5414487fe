"""How long tests and searches wait for a process before they take it for a hang: the one place that scales it."""

from __future__ import annotations

import math
import os


def patience(seconds: float) -> int:
    """Those seconds times the variable RELIABILITY_PATIENCE, that `reliability.sanitize` sets for its slower builds."""
    return math.ceil(seconds * float(os.environ.get("RELIABILITY_PATIENCE", "1")))
