"""On what shapes: the norms, small for the tests, larger for the page, and with groups of 2^24 values."""

from __future__ import annotations

from benches.cases import Case, Shape

DTYPES = ("float32", "float64", "float16", "bfloat16")


def _cases(*rows: tuple[str, Shape, int]) -> tuple[Case, ...]:
    """The norms of these operations, shapes and numbers of groups, in every dtype."""
    return tuple(Case(op, "forward", shape, dtype, groups) for dtype in DTYPES for op, shape, groups in rows)


CASES = _cases(
    ("batch_norm", (16, 8, 14, 14), 0),
    ("batch_norm", (4000, 10), 0),
    ("layer_norm", (64, 768), 0),
    ("rms_norm", (64, 768), 0),
    ("group_norm", (8, 32, 14, 14), 8),
    ("instance_norm", (8, 16, 28, 28), 0),
)
QUICK = _cases(
    ("batch_norm", (5, 4, 3, 7), 0),
    ("batch_norm", (70, 4), 0),
    ("layer_norm", (6, 50), 0),
    ("rms_norm", (6, 50), 0),
    ("group_norm", (4, 6, 3, 7), 3),
    ("instance_norm", (2, 3, 5, 7), 0),
)
_LONG = 1 << 24
_LONG_ROWS = (
    ("batch_norm", (4, 1, 1 << 11, 1 << 11), 0),
    ("batch_norm", (_LONG, 1), 0),
    ("instance_norm", (1, 1, 1 << 12, 1 << 12), 0),
    ("layer_norm", (1, _LONG), 0),
    ("rms_norm", (1, _LONG), 0),
    ("group_norm", (1, 2, 1 << 11, 1 << 12), 1),
)
# every norm in float32; of the other dtypes one for each way through memory: they take a minute otherwise
LONG_CASES = _cases(*_LONG_ROWS[:3]) + tuple(case for case in _cases(*_LONG_ROWS[3:]) if case.dtype == "float32")
